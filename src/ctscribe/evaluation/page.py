"""The two pages a person reads: the demo's `index.html` and the page of `ctscribe report`.

Both are one HTML file without scripts or outside resources (a Content-Security-Policy in the page
forbids both), so that they open from disk, print, and cannot be made to run what a report says.
The caller fills the plain dataclasses below; everything that can be derived from them (the
verdict, whether a target is met, whether a claim is right) is derived here, so that a page cannot
say what its figures do not. Words of the page are in Chinese and English, switched by a radio
button; report text is shown exactly as it was generated.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctscribe.evaluation.clinical import Estimate
from ctscribe.evaluation.grades import GradeScores
from ctscribe.pages import Text as Text
from ctscribe.pages import Words
from ctscribe.reports.schema import Finding, Language

Column = Literal["model", "heads", "swapped", "blank", "normal", "voxels", "features"]
Status = Literal["right", "wrong", "wrong-place", "contradiction", "stated", "unsupported"]

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Fact:
    """A name and what it is: a line of a provenance or settings list."""

    label: Words
    value: Words


@dataclass(frozen=True)
class Count:
    """How many rows, pairs or studies of a kind."""

    label: Words
    count: int


@dataclass(frozen=True)
class Target:
    """What a metric must reach: at least `value`, or at most, as the metric's direction says."""

    value: float


@dataclass(frozen=True)
class ScoreRow:
    """One metric of the score table.

    metric: a key of `page_view.METRICS`, which gives its name, definition, unit and direction.
    values: per column; left out or None: not measured; NaN: undefined. label: replaces the name.
    """

    metric: str
    values: Mapping[Column, Estimate | None]
    target: Target | None = None
    label: Words | None = None


@dataclass(frozen=True)
class LossCurve:
    """One curve: loss at optimiser steps. A validation curve is drawn with its points."""

    label: Words
    steps: Sequence[float]
    values: Sequence[float]
    validation: bool = False

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"{len(self.steps)} steps but {len(self.values)} losses")


@dataclass(frozen=True)
class LossPlot:
    """The curves of one stage on one pair of axes; `log` for a logarithmic loss axis.

    along: what the axis below counts.
    """

    title: Words
    curves: tuple[LossCurve, ...]
    along: Words
    log: bool = False


@dataclass(frozen=True)
class GateFigure:
    """One figure of the gate between the stages: at or above its threshold is passed.

    chance: the value that having learned nothing would give, called `chance_name` on the page.
    """

    label: Words
    value: float
    threshold: float | None = None
    chance: float | None = None
    chance_name: Words = Text("随机", "chance")
    scale_max: float = 1.0
    digits: int = 2

    @property
    def passed(self) -> bool:
        """Whether the threshold, if any, is reached; NaN is not."""
        return self.threshold is None or self.value >= self.threshold


@dataclass(frozen=True)
class Gate:
    """What the gate measured on held-out studies. ignored: stage 2 ran in spite of it."""

    figures: tuple[GateFigure, ...]
    studies: int
    ignored: bool = False

    @property
    def passed(self) -> bool:
        """Whether every threshold is reached."""
        return all(figure.passed for figure in self.figures)


@dataclass(frozen=True)
class Cleaning:
    """Rows of the table before and after cleaning, and why each other row went or was changed."""

    rows_in: int
    kept: int
    rejected: tuple[Count, ...]
    changed: tuple[Count, ...] = ()


@dataclass(frozen=True)
class SplitPart:
    """One part of the split by patient."""

    name: Words
    studies: int
    patients: int


@dataclass(frozen=True)
class LeakCheck:
    """One search for what two parts share. harmless: reported, but expected (generic reports)."""

    label: Words
    found: int
    harmless: bool = False


@dataclass(frozen=True)
class SplitCheck:
    """The split and the search for leaks between its parts."""

    parts: tuple[SplitPart, ...]
    checks: tuple[LeakCheck, ...]

    @property
    def leaks(self) -> int:
        """How much was found that should not be shared."""
        return sum(check.found for check in self.checks if not check.harmless)


@dataclass(frozen=True)
class StepCost:
    """What one step of the run took and made. seconds: wall clock; peak_gib: resident memory."""

    name: Words
    seconds: float
    peak_gib: float | None = None
    made: Words = ""


@dataclass(frozen=True)
class Budget:
    """What the whole run may take."""

    seconds: float
    gib: float


@dataclass(frozen=True)
class SpanMark:
    """Characters [start, end) of a generated report that make a claim, and how it was judged.

    stated: a claim without truth to judge it by; unsupported: the stage-1 heads do not see it.
    """

    start: int
    end: int
    status: Status
    note: Words = ""


@dataclass(frozen=True)
class SliceImage:
    """One axial slice as PNG, patient's right on the viewer's left, anterior up.

    contour: what the outline on it means, empty if nothing is outlined.
    """

    png_base64: str
    caption: Words
    contour: Words = ""

    def __post_init__(self) -> None:
        try:
            raw = base64.b64decode(self.png_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"slice image is not base64: {error}") from error
        if not raw.startswith(PNG_MAGIC):
            raise ValueError("slice image is not a PNG")

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height, from the PNG's own header."""
        head = base64.b64decode(self.png_base64[:32])
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@dataclass(frozen=True)
class FindingRow:
    """One finding of a study: the truth, and what each section of the report says of it.

    The caller pairs what belongs together; a truth without its pair was omitted, a claim without
    a truth is not there. head: probability the stage-1 heads give to the truth's own slot (the
    claim's, if there is no truth).
    """

    truth: Finding | None
    findings: Finding | None = None
    impression: Finding | None = None
    head: float | None = None


@dataclass(frozen=True)
class CaseCard:
    """One held-out study: slice, both reports, marks on the generated one, finding by finding.

    generated: exactly as generated (empty: nothing was). marks: offsets into it. omitted: findings
    of the truth that the report states nowhere.
    """

    case_id: str
    language: Language
    images: tuple[SliceImage, ...]
    reference: str
    generated: str
    marks: tuple[SpanMark, ...]
    omitted: tuple[Finding, ...]
    table: tuple[FindingRow, ...]
    finish_reason: str = ""

    def __post_init__(self) -> None:
        check_marks(self.marks, self.generated, self.case_id)


@dataclass(frozen=True)
class Refusal:
    """Why no report was written for this image: what the chest check or a reader found."""

    reasons: tuple[Words, ...]


@dataclass(frozen=True)
class RealCase:
    """A real chest CT read by a model that has only ever seen phantoms."""

    source: Words
    images: tuple[SliceImage, ...]
    generated: str
    language: Language
    facts: tuple[Fact, ...] = ()  # what was measured on the image itself: lungs, heart's side
    refusal: Refusal | None = None
    finish_reason: str = ""


@dataclass(frozen=True)
class DemoPage:
    """Everything on the demo's page. Strict F1 leads: its row must be the first of `scores`."""

    made: str  # date, version, seed: one line
    studies: int  # held-out studies that were scored
    scores: tuple[ScoreRow, ...]
    losses: tuple[LossPlot, ...]
    gate: Gate
    cleaning: Cleaning
    split: SplitCheck
    steps: tuple[StepCost, ...]
    language_model: tuple[Fact, ...]  # which LLM, and the path its scan takes
    provenance: tuple[Fact, ...]
    cases: tuple[CaseCard, ...]
    cases_chosen: Words  # how the studies shown were chosen
    grades: GradeScores | None = None  # where the model has a grade head
    real: RealCase | None = None
    budget: Budget | None = None
    look_margin: float = 0.50  # strict F1 must stand this far above another patient's image
    title: Words = Text("ctscribe 演示：胸部 CT 报告模型", "ctscribe demo: a chest CT report model")
    language: Language = "zh"  # shown first

    def __post_init__(self) -> None:
        if not self.scores or self.scores[0].metric != "strict_f1":
            raise ValueError("the first row of scores must be strict_f1: it leads every table")
        if self.scores[0].values.get("model") is None:
            raise ValueError("strict_f1 of the model itself is missing")


@dataclass(frozen=True)
class ClaimRow:
    """One claim of a generated report without truth: what, where it is said, what backs it.

    quote: the words of the report. support: probability the stage-1 heads give to its slot.
    agrees: whether the heads call it present (None: not asked). image: number of the slice, from
    1, that shows the place, if one does.
    """

    finding: Finding
    quote: str
    in_findings: bool
    in_impression: bool
    support: float | None = None
    agrees: bool | None = None
    image: int | None = None


@dataclass(frozen=True)
class GradeChance:
    """What the grade head gives to one grade."""

    grade: Words
    probability: float


@dataclass(frozen=True)
class ReportPage:
    """The page of `ctscribe report IMAGE`.

    generated: exactly as generated; with `refusal` it is empty because nothing was generated.
    grades: of the model's grade head, if it has one; no part of the report.
    phantom_only: the checkpoint says that it was trained on phantoms only.
    """

    case_id: str
    made: str
    language: Language
    images: tuple[SliceImage, ...]
    generated: str
    image_facts: tuple[Fact, ...]
    provenance: tuple[Fact, ...]  # checkpoint hash, encoder, LLM, path
    settings: tuple[Fact, ...]
    phantom_only: bool
    marks: tuple[SpanMark, ...] = ()
    claims: tuple[ClaimRow, ...] = ()
    grades: tuple[GradeChance, ...] = ()
    refusal: Refusal | None = None
    finish_reason: str = ""
    warnings: tuple[Words, ...] = ()
    truncated: bool = False  # the report stopped at max_new_tokens

    def __post_init__(self) -> None:
        check_marks(self.marks, self.generated, self.case_id)
        if self.refusal is not None and self.generated:
            raise ValueError(f"{self.case_id}: refused, yet there is a report")


def check_marks(marks: Sequence[SpanMark], text: str, case_id: str) -> None:
    """Raise ValueError if a mark does not lie within the text it marks."""
    for mark in marks:
        if not 0 <= mark.start < mark.end <= len(text):
            raise ValueError(
                f"{case_id}: mark {mark.start}:{mark.end} lies outside its text of {len(text)}"
            )


def render_demo(page: DemoPage) -> str:
    """The demo's page as HTML."""
    from ctscribe.evaluation.page_view import render

    return render("demo.html.j2", page)


def render_report(page: ReportPage) -> str:
    """The page of one report as HTML."""
    from ctscribe.evaluation.page_view import render

    return render("report.html.j2", page)


def write_page(page: DemoPage | ReportPage, path: str | Path) -> Path:
    """Render `page` to `path` (UTF-8, folders made as needed) and return it."""
    path = Path(path)
    html = render_demo(page) if isinstance(page, DemoPage) else render_report(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")
    return path
