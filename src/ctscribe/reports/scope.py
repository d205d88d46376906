"""Where one statement ends and the next begins: sentences, clause breaks, and reach of negation."""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate, pairwise

from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import Language

# A sentence ends at 。；or a full stop that is no decimal point and no list number.
_END = re.compile(
    r"[。；;!?！？\n]+|[，,](?=\s*\d{1,2}[）)]\s*\D)|(?<!\bapprox)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bDr)(?<!\bNo)\.(?=\s|$)"
)
LONGEST = 400  # characters of one sentence
_LIST_NUMBER = re.compile(r"\s*(?:[（(]?\d{1,2}[）)]|\d{1,2}[.、．](?!\d))\s*")
# "measuring\n14 mm": a line that goes on in lower case was wrapped.
_WRAPPED = re.compile(r"(?<=[a-z,\d])\n(?=[a-z\d(])")

_BREAK: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"[，,；;、及和与并伴]|另"),
    "en": re.compile(r"[,;&]|\b(?:and|or|with|plus)\b", re.IGNORECASE),
}
_CONNECTOR: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"[\s、,，/及和与以并或（）()约为呈]*$"),
    "en": re.compile(
        r"[\s,/&()]*(?:\d\)\s*)?(?:(?:and|or|as well as)\s*)?(?:(?:in|of)\s+)?(?:the\s+)?$", re.I
    ),
}
_COMMA = re.compile(r"[，,]|、(?=\s*\d)")
_CONTRAST: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"但|而|仅|只有|可见|另见|并见|惟|除"),
    "en": re.compile(
        r"\b(?:but|however|except|apart\s+from|aside\s+from|other\s+than|although|though|there\s+(?:is|are)"
        r"|(?:and|with)\s+(?:an?|there|small|moderate|large|minimal|trace|tiny|with)\b)",
        re.IGNORECASE,
    ),
}
# What may stand between bare findings of one list: "未见结节，实变影", "no nodule, mass".
_FILLER: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"[\s、及和与或等影灶征象明显确的]*$"),
    "en": re.compile(r"(?:[\s,]|\b(?:and|or|nor|focal|pulmonary|lung|pleural)\b)*$", re.IGNORECASE),
}
# Stated without a verb as a clause of their own: "两肺未见病变，主动脉弓钙化".
_APART = ("aortic-calcification", "coronary-calcification", "cardiomegaly", "hiatal-hernia")
# "The right effusion is stable and the left one has resolved": two clauses.
_OWN_VERB = re.compile(
    r".*\b(?:is|are|has|have|remains?|measures?|shows?)\b.*\b(?:and|but)\s", re.IGNORECASE
)
_STATED = re.compile("(?<!未)[见有]|[右左双两]侧")  # "右侧乳腺见一结节" is one word
_LIST_END = re.compile(r"\b(?:or|nor)\b", re.IGNORECASE)
_REST: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"余|其[他它]|另外|另|新发|新增"),
    "en": re.compile(
        r"\b(?:other|otherwise|additional|new|further|remain\w*|rest|elsewhere)\b", re.IGNORECASE
    ),
}


def sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """(start, end) of each sentence of text[start:end], list numbers left out."""
    body = _WRAPPED.sub(" ", text[start:end])
    spans, begin = [], 0
    for stop in [*_END.finditer(body), None]:
        last = len(body) if stop is None else stop.start()
        number = _LIST_NUMBER.match(body, begin, last)
        if number:
            begin = number.end()
        while last - begin > LONGEST:  # no sentence: read in pieces, or its reading takes for ever
            cut = max(body.rfind(mark, begin, begin + LONGEST) for mark in "，,、 ") + 1
            cut = cut or begin + LONGEST
            if body[begin:cut].strip():
                spans.append((start + begin, start + cut))
            begin = cut
        if body[begin:last].strip():
            spans.append((start + begin, start + last))
        begin = len(body) if stop is None else stop.end()
    return spans


def broken(gap: str, language: Language) -> bool:
    """Whether the text between two tokens parts them: a comma, "and", "及"."""
    return _BREAK[language].search(gap) is not None


def is_connector(gap: str, language: Language) -> bool:
    """Whether the text between two tokens only lists them: "、", "及", " and the "."""
    return _CONNECTOR[language].match(gap) is not None


def is_rest(sentence: str, token: Token, language: Language) -> bool:
    """Whether a denied finding is denied only elsewhere: "余肺未见结节", "no other nodule"."""
    start = max((m.end() for m in _COMMA.finditer(sentence, 0, token.start)), default=0)
    return _REST[language].search(sentence, start, token.start) is not None


def denied_tokens(sentence: str, tokens: list[Token], language: Language) -> set[int]:
    """Indices of the tokens that a negation before them, or a denial behind them, covers."""
    starts = [token.start for token in tokens]
    covers = [0] * (len(tokens) + 1)  # where a cover begins, less where one ends
    for token in tokens:
        if token.kind == "negation":
            first, last = token.end, _reach(sentence, token, tokens, language)
        elif token.kind == "denial":
            first, last = _reach_back(sentence, token, tokens, language), token.start
        else:
            continue
        begin, end = bisect_left(starts, first), bisect_left(starts, last)
        if begin < end:
            covers[begin] += 1
            covers[end] -= 1
    return {i for i, depth in enumerate(accumulate(covers[:-1])) if depth}


def _reach(sentence: str, negation: Token, tokens: list[Token], language: Language) -> int:
    """Where a negation ends: its clause, and the listed clauses that follow."""
    contrast = _CONTRAST[language].search(sentence, negation.end)
    limit = contrast.start() if contrast else len(sentence)
    ends = [m.start() for m in _COMMA.finditer(sentence, negation.end, limit)] + [limit]
    reach = ends[0]
    for begin, end in pairwise(ends):
        listed = language == "en" and _LIST_END.search(sentence, begin, limit)
        if not listed and not _is_bare(sentence, begin + 1, end, tokens, language):
            break
        reach = end
    return reach


def _reach_back(sentence: str, denial: Token, tokens: list[Token], language: Language) -> int:
    """Where what a denial covers begins: its clause, and the listed clauses before."""
    starts = [0] + [m.end() for m in _COMMA.finditer(sentence, 0, denial.start)]
    reach = starts[-1]
    if language == "en":
        parted = _OWN_VERB.match(sentence, reach, denial.start)
        own = parted and any(
            t.kind == "finding" and parted.end() <= t.start < denial.start for t in tokens
        )
        if parted and own:
            return parted.end()
    for begin, end in zip(starts[-2::-1], starts[:0:-1], strict=True):
        if not _is_bare(sentence, begin, end - 1, tokens, language):
            break
        reach = begin
    return reach


def _is_bare(sentence: str, start: int, end: int, tokens: list[Token], language: Language) -> bool:
    """Whether a clause only names findings, without saying where or how large."""
    inside = [token for token in tokens if start <= token.start < end]
    if not inside or any(token.kind != "finding" for token in inside):
        return False
    if any(name in _APART for token in inside for name in token.word.split("+")):
        return False
    if any(_STATED.search(sentence, token.start, token.end) for token in inside):
        return False
    rest, position = "", start
    for token in inside:
        rest += sentence[position : token.start] + " "
        position = max(position, token.end)
    return _FILLER[language].match(rest + sentence[position:end]) is not None
