"""A rule labeller: which of the five findings that the model has heads for a report asserts.

Where, how large, of what density and amount: what `statements` reads, kept to these. Uncertain
findings ("可疑", "不除外", "possible") count as asserted; denied, resolved, historical and
conditional ones do not; neither do other organs'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

from ctscribe.reports.language import SLOTS, detect_language
from ctscribe.reports.schema import (
    FINDINGS,
    LOBAR,
    PLEURAL,
    Finding,
    FindingName,
    Language,
    Statement,
)
from ctscribe.reports.scope import sentences
from ctscribe.reports.sections import section_spans
from ctscribe.reports.statements import statements

__all__ = [
    "Mention",
    "ReportLabels",
    "Statement",
    "covers",
    "extract",
    "label_report",
    "mentions",
    "statements",
]

SIZE_CONFLICT_MM = 2.0  # sizes of one nodule that differ by this much contradict each other
_SLOT_ORDER: dict[tuple[str, str], int] = {slot: index for index, slot in enumerate(SLOTS)}


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


@dataclass(frozen=True)
class ReportLabels:
    """What 所见 and 结论 assert, each by itself, and how often the report contradicts itself."""

    findings: tuple[Finding, ...]
    impression: tuple[Finding, ...]
    contradictions: int


def extract(text: str, language: Language | None = None) -> tuple[Finding, ...]:
    """Findings that a text asserts, in the order of `SLOTS`, those without a place last.

    A whole report may be given: its findings and impression are merged, what they say of the same
    nodule once, and recommendation and pathology are not read. Sizes in mm. Never raises.
    """
    spoken = mentions(text, language)
    merged = _merge(m.finding for m in spoken if not m.negated and m.section == "findings")
    for mention in spoken:
        if mention.negated or mention.section != "impression":
            continue
        if not any(covers(mention.finding, known) for known in merged):
            merged = _merge([*merged, mention.finding])
    return tuple(sorted(merged, key=_order))


def label_report(text: str, language: Language | None = None) -> ReportLabels:
    """The two sections of a report by themselves, and their contradictions.

    A contradiction is an asserted finding that the report also denies; an impression's finding
    that the findings section does not hold; or one nodule with two densities or sizes. A report
    without an impression can only contradict itself by denial. What the impression leaves out is
    no contradiction.
    """
    spoken = mentions(text, language)
    findings, impression = (
        _merge(m.finding for m in spoken if not m.negated and m.section == section)
        for section in ("findings", "impression")
    )
    denials = [m for m in spoken if m.negated and not m.rest]
    contradictions = sum(
        any(covers(denial.finding, finding) for denial in denials)
        for finding in _merge([*findings, *impression])
    )
    for concluded in impression:
        same = [f for f in findings if covers(concluded, f) or covers(f, concluded)]
        contradictions += not any(not _conflict(concluded, finding) for finding in same)
    return ReportLabels(
        tuple(sorted(findings, key=_order)), tuple(sorted(impression, key=_order)), contradictions
    )


def mentions(text: str, language: Language | None = None) -> list[Mention]:
    """Every statement about a finding in the findings and impression, asserted or denied.

    language: of the text; found from its characters if not given.
    """
    language = language or detect_language(text)
    found = [
        Mention(_finding(s), s.negated, s.start, s.end, s.rest, s.section)
        for s in statements(text, language)
        if s.finding in FINDINGS
    ]
    for section, section_start, section_end in section_spans(text):
        if section in ("findings", "impression"):
            for start, end in sentences(text, section_start, section_end):
                found += [
                    replace(m, start=m.start + start, end=m.end + start, section=section)
                    for m in _normal_mentions(text[start:end], language)
                ]
    return sorted(found, key=lambda m: m.start)


def _finding(s: Statement) -> Finding:
    """What a statement says of one of the five, with the attributes that this one has."""
    name = cast(FindingName, s.finding)
    return Finding(
        name,
        s.side,
        s.lobe if name in LOBAR else None,
        s.size_mm if name in ("nodule", "consolidation") else None,
        s.density,
        s.amount if name in PLEURAL else None,
    )


def _normal_mentions(sentence: str, language: Language) -> list[Mention]:
    """Denials that "双肺未见异常" or "normal chest CT" stand for."""
    spoken: list[Mention] = []
    for pattern, names in _NORMAL[language]:
        match = pattern.search(sentence)
        if match is None:
            continue
        rest = _EXEMPT.search(sentence, 0, match.end()) is not None
        spoken += [Mention(Finding(n), True, match.start(), match.end(), rest) for n in names]
    return spoken


def covers(general: Finding, finding: Finding) -> bool:
    """Whether a statement about `general` is one about `finding`: same name, place no narrower."""
    return (
        general.name == finding.name
        and general.side in (None, finding.side)
        and general.lobe in (None, finding.lobe)
    )


def _merge(findings: Iterable[Finding]) -> list[Finding]:
    """Statements of one finding made one: places and attributes that agree fill each other in."""
    merged: list[Finding] = []
    for finding in findings:
        for index, known in enumerate(merged):
            if not _conflict(known, finding) and (covers(known, finding) or covers(finding, known)):
                merged[index] = Finding(
                    known.name,
                    known.side or finding.side,
                    known.lobe or finding.lobe,
                    finding.size_mm if known.size_mm is None else known.size_mm,
                    known.density or finding.density,
                    known.amount or finding.amount,
                )
                break
        else:
            merged.append(finding)
    return merged


def _conflict(one: Finding, other: Finding) -> bool:
    """Whether two statements about the same place cannot both be about the same finding."""
    sized = one.size_mm is not None and other.size_mm is not None
    apart = abs((one.size_mm or 0.0) - (other.size_mm or 0.0)) if sized else 0.0
    return apart >= SIZE_CONFLICT_MM or any(
        None not in pair and pair[0] != pair[1]
        for pair in ((one.density, other.density), (one.amount, other.amount))
    )


def _order(finding: Finding) -> tuple[int, float]:
    index = _SLOT_ORDER.get((finding.name, finding.place or ""), len(SLOTS))
    return index, -(finding.size_mm or 0.0)
