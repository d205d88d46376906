"""What the page templates need beyond the page's own data: verdict, marked text, chart geometry.

Everything here is plain values; all markup is in the templates, where jinja2 escapes every string.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

from jinja2 import Environment

from ctscribe import pages
from ctscribe.evaluation.clinical import Estimate
from ctscribe.evaluation.page import (
    Column,
    DemoPage,
    FindingRow,
    LossPlot,
    ReportPage,
    ScoreRow,
    SpanMark,
    Status,
)
from ctscribe.pages import Text, Words
from ctscribe.reports.language import AMOUNT_NAMES, DENSITY_NAMES, FINDING_NAMES, describe
from ctscribe.reports.schema import FINDINGS, Finding
from ctscribe.reports.sections import HEADINGS, section_spans
from ctscribe.tables.grade import GRADES, NAMES

COLUMNS: dict[Column, Text] = {
    "model": Text("本模型", "This model"),
    "heads": Text("第一阶段读出头", "Stage-1 heads"),
    "swapped": Text("换成他人图像", "Another patient’s image"),
    "blank": Text("空白图像", "Blank image"),
    "normal": Text("一律报正常", "Always normal"),
    "voxels": Text("最近邻报告（原始体素）", "Nearest report, raw voxels"),
    "features": Text("最近邻报告（学得特征）", "Nearest report, learned features"),
}
COLUMN_GROUPS: tuple[tuple[Text, tuple[Column, ...]], ...] = (
    (Text("读本例图像", "Reads this study’s image"), ("model", "heads")),
    (Text("对照：看不到本例图像", "Controls: cannot see it"), ("swapped", "blank", "normal")),
    (Text("对照：抄最近的训练报告", "Copies a training report"), ("voxels", "features")),
)
GRADE_METRICS = {
    "accuracy": Text("准确率", "Accuracy"),
    "balanced_accuracy": Text("平衡准确率", "Balanced accuracy"),
    "macro_auroc": Text("宏平均 AUROC", "Macro AUROC"),
    "ece": Text("期望校准误差 ↓", "Expected calibration error ↓"),
}
# Controls that do not see the study, or see it without having learned: beating them is looking.
# `features` copies a report by what the encoder saw, so it looks too and is no such control.
BLIND: tuple[Column, ...] = ("swapped", "blank", "normal", "voxels")


@dataclass(frozen=True)
class Metric:
    """How a metric is named, defined and printed."""

    name: Text
    definition: Text
    higher: bool = True
    unit: Literal["share", "mm", "points"] = "share"
    part: bool = False  # strict F1 of one finding: in a group of its own
    overlap: bool = False  # text overlap with the reference: never the headline

    @property
    def digits(self) -> int:
        """Decimals to print."""
        return {"share": 2, "mm": 1, "points": 1}[self.unit]


METRICS: dict[str, Metric] = {
    "strict_f1": Metric(
        Text("严格 F1", "Strict F1"),
        Text(
            "征象与位置（肺叶或侧别）都对才算", "finding counts only with the right side and lobe"
        ),
    ),
    "strict_f1_findings": Metric(
        Text("严格 F1 · 仅所见", "Strict F1, findings section"),
        Text("只按所见段计分", "scored on that section alone"),
    ),
    "strict_f1_impression": Metric(
        Text("严格 F1 · 仅结论", "Strict F1, impression"),
        Text("只按结论段计分", "scored on that section alone"),
    ),
    "finding_f1": Metric(
        Text("征象 F1", "Finding F1"),
        Text("只看有无，不计位置", "presence only, wherever it is"),
    ),
    "nodule_f1": Metric(
        Text("结节 F1（12–30 mm）", "Nodule F1 (12–30 mm)"),
        Text("严格：肺叶须对", "strict: the lobe must be right"),
    ),
    "side_accuracy": Metric(
        Text("侧别正确率", "Side accuracy"),
        Text("在检出的病灶中", "of detected lesions"),
    ),
    "lobe_accuracy": Metric(
        Text("肺叶正确率", "Lobe accuracy"),
        Text("在检出的病灶中", "of detected lesions"),
    ),
    "density_accuracy": Metric(
        Text("密度正确率", "Density accuracy"),
        Text("位置正确的结节中", "of nodules found in the right lobe"),
    ),
    "hallucinated_share": Metric(
        Text("虚构征象占比", "Hallucinated findings"),
        Text("报告中写了、该例根本没有的征象", "stated, but not in that study at all"),
        higher=False,
    ),
    "hallucinated_strict_share": Metric(
        Text("虚构占比（严格）", "Hallucinated, strict"),
        Text("写了、但该位置没有的征象", "stated where there is none"),
        higher=False,
    ),
    "size_error_mm": Metric(
        Text("大小误差中位数", "Median size error"),
        Text("位置正确的结节，毫米", "nodules in the right lobe, mm"),
        higher=False,
        unit="mm",
    ),
    "contradictory_share": Metric(
        Text("自相矛盾的报告", "Contradictory reports"),
        Text("所见与结论至少一处矛盾", "findings against impression, at least once"),
        higher=False,
    ),
    "empty_share": Metric(
        Text("空报告占比", "Empty reports"),
        Text("模型什么也没写", "the model wrote nothing"),
        higher=False,
    ),
    **{
        f"strict_f1_{name}": Metric(
            Text(FINDING_NAMES["zh"][name], FINDING_NAMES["en"][name]), Text("", ""), part=True
        )
        for name in FINDINGS
    },
    "bleu": Metric(
        Text("BLEU", "BLEU"),
        Text("文字重合，不代表临床正确", "text overlap; blind to a flipped negation"),
        unit="points",
        overlap=True,
    ),
    "rouge_l": Metric(
        Text("ROUGE-L（字）", "ROUGE-L (characters)"),
        Text("文字重合，不代表临床正确", "text overlap; blind to a flipped negation"),
        overlap=True,
    ),
}

STATUS: dict[Status, tuple[str, Text]] = {  # symbol beside the colour, and its words
    "right": ("✓", Text("正确", "right")),
    "wrong": ("✗", Text("错误", "wrong")),
    "wrong-place": ("⇄", Text("位置错", "wrong place")),
    "contradiction": ("≠", Text("前后矛盾", "contradiction")),
    "unsupported": ("?", Text("读出头未见", "heads do not see it")),
    "stated": ("·", Text("陈述（无真值）", "stated (no truth here)")),
}
# Where claims overlap the worst shows.
WORST: tuple[Status, ...] = (
    "wrong",
    "contradiction",
    "wrong-place",
    "unsupported",
    "right",
    "stated",
)
QUIET: tuple[Status, ...] = ("right", "stated")  # need no footnote

SECTIONS: dict[str, Text] = {
    key: Text(HEADINGS["zh"][key], HEADINGS["en"][key]) for key in HEADINGS["zh"]
} | {"rest": Text("其余", "Rest")}


@dataclass(frozen=True)
class Verdict:
    """Did the model look at the image? unknown: no other patient's image was tried."""

    answer: Literal["yes", "partly", "no", "unknown"]
    gap: float  # strict F1 over another patient's image


def verdict(row: ScoreRow, margin: float) -> Verdict:
    """From the strict F1 row. Yes: `margin` above another patient's image, clear of every control.

    No: not told apart from another patient's image (the intervals meet).
    """
    own, other = row.values["model"], row.values.get("swapped")
    if own is None or other is None or math.isnan(own.value - other.value):
        return Verdict("unknown", math.nan)
    gap = own.value - other.value
    controls = [c for c in (row.values.get(name) for name in BLIND) if c is not None]
    if own.low <= other.high:
        return Verdict("no", gap)
    clear = all(own.low > control.high for control in controls)
    return Verdict("yes" if clear and gap >= margin else "partly", gap)


def met(row: ScoreRow) -> bool | None:
    """Whether the model's value reaches the row's target; None without one. NaN does not."""
    own = row.values.get("model")
    if row.target is None or own is None:
        return None
    higher = METRICS[row.metric].higher
    return own.value >= row.target.value if higher else own.value <= row.target.value


@dataclass(frozen=True)
class Segment:
    """A run of characters under the same marks; `ends` are the footnotes of marks that end here."""

    text: str
    status: Status | None
    ends: tuple[int, ...]
    notes: tuple[Words, ...]


@dataclass(frozen=True)
class Block:
    """One section of a report as written: its heading, its marked text, the notes of its marks."""

    key: str
    heading: str
    segments: tuple[Segment, ...]
    footnotes: tuple[tuple[int, SpanMark], ...]


def blocks(text: str, marks: Sequence[SpanMark]) -> tuple[Block, ...]:
    """`text` by sections, every character kept: what lies between sections is their heading.

    Footnotes number the marks that need a word, in reading order.
    """
    ordered = sorted(marks, key=lambda m: (m.start, m.end))
    worded = (m for m in ordered if m.status not in QUIET or (m.status == "right" and _noted(m)))
    numbered = list(enumerate(worded, start=1))
    spans, done = section_spans(text), 0
    if text[spans[-1][2] if spans else 0 :].strip():  # a heading at the end, with nothing after it
        spans.append(("rest", spans[-1][2] if spans else 0, len(text)))
    out = []
    for key, start, end in spans:
        body_end = start + len(text[start:end].rstrip())
        notes = tuple((n, m) for n, m in numbered if done < m.end <= body_end)
        segments = tuple(_segments(text, start, body_end, ordered, numbered))
        out.append(Block(key, text[done:start].strip(), segments, notes))
        done = body_end
    return tuple(out)


def _noted(mark: SpanMark) -> bool:
    """Whether there is a word to say about a mark."""
    return bool(mark.note if isinstance(mark.note, str) else mark.note.en)


def _segments(
    text: str,
    start: int,
    end: int,
    marks: Sequence[SpanMark],
    numbered: Sequence[tuple[int, SpanMark]],
) -> Iterator[Segment]:
    inside = [m for m in marks if m.start < end and m.end > start]
    cuts = {start, end} | {c for m in inside for c in (m.start, m.end) if start < c < end}
    edges = sorted(cuts)
    for a, b in pairwise(edges):
        over = [m for m in inside if m.start < b and m.end > a]
        found = {m.status for m in over}
        status = next((s for s in WORST if s in found), None)
        ends = tuple(n for n, m in numbered if a < m.end <= b)
        yield Segment(text[a:b], status, ends, tuple(m.note for m in over if _noted(m)))


def paired(
    reference: Sequence[Block], generated: Sequence[Block]
) -> list[tuple[str, list[Block], list[Block]]]:
    """Sections side by side in the house's order; a section that one of them lacks is empty."""
    rows = (
        (k, [b for b in reference if b.key == k], [b for b in generated if b.key == k])
        for k in SECTIONS
    )
    return [row for row in rows if row[1] or row[2]]


def finding_words(finding: Finding) -> Text:
    """A finding in words, for lists and tables of the page (never inside a report)."""
    return Text(describe(finding, "zh"), describe(finding, "en"))


Cell = Literal["right", "wrong-place", "omitted", "absent", "wrong"]


def cell_status(row: FindingRow, said: Finding | None) -> Cell:
    """How one section's word on a finding stands against the truth."""
    if row.truth is None:
        return "absent" if said is None else "wrong"
    if said is None:
        return "omitted"
    same = (said.name, said.place) == (row.truth.name, row.truth.place)
    return "right" if same else "wrong-place" if said.name == row.truth.name else "wrong"


def differences(row: FindingRow, said: Finding | None) -> tuple[Text, ...]:
    """Size, density and amount where a finding in the right place differs from the truth."""
    truth = row.truth
    if truth is None or said is None or cell_status(row, said) != "right":
        return ()
    out = []
    if truth.size_mm is not None and said.size_mm is not None:
        delta = round(said.size_mm - truth.size_mm)
        if delta:
            out.append(Text(f"大小 {delta:+d} mm", f"size {delta:+d} mm"))
    for wrote, was, zh in (
        (said.density, truth.density, DENSITY_NAMES["zh"]),
        (said.amount, truth.amount, AMOUNT_NAMES["zh"]),
    ):
        if wrote is not None and was is not None and wrote != was:
            names: Mapping[str, str] = dict(zh)  # type: ignore[arg-type]
            out.append(Text(f"{names[wrote]}≠{names[was]}", f"{wrote} ≠ {was}"))
    return tuple(out)


def tally(marks: Sequence[SpanMark], omitted: Sequence[Finding]) -> tuple[int, int, int]:
    """How many claims are right, how many are not, how many findings are missing."""
    right = sum(m.status == "right" for m in marks)
    wrong = sum(m.status in ("wrong", "wrong-place", "contradiction") for m in marks)
    return right, wrong, len(omitted)


@dataclass(frozen=True)
class Line:
    """One curve in a 1000x1000 box: raw and smoothed path, its end, its points if few."""

    label: Words
    raw: str
    path: str
    end: float
    label_y: float
    last: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """Curves and ticks; positions in per cent from left and from top."""

    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def loss_chart(plot: LossPlot, *, bins: int = 60, gap: float = 9.0) -> Chart | None:
    """Geometry of a loss plot; None if no curve has a finite value. gap: between end labels, %."""
    curves = []
    for curve in plot.curves:
        pairs = [
            (float(x), float(y))
            for x, y in zip(curve.steps, curve.values, strict=True)
            if math.isfinite(y) and (y > 0 or not plot.log)
        ]
        if pairs:
            curves.append((curve, pairs))
    if not curves:
        return None
    scale = math.log10 if plot.log else float
    ys = [scale(y) for _, pairs in curves for _, y in pairs]
    x_top = max(x for _, pairs in curves for x, _ in pairs) or 1.0
    y_low, y_top = (min(ys), max(ys)) if plot.log else (0.0, max(*ys, 1e-9))
    if y_top - y_low < 1e-9:
        y_top = y_low + 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return 100 * x / x_top, 100 * (1 - (scale(y) - y_low) / (y_top - y_low))

    lines = []
    for curve, pairs in curves:
        smooth = pairs if curve.validation else _binned(pairs, bins)
        raw = [] if curve.validation else pairs[:: max(1, len(pairs) // 600)]
        end = place(*smooth[-1])[1]
        points = tuple(place(*p) for p in pairs) if curve.validation and len(pairs) < 40 else ()
        drawn = _path([place(*p) for p in raw]), _path([place(*p) for p in smooth])
        lines.append(Line(curve.label, *drawn, end, end, smooth[-1][1], points))
    where = _spread([line.end for line in lines], gap)
    lines = [
        Line(n.label, n.raw, n.path, n.end, y, n.last, n.points)
        for n, y in zip(lines, where, strict=True)
    ]
    y_values = _log_ticks(10**y_low, 10**y_top) if plot.log else nice_ticks(y_top, 4)
    return Chart(
        tuple(lines),
        tuple((100 * x / x_top, f"{x:g}") for x in nice_ticks(x_top, 5)),
        tuple((place(0, y)[1], f"{y:g}") for y in y_values),
    )


def _binned(pairs: list[tuple[float, float]], bins: int) -> list[tuple[float, float]]:
    size = max(1, len(pairs) // bins)
    chunks = (pairs[i : i + size] for i in range(0, len(pairs), size))
    return [(sum(x for x, _ in c) / len(c), sum(y for _, y in c) / len(c)) for c in chunks]


def _path(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path through points given in per cent, in a 1000x1000 box."""
    return "M" + "L".join(f"{10 * x:.1f} {10 * y:.1f}" for x, y in points) if points else ""


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Move labels apart to at least `gap`, keeping their order and staying within 0 and 100."""
    order = sorted(range(len(values)), key=values.__getitem__)
    out, floor = [0.0] * len(values), -math.inf
    for i in order:
        out[i] = floor = max(values[i], floor + gap)
    ceiling = 100.0
    for i in reversed(order):
        out[i] = min(out[i], ceiling)
        ceiling = out[i] - gap
    return out


def nice_ticks(top: float, count: int) -> list[float]:
    """Round numbers from 0 to at most `top`, about `count` steps."""
    step = top / count
    unit = 10 ** math.floor(math.log10(step))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= step * 0.999)
    return [round(i * step, 10) for i in range(int(top / step + 1e-9) + 1)]


def _log_ticks(low: float, top: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(top)) + 1)
    steps = (1, 2, 5) if len(decades) <= 3 else (1,)
    return [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= top * 1.001]


def number(value: float | None, digits: int = 2) -> str:
    """A figure for print; an en dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(value: float, low: float = 0.0, high: float = 1.0) -> str:
    """Where `value` lies between low and high, as a CSS length, kept within the track."""
    if not math.isfinite(value) or high <= low:
        return "0%"
    return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.2f}%"


def clock(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 05 s, 1 h 02 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60:02d} s" if whole % 60 else "")
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def finite(interval: Estimate | None) -> bool:
    """Whether there is a value to draw."""
    return interval is not None and math.isfinite(interval.value)


def bounded(interval: Estimate) -> bool:
    """Whether it has an interval: a figure without studies to draw from has none."""
    return math.isfinite(interval.low) and math.isfinite(interval.high)


def group(row: ScoreRow) -> str:
    """Which part of the table a row is in: main, part (by finding) or overlap (of text)."""
    metric = METRICS[row.metric]
    return "part" if metric.part else "overlap" if metric.overlap else "main"


def render(template: str, page: DemoPage | ReportPage) -> str:
    """`page` through `template`; every string escaped."""
    return _environment().get_template(template).render(page=page)


@cache
def _environment() -> Environment:
    environment = pages.environment()
    functions = {
        f.__name__: f
        for f in (
            blocks, paired, verdict, met, finding_words, cell_status, differences, tally,
            loss_chart, number, percent, clock, finite, bounded, group,
        )
    }  # fmt: skip
    tables: dict[str, object] = {
        "COLUMNS": COLUMNS,
        "COLUMN_GROUPS": COLUMN_GROUPS,
        "METRICS": METRICS,
        "GRADE_NAMES": {grade: Text(*NAMES[grade]) for grade in GRADES},
        "GRADE_METRICS": GRADE_METRICS,
        "STATUS": STATUS,
        "SECTIONS": SECTIONS,
    }
    environment.globals.update(functions)
    environment.globals.update(tables)
    environment.tests.update({"met_target": met})
    return environment
