"""Which place and which size belong to which finding.

Each finding word owns a stretch of the sentence. In front of it: what runs up to it without a
break, and the places listed there ("右肺上叶、左肺下叶见实性结节"). Behind it: what comes before
the next finding's own stretch (", 14 mm, in the right upper lobe"). A finding that has no place of
its own takes the one that stands before it in the sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ctscribe.reports.lexicon import BARE_LOBES, Spot, Token
from ctscribe.reports.schema import SIDES, Language, Side
from ctscribe.reports.scope import broken, is_connector

ATTRIBUTES = ("size", "density", "core", "amount", "change")
EACH = re.compile(r"分别|各|[两二三2３3]枚|\brespectively\b|\b(?:two|three|both)\b", re.IGNORECASE)
REST_OF = re.compile(
    r"(?:(?<!残)余|其[他它])(?:[双两]?肺(?:野|叶)?|处|部位)?[轻中重度散在多发见可少许]*\s*$|\b(?:other|remaining)\s+$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Stretch:
    """Indices of a finding's tokens: itself, before it, behind it; and the place it inherits."""

    finding: int
    leading: list[int]
    trailing: list[int]
    inherited: list[int]


def stretches(words: list[Token], sentence: str, language: Language) -> list[Stretch]:
    """The stretch of each finding word."""
    heads = [i for i, word in enumerate(words) if word.kind == "finding"]
    leading = {}
    for previous, head in zip([-1, *heads], heads, strict=False):
        leading[head] = _leading(words, previous, head, sentence, language)
    found = []
    for order, head in enumerate(heads):
        end = len(words)
        if order + 1 < len(heads):
            following = heads[order + 1]
            end = min([following, *leading[following]])
        trailing = list(range(head + 1, end))
        inherited = nearest_places(words, head, sentence, language)
        found.append(Stretch(head, leading[head], trailing, inherited))
    return found


def _gap(words: list[Token], left: int, sentence: str) -> str:
    return sentence[words[left].end : words[left + 1].start]


def _leading(
    words: list[Token], previous: int, head: int, sentence: str, language: Language
) -> list[int]:
    """Indices of what belongs to the finding `head` and stands before it, after `previous`."""
    taken: list[int] = []
    placed = False
    for i in range(head - 1, previous, -1):
        word, gap = words[i], _gap(words, i, sentence)
        if word.kind == "place" and word.bound and (previous >= 0 or placed):
            break  # "in the right upper lobe": behind the finding before
        if _behind_another(words, i, previous, sentence, language):
            break  # "nodule RML & 8 mm nodule LLL"
        if broken(gap, language):
            # Over a break only a list goes on: "右侧少量、左侧中等量胸腔积液".
            ahead = any(w.kind == "place" and not w.bound for w in words[previous + 1 : i + 1])
            if not (taken and ahead and is_connector(gap, language)):
                break
        elif (
            placed
            and word.kind != "place"
            and previous >= 0
            and not any(broken(_gap(words, j, sentence), language) for j in range(previous, i))
        ):
            break  # "结节14mm左肺下叶实变": with no break the size is the finding's before
        placed = placed or word.kind == "place"
        taken.append(i)
    if previous < 0:  # nobody else can own what is said about the first finding
        # "少许坠积性改变，双侧胸腔见积液": how much of what is not read, but in Chinese alone.
        places = [w.start for w in words[:head] if w.kind == "place" and language == "zh"]
        comma = max((sentence.rfind("，", 0, start) for start in places), default=-1)
        taken += [
            i
            for i in range(head)
            if i not in taken
            and words[i].kind in ATTRIBUTES
            and (words[i].kind != "amount" or words[i].start > comma)
        ]
    return sorted(taken)


def _behind_another(
    words: list[Token], i: int, previous: int, sentence: str, language: Language
) -> bool:
    """Whether an English place stands straight behind another finding and apart from the next."""
    return (
        language == "en"
        and previous >= 0
        and i == previous + 1
        and words[i].kind == "place"
        and not _gap(words, previous, sentence).strip()
        and broken(_gap(words, i, sentence), language)
    )


def nearest_places(words: list[Token], head: int, sentence: str, language: Language) -> list[int]:
    """The last places listed together before a finding."""
    places = [i for i in range(head) if words[i].kind == "place"]
    group: list[int] = []
    for i in reversed(places):
        if group and not is_connector(sentence[words[i].end : words[group[0]].start], language):
            break
        group.insert(0, i)
    return group


def places_behind(
    trailing: list[int], words: list[Token], sentence: str, language: Language
) -> list[int]:
    """The place behind a finding ("in the right upper lobe"), and those listed with it."""
    behind: list[int] = []
    for i in trailing:
        if words[i].kind != "place":
            continue
        listed = _gap(words, i - 1, sentence).strip() == "、"
        if listed and not behind and not words[i].bound and words[i - 1].kind == "finding":
            break  # "肺气肿、双肺下叶间质性改变": the next one's
        if behind and not words[i].bound:
            between = range(behind[-1], i)
            if not all(is_connector(_gap(words, j, sentence), language) for j in between):
                break
        behind.append(i)
    return behind


def is_general(places: list[int], words: list[Token], lobar: bool) -> bool:
    """Whether a finding's place leaves open what a later one can narrow: a lung, both sides."""
    spots = [spot for i in places for spot in words[i].spots]
    if lobar:
        return all(side is not None and lobe is None for side, lobe, _ in spots)
    return len({side for side, _, _ in spots}) > 1


def _level_in(sides: list[Side | None], level: str) -> list[Side | None]:
    """Of these sides those whose lung has such a lobe: the left one has no middle lobe."""
    return [side for side in sides if side in BARE_LOBES[level]]


def spots_of(places: list[int], words: list[Token]) -> list[tuple[int, Spot]]:
    """(place token's index, spot); a bare lobe is on the side said before it, or else after."""
    side: Side | None = None
    lungs: list[Side | None] = []  # that the last place named
    spots: list[tuple[int, Spot]] = []
    for i in range(max(places, default=-1) + 1):
        if words[i].kind != "place":
            continue
        for own_side, lobe, segment in words[i].spots:
            resolved: list[Spot] = [(own_side, lobe, segment)]
            if own_side is None and lobe is not None:
                level = next(level for level, lobes in BARE_LOBES.items() if lobe in lobes.values())
                later = [w for w in (words[j] for j in places if j > i) if w.spots[0][1] is None]
                sides: list[Side | None] = [side]
                if side is None and later:
                    sides = [s for s, _, _ in later[0].spots]
                elif side is None and words[i].word == "predominant":
                    sides = list(SIDES)  # "upper-lobe-predominant emphysema": of both lungs
                elif len(lungs) > 1 and _level_in(lungs, level):
                    sides = _level_in(lungs, level)  # "双肺…下叶": of both lungs
                resolved = [(s, BARE_LOBES[level].get(s) if s else None, segment) for s in sides]
            else:
                side = own_side
                lungs = list(dict.fromkeys(s for s, _, _ in words[i].spots))
            if i in places:
                spots += [(i, s) for s in resolved if s not in [known for _, known in spots]]
    # "upper lobe predominant, in both lungs": a lung beside its own lobe says nothing more.
    narrowed = {side for _, (side, lobe, _) in spots if lobe}
    return [(i, spot) for i, spot in spots if spot[1] or spot[0] not in narrowed]


def share(indices: list[int], spots: list[tuple[int, Spot]]) -> list[int | None]:
    """Which of these attributes each spot has: its own, one by one in order, or all the same."""
    places = sorted({i for i, _ in spots})
    if not indices:
        return [None] * len(spots)
    if len(indices) == len(spots):
        return list(indices)
    if len(indices) == len(places):
        return [indices[places.index(i)] for i, _ in spots]
    if len(places) == 1 or not any(places[0] < i < places[-1] for i in indices):
        return [indices[0]] * len(spots)
    # Some stand between the places: each belongs to the place before it.
    owner = {max(p for p in places if p < i): i for i in reversed(indices) if i > places[0]}
    return [owner.get(i) for i, _ in spots]
