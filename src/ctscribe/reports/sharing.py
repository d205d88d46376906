"""What the statements of one sentence take from each other, from sizes before, from the next one.

"少量气胸及积液" is a small amount of both, "均较前相仿" a change of all, "now 10 mm, previously
7 mm" growth, and "大小约14mm。" the size of what the sentence before it found.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import cast

from ctscribe.reports.context import blank_unread
from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import Amount, Change, Density, Language, Statement
from ctscribe.reports.tokens import tokenize
from ctscribe.reports.vocabulary import AMOUNTED, PLACELESS, PLEURA, SIZED

MEASURABLE_MM = 2.0  # less is no growth (Fleischner Society 2017)
_NEAR = 30  # characters between a size and the one before
_AND_FLUID = frozenset(
    f"{a}{b}"
    for a in ("及", "和", "并", "伴", "、", "")
    for b in ("积液", "胸腔积液", "气胸", "积气")
)
_LISTS = ("", "、", "及", "和", "与", " and ", ", ")
_EACH = re.compile(r"[均皆都]|\b(?:both|all)\b")  # "双侧胸腔积液、心包积液均减少"
_DEVELOPED = re.compile(r"\binterval\s+(?:development|appearance)\s+of\b", re.IGNORECASE)
_ALL_STABLE = re.compile(r"\W*(?:stable|unchanged)\s[^,;:]*", re.IGNORECASE)  # "stable A and B"
_ALL_ARE = re.compile(
    r"均[为呈系]?(?:纯|部分)?(?:实性|磨玻璃)"
    r"|\b(?:all|both)\s+(?:\w+\s+)?(?:solid|part|sub|ground|calcified)",
    re.IGNORECASE,
)
_ALL = re.compile(r"均|都|皆|\b(?:both|all|are|have)\b", re.IGNORECASE)
# A sentence about what the sentence before it found.
_GOES_ON = re.compile(
    r"\s*(?:大小|直径|长径|最大|约|其|边|呈|密度|病灶|较(?![大小])|it\b|this\b|the\s+(?:nodule|lesion)"
    r"|measur|size|"
    r"diameter|approx|about|overall|total\b|整体|总体)",
    re.IGNORECASE,
)


def said_where(spoken: list[Statement]) -> list[Statement]:
    """Without "there is one" where the sentence goes on to say where: "并非未见结节，左肺…"."""
    placed = {s.finding for s in spoken if s.side and not s.negated}

    def empty(one: Statement) -> bool:
        said = one.negated or one.uncertain or one.side or one.lobe or one.segment
        more = one.axes_mm or one.density or one.amount or one.comparison or one.count
        return not (said or more) and one.finding in placed and one.finding not in PLACELESS

    def again(i: int, one: Statement) -> bool:
        """Whether more is said of a side's one effusion, or later that what was there is gone."""
        if one.negated or one.uncertain or one.amount or one.comparison or one.side is None:
            return False
        same = [s for s in spoken if s is not one and _where(s) == _where(one)]
        gone = any(s.comparison == "resolved" and s.start > one.start for s in same)
        told = any((s.amount or s.comparison) and not s.negated for s in same)
        return gone or (told and one.finding in PLEURA)

    def counted(one: Statement) -> bool:
        """Whether each of so many is spoken of by itself: "双肺见2枚结节：右肺上叶…，左肺…"."""
        each = [s for s in spoken if s.finding == one.finding and s.lobe and not s.negated]
        bare = not (one.lobe or one.negated or one.axes_mm or one.comparison)
        return bare and one.count == len(each) and all(s.start > one.start for s in each)

    return [s for i, s in enumerate(spoken) if not (empty(s) or again(i, s) or counted(s))]


def _where(one: Statement) -> tuple[str | None, ...]:
    return one.finding, one.side, one.lobe, one.segment


def shared_density(spoken: list[Statement], text: str) -> list[Statement]:
    """A density said of all: "右肺上叶7mm，中叶4mm，均为实性"."""
    if not spoken or not spoken[-1].density or not _ALL_ARE.search(text):
        return spoken
    return [
        replace(s, density=spoken[-1].density)
        if s.finding == "nodule" and not s.negated and s.density is None
        else s
        for s in spoken
    ]


def compared(spoken: list[Statement], before: list[Token]) -> list[Statement]:
    """A change that two sizes tell: "now 10 mm, previously 7 mm"."""
    sized = [s for s in spoken if s.size_mm and not s.negated]
    if len(sized) != 1 or sized[0].comparison:
        return spoken
    one = sized[0]
    near = [t for t in before if one.start - _NEAR < t.start < one.end + _NEAR]
    if len(near) != 1 or one.size_mm is None:
        return spoken
    grown = one.size_mm - near[0].size_mm
    change: Change | None = None
    if abs(grown) >= MEASURABLE_MM:
        change = "larger" if grown > 0 else "smaller"
    elif not grown:
        change = "stable"
    return [replace(s, comparison=change) if s is one else s for s in spoken]


def once(spoken: list[Statement]) -> list[Statement]:
    """What a sentence says twice in other words ("纤维灶及条索影") made one statement."""
    seen: dict[Statement, Statement] = {}
    kept: list[Statement] = []
    for one in spoken:
        key = replace(one, start=0, end=0, count=None)
        if (one.finding == "nodule" and not one.negated) or key not in seen:
            kept.append(one)
        seen.setdefault(key, one)
    return kept


def shared_amount(spoken: list[Statement], text: str) -> list[Statement]:
    """ "少量气胸及积液": of both."""
    shared = list(spoken)
    for i in range(1, len(shared)):
        one, other = shared[i - 1], shared[i]
        near = other.finding in AMOUNTED and other.amount is None and not other.negated
        if near and one.amount and text[one.end : other.end] in _AND_FLUID:
            shared[i] = replace(other, amount=one.amount)
    return shared


def shared_change(spoken: list[Statement], text: str, words: list[Token]) -> list[Statement]:
    """A change said of all: "右肺上叶结节、左肺下叶结节，均较前相仿"."""
    shared = list(spoken)
    if _DEVELOPED.search(text):
        return [s if s.negated or s.comparison else replace(s, comparison="new") for s in spoken]
    if _ALL_STABLE.fullmatch(text):
        return [s if s.negated or s.comparison else replace(s, comparison="stable") for s in spoken]
    for i, last in enumerate(spoken):
        if last.comparison not in ("stable", "larger", "smaller"):
            continue
        of_all = _ALL.search(text, last.start, max(last.end, last.start))
        for j, one in enumerate(spoken[:i]):
            if one.comparison is not None or one.negated:
                continue
            listed = text[one.end : last.start] in _LISTS and _EACH.search(
                text, last.start, last.end
            )
            if (of_all and (one.finding == last.finding or listed)) or _in_one_clause(
                one, last, text, words
            ):
                shared[j] = replace(one, comparison=last.comparison)
    return shared


def _in_one_clause(one: Statement, last: Statement, text: str, words: list[Token]) -> bool:
    """Whether a change behind a comma is of all before it: "A with B, similar to prior"."""
    if one.finding == last.finding or one.end > last.end:
        return False
    heads = [t for t in words if t.kind == "finding" and one.start <= t.start < last.end]
    changes = [t for t in words if t.kind == "change" and one.start <= t.start < last.end]
    if not heads or len(changes) != 1:
        return False
    gap = text[heads[-1].end : changes[0].start]
    between = text[one.start : heads[-1].start]
    return re.search("[，,]", gap) is not None and re.search("[，,;]", between) is None


def completed(statement: Statement, sentence: str, language: Language) -> Statement:
    """A statement with what the next sentence says of it."""
    if not _GOES_ON.match(sentence):
        return statement
    tokens = tokenize(blank_unread(sentence, language)[0], language)
    if any(token.kind in ("finding", "place") for token in tokens):
        return statement
    for token in reversed(tokens):
        if token.kind == "size" and statement.size_mm is None and statement.finding in SIZED:
            statement = replace(statement, size_mm=token.size_mm, axes_mm=token.axes_mm)
        elif (
            token.kind == "density" and statement.density is None and statement.finding == "nodule"
        ):
            statement = replace(statement, density=cast(Density, token.word))
        elif token.kind == "amount" and statement.amount is None and statement.finding in AMOUNTED:
            statement = replace(statement, amount=cast(Amount, token.word))
        elif token.kind == "change" and statement.comparison is None:
            statement = replace(statement, comparison=cast(Change, token.word))
    return statement
