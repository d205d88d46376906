"""A rule labeller: which findings a report asserts, where, how large, of what density.

Sentence by sentence: tokens (`lexicon`), then what each negation covers, then which places and
attributes belong to which finding. Uncertain findings ("可疑", "不除外", "possible") count as
asserted; denied, resolved, historical and conditional ones do not; neither do other organs'.
`statements` reads more findings, and more of each, for what is not trained on or scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ctscribe.reports.binding import Mention, bind
from ctscribe.reports.language import SLOTS, detect_language
from ctscribe.reports.schema import Finding, Language, Statement
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
    found: list[Mention] = []
    for section, section_start, section_end in section_spans(text):
        if section not in ("findings", "impression"):
            continue
        open_ended = 0  # how many of the last statements the next sentence may complete
        for start, end in sentences(text, section_start, section_end):
            before = found[len(found) - open_ended :]
            completed, spoken = bind(text[start:end], language, before)
            found[len(found) - open_ended :] = completed
            found += [
                replace(m, start=m.start + start, end=m.end + start, section=section)
                for m in spoken
            ]
            last = spoken[-1] if spoken else None
            open_ended = sum(
                not m.negated and last is not None and m.start == last.start for m in spoken
            )
    return found


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
