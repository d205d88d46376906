"""Clauses that leave the finding's name out, since the one before has said it.

"双侧胸腔积液，左侧已吸收", "双肺多发结节，其中右肺下叶背段者较大，约16mm": where such a clause
names a place and what is so there, the finding is put in as a token of its own. `placed_anew`
then takes from the clause before what the later one says more exactly.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import LOBES, Language, Statement, side_of

_CLAUSE: dict[Language, re.Pattern[str]] = {
    # "较前左侧增多、右侧减少": two clauses.
    "zh": re.compile(r"(?:[^，,：:、]|、(?![右左]侧?(?:胸腔)?(?:[增减略稍]|明显)))+"),
    "en": re.compile(r"[^,;]+"),
}
_ZH_INSIDE = r"(?:胸膜?腔|肺)?(?:内|者)?(?:现|本次|目前)?"
_DENIED: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        rf"{_ZH_INSIDE}(?:则|均|亦|也|并)?(?:未见|未及|无|没有|阴性)(?:明显|明确|确切)?\s*$"
    ),
    "en": re.compile(
        r"(?:\s+side)?(?:\s*:\s*|\s+(?:is\s+)?(?!no\b))(?:none|nil|no)\s*$", re.IGNORECASE
    ),
}
_NONE = re.compile(
    r"\s*(?:(?:and|but)\s+)?(?:none|nil)\s+(?=on|in|at|of|(?:the\s+)?(?:right|left))", re.IGNORECASE
)  # "none on the left"
_GONE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        rf"{_ZH_INSIDE}(?:则|均|较前)?(?:(?:已|基本|完全)+(?:吸收|消失|消散)|消失)\s*$"
    ),
    "en": re.compile(
        r"\s+(?:side\s+|one\s+)?(?:has|have|is|are)\s+(?:now\s+)?(?:completely\s+)?"
        r"(?:resolved|cleared|gone|disappeared)\b",
        re.IGNORECASE,
    ),
}
_STILL: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        rf"{_ZH_INSIDE}(?:则|仍|尚|亦|也)?(?:可|残)?[见有为余留呈]?(?:约|较前)*"
        r"(?:[少微大]量|少许|中等?量|[增减]少|增多|增大|缩小|好转|相仿|(?:大?致)?同前|变化不大|无(?:明显)?变化)"
    ),
    "en": re.compile(
        r"\s+(?:side\s+|one\s+)?(?:is|has|remains)\s+(?:\w+\s+)?(?:unchanged|stable|increased"
        r"|decreased|larger|smaller|small|trace|tiny|minimal|moderate|large|massive)\b",
        re.IGNORECASE,
    ),
}
_TOO = re.compile(r"(?:亦|也|同样)可?[有见]\s*$")
_ONE_OF = re.compile(r"(?:胸膜?腔|肺野?)?(?:内)?的?者")
_ANOTHER = re.compile(
    r"\b(?:(?:an?|the)\s+(?:second|third|fourth|other)|another)(?:\s+one)?\b"
    r"(?=\s*,?\s*(?:in|is|at|of|measur\w+|lies|\d)\b)",
    re.IGNORECASE,
)


def spelled_out(
    text: str, tokens: list[Token], before: str, language: Language
) -> tuple[list[Token], set[int]]:
    """The tokens with the findings put in that clauses leave out, and where those start.

    before: the finding that the sentence before this one spoke of last, "" if of none.
    """
    tokens = _nodules_own(text, tokens, before)
    added: list[Token] = []
    dropped: set[int] = set()
    unbound: set[int] = set()
    parted = False  # an earlier clause has said of one place what is not so of the others
    for clause in _CLAUSE[language].finditer(text):
        inside = [t for t in tokens if clause.start() <= t.start < clause.end()]
        named = next(
            (t.word for t in reversed(tokens) if t.kind == "finding" and t.start < clause.start()),
            before,
        )
        if any(t.kind == "finding" for t in inside) or not named:
            continue
        another = _ANOTHER.match(text, _begin(text, clause)) if language == "en" else None
        if another and named == "nodule":
            added.append(Token("finding", *another.span(), word=named))
            continue
        places = [t for t in inside if t.kind == "place"]
        if not places:
            continue
        alone = not any(t.kind == "finding" for t in tokens)
        listed = named == "nodule" and (language == "zh" or (alone and places[0] is tokens[0]))
        if listed and _starts_with(text, places[0], clause.start()):
            whole = tokens if alone else inside
            if re.match(r"[，,]\s*(?:约|大小|直径|长径)*\s*\d", text[clause.end() :]):
                whole = tokens  # "：1.右肺上叶前段，6mm×5mm"
            if any(t.kind == "size" for t in whole) and places[0].spots[0][0]:
                end = places[-1].end
                added.append(Token("finding", max(places[-1].start, end - 1), end, word=named))
                unbound |= {id(t) for t in places}
                continue
        place = places[-1]
        rest = text[place.end : clause.end()]
        where = max(place.start, place.end - 1)
        head = Token("finding", where, place.end, word=named)
        none = language == "en" and _NONE.match(text, clause.start(), clause.end())
        if none or _DENIED[language].match(rest):
            dropped |= {id(t) for t in inside if t.kind in ("negation", "denial")}
            added += [Token("negation", where, where), head]
            parted = True
        elif _GONE[language].match(rest):
            added.append(head)
            parted = True
        elif ((parted or _other_side(tokens, place, named)) and _STILL[language].match(rest)) or (
            language == "zh" and (_ONE_OF.match(rest) or _TOO.match(rest))
        ):
            added.append(head)
        else:
            continue
        unbound |= {id(t) for t in places}
    if not added:
        return tokens, set()
    kept = [
        replace(t, bound=False) if id(t) in unbound else t for t in tokens if id(t) not in dropped
    ]
    starts = {t.start for t in added if t.kind == "finding"}
    return sorted([*kept, *added], key=lambda t: t.start), starts


def _other_side(tokens: list[Token], place: Token, named: str) -> bool:
    """Whether an effusion's clause turns to the other side: "右侧积液减少，左侧增多"."""
    before = [t for t in tokens if t.kind == "place" and t.start < place.start]
    if named not in ("effusion", "pneumothorax"):
        return False
    if not before:  # "the right effusion is larger; the left is small"
        return tokens[0] is place and not any(t.kind == "finding" for t in tokens)
    sides, own = ({side for side, _, _ in t.spots} for t in (before[-1], place))
    return len(sides) == len(own) == 1 and sides != own


def _starts_with(text: str, place: Token, start: int) -> bool:
    return re.fullmatch(r"\s*(?:[（(]?\d{1,2}[）).、])?\s*", text[start : place.start]) is not None


def _nodules_own(text: str, tokens: list[Token], before: str) -> list[Token]:
    """ "左S3，4mm，钙化" after a nodule: the calcification is that of another one."""
    heads = [t for t in tokens if t.kind == "finding"]
    if before != "nodule" or [text[t.start : t.end] for t in heads] != ["钙化"]:
        return tokens
    if not any(t.kind == "size" for t in tokens) or tokens[0].kind != "place":
        return tokens
    own = replace(heads[0], kind="density", word="calcified")
    return [own if t is heads[0] else t for t in tokens]


def without_unnamed(text: str, tokens: list[Token], language: Language) -> list[Token]:
    """Without the words of a clause about a lesion that it does not name: "右上肺病灶同前，…"."""
    for clause in _CLAUSE[language].finditer(text):
        inside = [t for t in tokens if clause.start() <= t.start < clause.end()]
        begun = any(t.kind == "finding" and t.start < clause.end() for t in tokens)
        goes_on = text[clause.end() : clause.end() + 3]
        if goes_on.startswith(("，现为", "，现呈", ",现为", ",现呈")):
            continue
        about = any(t.kind in ("place", "change") for t in inside)
        later = any(t.kind == "finding" for t in tokens)
        if not begun and about and later and _LESION.search(clause.group()):
            tokens = [t for t in tokens if t not in inside or t.kind == "place"]
    return tokens


_LESION = re.compile(r"病灶|病变|炎症|肺炎|感染|\bpneumonia\b", re.IGNORECASE)


def without_emphasis(text: str, tokens: list[Token], language: Language) -> list[Token]:
    """Without places where something is only most: "双肺间质纤维化，下叶明显，伴支气管扩张"."""
    if language == "en":
        return tokens
    emphasised: list[tuple[int, int]] = []
    for token in tokens:
        most = _MOST.match(text, token.end) if token.kind == "place" else None
        clause = max(text.rfind(stop, 0, token.start) for stop in "，,（(") + 1
        whole = re.fullmatch(r"\s*(?:且?尤?以|多?以)?", text[clause : token.start])
        before = any(t.kind == "place" and t.start < clause for t in tokens)
        if most and whole and before:
            emphasised.append((token.start, most.end()))
    return [t for t in tokens if not any(start <= t.start < end for start, end in emphasised)]


_MOST = re.compile(
    r"(?:量?[较稍略更偏]多|居多|为[著主多甚]|[较更尤]?(?:明显|显著|著))(?=\s*(?:$|[，,）)]))"
)


def without_nature(text: str, tokens: list[Token], language: Language) -> list[Token]:
    """Without what a nodule is taken for, when that too is called one: "结节，考虑炎性结节"."""
    heads = [t for t in tokens if t.word == "nodule"]
    kept: list[Token] = []
    for token in tokens:
        if token in heads[1:] and _said_again(text, heads[heads.index(token) - 1], token, tokens):
            continue
        clause = max(text.rfind(stop, 0, token.start) for stop in "，,") + 1
        if (
            token in heads[1:]
            and heads[0].start < clause
            and _TAKEN_FOR[language].fullmatch(text, clause, token.start)
            and not any(t.kind == "place" and clause <= t.start < token.start for t in tokens)
        ):
            if language == "zh":  # "考虑钙化结节" says no density
                kept = [t for t in kept if t.kind != "density" or t.start < clause]
            continue
        kept.append(token)
    return kept


def _said_again(text: str, head: Token, token: Token, tokens: list[Token]) -> bool:
    """Whether a nodule is only named again: "结节（pGGN，8mm）", "pGGN（纯磨玻璃结节）"."""
    gap = text[head.end : token.start]
    short, whole = (re.fullmatch(r"[A-Za-z]+", text[t.start : t.end]) for t in (token, head))
    placed = any(t.kind == "place" and head.end <= t.start < token.start for t in tokens)
    return not placed and (
        (
            short is not None
            and whole is None
            and not re.search("[、及和与另）)]|[较最]大|其[一中]", gap)
        )
        or (short is not None and re.search("[增变转][大化]?[为成]$", gap) is not None)
        or (whole is not None and re.fullmatch(r"\s*[（(][^，,、）)]{0,6}", gap) is not None)
    )


_TAKEN_FOR: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"\s*(?:首先)?(?:考虑|倾向于?|符合|提示|多?为|疑)[^，,见]{0,8}"),
    "en": re.compile(
        r"\s*(?:and\s+)?(?:most\s+)?(?:likely|probably|possibly|presumably|consistent\s+with|compatible\s+with"
        r"|suggest\w+(?:\s+of)?|favou?r\w*|represent\w+|(?:may|could)\s+(?:be|represent))"
        r"(?:\s+\w+){0,4}\s+",
        re.IGNORECASE,
    ),
}


def rest_of_lungs(text: str, tokens: list[Token]) -> list[Token]:
    """With the lobes that "余肺轻度肺气肿" leaves, where all the others are named: two at most."""
    rest = _REST_OF_LUNGS.search(text)
    if rest is None:
        return tokens
    spots = [s for t in tokens if t.kind == "place" and t.start < rest.start() for s in t.spots]
    left = [lobe for lobe in LOBES if lobe not in {lobe for _, lobe, _ in spots}]
    if len(left) > 2 or any(side is None or lobe is None for side, lobe, _ in spots):
        return tokens
    place = Token(
        "place",
        *rest.span(),
        word="lobe",
        spots=tuple((side_of(lobe), lobe, None) for lobe in left),
    )
    return sorted([*tokens, place], key=lambda t: t.start)


_REST_OF_LUNGS = re.compile(r"余肺[野叶]?(?![^，,]{0,6}(?:未|无|清))")


def _begin(text: str, clause: re.Match[str]) -> int:
    """Where a clause begins, without "and"."""
    lead = re.compile(r"\s*(?:(?:and|with)\s+)?", re.IGNORECASE).match(text, clause.start())
    return lead.end() if lead else clause.start()


def placed_anew(spoken: list[Statement], later: list[Statement]) -> list[Statement]:
    """`spoken` and what clauses without a finding's name say (`later`), each place once.

    What was said of all ("较前减少", the density) goes over to a place that is spoken of anew.
    """
    kept = list(spoken)
    found: list[Statement] = []
    for one in later:
        general = [s for s in kept if s.finding == one.finding]
        same = [s for s in general if _spot(s) == _spot(one)]
        sources = [s for s in same or general if not s.negated]
        if sources:
            source = sources[-1]
            if one.finding == "nodule":
                one = replace(one, density=one.density or source.density)
            if same and not one.negated:
                one = replace(
                    one,
                    comparison=one.comparison or source.comparison,
                    amount=one.amount or source.amount,
                )
        kept = [s for s in kept if s not in same]
        found.append(one)
    for name in {s.finding for s in found}:  # "3枚结节：右上叶4mm，…": each has been spoken of
        number = sum(s.finding == name for s in found)
        kept = [s for s in kept if s.finding != name or s.count != number]
    if len(found) > 1:  # "胸膜下结节，左肺上叶者3mm，右肺中叶者4mm": the first is no third one
        bare = {s.finding for s in found}
        kept = [s for s in kept if s.finding not in bare or s.side or s.lobe or s.size_mm]
    return [*kept, *found]


def _spot(statement: Statement) -> tuple[str | None, str | None, str | None]:
    return statement.side, statement.lobe, statement.segment
