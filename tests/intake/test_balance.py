"""Counted by hand: what each part of a split holds."""

from __future__ import annotations

from pathlib import Path

from ctscribe.intake.balance import FEWEST, Balance, balance_of
from ctscribe.reports.schema import Finding
from ctscribe.tables.manifest import Row


def row(case: str, patient: str = "") -> Row:
    return Row(case, patient or case, Path(f"{case}.nii"), "", "报告")


def balance(parts: dict[str, dict[Row, tuple[Finding, ...]]]) -> Balance:
    said = {row: findings for own in parts.values() for row, findings in own.items()}
    return balance_of({part: list(own) for part, own in parts.items()}, said)


def counts(found: Balance, key: str) -> dict[str, tuple[int, ...]]:
    (chart,) = (chart for chart in found.charts if chart.key == key)
    return {value: own for value, own in chart.counts.items() if any(own)}


def test_patients_are_counted_once_however_they_are_spelled() -> None:
    found = balance({"train": {row("a", "P1"): (), row("b", " ｐ1"): (), row("c", "P2"): ()}})
    assert (found.rows, found.patients) == ((3,), (2,))
    assert counts(found, "finding") == {"normal": (3,)}


def test_sides_and_sizes() -> None:
    sizes = (5.9, 6, 8, 14, 15, 30, None)
    nodules = {
        row(f"n{i}"): (Finding("nodule", lobe="RUL", size_mm=mm),) for i, mm in enumerate(sizes)
    }
    others = {
        row("e"): (Finding("effusion", side="left"),),
        row("c"): (Finding("consolidation", lobe="LLL", size_mm=40),),
    }
    found = balance({"train": nodules | others})
    # A nodule's lobe has a side; only nodules are measured.
    assert counts(found, "side") == {"right": (7,), "left": (2,)}
    assert counts(found, "size_mm") == {
        "< 6 mm": (1,),
        "6–8 mm": (1,),
        "8–15 mm": (2,),
        "15–30 mm": (1,),
        "≥ 30 mm": (1,),
        "not stated": (1,),
    }
    by_key = {chart.key: chart for chart in found.charts}
    assert found.share(by_key["size_mm"], "8–15 mm", 0) == 2 / 7
    assert found.share(by_key["side"], "left", 0) == 2 / 9


def test_too_few_is_said_of_findings_that_there_are_in_parts_that_are_scored() -> None:
    nodule = (Finding("nodule"),)
    parts = {
        "train": {row("t"): (Finding("effusion"),)},
        "val": {row(f"v{i}"): nodule for i in range(FEWEST - 1)},
        "test": {row(f"s{i}"): nodule for i in range(FEWEST)},
    }
    found = balance(parts)
    assert set(found.too_few) == {
        ("val", "nodule", FEWEST - 1),
        ("val", "effusion", 0),
        ("test", "effusion", 0),
    }
