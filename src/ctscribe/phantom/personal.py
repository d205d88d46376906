"""Phantom reports with personal data of people that do not exist, and where exactly it stands.

The measure of a de-identifier: recall by span, and how much it takes away that is not personal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ctscribe.phantom import personal_names as people
from ctscribe.phantom.findings import draw_findings
from ctscribe.phantom.personal_texts import HARD, HELD_OUT, TEMPLATES
from ctscribe.phantom.text import write_report
from ctscribe.phantom.wording import Picker
from ctscribe.reports.deidentify import Kind, Span
from ctscribe.reports.schema import Language

_GAP = re.compile(r"\{(\w+)\}")
_REPORT: dict[Language, str] = {
    "zh": "所见：{findings}{hard}\n结论：{impression}",
    "en": "Findings: {findings} {hard}\nImpression: {impression}",
}
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_PLACES = (
    "浙江省杭州市西湖区文三路{}号{}幢{}室",
    "河南省周口市郸城县宁平镇李楼村{}组",
    "上海市徐汇区漕溪北路{}弄{}号{}室",
    "北京市海淀区中关村南大街{}号院{}号楼",
    "新疆维吾尔自治区喀什地区疏附县吾库萨克镇{}村",
    "四川省成都市武侯区桐梓林东路{}号",
    "广东省深圳市南山区桃园路{}号{}栋{}",
    "内蒙古自治区赤峰市红山区桥北街道{}委",
    "重庆市渝中区解放碑步行街{}号",
    "温州市鹿城区五马街{}号",
)
_STREETS = (
    "{} Maple Street, Springfield, IL 62704",
    "Flat {}, {} Baker Road, London NW1 6XE",
    "{} Old Mill Lane, Apt {}, Portland, OR 97205",
    "P.O. Box {}, Austin, TX 78701",
    "{} West 45th Avenue, New York, NY 10036",
    "Unit {}, {} Nanjing Road, Shanghai 200001",
    "{} Elm Drive",
)
_HOSPITALS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "杭州市第一人民医院",
        "北京协和医院",
        "华西医院",
        "郸城县中医院",
        "上海市胸科医院",
        "某某大学附属第二医院",
        "鹿城区社区卫生服务中心",
        "解放军第九〇三医院",
    ),
    "en": (
        "Springfield General Hospital",
        "St. Mary's Hospital",
        "Mayo Clinic",
        "University Medical Center",
        "Royal Brompton Hospital",
        "Lakeside Health Center",
    ),
}


@dataclass(frozen=True)
class PersonalText:
    """A report with personal data, and the exact spans of it, in text order."""

    text: str
    spans: tuple[Span, ...]
    language: Language
    template: str


def personal_text(
    language: Language, rng: np.random.Generator, *, held_out: bool = False
) -> PersonalText:
    """One report of drawn findings in a drawn template, its gaps filled with drawn people.

    held_out: of the templates that detectors are not tuned on.
    """
    pick = Picker(rng)
    template = pick.one(*(HELD_OUT if held_out else TEMPLATES)[language])
    report = write_report(draw_findings(rng), language, rng)
    plain = {
        "findings": report.findings,
        "impression": report.impression,
        "recommendation": report.recommendation,
        "hard": pick.one(*HARD[language]),
        "age": str(_between(pick, 18, 95)),
        "sex": pick.one("男", "女") if language == "zh" else pick.one("male", "female"),
    }
    plain["report"] = _REPORT[language].format(**plain)
    text, spans, end = "", [], 0
    for gap in _GAP.finditer(template):
        text += template[end : gap.start()]
        name, end = gap[1], gap.end()
        if name in plain:
            text += plain[name]
            continue
        kind, fill = GAPS[language][name]
        value = fill(pick)
        spans.append(Span(len(text), len(text) + len(value), kind))
        text += value
    return PersonalText(text + template[end:], tuple(spans), language, template)


def _between(pick: Picker, low: int, high: int) -> int:
    return low + int(pick.draw() * (high - low + 1))


def _digits(pick: Picker, count: int) -> str:
    return "".join(str(_between(pick, 0, 9)) for _ in range(count))


def _surname_zh(pick: Picker) -> tuple[str, str]:
    if pick.chance(0.08):
        return people.COMPOUND[int(pick.draw() * len(people.COMPOUND))]
    last = 20 if pick.chance(0.4) else len(people.SURNAMES)  # four in ten have one of twenty
    return people.SURNAMES[int(pick.draw() * last)]


def _person_zh(pick: Picker) -> tuple[str, str, str]:
    """Name, surname's and given name's pinyin."""
    surname = _surname_zh(pick)
    given = [
        people.GIVEN[int(pick.draw() * len(people.GIVEN))] for _ in range(1 + pick.chance(0.75))
    ]
    return (
        surname[0] + "".join(g[0] for g in given),
        surname[1],
        "".join(g[1] for g in given).capitalize(),
    )


def _name_zh(pick: Picker) -> str:
    if pick.chance(0.06):
        return pick.one(*people.PEOPLES)
    name = _person_zh(pick)[0]
    return f"{name[0]} {name[1]}" if len(name) == 2 and pick.chance(0.1) else name


def _mou(pick: Picker) -> str:
    return _surname_zh(pick)[0] + pick.one("某某", "某", "XX", "**", "×")


def _pinyin(pick: Picker) -> str:
    _, surname, given = _person_zh(pick)
    return pick.one(
        f"{surname.upper()} {given}",
        f"{surname} {given}",
        f"{given} {surname.upper()}",
        f"{surname.upper()} {given.upper()}",
        f"{surname.upper()}, {given}",
    )


def _last_en(pick: Picker) -> str:
    return pick.one(*people.PREFIXED) if pick.chance(0.06) else pick.one(*people.LAST)


def _name_en(pick: Picker) -> str:
    if pick.chance(0.12):
        _, surname, given = _person_zh(pick)
        return pick.one(f"{surname.upper()} {given}", f"{given} {surname}")
    first = pick.one(*people.FIRST)
    middle = pick.one("", "", "", f"{pick.one(*_LETTERS)}. ")
    first = f"{first[0]}. " if pick.chance(0.1) else f"{first} "
    return first + middle + _last_en(pick)


def _last_first(pick: Picker) -> str:
    first, last = pick.one(*people.FIRST), _last_en(pick)
    return pick.one(
        f"{last.upper()}, {first.upper()}",
        f"{last}, {first}",
        f"{last}, {first} {pick.one('A', 'J')}.",
    )


def _ymd(pick: Picker, first: int = 2015, last: int = 2025) -> tuple[int, int, int]:
    return _between(pick, first, last), _between(pick, 1, 12), _between(pick, 1, 28)


def _date_zh(pick: Picker, first: int = 2015, last: int = 2025) -> str:
    y, m, d = _ymd(pick, first, last)
    return pick.one(
        f"{y}-{m:02}-{d:02}",
        f"{y}年{m}月{d}日",
        f"{y}.{m}.{d}",
        f"{y}/{m:02}/{d:02}",
        f"{y}年{m:02}月{d:02}日",
        f"{y % 100:02}/{m}/{d}",
        f"{y}{m:02}{d:02}",
        f"{y}-{m}-{d}",
    )


def _date_en(pick: Picker, first: int = 2015, last: int = 2025) -> str:
    y, m, d = _ymd(pick, first, last)
    month = _MONTHS[m - 1]
    return pick.one(
        f"{y}-{m:02}-{d:02}",
        f"{month[:3]} {d}, {y}",
        f"{month} {d}, {y}",
        f"{d} {month} {y}",
        f"{d}-{month[:3]}-{y}",
        f"{m}/{d}/{y}",
        f"{m:02}/{d:02}/{y % 100:02}",
        f"{month[:3]} {d} {y}",
        f"{d}.{m}.{y}",
    )


def _time(pick: Picker) -> str:
    clock = f"{_between(pick, 0, 23):02}:{_between(pick, 0, 59):02}"
    return clock + pick.one("", f":{_between(pick, 0, 59):02}")


def _datetime(pick: Picker) -> str:
    y, m, d = _ymd(pick)
    date = pick.one(f"{y}-{m:02}-{d:02}", f"{y}/{m}/{d}", f"{y}.{m:02}.{d:02}")
    return date + pick.one(" ", "  ", "T") + _time(pick)


def _datetime_zh(pick: Picker) -> str:
    y, m, d = _ymd(pick)
    hour, minute = _between(pick, 0, 23), _between(pick, 0, 59)
    return pick.one(
        _datetime(pick), f"{y}年{m}月{d}日 {_time(pick)}", f"{y}年{m}月{d}日{hour}时{minute}分"
    )


def _datetime_en(pick: Picker) -> str:
    _, _, d = _ymd(pick)
    hour = f"{_between(pick, 1, 12)}:{_between(pick, 0, 59):02} {pick.one('AM', 'PM', 'am', 'pm')}"
    return pick.one(
        _datetime(pick), f"{pick.one(*_MONTHS)} {d}, 2021 at {hour}", f"3/{d}/2022 {hour}"
    )


def id18(pick: Picker) -> str:
    """An identity number of China with its check digit."""
    y, m, d = _ymd(pick, 1930, 2008)
    body = f"{_between(pick, 11, 65)}{_digits(pick, 4)}{y}{m:02}{d:02}{_digits(pick, 3)}"
    weights = [2 ** (17 - i) % 11 for i in range(17)]
    check = sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11
    last = "10X98765432"[check]
    return body + (last.lower() if pick.chance(0.2) else last)


def _id15(pick: Picker) -> str:
    y, m, d = _ymd(pick, 30, 85)
    return f"{_between(pick, 11, 65)}{_digits(pick, 4)}{y:02}{m:02}{d:02}{_digits(pick, 3)}"


def _code(pick: Picker) -> str:
    letters = pick.one("CT", "ZY", "MZ", "H", "P", "RX")
    return letters + pick.one("", "-", "") + _digits(pick, _between(pick, 5, 10))


def _accession(pick: Picker) -> str:
    return pick.one(
        _digits(pick, 10), f"CT{_digits(pick, 8)}", f"20{_digits(pick, 6)}-{_digits(pick, 4)}",
        f"A{_digits(pick, 7)}", f"1{_between(pick, 3, 9)}{_digits(pick, 9)}",
    )  # fmt: skip


def _mobile(pick: Picker) -> str:
    a, b, c = f"1{_between(pick, 3, 9)}{_digits(pick, 1)}", _digits(pick, 4), _digits(pick, 4)
    return pick.one(a + b + c, f"{a}-{b}-{c}", f"{a} {b} {c}", f"+86 {a}{b}{c}")


def _landline(pick: Picker) -> str:
    return pick.one(
        f"0571-8{_digits(pick, 7)}", f"010-6{_digits(pick, 7)}", f"(0577)8{_digits(pick, 7)}",
        f"400-{_digits(pick, 3)}-{_digits(pick, 4)}", f"021 5{_digits(pick, 7)}",
        f"0571-8{_digits(pick, 7)}转{_digits(pick, 3)}",
    )  # fmt: skip


def _phone_en(pick: Picker) -> str:
    a, b, c = f"{_between(pick, 201, 989)}", f"{_between(pick, 200, 999)}", _digits(pick, 4)
    return pick.one(
        f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"+1 {a} {b} {c}", f"{a}.{b}.{c}", f"+1-{a}-{b}-{c}",
        f"{pick.one('020', '+44 20')} 7{_digits(pick, 3)} {_digits(pick, 4)}",
        _mobile(pick),
    )  # fmt: skip


def _email(pick: Picker) -> str:
    user = pick.one(*people.FIRST).lower() + pick.one("", ".", "_") + _digits(pick, 3)
    return f"{user}@{pick.one('163.com', 'qq.com', 'mail.example.org', 'hospital.example.com')}"


def _filled(pick: Picker, places: tuple[str, ...]) -> str:
    place = pick.one(*places)
    return place.format(*(_between(pick, 1, 199) for _ in range(3)))


_BOTH: dict[str, tuple[Kind, Callable[[Picker], str]]] = {
    "pinyin": ("name", _pinyin),
    "id18": ("id", id18),
    "number": ("id", lambda pick: _digits(pick, _between(pick, 6, 12))),
    "code": ("id", _code),
    "accession": ("id", _accession),
    "passport": ("id", lambda pick: pick.one("E", "G", "EA", "P") + _digits(pick, 8)),
    "insurance": ("id", lambda pick: pick.one("", "YB") + _digits(pick, 10)),
    "wechat": ("id", lambda pick: pick.one("wx_", "li", "dr-") + "a" + _digits(pick, 6)),
    "email": ("email", _email),
}
GAPS: Mapping[Language, Mapping[str, tuple[Kind, Callable[[Picker], str]]]] = {
    "zh": {
        **_BOTH,
        "id15": ("id", _id15),
        "patient": ("name", _name_zh),
        "doctor": ("name", _name_zh),
        "surname": ("name", lambda pick: _surname_zh(pick)[0]),
        "mou": ("name", _mou),
        "bed": ("id", lambda pick: f"{_between(pick, 1, 60)}"),
        "date": ("date", _date_zh),
        "dob": ("date", lambda pick: _date_zh(pick, 1930, 2008)),
        "datetime": ("date", _datetime_zh),
        "month": ("date", lambda pick: f"{_between(pick, 2015, 2025)}年{_between(pick, 1, 12)}月"),
        "day": ("date", lambda pick: f"{_between(pick, 1, 12)}月{_between(pick, 1, 28)}日"),
        "mobile": ("phone", _mobile),
        "landline": ("phone", _landline),
        "address": ("address", lambda pick: _filled(pick, _PLACES)),
        "hospital": ("institution", lambda pick: pick.one(*_HOSPITALS["zh"])),
    },
    "en": {
        **_BOTH,
        "patient": ("name", _name_en),
        "doctor": ("name", _name_en),
        "surname": ("name", _last_en),
        "upper": ("name", lambda pick: _name_en(pick).upper()),
        "last_first": ("name", _last_first),
        "nhs": ("id", lambda pick: f"{_digits(pick, 3)} {_digits(pick, 3)} {_digits(pick, 4)}"),
        "ssn": ("id", lambda pick: f"{_digits(pick, 3)}-{_digits(pick, 2)}-{_digits(pick, 4)}"),
        "bed": ("id", lambda pick: f"{_between(pick, 1, 60)}{pick.one('', 'A', 'B')}"),
        "date": ("date", _date_en),
        "dob": ("date", lambda pick: _date_en(pick, 1930, 2008)),
        "datetime": ("date", _datetime_en),
        "month": ("date", lambda pick: f"{pick.one(*_MONTHS)} {_between(pick, 2015, 2025)}"),
        "phone": ("phone", _phone_en),
        "address": ("address", lambda pick: _filled(pick, _STREETS)),
        "hospital": ("institution", lambda pick: pick.one(*_HOSPITALS["en"])),
    },
}
