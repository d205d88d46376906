"""The sums of a public set, and its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctscribe.errors import DataError
from ctscribe.intake.dataset import Dataset, Record, tables_like


def record(case: str, image: str, report_rows: int = 1) -> Record:
    return Record(case, case, Path(image), "好", report_rows=report_rows)


def test_every_image_and_every_report_is_counted_once() -> None:
    # Two questions of one image; a report made of three rows.
    data = Dataset([record("a", "a.nii"), record("a", "a.nii", 3)], images=1, reports=4)
    data.require_sums()
    data.reject("reports", "t.csv row 9", "b", "missing", "no image")
    with pytest.raises(AssertionError):
        data.require_sums()
    data.reports = 5
    data.require_sums()
    for name in ("images", "reports"):
        for change in (-1, 1):  # one too many is as wrong as one that was lost
            setattr(data, name, getattr(data, name) + change)
            with pytest.raises(AssertionError):
                data.require_sums()
            setattr(data, name, getattr(data, name) - change)


def test_tables_are_known_by_their_columns_and_rows_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1, 好 \n2,差\n", "utf-8")
    (tmp_path / "b.csv").write_text("id,age\n3,60\n", "utf-8")
    assert tables_like(tmp_path, "*.csv", ("id", "text")) == [
        ("a.csv row 2", {"id": "1", "text": "好"}),
        ("a.csv row 3", {"id": "2", "text": "差"}),
    ]
    assert tables_like(tmp_path, "*.csv", ("id", "none")) == []
    with pytest.raises(DataError, match="columns id, none") as caught:
        tables_like(tmp_path, "*.csv", ("id", "none"), required=True)
    assert caught.value.code == "missing"
