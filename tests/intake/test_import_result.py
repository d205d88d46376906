"""What an import says of its studies and of what is in none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ctscribe.imaging.dicom import LeftOut, Series
from ctscribe.imaging.dicom_choice import DIAGNOSTIC
from ctscribe.intake.import_result import ImportResult, Study, print_result, write_tables
from ctscribe.problems import Problem
from ctscribe.tables.csv_file import read_table

SOFT, LUNG = (Series("1.2", f"1.2.{n}", (), description=d) for n, d in ((1, "Soft"), (2, "Lung")))
ERROR = Problem("", "/in/王五.dcm", "unreadable", "王五.dcm cannot be read")
NOTE = Problem("", "/in/a.dcm", "left-out", "a note")


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def shown(result: ImportResult, *, dry_run: bool = False) -> str:
        print_result(result, Path("/in"), dry_run=dry_run)
        return capsys.readouterr().out

    return shown


def study(case: str, verdict: str = "accepted", *problems: Problem) -> Study:
    left = ((LUNG, f"{DIAGNOSTIC}: sharp kernel"), (Series("1.2", "1.2.3", ()), "a localizer"))
    persons: tuple[str, ...] = ()
    told = (SOFT, "the only one", left, f"p{case}", persons, case, "AC", verdict, list(problems))
    return Study([], [], f"/in/{case}", *told)


def result(out: Path, *studies: Study, problems: tuple[Problem, ...] = ()) -> ImportResult:
    left_out = tuple(LeftOut(Path(f"/in/{n}.txt"), "not DICOM") for n in range(4))
    return ImportResult(out, studies, problems, left_out, {})


def test_a_study_or_a_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    note = replace(NOTE, case="a")
    assert not result(tmp_path, study("a", "accepted", note), problems=(NOTE,)).has_errors
    assert result(tmp_path, study("a", "rejected")).has_errors
    assert result(tmp_path, study("a", "accepted", replace(ERROR, case="a"))).has_errors
    assert result(tmp_path, study("a"), problems=(ERROR,)).has_errors


def test_every_problem_and_every_file_is_said(tmp_path: Path, show: Callable[..., str]) -> None:
    own = Problem("a", "/in/a", "several-series", "two of them")
    both = result(tmp_path, study("a", "accepted", own, NOTE), study("b"), problems=(ERROR, NOTE))
    said = show(both)
    assert "several-series: /in/a: two of them" in said
    assert "error unreadable: /in/王五.dcm: 王五.dcm cannot be read" in said
    assert said.count("note left-out: /in/a.dcm: a note") == 2
    assert "4 files left out: not DICOM (/in/0.txt, /in/1.txt, /in/2.txt, ...)" in said
    assert "2 accepted + 0 rejected = 2 studies" in said
    # --series-uid may name a series that would do as well; of the others their kind is enough.
    assert f"a: left out: Lung 1.2.2: {DIAGNOSTIC}" in said
    assert "1.2.3" not in said
    assert "1.2.3: a localizer" in show(both, dry_run=True)


def test_the_tables_have_every_study_and_every_problem_without_names(tmp_path: Path) -> None:
    bare = replace(study("b"), left_out=())
    write_tables(result(tmp_path, study("a", "rejected", NOTE), bare, problems=(ERROR, NOTE)))
    table = read_table(tmp_path / "problems.csv")
    assert [(row.case_id, row.verdict, row.code) for row in table.itertuples()] == [
        ("a", "rejected", "left-out"),
        ("a", "rejected", "left-out"),
        ("b", "accepted", ""),
        ("", "", "unreadable"),
        ("", "", "left-out"),
    ]
    assert table.detail[3] == "a file cannot be read"
    assert list(read_table(tmp_path / "cases.csv").case_id) == ["b"]


def test_a_row_keeps_what_was_filled_in_and_a_study_of_another_source_its_row(
    tmp_path: Path,
) -> None:
    head = "case_id,patient_id,image_path,question,answer,accession,note"
    held = ("old,p9,images/old.nii.gz,,旧,A9,", "a,p0,images/a.nii.gz,,右肺结节。,A0,看过")
    (tmp_path / "cases.csv").write_text("\n".join((head, *held)), "utf-8")
    write_tables(result(tmp_path, replace(study("a"), accession=""), study("b")))
    rows = [tuple(row)[1:] for row in read_table(tmp_path / "cases.csv").itertuples()]
    assert rows == [
        ("old", "p9", "images/old.nii.gz", "", "旧", "A9", ""),
        ("a", "pa", "images/a.nii.gz", "", "右肺结节。", "A0", "看过"),  # told anew but where empty
        ("b", "pb", "images/b.nii.gz", "", "", "AC", ""),
    ]
