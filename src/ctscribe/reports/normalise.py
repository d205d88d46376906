"""One spelling for reports from many hospitals: widths, units, punctuation; never a value changed.

Full-width letters and digits become half-width; sizes are in mm ("1.2×0.8cm" is "12×8mm", exactly);
× joins axes and - a range; Chinese text has Chinese punctuation and English text English.
Areas, volumes, HU, list numbers and decimal points stay, and so does a number that cannot be read
for certain ("1,2cm"). Normalising twice changes nothing more, and the labels are the same before
and after.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from ctscribe.reports.schema import Language

_HALF = {
    full: full - 0xFEE0
    for first, last in ("０９", "ＡＺ", "ａｚ", "％％", "．．", "／／", "＜＞", "＊＋", "－－")
    for full in range(ord(first), ord(last) + 1)
} | {
    **{ord(blank): " " for blank in "\u3000\u00a0\t\u2002\u2003\u2009\u202f\x0b\x0c"},
    **{ord(unit): name for unit, name in (("㎜", "mm"), ("㎝", "cm"))},
    **{ord(times): "×" for times in "✕✖⨯╳"},
}
_INVISIBLE = re.compile("[\u200b-\u200f\u2028-\u202e\u2060\ufeff\x00-\x08\x0e-\x1f]")
_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = r"(?:mm|cm)"
_TIMES = r" {0,3}× {0,3}"
_TO = r" {0,3}- {0,3}"
_END = r"(?![A-Za-z\d²³⁰-⁹^/])"
# Axes or a range, each number with a unit of its own or with the last one's.
_SIZE = re.compile(
    rf"(?<![\d.A-Za-z]){_NUMBER}(?: {{0,3}}{_UNIT}?(?:{_TIMES}"
    rf"|{_TO}){_NUMBER}){{0,3}}[ -]{{0,3}}{_UNIT}{_END}",
    re.IGNORECASE,
)
_PART = re.compile(rf"({_NUMBER})(?:[\s-]*({_UNIT}))?", re.IGNORECASE)
# A number before it that would belong to the size: "1×2×3×4×5cm", "1,2cm".
_MORE_BEFORE = re.compile(r"\d\s*[×,/-]\s*$")

_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\r\n?"), "\n"),
    (re.compile(r" {2,}"), " "),
    (
        re.compile(r"(?<=\d)(\s?)(?:毫米|公[厘釐]|millimet(?:er|re)s?\b)", re.IGNORECASE),
        r"\1mm",
    ),
    (re.compile(r"(?<=\d)(\s?)(?:厘米|公分|centimet(?:er|re)s?\b)", re.IGNORECASE), r"\1cm"),
    # Between two numbers, the first with a unit or without.
    (
        re.compile(
            rf"(?<=\d)( {{0,3}}{_UNIT}?) {{0,3}}(?:[*xX×]|\bby\b) {{0,3}}(?=\d)", re.IGNORECASE
        ),
        r"\1×",
    ),
    (
        re.compile(rf"(?<=\d)( {{0,3}}{_UNIT}?) {{0,3}}[~～〜–—−] {{0,3}}(?=\d)", re.IGNORECASE),
        r"\1-",
    ),
)
_CJK = "\u4e00-\u9fff"
_ZH_STOPS = "，。；：、！？（）"
_ZH: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<!\d),|,(?!\d)"), "，"),
    (re.compile(r";"), "；"),
    (re.compile(r"(?<!\d):(?!//)|:(?![\d/])"), "："),
    (re.compile(r"\?"), "？"),
    (re.compile(r"!"), "！"),
    (re.compile(rf"(?<=[{_CJK}）])\.(?=$|[\s{_CJK}\d])"), "。"),
    (re.compile(rf"(\d[ -]{{0,3}}{_UNIT})\.(?=$|[\s{_CJK}])", re.IGNORECASE), r"\1。"),
    (re.compile(rf" *([{_ZH_STOPS}]) *"), r"\1"),
    (re.compile(r"([，。；：、！？])\1+"), r"\1"),
)
_EN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=\d)：(?=\d)"), ":"),
    *(
        (re.compile(zh), en)
        for zh, en in zip("，、；：。！？", (", ", ", ", "; ", ": ", ". ", "! ", "? "), strict=True)
    ),
    (re.compile(r"（"), " ("),
    (re.compile(r"）"), ") "),
    (re.compile(r" +(?=[,;:!?)]|\.(?:\s|$))"), ""),
)
_BLANKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r" {2,}"), " "),
    (re.compile(r"(?: ?\n ?)+"), "\n"),
)


def normalise(text: str) -> str:
    """The text in the house's spelling; see above. Never raises."""
    text = _INVISIBLE.sub("", text.translate(_HALF))
    text = _replaced(text, _SPELLINGS)
    language = _language(text)
    text = _replaced(_brackets(text), _ZH) if language == "zh" else _replaced(text, _EN)
    text = _SIZE.sub(_in_mm(language), text)
    return _replaced(text, _BLANKS).strip()


def _replaced(text: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _language(text: str) -> Language:
    """As `language.detect_language`, of words alone: a unit written otherwise changes nothing."""
    words = re.sub(rf"(?<=\d)[ -]{{0,3}}{_UNIT}", "", text, flags=re.IGNORECASE)
    chinese = len(re.findall(f"[{_CJK}]", words))
    letters = len(re.findall("[A-Za-z]", words))
    return "zh" if chinese and chinese * 20 >= chinese + letters else "en"


def _in_mm(language: Language) -> Callable[[re.Match[str]], str]:
    def written(match: re.Match[str]) -> str:
        text = match.group()
        start = match.start()
        if _MORE_BEFORE.search(match.string, max(0, start - 8), start):
            return text
        numbers: list[str] = []
        following = ""
        for number, unit in reversed(_PART.findall(text)):
            following = unit or following  # "1.2×0.8cm": without its own it has the next one's
            numbers.insert(0, _mm(number, following))
        joints = re.findall(r"[×-](?=\s*\d)", text)
        blank = " " if language == "en" else ""
        whole = numbers[0]
        for joint, number in zip(joints, numbers[1:], strict=True):
            whole += (f"{blank}×{blank}" if joint == "×" else "-") + number
        return f"{whole}{blank}mm"

    return written


def _mm(number: str, unit: str) -> str:
    """The same length in mm, in exact decimals, without zeros that were not written."""
    if unit.lower() == "mm":
        return number
    value = f"{Decimal(number).scaleb(1):f}"
    return value.rstrip("0").rstrip(".") if "." in value else value


def _brackets(text: str) -> str:
    """Brackets that have their partner made Chinese; "1)" of a list stays."""
    characters, opened = list(text), []
    for i, character in enumerate(characters):
        if character == "(":
            opened.append(i)
        elif character == "\n":
            opened = []
        elif character == ")" and opened:
            characters[opened.pop()], characters[i] = "（", "）"
    return "".join(characters)
