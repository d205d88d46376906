"""What each part of a split holds: findings, sides, lobes, lengths, sizes; as a page and JSON."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ctscribe import pages
from ctscribe.files import write_atomically
from ctscribe.pages import Text
from ctscribe.reports.labeller import extract
from ctscribe.reports.language import FINDING_NAMES, PLACE_NAMES, detect_language
from ctscribe.reports.schema import FINDINGS, LOBES, SIDES, Finding, Language, side_of
from ctscribe.tables.manifest import Row
from ctscribe.tables.split import patient_key

NORMAL = "normal"  # the label of a report that states no finding
FEWEST = 10  # studies with a finding, below which a part's score for it says little
LENGTHS = (50, 100, 200, 400, 800)  # characters
SIZES_MM = (6, 8, 15, 30)  # 6 and 8: Fleischner Society's; 30: above it is a mass

Said = Mapping[Row, tuple[Finding, ...]]


def read_reports(rows: Sequence[Row]) -> dict[Row, tuple[Finding, ...]]:
    """What the report of each row asserts, with a progress bar."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return {row: extract(row.answer) for row in track(rows, "reports read", console=console)}


def stated(findings: Iterable[Finding]) -> set[str]:
    """Names of the findings, or `NORMAL` alone."""
    return {finding.name for finding in findings} or {NORMAL}


@dataclass(frozen=True)
class Chart:
    """One property: in each part, how many have each of its values.

    key: its name in JSON. counts: of each value, of each part in order.
    """

    key: str
    title: Text
    note: Text
    names: Mapping[str, Text]
    counts: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Balance:
    """All that balance.html shows."""

    parts: tuple[str, ...]
    rows: tuple[int, ...]
    patients: tuple[int, ...]
    charts: tuple[Chart, ...]
    too_few: tuple[tuple[str, str, int], ...]  # part, finding, reports that state it
    language: Language

    @property
    def warnings(self) -> tuple[Text, ...]:
        """Which findings have too few studies in a part to be scored, in words."""
        names = self.charts[0].names
        words = []
        for part in self.parts:
            few = [(names[label], n) for where, label, n in self.too_few if where == part]
            if few:
                zh = "、".join(f"{name.zh}（{n}）" for name, n in few)
                en = ", ".join(f"{name.en} ({n})" for name, n in few)
                words.append(
                    Text(
                        f"{part} 中以下征象的报告少于 {FEWEST} 份，其得分几乎不能说明问题：{zh}。",
                        f"In {part} fewer than {FEWEST} reports state each of these, so a score "
                        f"for them there says next to nothing: {en}.",
                    )
                )
        return tuple(words)

    def share(self, chart: Chart, value: str, part: int) -> float:
        """Of the part's reports (of its nodules, in the chart of sizes), those with the value."""
        whole = (
            sum(counts[part] for counts in chart.counts.values())
            if chart.key == "size_mm"
            else self.rows[part]
        )
        return chart.counts[value][part] / max(1, whole)

    def as_json(self) -> dict[str, object]:
        """Plain figures by part."""
        of = dict(zip(self.parts, zip(self.rows, self.patients, strict=True), strict=True))
        return {
            "parts": {part: {"rows": n, "patients": p} for part, (n, p) in of.items()},
            **{
                chart.key: {
                    value: dict(zip(self.parts, counts, strict=True))
                    for value, counts in chart.counts.items()
                }
                for chart in self.charts
            },
            "too_few": [
                {"part": part, "finding": label, "reports": count}
                for part, label, count in self.too_few
            ],
        }

    def print(self) -> None:
        """Part by part: rows, patients, and each finding's reports and share."""
        from rich.console import Console
        from rich.table import Table

        table = Table("", *self.parts)
        table.add_row("rows", *map(str, self.rows))
        table.add_row("patients", *map(str, self.patients))
        findings = self.charts[0]
        for label, counts in findings.counts.items():
            if any(counts):
                cells = (
                    f"{n} ({self.share(findings, label, part):.1%})"
                    for part, n in enumerate(counts)
                )
                table.add_row(label, *cells)
        Console(soft_wrap=True, markup=False, highlight=False).print(table)
        for text in self.warnings:
            print(f"note: {text.en}")


def balance_of(parts: Mapping[str, Sequence[Row]], said: Said) -> Balance:
    """Count what every part holds. Too few is asked of every part but training."""

    def chart(
        key: str,
        title: Text,
        note: Text,
        names: Mapping[str, Text],
        values: Callable[[Row], Iterable[str]],
    ) -> Chart:
        counts = {name: [0] * len(parts) for name in names}
        for part, rows in enumerate(parts.values()):
            for row in rows:
                for value in values(row):
                    counts[value][part] += 1
        fixed = {name: tuple(count) for name, count in counts.items()}
        return Chart(key, title, note, names, fixed)

    of_reports = Text("占该部分报告的比例", "share of the part’s reports")
    lengths, sizes = _bins(LENGTHS, ""), _bins(SIZES_MM, " mm")
    unknown = "not stated"
    findings = chart(
        "finding",
        Text("征象", "Finding"),
        of_reports,
        {n: Text(FINDING_NAMES["zh"][n], FINDING_NAMES["en"][n]) for n in FINDINGS}
        | {NORMAL: Text("无上述征象", "none of these")},
        lambda row: stated(said[row]),
    )
    charts = (
        findings,
        chart(
            "side",
            Text("侧别", "Side"),
            of_reports,
            {s: Text(PLACE_NAMES["zh"][s], PLACE_NAMES["en"][s]) for s in SIDES},
            lambda row: {s for f in said[row] if (s := f.side or (f.lobe and side_of(f.lobe)))},
        ),
        chart(
            "lobe",
            Text("肺叶", "Lobe"),
            of_reports,
            {lobe: Text(PLACE_NAMES["zh"][lobe], PLACE_NAMES["en"][lobe]) for lobe in LOBES},
            lambda row: {f.lobe for f in said[row] if f.lobe},
        ),
        chart(
            "length",
            Text("报告长度（字符）", "Length of report, characters"),
            of_reports,
            {name: Text(name, name) for name in lengths},
            lambda row: [lengths[bisect_right(LENGTHS, len(row.answer))]],
        ),
        chart(
            "size_mm",
            Text("结节大小", "Size of nodules"),
            Text("占该部分结节的比例", "share of the part’s nodules"),
            {name: Text(name, name) for name in sizes} | {unknown: Text("未写", unknown)},
            lambda row: [
                unknown if f.size_mm is None else sizes[bisect_right(SIZES_MM, f.size_mm)]
                for f in said[row]
                if f.name == "nodule"
            ],
        ),
    )
    first = next(row for rows in parts.values() for row in rows)
    return Balance(
        tuple(parts),
        tuple(len(rows) for rows in parts.values()),
        tuple(len({patient_key(r.patient_id) for r in rows}) for rows in parts.values()),
        charts,
        tuple(
            (part, label, counts[k])
            for k, part in enumerate(parts)
            if part != "train"
            for label, counts in findings.counts.items()
            if counts[k] < FEWEST and any(counts)
        ),
        detect_language(first.answer),
    )


def write_balance(balance: Balance, folder: Path) -> Path:
    """Write balance.html and balance.json; returns the page's path."""
    template = pages.environment().get_template("balance.html.j2")
    html = template.render(page=balance, title=Text("各部分是否均衡", "Balance of the parts"))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "balance.html", html.encode())
    data = json.dumps(balance.as_json(), indent=1, ensure_ascii=False)
    write_atomically(folder / "balance.json", data.encode())
    return folder / "balance.html"


def _bins(edges: Sequence[int], unit: str) -> list[str]:
    middle = [f"{low}–{high}{unit}" for low, high in pairwise(edges)]
    return [f"< {edges[0]}{unit}", *middle, f"≥ {edges[-1]}{unit}"]
