"""Personal data in dumps: values of JSON, XML, key=value, CSV, DICOM and HL7 under telling keys.

What a key says of its value goes before what the value looks like: "patId":"A7" is an identifier.
"""

# ruff: noqa: E501 - patterns are read in one piece
from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from ctscribe.reports.names_context import is_name
from ctscribe.reports.report_words import is_report_word

ValueKind = Literal["name", "id", "date", "phone", "address", "email"]

# Keys without case and separators. Whole keys first, then how they end.
_KEYS: tuple[tuple[ValueKind, re.Pattern[str]], ...] = (
    ("email", re.compile(r".*e?mail(?:address)?")),
    (
        "phone",
        re.compile(
            r".*(?:phone|mobile|telephone|fax|pager|cellphone)(?:no|number|home|work)?|(?:home|work)?tel(?:no|number)?"
        ),
    ),
    (
        "address",
        re.compile(
            r"(?:patients?|pat|home|mailing|postal|street|residential)?addr(?:ess)?(?:line)?\d?|(?:post|zip|postal)code|zip|street|residence"
        ),
    ),
    (
        "date",
        re.compile(
            r"dob|.*birth(?:day|date|dt)?|(?:(?:study|exam|scan|series|acquisition|content|report|admission|discharge|visit|order|collection|signed|surgery|death|event)(?:ed)?)?(?:date|datetime|timestamp)"
        ),
    ),
    (
        "id",
        re.compile(
            r"(?:patients?|pat|pt|person|case|subject|hosp(?:ital)?|study|exam|order|visit|encounter|account|acct|chart|record|medrec|medicalrecord|unit|member|policy|insurance|accession|accn?|admission|inpatient|outpatient|national|nhs|ssn|chi|mrn|hkid|nric|passport|health(?:card|care)?|card|medicare|license|npi|gmc|uhid|specimen|requisition|filler|placer|episode|doctor|physician|staff|user|employee)"
            r"(?:id|no|num|number|nbr|code|identifier|uid)|id|mrn|ssn|nhs|chi|uhid|hkid|npi|accession|passport|uid|.*instanceuid"
        ),
    ),
    (
        "name",
        re.compile(
            r"(?:patients?|pat|pt|person|full|first|last|middle|family|given|maiden|sur|fore|mothers|fathers|contact|kin|nextofkin|emergencycontact|spouse|examinee|guarantor|guardian|subscriber|client)?names?|patient|examinee|surname|forename|given"
            r"|(?:family|last|first|middle)|.*(?:physicians?|doctor|radiologist|technologist|technician|operator|surgeon|clinician|consultant|provider|author|signer|reader|reviewer|verifier|guarantor|signedby|reportedby|readby|dictatedby|verifiedby|approvedby)(?:s?names?)?"
        ),
    ),
)
_KEYS_ZH: tuple[tuple[ValueKind, re.Pattern[str]], ...] = (
    ("phone", re.compile(r".*(?:电话|手机|联系方式)号?码?")),
    ("address", re.compile(r".*(?:地址|住址)|籍贯|邮编")),
    (
        "date",
        re.compile(
            r"(?:检查|报告|登记|出生|审核|申请|打印|入院|出院|采集|扫描|拍摄|就诊|签发|手术|死亡)(?:日期|时间|年月)|日期|生日"
        ),
    ),
    ("id", re.compile(r"(?!.*(?:型|序|像|层|信|列|版本|符)号).*(?:编号|号|号码|身份证)|ID")),
    ("name", re.compile(r".*(?:姓名|医生|医师|技师|护士|联系人|家属)|患者|病人")),
)
# What has a name may be a finding too: these keys need a value that looks like a person's.
_ANYTHING = re.compile(r"names?|given|first|last|middle|family|author|患者|病人|家属")
_JSON = re.compile(
    r"[\"'“](?P<key>[\w .\-]{1,40})[\"'”][ \t]{0,3}[:：][ \t]{0,3}(?:[\"'“](?P<found>[^\"“”\n]{1,120}?)[\"'”](?=[ \t]{0,3}[,，}\]\n]|$)|(?P<bare>\d{3,20})(?=[ \t]{0,3}[,，}\]\n]))"
)
# {first: "Anna"}
_BARE_KEY = re.compile(
    r"(?<![\w.\-\"'])(?P<key>[A-Za-z][\w.\-]{1,30}):[ ]{0,3}\"(?P<found>[^\"\n]{1,120})\""
)
_XML = re.compile(
    r"<(?:\w{1,12}:)?(?P<key>[A-Za-z\u3400-\u9fff][\w.\-]{0,40})(?:[ ][^<>\n]{0,120})?>[ \t]{0,3}(?P<found>[^<>\n]{1,120})</"
)
_PAIR = re.compile(
    r"(?<![\w.\-])(?P<key>[A-Za-z][\w.\-]{1,40})=(?:\"(?P<quoted>[^\"\n]{1,120})\"|'(?P<single>[^'\n]{1,120})'|(?P<found>[^\s=;,&|\"'<>](?:[^\n=;,&|\"'<>]{0,80}[^\s=;,&|\"'<>])?)(?=[ \t]*(?:[;,&|<>\n]|$)|[ \t]+[\w.\-]+=))"
)
# (0010,0010) PN [OKAFOR^CHIDI] and (0010, 0010) Patient's Name   PN: 'OKAFOR^CHIDI'
_DICOM = re.compile(
    r"\(?(?P<tag>[0-9A-Fa-f]{4},[ ]?[0-9A-Fa-f]{4})\)?[^\n\[\]:=]{0,60}?(?:\b(?P<vr>[A-Z]{2})\b)?[ \t]{0,4}(?:\[(?P<found>[^\[\]\n]{1,120})\]|[:=][ \t]{0,3}['\"]?(?P<bare>[^'\"\n]{1,120}))"
)
_TAGS: dict[str, ValueKind] = {
    "00100020": "id",
    "00080050": "id",
    "00200010": "id",
    "00101000": "id",
    "00100030": "date",
    "00101040": "address",
    "00102154": "phone",
    "00080081": "address",
    "00102160": "id",
}
_VRS: dict[str, ValueKind] = {"PN": "name", "DA": "date", "DT": "date", "UI": "id"}
# The fields of HL7 messages that point at somebody, by segment.
_HL7 = re.compile(r"^(?:PID|NK1|PV1|ORC|OBR)\|[^\n\r]*", re.MULTILINE)
_FIELDS: dict[str, dict[int, ValueKind]] = {
    "PID": {
        **dict.fromkeys((2, 3, 4, 18, 19, 20), "id"),
        **dict.fromkeys((5, 6, 9), "name"),
        **dict.fromkeys((13, 14), "phone"),
        7: "date",
        11: "address",
    },
    "NK1": {2: "name", 4: "address", 5: "phone", 6: "phone"},
    "PV1": {**dict.fromkeys((7, 8, 9, 17), "name"), 19: "id", 44: "date", 45: "date"},
    "ORC": {2: "id", 3: "id", 9: "date", 10: "name", 12: "name"},
    "OBR": {
        **dict.fromkeys((2, 3, 18, 19), "id"),
        **dict.fromkeys((10, 16, 28, 32, 33, 34, 35), "name"),
        **dict.fromkeys((6, 7, 8, 14, 22), "date"),
    },
}
_NOTHING = re.compile(
    r"(?i:null|none|n/?a|unknown|unspecified|anonymous|anonymi[sz]ed|true|false|nil|[\W_]*)|不详|未知|无|匿名"
)
_MEASURED = re.compile(r"\d[ ]?(?:mm|cm|HU|m[lL]|%)(?![A-Za-z])")
_JOIN = re.compile(r"[\W_]+")
_LINE = re.compile(r"[^\n]+")
_QUOTED = re.compile(r'[ ]?"((?:[^"]|""){0,1000})"[ ]?')


def structured(text: str) -> Iterator[tuple[int, int, ValueKind]]:
    """(start, end, kind) of each value whose key says what it is."""
    for pattern in (_JSON, _BARE_KEY, _XML, _PAIR):
        for match in pattern.finditer(text):
            kind = kind_of(match["key"])
            for group in ("found", "bare", "quoted", "single"):
                if kind and group in pattern.groupindex and match[group]:
                    yield from _value(text, match.span(group), kind, match["key"])
    for match in _DICOM.finditer(text):
        tag = re.sub(r"\W", "", match["tag"])
        said = _TAGS.get(tag) or _VRS.get(match["vr"] or "")
        if said:
            yield from _value(text, match.span("found" if match["found"] else "bare"), said)
    for segment in _HL7.finditer(text):
        kinds = _FIELDS[segment[0][:3]]
        start = segment.start()
        for number, value in enumerate(segment[0].split("|")):
            if number in kinds:
                yield from _value(text, (start, start + len(value)), kinds[number])
            start += len(value) + 1
    yield from _tables(text)


def kind_of(key: str) -> ValueKind | None:
    """What the values of a key are, if they are personal: PatientName, pat_id, 检查号."""
    if re.search("[\u3400-\u9fff]", key):
        return next((kind for kind, keys in _KEYS_ZH if keys.fullmatch(key.strip())), None)
    return next((kind for kind, keys in _KEYS if keys.fullmatch(_plain(key))), None)


def _plain(key: str) -> str:
    return _JOIN.sub("", key).lower()


def _person(value: str) -> bool:
    """Whether a value can be a name: a Chinese one, or words of which reports do not hold one."""
    if re.search("[\u3400-\u9fff]", value):
        return is_name("".join(value.split())) or "·" in value
    words = re.findall(r"[^\W\d_]{2,}", value)
    return any(word[0].isupper() and not is_report_word(word) for word in words)


def _value(
    text: str, span: tuple[int, int], kind: ValueKind, key: str = ""
) -> Iterator[tuple[int, int, ValueKind]]:
    start, end = span
    value = text[start:end].strip()
    start = text.index(value, start)
    if not value or _NOTHING.fullmatch(value):
        return
    digits = sum(c.isdigit() for c in value)
    if digits < {"id": 1, "date": 4, "phone": 4}.get(kind, 0) or _MEASURED.search(value):
        return
    if kind == "name" and (not any(c.isalpha() for c in value) or len(value) > 80):
        return
    if kind == "name" and _ANYTHING.fullmatch(_plain(key)) and not _person(value):
        return
    yield start, start + len(value), kind


def _tables(text: str) -> Iterator[tuple[int, int, ValueKind]]:
    """The cells below a header of at least three keys, two of them telling."""
    keys: list[str] = []
    kinds: list[ValueKind | None] = []
    mark = ""
    for line in _LINE.finditer(text):
        cells = list(islice(_cells(line[0], mark), len(keys) + 1)) if keys else []
        if keys and len(cells) == len(keys):
            for key, kind, (start, end) in zip(keys, kinds, cells, strict=True):
                if kind:
                    yield from _value(text, (line.start() + start, line.start() + end), kind, key)
            continue
        keys, mark = _header(line[0])
        kinds = [kind_of(key) for key in keys]
        if sum(kind is not None for kind in kinds) < 2:
            keys = []


def _header(line: str) -> tuple[list[str], str]:
    """The keys of a line that may be a table's first, and what divides them."""
    mark = next((m for m in ",\t|;" if line.count(m) >= 2), "")
    keys = [key.strip(" \"'") for key in line.split(mark)] if mark and len(line) <= 400 else []
    return ([] if any(len(key) > 40 for key in keys) else keys), mark


def _cells(row: str, mark: str) -> Iterator[tuple[int, int]]:
    """Where the fields of a line are, without their quotes."""
    position = 0
    while position <= len(row):
        quoted = _QUOTED.match(row, position)
        if quoted and row[quoted.end() : quoted.end() + 1] in ("", mark):
            yield quoted.span(1)
            position = quoted.end() + 1
            continue
        end = row.find(mark, position)
        end = len(row) if end < 0 else end
        yield position, end
        position = end + 1
