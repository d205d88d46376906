"""What a token is, and what the words of both languages mean: lobes, sides, sizes, the five.

`words_zh` and `words_en` find the words; `tokens` makes tokens of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ctscribe.reports.schema import AMOUNTS, DENSITIES, SIDES, FindingName, Language, Lobe, Side

Kind = Literal[
    "place", "finding", "density", "amount", "size", "core", "negation", "denial",
    "segment", "change", "doubt", "organ", "before",
]  # fmt: skip
# Side, lobe, and a segment's name in `segments`, which only `statements` asks for.
Spot = tuple[Side | None, Lobe | None, str | None]


@dataclass(frozen=True, slots=True)
class Token:
    """One word that matters, at text[start:end].

    place: `spots` (side, lobe); a bare "下叶" has side None and the right side's lobe, and takes
    its side from the place before it;
    finding ("effusion+pneumothorax" for 液气胸), density, amount: `word`; size: `size_mm`;
    negation denies what follows, denial what stands before; core is the solid part of a
    ground-glass nodule; before is a size at the prior examination.
    """

    kind: Kind
    start: int
    end: int
    word: str = ""
    spots: tuple[Spot, ...] = ()
    size_mm: float = 0.0
    axes_mm: tuple[float, ...] = ()  # of a size, as written; of a range its upper end
    bound: bool = False  # a place that a preposition ties to what stands before it


UPPER: dict[Side, Lobe] = {"right": "RUL", "left": "LUL"}
LOWER: dict[Side, Lobe] = {"right": "RLL", "left": "LLL"}
BARE_LOBES: dict[str, dict[Side, Lobe]] = {
    "upper": UPPER,
    "middle": {"right": "RML"},
    "lower": LOWER,
}

# ----------------------------------------------------------------------------------- sizes
UNIT = r"(?:mm|cm|毫米|厘米|公分|公[厘釐]|㎜|㎝|millimet(?:er|re)s?|centimet(?:er|re)s?)"
NUMBER = r"\d+(?:\.\d+)?"
_SEPARATOR = r"(?:[×xX*✕\-–~～至]|by|to)"
SIZE = (
    rf"(?<![\d.]){NUMBER}(?:\s*{UNIT}?\s*{_SEPARATOR}\s*{NUMBER}){{0,2}}\s*-?\s*{UNIT}"
    r"(?![a-z²³\d/])"
)
# Full-width digits, letters and stops as sheets hold them, one character for one.
NARROW = {
    code: code - 0xFEE0
    for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B), 0xFF0E)
}
_PART = re.compile(rf"({NUMBER})\s*({UNIT})?", re.IGNORECASE)


def longest_mm(text: str) -> float:
    """The longest axis in mm of a size such as "14×11mm", "1.4cm" or "1.4 cm x 11 mm"."""
    return max(axes_mm(text))


def axes_mm(text: str) -> tuple[float, ...]:
    """Every number of a size in mm, in the order of the text."""
    axes: list[float] = []
    following = ""
    for number, unit in reversed(_PART.findall(text)):
        following = unit or following  # "1.2×0.8cm": without its own it has the next one's
        axes.insert(0, round(float(number) * (10 if _is_cm(following) else 1), 2))
    return tuple(axes)


def _is_cm(unit: str) -> bool:
    return unit.lower().startswith(("c", "厘", "公分", "㎝"))


# ----------------------------------------------------------------------------------- words
_ZH_SIDES: dict[str, tuple[Side, ...]] = {
    "右": ("right",),
    "左": ("left",),
    "双": ("right", "left"),
    "两": ("right", "left"),
}
_ZH_LEVELS = {"上": "upper", "中": "middle", "下": "lower", "舌": "upper"}
_EN_SIDES: dict[str, tuple[Side, ...]] = {
    "right": ("right",),
    "left": ("left",),
    "bilateral": ("right", "left"),
    "bilaterally": ("right", "left"),
    "both": ("right", "left"),
}
EN_SIDE = r"(?:right|left|bilaterally|bilateral|both)"
EN_LEVEL = r"(?:upper|middle|lower|mid)"

FINDING_WORDS: dict[str, tuple[FindingName, ...]] = {
    "nodule": ("nodule",),
    "ps_nodule": ("nodule",),
    "gg_nodule": ("nodule",),
    "s_nodule": ("nodule",),
    "consolidation": ("consolidation",),
    "emphysema": ("emphysema",),
    "effusion": ("effusion",),
    "fluid": ("effusion",),
    "air": ("pneumothorax",),
    "pneumothorax": ("pneumothorax",),
    "both_pleural": ("effusion", "pneumothorax"),
}
_DENSITY_OF = {"ps_nodule": "part-solid", "gg_nodule": "ground-glass", "s_nodule": "solid"}


BOUND: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"(?:位于|见于|累及|在|于|者为|大者|[较最]大者?[^，,。；;]{0,14}[（(])$"),
    "en": re.compile(
        r"\b(?:in|within|of|at|on|involving|affecting|throughout|occupying)\s+(?:the\s+)?"
        r"(?:\w+\s+(?:segments?|aspect|portion|part)\s+of\s+(?:the\s+)?)?$",
        re.IGNORECASE,
    ),
}
_IN_PLEURA = re.compile(r"胸膜?腔[^，,。；;包]{0,16}$")
# "5 mm in 2021", "9 mm on the prior CT"
EN_PRIOR = (
    r"(?:previously|before|earlier|in\s+(?:19|20)\d\d|on\s+\d{1,2}[/-]\d+"
    r"|(?:on|at)\s+(?:the\s+)?(?:prior|previous|last|old))\b"
)
OTHER_SIZE_AFTER = re.compile(
    r"\s*(?:thick|slices?|sections?|from(?!\s+(?:about\s+)?\d)|away|deep|in\s+depth"
    r"|solid\s+(?:component|core|portion|part))\b"
    rf"|\s*{EN_PRIOR}",
    re.IGNORECASE,
)


def tokens_of(
    name: str, match: re.Match[str], sentence: str, language: Language
) -> Iterator[Token]:
    """The tokens of one match of the rule `name`."""
    text, (start, end) = match.group(), match.span()
    if name in FINDING_WORDS:
        density = _DENSITY_OF.get(name)
        if density is not None:
            yield Token("density", start, end, word=density)
        if name == "air" and not _is_in_pleura(sentence, start, end, "气胸"):
            return
        if name == "fluid" and not _is_in_pleura(sentence, start, end, "(?<!心包)积液"):
            return
        yield Token("finding", start, end, word="+".join(FINDING_WORDS[name]))
    elif name in DENSITIES:
        yield Token("density", start, end, word=name)
    elif name == "unsaid":
        yield Token("amount", start, end)
    elif name in AMOUNTS:
        yield Token("amount", start, end, word=name)
    elif name in ("core", "negation", "denial"):
        yield Token(name, start, end, word=text.lower())  # type: ignore[arg-type]
    else:
        spots = zh_spots(name, text) if language == "zh" else en_spots(name, text.lower())
        bound = BOUND[language].search(sentence[max(0, start - 60) : start]) is not None
        bound = bound or text.lower().endswith("predominance")
        yield Token("place", start, end, word=name, spots=tuple(spots), bound=bound)


def _is_in_pleura(sentence: str, start: int, end: int, name: str) -> bool:
    """Whether "液性密度影" or "积气" lies in a pleural space, with no name in what follows."""
    named = re.search(name, sentence[end:])
    return named is None and _IN_PLEURA.search(sentence[max(0, start - 20) : start]) is not None


def zh_spots(name: str, text: str) -> list[Spot]:
    """The places of a Chinese place word."""
    if name == "short":
        return en_spots(name, text.lower())
    if name == "bare":
        return [(None, BARE_LOBES[_ZH_LEVELS[text[0]]].get("right", "RUL"), None)]
    sides = _ZH_SIDES[text[0]]
    if name == "side":
        return [(side, None, None) for side in sides]
    if name == "all":
        return [
            (side, lobe, None)
            for side in sides
            for lobe in _lobes(side, ["upper", "middle", "lower"])
        ]
    if name == "tip":
        return [(side, (UPPER if "尖" in text else LOWER)[side], None) for side in sides]
    # The levels stand before the segment's name, which has such characters of its own.
    head = re.match(r"(?:右|左|双|两)侧?肺?([上中下舌、及和与]+)", text)
    found = "舌" if "舌" in text else (head.group(1) if head else "")
    levels = [_ZH_LEVELS[character] for character in found if character in _ZH_LEVELS]
    return [(side, lobe, None) for side in sides for lobe in _lobes(side, levels)] or [
        (side, None, None) for side in sides
    ]


def en_spots(name: str, text: str) -> list[Spot]:
    """The places of an English place word."""
    if name == "short":
        lobe: Lobe = text.upper()  # type: ignore[assignment]
        return [("right" if text[0] == "r" else "left", lobe, None)]
    if name == "lingula":
        return [("left", "LUL", None)]
    words = re.findall(rf"{EN_SIDE}|{EN_LEVEL}|lingula|apex|apical|bas\w+|biapical|bibas\w+", text)
    if name == "tip":
        sides: tuple[Side, ...] = _EN_SIDES.get(words[0], ("right", "left"))
        table = UPPER if "ap" in text else LOWER
        return [(side, table[side], None) for side in sides]
    if name == "of_lung":
        level = {"lingula": "upper", "apex": "upper", "base": "lower"}.get(words[0], words[0])
        words = [words[-1], level]
    if name in ("bare", "predominant"):
        levels = ["middle" if word == "mid" else word for word in words]
        if levels == ["middle"]:
            return [("right", "RML", None)]
        if text.endswith("s") and len(levels) == 1:  # "the upper lobes": of both lungs
            return [(side, lobe, None) for side in SIDES for lobe in _lobes(side, levels)]
        return [(None, BARE_LOBES[level].get("right", "RUL"), None) for level in levels]
    spots: list[Spot] = []
    sides = ("right", "left")
    for word in words:
        if word in _EN_SIDES:
            sides = _EN_SIDES[word]
        else:
            level = "middle" if word.startswith("mid") else word
            spots += [(side, lobe, None) for side in sides for lobe in _lobes(side, [level])]
    return spots or [(side, None, None) for side in sides]


def _lobes(side: Side, levels: list[str]) -> list[Lobe]:
    return [BARE_LOBES[level][side] for level in levels if side in BARE_LOBES[level]]
