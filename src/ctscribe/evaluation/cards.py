"""From reports and scores to what the pages show: marks, finding tables, claims, score rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ctscribe.evaluation.clinical import Estimate
from ctscribe.evaluation.page import (
    CaseCard,
    ClaimRow,
    Column,
    FindingRow,
    ScoreRow,
    SliceImage,
    SpanMark,
    Target,
    Text,
)
from ctscribe.evaluation.page_view import METRICS, finding_words
from ctscribe.reports.audit import Claim, audit
from ctscribe.reports.labeller import covers, label_report, mentions
from ctscribe.reports.language import AMOUNT_NAMES, DENSITY_NAMES
from ctscribe.reports.schema import Finding, Language

Support = Mapping[tuple[str, str], float]  # (finding, place), as in SLOTS, to a probability


def marks_of(claims: Sequence[Claim], truth: Sequence[Finding]) -> tuple[SpanMark, ...]:
    """The audit's claims as marks, each with a note in both languages of what is off about it."""
    return tuple(SpanMark(c.start, c.end, c.status, _note(c, truth)) for c in claims)


def _note(claim: Claim, truth: Sequence[Finding]) -> Text:
    same = [f for f in truth if any(f.name == c.name for c in claim.findings)]
    there = Text(*(_list(same, language) for language in ("zh", "en")))
    if claim.status == "right":
        return _translate(claim.note)
    if claim.negated:
        return Text(f"否认了真值中的{there.zh}", f"denied, but it is there: {there.en}")
    if same:
        return Text(f"真值：{there.zh}", f"truth: {there.en}")
    said = Text(*(_list(claim.findings, language) for language in ("zh", "en")))
    return Text(f"该例没有：{said.zh}", f"not in this study: {said.en}")


def _list(findings: Sequence[Finding], language: Language) -> str:
    words = (finding_words(f) for f in findings)
    return ("、" if language == "zh" else "; ").join(
        w.zh if language == "zh" else w.en for w in words
    )


def _translate(note: str) -> Text:
    """The audit's remarks on a right claim ("size: 20 mm, truth 14 mm") in both languages."""
    kinds = {"density": "密度", "amount": "量", "size": "大小"}
    names = {
        str(k): name for k, name in (*DENSITY_NAMES["zh"].items(), *AMOUNT_NAMES["zh"].items())
    }
    parts = []
    for part in filter(None, note.split("; ")):
        match = re.fullmatch(r"(density|amount|size): (.+), truth (.+)", part)
        if match:
            kind, said, true = match.groups()
            parts.append(f"{kinds[kind]} {names.get(said, said)}，真值 {names.get(true, true)}")
        else:
            parts.append({"place not stated": "未写位置"}.get(part, part))
    return Text("；".join(parts), note)


def pair_findings(
    truth: Sequence[Finding],
    findings: Sequence[Finding],
    impression: Sequence[Finding],
    support: Support | None = None,
) -> tuple[FindingRow, ...]:
    """What each section says beside each finding of the truth, then what only the report says.

    One to one: equal places first (the nearest size of several), then equal names elsewhere.
    support: the stage-1 heads' probabilities by slot.
    """
    in_findings, only_findings = _match(truth, findings)
    in_impression, only_impression = _match(truth, impression)
    rows = [
        FindingRow(t, in_findings.get(i), in_impression.get(i), _of(support, t))
        for i, t in enumerate(truth)
    ]
    for said in only_findings:
        again = next((f for f in only_impression if _slot(f) == _slot(said)), None)
        if again is not None:
            only_impression.remove(again)
        rows.append(FindingRow(None, said, again, _of(support, said)))
    rows += [FindingRow(None, None, said, _of(support, said)) for said in only_impression]
    return tuple(rows)


def _match(
    truth: Sequence[Finding], said: Sequence[Finding]
) -> tuple[dict[int, Finding], list[Finding]]:
    """Index of the truth to what was said of it, and what was said of nothing."""
    matched: dict[int, Finding] = {}
    rest = list(said)
    for key in (_slot, lambda f: (f.name, "")):
        for i, true in enumerate(truth):
            same = [f for f in rest if i not in matched and key(f) == key(true)]
            if same:
                size = true.size_mm or 0.0
                matched[i] = min(same, key=lambda f: abs((f.size_mm or 0.0) - size))
                rest.remove(matched[i])
    return matched, rest


def _slot(finding: Finding) -> tuple[str, str]:
    return finding.name, finding.place or ""


def _of(support: Support | None, finding: Finding) -> float | None:
    return None if support is None else support.get(_slot(finding))


def case_card(
    case_id: str,
    *,
    language: Language,
    images: Sequence[SliceImage],
    reference: str,
    generated: str,
    truth: Sequence[Finding],
    support: Support | None = None,
    finish_reason: str = "",
) -> CaseCard:
    """One held-out study's card: the generated report audited against the study's truth."""
    labels = label_report(generated, language)
    table = pair_findings(truth, labels.findings, labels.impression, support)
    return CaseCard(
        case_id=case_id,
        language=language,
        images=tuple(images),
        reference=reference,
        generated=generated,
        marks=marks_of(audit(generated, truth, language), truth),
        # What is stated, but elsewhere, is marked as such and not counted again as omitted.
        omitted=tuple(r.truth for r in table if r.truth and not (r.findings or r.impression)),
        table=table,
        finish_reason=finish_reason,
    )


def claims_without_truth(
    generated: str, language: Language, support: Support, threshold: float = 0.5
) -> tuple[tuple[SpanMark, ...], tuple[ClaimRow, ...]]:
    """Marks and claims of a report on an image whose truth nobody knows.

    A claim is set against the stage-1 heads (support of its slot, present from `threshold` on;
    a claim with a side but no lobe by the best of the side's lobes) and against the rest of the
    report. Denials are marked only where they contradict the report itself.
    """
    labels = label_report(generated, language)
    # The report's own findings section as truth: what it then contradicts, it contradicts itself.
    clashes = {
        (c.start, c.end): c
        for c in audit(generated, labels.findings, language)
        if c.status == "contradiction"
    }
    marks = [
        SpanMark(
            start,
            end,
            "contradiction",
            Text("报告另处所写与此不符", "the report says otherwise elsewhere"),
        )
        for start, end in clashes
    ]
    rows: dict[Finding, ClaimRow] = {}
    for mention in mentions(generated, language):
        if mention.negated:
            continue
        said, quote = mention.finding, generated[mention.start : mention.end]
        p = max(
            (p for (name, place), p in support.items() if name == said.name and _at(said, place)),
            default=None,
        )
        agrees = None if p is None else p >= threshold
        if not any(start < mention.end and end > mention.start for start, end in clashes):
            note = "" if p is None else Text(f"概率 {p:.2f}", f"probability {p:.2f}")
            marks.append(
                SpanMark(
                    mention.start, mention.end, "unsupported" if agrees is False else "stated", note
                )
            )
        known = next((f for f in rows if covers(said, f) or covers(f, said)), None)
        here = mention.section == "findings", mention.section == "impression"
        if known is None:
            rows[said] = ClaimRow(said, quote, *here, support=p, agrees=agrees)
        else:
            old = rows[known]
            rows[known] = ClaimRow(
                old.finding,
                old.quote,
                old.in_findings or here[0],
                old.in_impression or here[1],
                old.support,
                old.agrees,
            )
    return tuple(sorted(marks, key=lambda m: (m.start, m.end))), tuple(rows.values())


def _at(finding: Finding, place: str) -> bool:
    """Whether a slot's place (lobe or side) is one that the finding may be at."""
    if finding.place is not None:
        return place == finding.place
    side = {"R": "right", "L": "left"}.get(place[:1], place)
    return finding.side in (None, side)


def score_rows(
    columns: Mapping[Column, Mapping[str, Estimate]], targets: Mapping[str, float] | None = None
) -> tuple[ScoreRow, ...]:
    """Rows of the score table in the page's order: each metric that the model's column has.

    columns: per column its scores by metric (`evaluation.clinical.score`, and others of
    `page_view.METRICS`); names the page does not know are left to the results file.
    """
    return tuple(
        ScoreRow(
            metric,
            {column: scores.get(metric) for column, scores in columns.items()},
            Target(targets[metric]) if targets and metric in targets else None,
        )
        for metric in METRICS
        if metric in columns["model"]
    )
