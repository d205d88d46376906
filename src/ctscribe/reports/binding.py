"""From the tokens of a sentence to statements: which place and which size belong to which finding.

Each finding word owns a stretch of the sentence. In front of it: what runs up to it without a
break, and the places listed there ("右肺上叶、左肺下叶见实性结节"). Behind it: what comes before
the next finding's own stretch (", 14 mm, in the right upper lobe"). A finding that has no place of
its own takes the one that stands before it in the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctscribe.reports.context import corrected
from ctscribe.reports.ellipsis import spelled_out
from ctscribe.reports.lexicon import BARE_LOBES, Spot, Token, tokenize
from ctscribe.reports.listed_sizes import with_listed_sizes
from ctscribe.reports.schema import (
    FINDINGS,
    LOBAR,
    SIDES,
    Finding,
    FindingName,
    Language,
    Side,
)
from ctscribe.reports.scope import broken, denied_tokens, is_connector, is_rest

ATTRIBUTES = ("size", "density", "core", "amount", "change")
EACH = re.compile(r"分别|各|[两二三2３3]枚|\brespectively\b|\b(?:two|three|both)\b", re.IGNORECASE)
REST_OF = re.compile(
    r"(?:余|其[他它])(?:[双两]?肺(?:野|叶)?|处|部位)?[轻中重度散在多发见可少许]*\s*$|\b(?:other|remaining)\s+$",
    re.IGNORECASE,
)
# A sentence that calls what it looked at normal denies everything there.
_NORMAL: dict[Language, list[tuple[re.Pattern[str], tuple[FindingName, ...]]]] = {
    "zh": [
        (
            re.compile(
                r"胸部(?:CT)?(?:平扫|检查)?[^，,。；;]{0,6}(?:未见|无)[^，,。；;]{0,4}异常(?!密度)"
            ),
            FINDINGS,
        ),
        (
            re.compile(
                r"(?:双|两)侧?肺野?(?:清晰|[^，,。；;]{0,6}(?:未见|无)[^，,。；;]{0,4}(?:异常|病变))"
            ),
            LOBAR,
        ),
    ],
    "en": [
        (
            re.compile(
                r"\bnormal\s+(?:chest|CT|thora)|\bno\s+(?:significant|acute|focal)?\s*(?:cardiopulmonary\s+)?"
                r"abnormalit\w+(?:\s+(?:is|are)\s+\w+)?(?:\s+(?:on|in|of)\s+(?:the\s+)?(?:chest|thora)|\s*$)",
                re.IGNORECASE,
            ),
            FINDINGS,
        ),
        (
            re.compile(r"\blungs?\s+(?:fields?\s+)?(?:are|is)\s+(?:clear|normal)\b", re.IGNORECASE),
            LOBAR,
        ),
    ],
}
# A sentence about what the sentence before it found.
_GOES_ON = re.compile(
    r"\s*(?:大小|直径|长径|最大|约|其|边|呈|密度|病灶|it\b|this\b|the\s+(?:nodule|lesion)|measur|size|"
    r"diameter|approx|about)",
    re.IGNORECASE,
)
_EXEMPT = re.compile(r"余|其[他它]|\b(?:other|otherwise|remain\w*|rest|elsewhere)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Mention:
    """One statement about one finding, at text[start:end].

    negated: the text denies it; a denial without a place denies it everywhere, unless `rest`:
    "余肺未见结节" speaks only of where nothing was said before. section: of `sections.SECTIONS`.
    """

    finding: Finding
    negated: bool
    start: int
    end: int
    rest: bool = False
    section: str = "findings"


def bind(
    sentence: str, language: Language, before: Sequence[Mention]
) -> tuple[list[Mention], list[Mention]]:
    """(`before` completed, the statements of this sentence), in the order of the text.

    before: what the last sentence asserted. A sentence of attributes alone ("大小约14mm。") fills
    in what those statements left open.
    """
    sentence = corrected(sentence, language)
    last = before[-1].finding.name if before else ""
    tokens = with_listed_sizes(sentence, tokenize(sentence, language))
    tokens, left_out = spelled_out(sentence, tokens, last, language)
    kinds = {token.kind for token in tokens}
    if not kinds & {"finding", "place"} and _GOES_ON.match(sentence):
        return [_complete(mention, tokens) for mention in before], []
    denied = denied_tokens(sentence, tokens, language)
    keep = [i for i, t in enumerate(tokens) if t.kind not in ("negation", "denial")]
    words = [tokens[i] for i in keep]
    is_denied = [i in denied for i in keep]
    spoken: list[Mention] = []
    for stretch in stretches(words, sentence, language):
        own = _statements(stretch, words, is_denied, sentence, language)
        if words[stretch.finding].start in left_out:
            spoken = [m for m in spoken if not any(_same_place(m, n) for n in own)]
        spoken += own
    return list(before), spoken + _normal_statements(sentence, language)


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
        if word.kind == "place" and word.bound and previous >= 0:
            break  # "in the right upper lobe": behind the finding before
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
        taken += [i for i in range(head) if i not in taken and words[i].kind in ATTRIBUTES]
    return sorted(taken)


def nearest_places(words: list[Token], head: int, sentence: str, language: Language) -> list[int]:
    """The last places listed together before a finding."""
    places = [i for i in range(head) if words[i].kind == "place"]
    group: list[int] = []
    for i in reversed(places):
        if group and not is_connector(sentence[words[i].end : words[group[0]].start], language):
            break
        group.insert(0, i)
    return group


def _statements(
    stretch: Stretch, words: list[Token], denied: list[bool], sentence: str, language: Language
) -> list[Mention]:
    head, is_denied = words[stretch.finding], denied[stretch.finding]
    names: list[FindingName] = head.word.split("+")  # type: ignore[assignment]
    own = [i for i in stretch.leading if words[i].kind == "place"]
    behind = places_behind(stretch.trailing, words, sentence, language)
    elsewhere = is_denied or REST_OF.search(sentence, 0, head.start)
    inherited = [] if elsewhere else stretch.inherited
    if behind and not words[behind[0]].bound and (own or inherited or is_denied):
        # Another clause's place, unless it says how much is there: "双侧积液（左侧少量）".
        amounts = names[0] not in LOBAR and any(words[i].kind == "amount" for i in stretch.trailing)
        behind = behind if amounts and not is_denied else []
    attributes = [
        i
        for i in [*stretch.leading, *stretch.trailing]
        if words[i].kind in ATTRIBUTES and denied[i] == is_denied
    ]
    general, special = (own, behind) if own else (behind[:1], behind[1:])
    parts = [(own or behind or inherited, attributes)]
    if special and is_general(general, words, names[0] in LOBAR):
        # "双肺多发结节，较大者位于右肺上叶，9mm": one of them is there, and the size is its own.
        ahead = [i for i in attributes if i < stretch.finding]
        after = [i for i in attributes if i > max(stretch.finding, general[0])]
        inside = [i for i in after if i > special[0] or words[i].kind == "amount"]
        parts = [
            (general, ahead if inside else attributes),
            (special, [*(i for i in ahead if words[i].kind == "density"), *inside]),
        ]
    elif own:
        behind = []
    used = [*own, *behind, *attributes, stretch.finding]
    start, end = min(words[i].start for i in used), max(words[i].end for i in used)
    rest = is_denied and is_rest(sentence, head, language)
    return [
        Mention(finding, is_denied, start, end, rest)
        for name in names
        for places, own_attributes in parts
        for finding in _findings(name, places, own_attributes, words, sentence)
    ]


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


def _findings(
    name: FindingName, places: list[int], attributes: list[int], words: list[Token], sentence: str
) -> list[Finding]:
    """One finding a spot, each with the attributes that are its own or shared."""
    spots = spots_of(places, words) or [(-1, (None, None, None))]
    if name not in LOBAR:  # pleural: sides only, each once
        by_side: dict[Side | None, tuple[int, Spot]] = {}
        for i, (side, _, _) in spots:
            by_side.setdefault(side, (i, (side, None, None)))
        spots = list(by_side.values())
    of_kind = {
        kind: [i for i in attributes if words[i].kind == kind]
        for kind in ("size", "density", "amount")
    }
    count = len(of_kind["size"])
    if name == "nodule" and len(spots) == 1 and count > 1 and EACH.search(sentence):
        spots = spots * count  # "右肺上叶两枚结节，分别约14mm、9mm"
    shared = {kind: share(indices, spots) for kind, indices in of_kind.items()}
    has_core = any(words[i].kind == "core" for i in attributes)
    findings = []
    for index, (_, (side, lobe, _)) in enumerate(spots):
        size, density, amount = (
            None if shared[kind][index] is None else words[shared[kind][index]]  # type: ignore[index]
            for kind in ("size", "density", "amount")
        )
        finding = Finding(name, side, lobe)
        if size and name in ("nodule", "consolidation"):
            finding = replace(finding, size_mm=size.size_mm)
        if density and name == "nodule":
            mixed = has_core and density.word == "ground-glass"
            finding = replace(finding, density="part-solid" if mixed else density.word)  # type: ignore[arg-type]
        if amount and amount.word and name not in LOBAR:
            finding = replace(finding, amount=amount.word)  # type: ignore[arg-type]
        findings.append(finding)
    return findings


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


def _same_place(one: Mention, other: Mention) -> bool:
    a, b = one.finding, other.finding
    return (a.name, a.side, a.lobe) == (b.name, b.side, b.lobe)


def _complete(mention: Mention, tokens: list[Token]) -> Mention:
    """A statement with the size, density or amount that the next sentence gives it."""
    finding = mention.finding
    for token in reversed(tokens):
        if token.kind == "size" and finding.size_mm is None and finding.name == "nodule":
            finding = replace(finding, size_mm=token.size_mm)
        elif token.kind == "density" and finding.density is None and finding.name == "nodule":
            finding = replace(finding, density=token.word)  # type: ignore[arg-type]
        elif token.kind == "amount" and finding.amount is None and finding.name not in LOBAR:
            finding = replace(finding, amount=token.word)  # type: ignore[arg-type]
    return replace(mention, finding=finding)


def _normal_statements(sentence: str, language: Language) -> list[Mention]:
    """Denials that "双肺未见异常" or "normal chest CT" stand for."""
    spoken: list[Mention] = []
    for pattern, names in _NORMAL[language]:
        match = pattern.search(sentence)
        if match is None:
            continue
        rest = _EXEMPT.search(sentence, 0, match.end()) is not None
        spoken += [Mention(Finding(n), True, match.start(), match.end(), rest) for n in names]
    return spoken
