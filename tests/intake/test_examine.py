"""A folder of DICOM or an archive: which studies it holds, and that nothing of it goes unsaid."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ctscribe.errors import ImageError
from ctscribe.imaging.volume import Volume
from ctscribe.intake import examine as module
from ctscribe.intake.examine import Examined, examine, studies_of
from ctscribe.intake.find import Case, find_cases
from ctscribe.phantom.dicom import Study, write_localizer, write_series
from ctscribe.problems import Problem
from tests.imaging.bodies import body
from tests.intake.small_ct import save, small_ct

ONE, TWO = Study(seed=1, patient_id="P1"), Study(seed=2, patient_id="P2")


def case_of(folder: Path) -> Case:
    (case,) = find_cases(folder).cases
    return case


def codes(*found: Case | Examined) -> list[tuple[str, list[str]]]:
    return [
        (one.name if isinstance(one, Case) else one.case, sorted(p.code for p in one.problems))
        for one in found
    ]


def few(folder: Path, study: Study, **more: object) -> list[Path]:
    """Some slices of a study."""
    return write_series(body().volume, folder, study=study, skip=range(3, 99), **more)  # type: ignore[arg-type]


def test_two_studies_in_one_folder_and_what_is_in_neither(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "scan"
    few(folder, ONE, name="a{:04d}.dcm")
    few(folder, TWO, name="b{:04d}.dcm")
    (folder / "readme.dcm").write_bytes(b"no DICOM")
    case = case_of(tmp_path / "in")
    one, two = studies_of(case)
    assert codes(one, two) == [("scan #1", ["left-out", "several-patients"]), ("scan #2", [])]
    (folder / "c.dcm").write_bytes(bytes(128) + b"DICM" + b"garbage")
    studies = studies_of(case_of(tmp_path / "in"))
    # A file that cannot be read may be of either study, and is a case of its own.
    assert codes(*studies)[2:] == [("scan", ["unreadable"])]
    assert [len(study.series) for study in studies] == [1, 1, 0]


def test_all_that_is_wrong_with_the_one_study_of_a_folder_is_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "scan"
    few(folder, ONE)
    (folder / "readme.dcm").write_bytes(b"no DICOM")
    (folder / "c.dcm").write_bytes(bytes(128) + b"DICM" + b"garbage")
    studies = studies_of(case_of(tmp_path / "in"))
    assert codes(*studies) == [("scan", ["left-out", "unreadable"])]


def test_a_folder_without_a_study_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "scan"
    folder.mkdir(parents=True)
    (folder / "readme.dcm").write_bytes(b"no DICOM")
    assert codes(*studies_of(case_of(tmp_path / "in"))) == [("scan", ["left-out", "no-chest"])]


def test_a_study_of_localizers_alone_is_no_chest(tmp_path: Path) -> None:
    few(tmp_path / "in" / "scan", ONE)
    write_localizer(tmp_path / "in" / "scan", study=ONE)
    (found,) = examine(case_of(tmp_path / "in"))
    assert codes(found) == [("scan", ["left-out", "no-chest"])]
    assert not found.voxels_sha256


def test_what_headers_told_stays_with_the_volume_or_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that another series would do as well, and what the pixels told."""
    folder = tmp_path / "in" / "scan"
    for number, kernel in ((1, "B31f"), (2, "B70f")):
        series = {"number": number, "kernel": kernel, "tags": {"LossyImageCompression": "01"}}
        write_series(body().volume, folder, study=ONE, name=f"{number}-{{:04d}}.dcm", **series)
    (folder / "readme.dcm").write_bytes(b"no DICOM")
    (found,) = examine(case_of(tmp_path / "in"))
    told = {"left-out", "several-series", "syntax-lossy"}
    assert {p.code for p in found.problems} == told
    assert sum(p.code == "left-out" for p in found.problems) == 2, "the file and the other series"
    assert found.voxels_sha256

    def torn(*_: object, **__: object) -> object:
        raise ImageError("torn", code="unreadable", fix="copy it again")

    monkeypatch.setattr(module.dicom, "read_series", torn)
    (found,) = examine(case_of(tmp_path / "in"))
    assert {p.code for p in found.problems} == {"left-out", "several-series", "unreadable"}


def test_what_an_archive_holds_is_named_by_the_archive(tmp_path: Path) -> None:
    file = save(small_ct(0), tmp_path / "a.nii.gz")
    packed = tmp_path / "b.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(file, "in/a.nii.gz")
        archive.writestr("broken.nii.gz", "no image")
        for n in range(4):
            archive.writestr(f"notes{n}.txt", "x")
        archive.writestr("t.csv", "a,b")
    found = examine(Case("b.zip", "zip", packed))
    assert {one.case for one in found} == {"b.zip/in/a.nii.gz", "b.zip/broken.nii.gz"}
    assert {one.file for one in found} == {str(packed)}
    problems = [problem for one in found for problem in one.problems]
    assert {problem.file for problem in problems} == {str(packed)}
    assert {problem.code for problem in problems} == {"left-out", "unreadable"}
    (left,) = [problem.detail for problem in problems if problem.code == "left-out"]
    assert left == "not looked at: notes0.txt, notes1.txt, notes2.txt and 2 more"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("notes.txt", "x")
    assert codes(*examine(Case("b.zip", "zip", packed))) == [("b.zip", ["left-out", "no-chest"])]


def test_problems_that_files_share_are_one(tmp_path: Path) -> None:
    alike = [Problem("", f"{n}.dcm", "unreadable", "torn") for n in range(3)]
    other = replace(alike[0], detail="empty")
    told = module._together([*alike, other], "scan")
    assert [(p.case, p.file, p.detail) for p in told] == [
        ("scan", "0.dcm", "torn (3 files)"),
        ("scan", "0.dcm", "empty"),
    ]


def test_a_reader_that_fails_as_it_should_not_does_not_end_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Volume:
        raise IndexError("a bug")

    monkeypatch.setattr("ctscribe.intake.examine.read_volume", broken)
    (one,) = examine(Case("a.nii", "image", tmp_path / "a.nii"))
    assert [problem.code for problem in one.problems] == ["parse-limit"]
    assert "IndexError" in one.problems[0].detail
