"""Personal data in Chinese and English reports: found, and replaced by neutral placeholders.

Findings stay as they are: sizes, segments, stages, image numbers and eponyms are not personal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, get_args

from ctscribe.reports import dates
from ctscribe.reports import identifiers as known
from ctscribe.reports.language import detect_language
from ctscribe.reports.names import chinese_names, known_names
from ctscribe.reports.names_context import names_in_context, repeated
from ctscribe.reports.names_en import latin_names
from ctscribe.reports.names_lattice import lattice_names, superseded
from ctscribe.reports.names_people import people
from ctscribe.reports.schema import Language
from ctscribe.reports.structured import structured

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
    (known.PAPER_NUMBER, "id"),
    (known.CARD_NUMBER, "id"),
    (known.SPACED_ID, "id"),
    (known.URL, "id"),
    (known.UID, "id"),
    (known.LABELLED_ID, "id"),
    (known.LABELLED_ID_EN, "id"),
    (known.ID_BEFORE_LABEL, "id"),
    (known.BED, "id"),
    (known.CHAT_ID, "id"),
    (known.LOGIN, "id"),
    (known.HANDLE, "id"),
    (known.ACCOUNT, "id"),
    (known.ROOM, "id"),
    (known.LABELLED_ADDRESS, "address"),
    (known.LABELLED_ADDRESS_EN, "address"),
    (known.ADDRESS, "address"),
    (known.AREA, "address"),
    (known.ADDRESS_EN, "address"),
    (known.LIVES_EN, "address"),
    (known.POSTCODE, "address"),
    (dates.LABELLED_DATE, "date"),
    (dates.DATE, "date"),
    (dates.SPACED_DATE, "date"),
    (dates.HAN_DATE, "date"),
    (dates.WORDED_DATE, "date"),
    (dates.DAY, "date"),
    (dates.CLOCK, "date"),
    (known.DASHED_NUMBER, "id"),
    (known.GROUPED_NUMBER, "id"),
    (known.LABELLED_PHONE, "phone"),
    (known.PHONE, "phone"),
    (known.ANY_LABEL, "id"),
    (known.ANY_LABEL_EN, "id"),
    (known.LONG_NUMBER, "id"),
)
_GROUPS = (
    *("found", "also", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth"),
)
# Full-width letters and digits are searched as the plain ones that they stand for.
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F) if chr(wide - 0xFEE0).isalnum()}
_NARROW |= {0xFF0D: ord("-"), 0xFF0E: ord("."), 0xFF0F: ord("/"), 0xFF3F: ord("_")}
# What one search replaces may show more beside it; a text of people is done after two or three.
SEARCHES = 12
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

    It reads what stands beside a name, and weighs whether a run of characters is likelier words or
    a name (`names_lattice`). Not found are a name that is words too (向东) with no role, title or
    verb of people beside it, a surname alone without a title, nicknames but for 小王 and 老周, a
    name in small letters with no age or sex behind it, a year alone (no identifier under HIPAA's
    Safe Harbor), ages, relative times, occupations, villages and streets without a number, short
    numbers without a label, diseases or events that single a person out, scripts other than
    Chinese and Latin, and what a picture shows. Behind 患者, a relation or staff a word that is no
    name may be taken for one (技师金标定位). Beds and rooms count as personal, clock times beside a
    date too. Who shares texts reads a sample of them.
    """
    words = PLACEHOLDERS[language or detect_language(text)]
    shown = _Shown(text.translate(_NARROW), list(range(len(text))), list(range(1, len(text) + 1)))
    searches = 0
    while new := _apart(shown.text, _candidates(shown.text, names, institutions)):
        searches += 1
        if searches <= SEARCHES:
            again = (Span(*span, "name") for span in repeated(shown.text, _names_of(shown, new)))
            new = _apart(shown.text, chain(new, again))
        else:
            # Each search would show the next name for ever: what is left between the first and
            # the last goes as one, with a reach around it that soon is the whole text.
            reach = 50 * 4 ** (searches - SEARCHES)
            first, last = max(0, new[0].start - reach), new[-1].end + reach
            new = [Span(first, min(last, len(shown.text)), new[0].kind)]
        shown = _replaced(shown, new, words)
    return sorted(shown.spans, key=lambda span: span.start)


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
    for start, end, said in structured(text):
        yield Span(start, end, said)
    for pattern, kind in _PATTERNS:
        for match in pattern.finditer(text):
            group = next((g for g in _GROUPS if match.groupdict().get(g)), 0)
            yield Span(*match.span(group), kind)
    for door in known.DOOR.finditer(text):
        begins = known.ADDRESS_BEGINS.search(text, max(0, door.start() - 40), door.start())
        start = begins.start() if begins else door.start()
        lead = known.ADDRESS_LEAD.match(text, start, door.start())
        yield Span(lead.end() if lead else start, door.end(), "address")
    if institutions:
        yield from _institutions(text)
    cut = sorted(lattice_names(text))
    for finder in (chinese_names, names_in_context, people):
        for start, end in finder(text):
            if not superseded(text, start, end, cut):
                yield Span(start, end, "name")
    for start, end in chain(cut, latin_names(text)):
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


@dataclass(frozen=True)
class _Shown:
    """A text with placeholders, what they stand for, and where each character came from."""

    text: str
    starts: list[int]
    ends: list[int]
    spans: list[Span] = field(default_factory=list)


def _names_of(shown: _Shown, spans: Sequence[Span]) -> list[str]:
    return [shown.text[s.start : s.end] for s in spans if s.kind == "name"]


def _replaced(shown: _Shown, spans: Sequence[Span], words: dict[Kind, str]) -> _Shown:
    """The text with more placeholders; what a span holds already is part of it from now on."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    found: list[Span] = []
    end = 0
    for span in spans:
        word = words[span.kind]
        origin = Span(shown.starts[span.start], shown.ends[span.end - 1], span.kind)
        pieces += [shown.text[end : span.start], word]
        starts += shown.starts[end : span.start] + [origin.start] * len(word)
        ends += shown.ends[end : span.start] + [origin.end] * len(word)
        found.append(origin)
        end = span.end
    kept = (
        [
            old
            for old in shown.spans
            if not any(new.start <= old.start and old.end <= new.end for new in found)
        ]
        if len(found) == 1
        else shown.spans
    )
    return _Shown(
        "".join([*pieces, shown.text[end:]]),
        starts + shown.starts[end:],
        ends + shown.ends[end:],
        [*kept, *found],
    )
