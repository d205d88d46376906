"""Personal data in Chinese and English reports: found, and replaced by neutral placeholders.

Findings stay as they are: sizes, segments, stages, image numbers and eponyms are not personal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ctscribe.reports import identifiers as known
from ctscribe.reports.language import detect_language
from ctscribe.reports.names import chinese_names, known_names
from ctscribe.reports.names_en import latin_names
from ctscribe.reports.schema import Language

Kind = Literal["name", "id", "date", "phone", "address", "email", "institution"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PLACEHOLDERS: dict[Language, dict[Kind, str]] = {
    "zh": {
        "name": "[姓名]",
        "id": "[编号]",
        "date": "[日期]",
        "phone": "[电话]",
        "address": "[地址]",
        "email": "[邮箱]",
        "institution": "[机构]",
    },
    "en": {
        "name": "[NAME]",
        "id": "[ID]",
        "date": "[DATE]",
        "phone": "[PHONE]",
        "address": "[ADDRESS]",
        "email": "[EMAIL]",
        "institution": "[INSTITUTION]",
    },
}
# In the order of precedence: where two overlap, what is found is of the kind that comes first.
_PATTERNS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (known.EMAIL, "email"),
    (known.LABELLED_ID, "id"),
    (known.LABELLED_ID_EN, "id"),
    (known.ID_BEFORE_LABEL, "id"),
    (known.BED, "id"),
    (known.CHAT_ID, "id"),
    (known.LABELLED_ADDRESS, "address"),
    (known.LABELLED_ADDRESS_EN, "address"),
    (known.ADDRESS, "address"),
    (known.ADDRESS_EN, "address"),
    (known.LABELLED_DATE, "date"),
    (known.DATE, "date"),
    (known.CLOCK, "date"),
    (known.DASHED_NUMBER, "id"),
    (known.LABELLED_PHONE, "phone"),
    (known.PHONE, "phone"),
    (known.LONG_NUMBER, "id"),
)
_PLACEHOLDER = re.compile(
    "|".join(re.escape(word) for words in PLACEHOLDERS.values() for word in words.values())
)


@dataclass(frozen=True)
class Span:
    """Personal data at text[start:end]."""

    start: int
    end: int
    kind: Kind


def find_personal(
    text: str,
    language: Language | None = None,
    *,
    names: Sequence[str] = (),
    institutions: bool = False,
) -> list[Span]:
    """Personal data of a text, in its order, not overlapping. Never raises.

    names: known ones, from the row's own columns; found wherever they stand, however they are
    spaced. institutions: hospitals too, which identify a patient only with something else.
    """
    words = PLACEHOLDERS[language or detect_language(text)]
    found: list[Span] = []
    # What is replaced may show what stands beside it, so the replaced text is searched again.
    shown, origin = text, list(range(len(text)))
    while new := _apart(shown, _candidates(shown, names, institutions)):
        found += [Span(origin[s.start], origin[s.end - 1] + 1, s.kind) for s in new]
        shown, origin = _replaced(shown, origin, new, words)
    return sorted(found, key=lambda span: span.start)


def deidentify(
    text: str,
    language: Language | None = None,
    *,
    names: Sequence[str] = (),
    institutions: bool = False,
) -> str:
    """The text with each span of `find_personal` replaced by a placeholder: [姓名], [DATE].

    Nothing else changes, and doing it again changes nothing.
    """
    words = PLACEHOLDERS[language or detect_language(text)]
    pieces, end = [], 0
    for span in find_personal(text, language, names=names, institutions=institutions):
        pieces += [text[end : span.start], words[span.kind]]
        end = span.end
    return "".join([*pieces, text[end:]])


def _candidates(text: str, names: Sequence[str], institutions: bool) -> Iterator[Span]:
    """What may be personal, in the order of precedence."""
    for start, end in known_names(text, names):
        yield Span(start, end, "name")
    for pattern, kind in _PATTERNS:
        for match in pattern.finditer(text):
            group = next((g for g in ("found", "also") if match.groupdict().get(g)), 0)
            yield Span(*match.span(group), kind)
    if institutions:
        yield from _institutions(text)
    for finder in (chinese_names, latin_names):
        for start, end in finder(text):
            yield Span(start, end, "name")


def _institutions(text: str) -> Iterator[Span]:
    for pattern in (known.INSTITUTION, known.INSTITUTION_EN):
        for match in pattern.finditer(text):
            lead = known.INSTITUTION_LEAD.search(match[0])
            start = match.start() + (lead.end() if lead else 0)
            if not known.GENERIC_INSTITUTION.fullmatch(text, start, match.end()):
                yield Span(start, match.end(), "institution")


def _apart(text: str, candidates: Iterator[Span]) -> list[Span]:
    """Candidates without those that touch a placeholder; what overlaps becomes one span."""
    placed = [False] * len(text)
    for match in _PLACEHOLDER.finditer(text):
        placed[match.start() : match.end()] = [True] * len(match[0])
    ranked = [
        (span, rank)
        for rank, span in enumerate(candidates)
        if span.start < span.end and not any(placed[span.start : span.end])
    ]
    apart: list[tuple[Span, int]] = []
    for span, rank in sorted(ranked, key=lambda pair: pair[0].start):
        last, last_rank = apart[-1] if apart else (Span(0, 0, "name"), 0)
        if span.start >= last.end:
            apart.append((span, rank))
            continue
        kind = last.kind if last_rank < rank else span.kind
        whole = Span(last.start, max(last.end, span.end), kind)
        apart[-1] = whole, min(last_rank, rank)
    return [span for span, _ in apart]


def _replaced(
    text: str, origin: list[int], spans: Sequence[Span], words: dict[Kind, str]
) -> tuple[str, list[int]]:
    """The text with placeholders, and where each of its characters came from (-1: placeholder)."""
    pieces, sources, end = [], [], 0
    for span in spans:
        pieces += [text[end : span.start], words[span.kind]]
        sources += origin[end : span.start] + [-1] * len(words[span.kind])
        end = span.end
    return "".join([*pieces, text[end:]]), sources + origin[end:]
