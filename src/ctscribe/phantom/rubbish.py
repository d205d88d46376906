"""The dirt of real sheets, put into phantom tables together with the truth about it.

Cleaning is only worth its name if it finds this and touches nothing else, so every returned row
says what was done to it (`RUBBISH`) and what its answer was before (`ANSWER_BEFORE`). Both columns
are for tests and are left out of the CSV: `without_truth`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal, get_args

import numpy as np

from ctscribe.reports.schema import Language

Rubbish = Literal[
    "advertising",
    "phone",
    "sex_age",
    "whitespace",
    "full_width",
    "missing_image",
    "duplicate",
    "one_liner",
]
KINDS: tuple[Rubbish, ...] = get_args(Rubbish)
EDITS: tuple[Rubbish, ...] = KINDS[:5]  # the answer is changed; cleaning should restore it
EXTRA_ROWS: tuple[Rubbish, ...] = KINDS[5:]  # a row is added; cleaning should drop it
RUBBISH, ANSWER_BEFORE = "rubbish", "answer_before"

# Share of the sound rows that each kind falls on.
_SHARES: dict[Rubbish, float] = {
    "advertising": 0.06,
    "phone": 0.05,
    "sex_age": 0.04,
    "whitespace": 0.06,
    "full_width": 0.05,
    "missing_image": 0.04,
    "duplicate": 0.05,
    "one_liner": 0.04,
}
_ADVERTISING = {
    "zh": (
        "扫描二维码关注我院公众号，在线查询影像结果。",
        "体检套餐限时优惠，详询前台。",
        "关注微信公众号“康宁影像”，领取优惠券。",
        "更多健康资讯请访问www.example-ct.cn。",
        "加微信号yingxiang2024，专家一对一解读报告。",
        "本中心新引进256排CT，欢迎预约体检。",
        "下载APP查看电子胶片：https://film.example.cn/a1b2。",
    ),
    "en": (
        "Scan the QR code to view your films online.",
        "Visit www.example-ct.com for our health check packages.",
        "Follow us on WeChat for a free consultation.",
        "Limited offer: 20% off your next screening scan.",
        "Download our app to get your report: https://film.example.com/a1b2",
    ),
}
_PHONE = {
    "zh": ("联系电话：{}", "如有疑问请致电{}。", "咨询热线：{}。", "家属电话{}", "Tel:{}"),
    "en": ("Tel: {}", "For questions please call {}.", "Contact phone: {}."),
}
_SEX_AGE = {
    "zh": ("患者{sex}性，{age}岁。", "{sex}，{age}岁。", "性别：{sex} 年龄：{age}岁\n"),
    "en": (
        "{age}-year-old {sex}. ",
        "Sex: {sex}, age: {age}. ",
        "{sex} patient, {age} years old. ",
    ),
}
_SEXES = {"zh": ("男", "女"), "en": ("male", "female")}
_ONE_LINER = {
    "zh": (
        "未见明显异常。",
        "胸部CT未见异常",
        "双肺未见明显异常，请结合临床。",
        "正常。",
        "无异常发现。",
    ),
    "en": (
        "No abnormality.",
        "Normal.",
        "Unremarkable study.",
        "No significant findings.",
        "Normal chest CT, please correlate clinically.",
    ),
}
_HALF_TO_FULL = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
_MEASURE = re.compile(r"\d+(?:\.\d+)?(?:×\d+)?\s?(?:mm|cm)")


def add_rubbish(
    rows: Sequence[Mapping[str, str]], rng: np.random.Generator, language: Language
) -> list[dict[str, str]]:
    """Rows of a sheet as a hospital would hand it over; the given rows are left as they are.

    rows: each with case_id, patient_id, image_path (relative) and answer, all sound. At most one
    edit falls on a row, each kind on about 5 % of them and on at least one row if there are
    enough. Added rows: a row whose image does not exist, a row that came before, and the same
    image with a report that says nothing. Returns new dicts in the given order with two more keys:
    RUBBISH (a `Rubbish`, or "" for a sound row) and ANSWER_BEFORE. Same generator, same result.
    """
    dirty = [{**row, RUBBISH: "", ANSWER_BEFORE: row["answer"]} for row in rows]
    untouched = [int(i) for i in rng.permutation(len(dirty))]
    for kind in EDITS:
        wanted = _count(kind, len(rows))
        for index in list(untouched):
            if wanted == 0:
                break
            answer = _EDITORS[kind](dirty[index]["answer"], rng, language)
            if answer is not None:  # a report without a size has no size to widen
                dirty[index] |= {"answer": answer, RUBBISH: kind}
                untouched.remove(index)
                wanted -= 1
    added: list[tuple[int, dict[str, str]]] = []
    for kind in EXTRA_ROWS:
        for number in range(_count(kind, len(rows))):
            source = int(rng.integers(len(dirty)))
            # An added row stands somewhere below its source, as where two exports were joined.
            place = int(rng.integers(source + 1, len(dirty) + 1))
            added.append((place, _extra_row(kind, dirty[source], number, rng, language)))
    for place, row in sorted(added, key=lambda item: -item[0]):
        dirty.insert(place, row)
    return dirty


def without_truth(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows as the CSV holds them, without RUBBISH and ANSWER_BEFORE."""
    return [{k: v for k, v in row.items() if k not in (RUBBISH, ANSWER_BEFORE)} for row in rows]


def _count(kind: Rubbish, rows: int) -> int:
    return 0 if rows == 0 else max(1, round(_SHARES[kind] * rows))


def _choose(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _extra_row(
    kind: Rubbish,
    source: Mapping[str, str],
    number: int,
    rng: np.random.Generator,
    language: Language,
) -> dict[str, str]:
    row = {**source, RUBBISH: kind}
    if kind == "missing_image":
        lost = f"{source['case_id']}-lost{number}"
        path = PurePosixPath(source["image_path"])
        row |= {"case_id": lost, "image_path": str(path.with_name(f"{lost}.nii.gz"))}
    elif kind == "one_liner":
        row["answer"] = row[ANSWER_BEFORE] = _choose(_ONE_LINER[language], rng)
    return row


def _advertise(answer: str, rng: np.random.Generator, language: Language) -> str:
    return _attach(answer, _choose(_ADVERTISING[language], rng), rng, language)


def _add_phone(answer: str, rng: np.random.Generator, language: Language) -> str:
    digits = "".join(str(d) for d in rng.integers(0, 10, 8))
    mobile = f"1{int(rng.integers(3, 10))}{int(rng.integers(0, 10))}{digits}"
    number = _choose(
        (
            mobile,
            f"{mobile[:3]} {mobile[3:7]} {mobile[7:]}",
            f"010-{int(rng.integers(2, 9))}{digits[1:]}",
            f"400-{digits[:3]}-{digits[3:7]}",
        ),
        rng,
    )
    return _attach(answer, _choose(_PHONE[language], rng).format(number), rng, language)


def _attach(answer: str, line: str, rng: np.random.Generator, language: Language) -> str:
    place = int(rng.integers(3))
    if place == 0:
        return f"{line}\n{answer}"
    return f"{answer}\n{line}" if place == 1 else answer + (" " if language == "en" else "") + line


def _add_sex_age(answer: str, rng: np.random.Generator, language: Language) -> str:
    form = _choose(_SEX_AGE[language], rng)
    statement = form.format(sex=_choose(_SEXES[language], rng), age=int(rng.integers(20, 90)))
    return statement[:1].upper() + statement[1:] + answer


def _add_whitespace(answer: str, rng: np.random.Generator, language: Language) -> str:
    gap = _choose(("  ", "\u3000", "\u00a0 ", "\t", "\u200b"), rng)
    # Where a report of this language has a break already: after a stop.
    stops, space = ("。；，", "") if language == "zh" else (".;,", " ")
    spread = re.sub(rf"(?<=[{stops}]){space}(?!\s|\d|$)", gap + space, answer)
    return _choose(("\n", "  ", "\ufeff", ""), rng) + spread.replace("\n", "\r\n\n") + " \n"


def _widen(answer: str, rng: np.random.Generator, language: Language) -> str | None:
    if not _MEASURE.search(answer):
        return None
    return _MEASURE.sub(
        lambda match: re.sub("[0-9mc]", lambda c: c[0].translate(_HALF_TO_FULL), match[0]), answer
    )


_EDITORS: dict[Rubbish, Callable[[str, np.random.Generator, Language], str | None]] = {
    "advertising": _advertise,
    "phone": _add_phone,
    "sex_age": _add_sex_age,
    "whitespace": _add_whitespace,
    "full_width": _widen,
}
