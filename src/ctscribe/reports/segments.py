"""The bronchopulmonary segments: S1 to S10 of each lung, and their names in both languages.

Codes are Boyden's as reports write them: on the left S1 and S2 are one, S1+2; the lingula is S4+5;
basal segments named together are S7-10. A subsegment (S3a) counts as its segment, a bronchus (B3)
as the segment it leads to.
"""

from __future__ import annotations

import re

from ctscribe.reports.schema import Lobe, Side

# A name as a token holds it -> code on the right, code on the left.
_CODES: dict[str, tuple[str, str]] = {
    "apical": ("S1", "S1+2"),
    "posterior": ("S2", "S1+2"),
    "apicoposterior": ("S1+2", "S1+2"),
    "anterior": ("S3", "S3"),
    "lateral": ("S4", "S4"),
    "medial": ("S5", "S5"),
    "superior lingular": ("S4", "S4"),
    "inferior lingular": ("S5", "S5"),
    "lingular": ("S4+5", "S4+5"),
    "superior": ("S6", "S6"),
    "medial basal": ("S7", "S7"),
    "anteromedial basal": ("S7+8", "S7+8"),
    "anterior basal": ("S8", "S8"),
    "lateral basal": ("S9", "S9"),
    "posterior basal": ("S10", "S10"),
    "posterolateral basal": ("S9+10", "S9+10"),
    "basal": ("S7-10", "S7-10"),
}
_ZH: dict[str, str] = {
    "尖后": "apicoposterior",
    "尖": "apical",
    "后": "posterior",
    "前": "anterior",
    "外侧": "lateral",
    "外": "lateral",
    "内侧": "medial",
    "内": "medial",
    "上舌": "superior lingular",
    "下舌": "inferior lingular",
    "舌": "lingular",
    "背": "superior",
    "上": "superior",
    "内基底": "medial basal",
    "前内基底": "anteromedial basal",
    "内前基底": "anteromedial basal",
    "前基底": "anterior basal",
    "外基底": "lateral basal",
    "后基底": "posterior basal",
    "外后基底": "posterolateral basal",
    "后外基底": "posterolateral basal",
    "基底": "basal",
}
ZH_SEGMENT = (
    r"(?:尖后|[上下]?舌|(?:前内|内前|外后|后外|[前后内外])侧?基底|基底|[内外]侧"
    r"|[尖后前背内外](?!缘))段|舌叶"
    r"|[尖前后内外]侧?(?=(?:[、及与和][前后内外]侧?){1,4}(?:基底)?段)"  # "内、前、外基底段"
    r"|[上下](?=[、及与和][上下]舌段)"
)
_EN_BASAL = r"(?:(?:antero|postero)?(?:medial|lateral)|anterior|posterior)[\s-]+bas(?:al|ilar)"
EN_SEGMENT = (
    rf"(?<=\()(?:{_EN_BASAL})(?=\))|\b(?:apico-?posterior|apical[\s-]posterior|{_EN_BASAL}|(?:superior|inferior)\s+lingular?"
    r"|bas(?:al|ilar)|apical|anterior|posterior|superior|lateral|medial|lingular)\s+segments?\b"
    r"|\b(?:superior|inferior)\s+lingula\b|\bsegments?\s+(?:10|[1-9])\b"
)
CODE = r"(?<![A-Za-z\d])(?:[RL]\s?)?[SB](?:10|[1-9])(?:\+(?:10|[1-9]))?(?!\d)[abc]?(?:i{1,3})?段?"


def segment_name(text: str) -> str:
    """The name or code in a report's words: "外侧基底段" is "lateral basal", "RB3" is "R S3"."""
    code = re.fullmatch(r"([RL]?)\s?[SB]([\d+]+).*", text, re.IGNORECASE)
    if code:
        return f"{code[1].upper()} S{code[2]}".strip()
    if text.endswith(("段", "叶")):
        key = text[:-1]
        return _ZH[key if key in _ZH else key.replace("侧", "")]
    number = re.fullmatch(r"segments?\s+(\d+)", text, re.IGNORECASE)
    if number:
        return f"S{number[1]}"
    words = re.sub(r"[\s-]+", " ", text.lower()).replace("basilar", "basal")
    words = re.sub(r" segments?$", "", words).replace("apical posterior", "apicoposterior")
    words = re.sub(r"lingula$", "lingular", words).replace("apicoposterior", "apicoposterior")
    return words.replace("apico posterior", "apicoposterior")


def place_segment(
    side: Side | None, lobe: Lobe | None, name: str
) -> tuple[Side | None, Lobe | None, str]:
    """(side, lobe, code) with what the segment implies; lobe None where the two contradict."""
    if " S" in name and name[0] in "RL":
        side, name = side or ("right" if name[0] == "R" else "left"), name[2:]
    if "lingular" in name:
        side = side or "left"
    code = name if name.startswith("S") else _CODES[name][side == "left"]
    implied = _lobe_of(side, code)
    if implied is None or lobe == implied:
        return side, lobe, code
    return side, implied if lobe is None else None, code


def _lobe_of(side: Side | None, code: str) -> Lobe | None:
    number = int(re.findall(r"\d+", code)[0])
    if side is None:
        return None
    if side == "left":
        return "LUL" if number <= 5 else "LLL"
    return "RUL" if number <= 3 else "RML" if number <= 5 else "RLL"
