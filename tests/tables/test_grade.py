"""The column `grade`: four names, in every spelling that is accepted, and nothing else."""

from pathlib import Path

import pytest

from ctscribe.errors import DataError
from ctscribe.tables.grade import GRADES, read_grade
from ctscribe.tables.manifest import load_rows

HEADER = "case_id,patient_id,image_path,question,answer"


@pytest.mark.parametrize(
    ("cell", "grade"),
    [
        ("AAH", "AAH"),
        ("ais", "AIS"),
        (" Mia ", "MIA"),
        ("iAC", "IAC"),
        ("不典型腺瘤样增生", "AAH"),
        ("原位腺癌", "AIS"),
        ("微浸润性腺癌", "MIA"),
        ("浸润性腺癌", "IAC"),
        ("", None),
        ("  ", None),
    ],
)
def test_every_spelling(cell: str, grade: str | None) -> None:
    assert read_grade(cell, case="c1") == grade


@pytest.mark.parametrize("cell", ["AA", "IA", "0", "nan", "-", "腺癌", "AIS/MIA", "unknown"])
def test_anything_else_names_case_column_value_and_fix(cell: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"{HEADER},grade\nc7,p1,a.nii.gz,,结节,{cell}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_rows(file, check_images=False)
    message = str(caught.value)
    for part in ("case c7", str(file), f"grade is {cell!r}", "Fix: ", *GRADES):
        assert part in message


def test_rows_carry_their_grade_and_a_table_without_has_none(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    rows = "c1,p1,a.nii.gz,,结节,原位腺癌\nc2,p2,b.nii.gz,,结节,\n"
    file.write_text(f"{HEADER},grade\n{rows}", encoding="gb18030")
    assert [row.grade for row in load_rows(file, check_images=False)] == ["AIS", None]
    file.write_text(f"{HEADER}\nc1,p1,a.nii.gz,,结节\n", encoding="utf-8")
    assert load_rows(file, check_images=False)[0].grade is None
