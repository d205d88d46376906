"""The statements of one finding word: `binding`'s stretches, with all that a report says of each.

One statement a place. Of several the largest is told apart ("双肺多发结节，大者位于…"), of both
sides each ("双侧少量积液，右侧中量"), and a size, density, amount or change is its own or shared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from ctscribe.reports.binding import (
    ATTRIBUTES,
    REST_OF,
    Stretch,
    is_general,
    nearest_places,
    places_behind,
    share,
    spots_of,
)
from ctscribe.reports.lexicon import Spot, Token
from ctscribe.reports.schema import (
    Amount,
    Change,
    Density,
    Language,
    Observation,
    Side,
    Statement,
)
from ctscribe.reports.scope import is_connector, is_rest
from ctscribe.reports.segments import place_segment
from ctscribe.reports.sides import side_beside, sides_of_sizes
from ctscribe.reports.vocabulary import AMOUNTED, PLACELESS, PLEURA, SIDED, SIZED


@dataclass(frozen=True)
class Sentence:
    """A sentence as read: its words, and which of them are denied, resolved and doubted."""

    text: str
    language: Language
    words: list[Token]
    denied: list[bool]
    negations: list[Token]
    gone: set[int]  # starts of the tokens that are said to be resolved
    doubted: set[int]  # starts of the findings in doubt
    before_now: list[tuple[int, int]]  # spans that speak of the prior
    each: bool  # sizes are one each: "两枚，分别约14mm、9mm"


def statements_of(stretch: Stretch, read: Sentence) -> list[Statement]:
    """The statements of one finding word: `binding`'s rules, with what only this reader knows."""
    words, text, language = read.words, read.text, read.language
    head, negated = words[stretch.finding], read.denied[stretch.finding]
    names = cast(list[Observation], head.word.split("+"))
    placed = names[0] not in PLACELESS
    lobar = names[0] not in PLEURA
    own = [i for i in stretch.leading if words[i].kind == "place"]
    behind = places_behind(stretch.trailing, words, text, language)
    inherited = [] if REST_OF.search(text, 0, head.start) else stretch.inherited
    if negated and names[0] != "cavity":
        inherited = _subject(stretch.finding, read)
    close = language == "en" and behind and not text[head.end : words[behind[0]].start].strip()
    if behind and not (words[behind[0]].bound or close) and (own or inherited or negated):
        told = ("amount", "change")
        amounts = not lobar and any(words[i].kind in told for i in stretch.trailing)
        behind = behind if amounts and not negated else []
    attributes = [
        i
        for i in [*stretch.leading, *stretch.trailing]
        if words[i].kind in ATTRIBUTES
        and not (words[i].kind == "change" and _INFECTION.search(text, head.end, words[i].start))
        and (read.denied[i] == negated or words[i].start in read.gone)
    ]
    general, special = (own, behind) if own else (behind[:1], behind[1:])
    parts = [(own or behind or inherited, attributes)]
    lesser: list[tuple[list[int], list[int]]] = []  # both sides, where one or each is told apart
    if not own and not behind and inherited and not negated and lobar:
        general = inherited
    if special and lobar and _within(general, special, stretch.finding, read):
        # "the right lung shows a nodule in the middle lobe": there alone.
        general, special, parts = special, [], [(special, attributes)]
    one_of = bool(special) and lobar and _narrower(general, special, stretch.finding, read)
    several = (
        lobar and len(spots_of(general, words)) > 1 and _of_them(general, special, stretch, read)
    )
    if special and (one_of or several or is_general(general, words, lobar)):
        ahead = [i for i in attributes if i < stretch.finding]
        densities = [i for i in ahead if words[i].kind == "density"]
        if len({words[i].word for i in densities}) > 1:
            densities = []
        after = [i for i in attributes if i > max(stretch.finding, general[0])]
        inside = [i for i in after if i > special[0] or words[i].kind == "amount"]
        if not inside:
            inside = [i for i in after if words[i].kind == "size"]
        if lobar:
            each = (
                read.each and len(special) > 1 and "次大" not in text
            )  # "两枚，分别位于上叶和下叶": no third one
            outside = [i for i in attributes if i not in inside]
            parts = [
                (general, outside),
                (special, [*densities, *_stable(ahead, inside, words), *inside]),
            ]
            # "数枚小结节，大者位于背段": one group, in that segment.
            group = one_of and _in_one_lobe(general, words)
            group = group and _count_of(stretch.finding, read) == "multiple"
            parts = parts[1:] if each or group else parts
        else:
            parts = [
                (general, ahead if inside else attributes),
                (special, [*_of_both(ahead, after, inside, words), *inside]),
            ]
            if inside:
                parts, lesser = parts[1:], [parts[0]]
    elif own:
        behind = []
    used = [*own, *behind, *attributes, stretch.finding]
    start, end = min(words[i].start for i in used), max(words[i].end for i in used)
    previous = max((w.end for w in words[: stretch.finding] if w.kind == "finding"), default=0)
    if not placed:
        parts = [([], attributes)]
    base = Statement(
        names[0],
        negated,
        head.start in read.doubted and not negated,
        count=_count_of(stretch.finding, read),
        start=start,
        end=end,
        rest=negated and is_rest(text, head, language),
    )
    there = {spot[1] for i in special for spot in words[i].spots} if several else set()
    if negated and head.start in read.gone:
        base = replace(base, comparison="resolved")
    spoken = []
    for name in names:
        side = side_beside(text, head, previous, language) if name in SIDED else None
        sizes = [i for i in attributes if words[i].kind == "size"] if name in SIDED else []
        sides = sides_of_sizes(text, head, [words[i] for i in sizes], language)
        if sides:  # "右侧1.2公分，左侧0.8公分"
            for of_side, size in zip(sides, sizes, strict=True):
                own_too = [size, *(i for i in attributes if i not in sizes)]
                one = replace(base, finding=name, side=of_side)
                spoken += _statements_at(one, [], own_too, read)
            continue
        for places, own_attributes in parts if name not in PLACELESS else [([], attributes)]:
            spoken += _statements_at(
                replace(base, finding=name, side=side), places, own_attributes, read
            )
        if there:  # "两肺上叶结节，大者位于右肺上叶": the right lobe's once
            first, last = spoken[: -len(special)], spoken[-len(special) :]
            placed_last = [(s.lobe, s.segment) for s in last]
            spoken = [s for s in first if s.lobe not in there or s.segment]
            spoken = [s for s in spoken if (s.lobe, s.segment) not in placed_last] + last
        for places, own_attributes in lesser:  # "双侧少量积液，右侧中量": the left one is small
            told_apart = {s.side for s in spoken if s.finding == name}
            rest = _statements_at(replace(base, finding=name), places, own_attributes, read)
            spoken += [s for s in rest if s.side not in told_apart]
    # What is gone has no size: "上次右肺下叶7mm结节，本次未见" tells the prior's.
    return [
        replace(s, size_mm=None, axes_mm=()) if s.comparison == "resolved" else s for s in spoken
    ]


def _in_one_lobe(places: list[int], words: list[Token]) -> bool:
    spots = [spot for i in places for spot in words[i].spots]
    return len(spots) == 1 and spots[0][1] is not None


def _count_of(finding: int, read: Sentence) -> int | Literal["multiple"] | None:
    """How many the text says of a finding word that there are."""
    words, text, head = read.words, read.text, read.words[finding]
    previous = max((w.end for w in words[:finding] if w.kind == "finding"), default=0)
    return _count(text[previous : head.start], text[head.end : head.end + 8], read.language)


def _stable(ahead: list[int], inside: list[int], words: list[Token]) -> list[int]:
    """ "Unchanged nodules, largest 11 mm in the RLL": that one too."""
    told = any(words[i].kind == "change" for i in inside)
    return [] if told else [i for i in ahead if words[i].word == "stable"]


def _of_both(
    ahead: list[int], after: list[int], inside: list[int], words: list[Token]
) -> list[int]:
    """What is said of both sides before each is spoken of: "双侧积液较前增多，现右侧大量"."""
    of_each = {words[i].kind for i in inside}
    changes = [i for i in after if words[i].kind == "change" and i not in inside]
    amounts = [i for i in ahead if words[i].kind == "amount"]
    return ([] if "change" in of_each else changes) + ([] if "amount" in of_each else amounts)


def _within(general: list[int], special: list[int], finding: int, read: Sentence) -> bool:
    """Whether an English place is only the lung of the lobe that stands close behind."""
    words, text = read.words, read.text
    behind, head = words[special[0]], words[finding]
    between = text[head.end : behind.start]
    return (
        read.language == "en"
        and len({side for i in general for side, _, _ in words[i].spots}) == 1
        and behind.bound
        and not re.search("[,;:]", between)
        and not _ONE_OF.search(text, words[general[0]].end, behind.start)
        and all(lobe for i in special for _, lobe, _ in words[i].spots)
    )


def _of_them(general: list[int], special: list[int], stretch: Stretch, read: Sentence) -> bool:
    """Whether the largest of those in several lobes is in one: "两肺上叶结节，最大位于…"."""
    words = read.words
    if not special or not _ONE_OF.search(
        read.text, words[stretch.finding].end, words[special[0]].start
    ):
        return False
    return all(spot[1] for i in [*general, *special] for spot in words[i].spots)


def _narrower(general: list[int], special: list[int], finding: int, read: Sentence) -> bool:
    """Whether of several in a lobe one lies in a segment: "较大者约9mm，位于前段"."""
    spots = [spot for i in general for spot in read.words[i].spots]
    return (
        bool(spots)
        and all(segment is None for _, _, segment in spots)
        and all(spot[2] for i in special for spot in read.words[i].spots)
        and bool(_ONE_OF.search(read.text, read.words[finding].end, read.words[special[0]].start))
    )


_ONE_OF = re.compile(r"[较最]?大者|较大[两二三]枚|最大|其一|其中|\blarge(?:r|st)\b", re.IGNORECASE)


def with_lent_places(found: list[Stretch], read: Sentence) -> list[Stretch]:
    """ "atelectasis and scarring in the lingula": both are there, in English."""
    if read.language == "zh":
        return _one_place_each(found, read)
    words, lent = read.words, list(found)
    for i in range(len(lent) - 2, -1, -1):
        one, other = lent[i], lent[i + 1]
        head, following = words[one.finding], words[other.finding]
        apart = any(words[j].kind == "place" for j in [*one.leading, *one.trailing, *one.inherited])
        behind = places_behind(other.trailing, words, read.text, read.language)
        gap = read.text[head.end : following.start]
        listed = re.fullmatch(
            r"\s*(?:,|(?:,\s*)?(?:and|or|nor|with(?!\s+an?\b)|versus|vs\.?))\s+(?:[a-z-]+\s+){0,3}"
            + (r"|\s+" if head.word == "cavity" else ""),  # "cavitating mass in the"
            gap,
            re.IGNORECASE,
        )
        kinds = {words[j].kind for j in other.leading if one.finding < j}
        both_lobar = PLEURA.isdisjoint({*head.word.split("+"), *following.word.split("+")})
        between = kinds - {"amount"} if both_lobar else kinds  # "with mild bronchiectasis"
        if listed and behind and words[behind[0]].bound and not apart and not between:
            lent[i] = replace(one, trailing=[*one.trailing, *behind])
    return lent


def _one_place_each(found: list[Stretch], read: Sentence) -> list[Stretch]:
    """ "尖段、前段及中叶分别见pGGN、mGGN、实性结节": one finding to each place, in order."""
    if len(found) < 2:
        return found
    words = read.words
    places = [j for j in found[0].leading if words[j].kind == "place"]
    said = places and "分别" in read.text[words[places[-1]].end : words[found[0].finding].start]
    if not said or len(places) != len(found):
        return found
    if any(one.inherited != places for one in found[1:]):
        return found
    others = [j for j in found[0].leading if j not in places]
    return [
        replace(one, leading=sorted([place, *(others if one is found[0] else one.leading)]))
        for one, place in zip(found, places, strict=True)
    ]


def _subject(finding: int, read: Sentence) -> list[int]:
    """What a denied finding without a place is denied of: the place its negation stands behind."""
    words, head = read.words, read.words[finding]
    negation = max(
        (t for t in read.negations if t.end <= head.start), key=lambda t: t.start, default=None
    )
    if negation is None:
        return []
    comma = max(read.text.rfind(stop, 0, negation.start) for stop in "，,")
    heads = [i for i in range(finding) if words[i].kind == "finding"]
    if heads and words[heads[-1]].start >= negation.end and read.denied[heads[-1]]:
        # "no left effusion or pneumothorax": the second is denied where the first is.
        listed = [i for i in range(heads[-1]) if words[i].kind == "place"]
        listed = [i for i in listed if words[i].start >= negation.end]
        gap = read.text[words[heads[-1]].end : words[finding].start]
        if listed and is_connector(gap, read.language):
            return listed
    ahead = [i for i in range(finding) if comma < words[i].start < negation.start]
    if any(words[i].word == "abnormality" for i in ahead) and _AND.search(
        read.text, 0, negation.start
    ):
        return []  # "the lungs are clear and no effusion is seen"
    if any(words[i].kind == "finding" and not read.denied[i] for i in ahead):
        # "on the left there is an effusion without pneumothorax": there, no more than that.
        fronted = _FRONTED.match(read.text, comma + 1)
        return [i for i in ahead if fronted and words[i].end == fronted.end()]
    own = [i for i in ahead if words[i].kind == "place"]
    if not own and _INSIDE.search(read.text, comma + 1, negation.start):
        return nearest_places(words, finding, read.text, read.language)
    if not own and re.match(r"[双两右左]肺伴", read.text):  # "双肺除…外，未见异常"
        return [0]
    return own


_AND = re.compile(r"\b(?:and|with)\s+$", re.IGNORECASE)
_INFECTION = re.compile(
    r"(?:感染|炎症)(?:较[^，,]*)?$"
)  # "支扩伴感染较前吸收": the infection's change
_FRONTED = re.compile(r"\s*on\s+the\s+(?:right|left)(?:\s+side)?\b", re.IGNORECASE)
_INSIDE = re.compile(r"其内|其中|内部|\bwithin\s+it|therein")


def _statements_at(
    base: Statement, places: list[int], attributes: list[int], read: Sentence
) -> list[Statement]:
    """One statement a spot, each with the attributes that are its own or shared."""
    words, name = read.words, base.finding
    spots: list[tuple[int, Spot]] = spots_of(places, words) or [(-1, (None, None, None))]
    if name in PLEURA:
        by_side: dict[Side | None, tuple[int, Spot]] = {}
        for i, (side, _, _) in spots:
            by_side.setdefault(side, (i, (side, None, None)))
        spots = list(by_side.values())
    of_kind = {
        kind: [i for i in attributes if words[i].kind == kind]
        for kind in ("size", "density", "amount", "change")
    }
    if any(words[i].kind == "size" for i in of_kind["size"]):
        then = [i for i in of_kind["size"] if not _in(words[i], read.before_now)]
        of_kind["size"] = then or of_kind["size"]
    count = len(of_kind["size"])
    if name == "nodule" and len(spots) == 1 and count > 1 and read.each:
        spots = spots * count
        base = replace(base, count=None)
    if len(places) == 1 and len(spots) > 1 and not read.each:
        # "双肺多发结节，大者约12mm，小者约3mm": not one for each lung.
        of_kind |= {kind: of_kind[kind][:1] for kind in ("size", "amount", "change")}
    now = [i for i in of_kind["density"] if _NOW.search(read.text, 0, words[i].start)]
    of_kind["density"] = now or of_kind["density"]
    now = [i for i in of_kind["amount"] if _NOW.search(read.text, 0, words[i].start)]
    if len(now) == 1 and len(spots) == 1:  # "moderate effusion, now small"
        of_kind["amount"] = now
    shared = {kind: share(indices, spots) for kind, indices in of_kind.items()}
    densities = {words[i].word for i in of_kind["density"]}
    if len(densities) > 1 and len(places) == 1 and not read.each:
        has_core_too = any(words[i].kind == "core" for i in attributes)
        if len(spots) > 1 and not has_core_too:  # "双肺实性及磨玻璃结节": some of each
            shared["density"] = [None] * len(spots)
    else:
        for i in of_kind["density"]:
            # "三枚结节，前者为部分实性": the first alone.
            which = _which(read.text[: words[i].start])
            if which is not None and len(spots) > len(of_kind["density"]):
                shared["density"] = [None] * len(spots)
                shared["density"][which] = i
    for i in of_kind["change"]:
        which = _which(read.text[: words[i].start])
        if which is not None and len(spots) > 1 == len(of_kind["change"]):
            shared["change"] = [None] * len(spots)
            shared["change"][which] = i
    has_core = any(words[i].kind == "core" for i in attributes)
    found = []
    for index, (_, (side, lobe, segment)) in enumerate(spots):
        one = base
        if places:
            one = replace(one, side=side, lobe=lobe)
            if segment is not None and name not in PLEURA:
                side, lobe, code = place_segment(side, lobe, segment)
                one = replace(one, side=side, lobe=lobe, segment=code)
        size, density, amount, change = (
            None if shared[kind][index] is None else words[cast(int, shared[kind][index])]
            for kind in ("size", "density", "amount", "change")
        )
        if size and name in SIZED and one.comparison != "resolved":
            one = replace(one, size_mm=size.size_mm, axes_mm=size.axes_mm)
        if density and name == "nodule":
            mixed = has_core and density.word == "ground-glass"
            one = replace(one, density=cast(Density, "part-solid" if mixed else density.word))
        if (
            amount
            and amount.word
            and name in AMOUNTED
            and one.comparison != "resolved"
            and _amount_of(amount, name, base, read)
        ):
            one = replace(one, amount=cast(Amount, amount.word))
        if change and one.comparison is None:
            one = replace(one, comparison=cast(Change, change.word))
        found.append(one)
    return found


def _amount_of(amount: Token, name: Observation, base: Statement, read: Sentence) -> bool:
    """Whether an amount is of this finding: "液气胸，液体中等量" is none of the pneumothorax's."""
    of_fluid = re.search(r"(?:液体|积液)(?:量?[约为呈])?$", read.text[base.start : amount.start])
    return not (of_fluid and name == "pneumothorax")


def _in(token: Token, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= token.start < end for start, end in spans)


def _which(before: str) -> Literal[0, -1] | None:
    """Which of several a word is said of: the first of "前者为…", the last of "the latter is…"."""
    which = _WHICH.search(before)
    if which is None:
        return None
    first = (which[1] or which[2]).lower() in ("前", "first", "former", "largest")
    return 0 if first else -1


# "原磨玻璃结节现呈部分实性"
_NOW = re.compile(r"(?:现[呈为]?|[变转增][大化]?[为成]|\bnow\s+|\bbecome\s+)$", re.IGNORECASE)
_WHICH = re.compile(
    r"([前后])者[为呈是]?$|\bthe\s+(first|former|last|latter|largest)(?:\s+\w+)?\s+(?:is|has|have|was)\s+$",
    re.IGNORECASE,
)
_COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_NUMBERS = {
    **dict(zip("一二两三四五六七八九", (1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True)),
    **dict(zip(_COUNTS, range(2, 10), strict=True)),
}
_COUNTED: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"([一二两三四五六七八九]|(?<!\d)\d{1,2})[枚个处颗粒]"),
    "en": re.compile(r"\b(two|three|four|five|six|seven|eight|nine)\b", re.IGNORECASE),
}
_MULTIPLE = re.compile(
    r"多发|数[枚个处颗粒]|散在|多[枚个处颗粒]|许多|若干|\b(?:multiple|several|scattered|numerous|few)\b",
    re.I,
)


def _count(before: str, behind: str, language: Language) -> int | Literal["multiple"] | None:
    counted = _COUNTED[language].search(before)
    if counted:
        number = counted[1].lower()
        return _NUMBERS[number] if number in _NUMBERS else int(number)
    return "multiple" if _MULTIPLE.search(before + (behind if language == "zh" else "")) else None
