"""Claim audit: each statement of a generated report against the truth of its study.

Pages mark what is wrong from it. Only what the text says is judged; what it leaves out is listed
by `omitted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ctscribe.reports.labeller import Mention, covers, extract, mentions
from ctscribe.reports.schema import Finding, Language

Status = Literal["right", "wrong", "wrong-place", "contradiction"]
# Of several claims in the same words the worst is shown.
_WORST: tuple[Status, ...] = ("right", "wrong-place", "wrong", "contradiction")


@dataclass(frozen=True)
class Claim:
    """One judged statement, generated[start:end]; claims do not overlap and stand in text order.

    right: the finding is there, at that place (as far as one is stated). wrong: it is nowhere in
    the study, or it is denied and there. wrong-place: it is in the study, elsewhere.
    contradiction: not right, and another statement of the same report says otherwise.
    note: what is off about a right claim ("size: 20 mm, truth 14 mm"), empty otherwise.
    findings: what the words state (two for "双侧").
    """

    start: int
    end: int
    status: Status
    findings: tuple[Finding, ...]
    negated: bool = False
    section: str = "findings"
    note: str = ""


def audit(
    generated: str, truth: Sequence[Finding], language: Language | None = None
) -> list[Claim]:
    """Judge every assertion of a report, and those denials that are false.

    True denials are left out: they need no mark.
    """
    spoken = mentions(generated, language)
    claims: list[Claim] = []
    for mention in spoken:
        status = _judge(mention, spoken, truth)
        if mention.negated and status == "right":
            continue
        claims.append(
            Claim(
                mention.start,
                mention.end,
                status,
                (mention.finding,),
                mention.negated,
                mention.section,
                _note(mention.finding, truth) if status == "right" else "",
            )
        )
    return _apart(claims)


def omitted(
    generated: str, truth: Sequence[Finding], language: Language | None = None
) -> tuple[Finding, ...]:
    """True findings that neither section of the report states at their place."""
    places = {(f.name, f.place) for f in extract(generated, language)}
    return tuple(finding for finding in truth if (finding.name, finding.place) not in places)


def _judge(mention: Mention, spoken: Sequence[Mention], truth: Sequence[Finding]) -> Status:
    claimed = mention.finding
    if mention.negated:
        if mention.rest or not any(covers(claimed, finding) for finding in truth):
            return "right"
        against = any(not m.negated and covers(claimed, m.finding) for m in spoken)
        return "contradiction" if against else "wrong"
    if any(covers(claimed, f) for f in truth):
        return "right"
    denied = any(m.negated and not m.rest and covers(m.finding, claimed) for m in spoken)
    if denied or _unsupported(mention, spoken):
        return "contradiction"
    return "wrong-place" if any(f.name == claimed.name for f in truth) else "wrong"


def _unsupported(mention: Mention, spoken: Sequence[Mention]) -> bool:
    """Whether an impression states what its findings section puts elsewhere or does not have."""
    if mention.section != "impression":
        return False
    before = [m.finding for m in spoken if m.section == "findings" and not m.negated]
    return not any(covers(f, mention.finding) or covers(mention.finding, f) for f in before)


def _note(claimed: Finding, truth: Sequence[Finding]) -> str:
    """What a finding at the right place gets wrong beside it."""
    same = [f for f in truth if covers(claimed, f)]
    true = min(same, key=lambda f: abs((f.size_mm or 0.0) - (claimed.size_mm or 0.0)))
    notes = []
    if None not in (claimed.density, true.density) and claimed.density != true.density:
        notes.append(f"density: {claimed.density}, truth {true.density}")
    if None not in (claimed.amount, true.amount) and claimed.amount != true.amount:
        notes.append(f"amount: {claimed.amount}, truth {true.amount}")
    sized = claimed.size_mm is not None and true.size_mm is not None
    if sized and abs(claimed.size_mm - true.size_mm) > max(3.0, 0.2 * true.size_mm):  # type: ignore[operator]
        notes.append(f"size: {claimed.size_mm:g} mm, truth {true.size_mm:g} mm")
    if claimed.place is None:
        notes.append("place not stated")
    return "; ".join(notes)


def _apart(claims: Sequence[Claim]) -> list[Claim]:
    """Claims in the same or overlapping words made one, with the worst status of them."""
    apart: list[Claim] = []
    for claim in sorted(claims, key=lambda c: (c.start, c.end)):
        last = apart[-1] if apart else None
        if last is None or claim.start >= last.end:
            apart.append(claim)
            continue
        worst = max(last, claim, key=lambda c: _WORST.index(c.status))
        apart[-1] = Claim(
            last.start,
            max(last.end, claim.end),
            worst.status,
            tuple(dict.fromkeys([*last.findings, *claim.findings])),
            worst.negated,
            last.section,
            "; ".join(dict.fromkeys(n for n in (last.note, claim.note) if n))
            if worst.status == "right"
            else "",
        )
    return apart
