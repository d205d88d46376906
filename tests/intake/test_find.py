from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctscribe.errors import DataError
from ctscribe.intake.examine import studies_of
from ctscribe.intake.find import Case, find_cases
from ctscribe.phantom.dicom import Study, write_series
from tests.intake.hospital import close
from tests.intake.small_ct import small_ct


def names(cases: tuple[Case, ...]) -> dict[str, str]:
    return {case.name: case.kind for case in cases}


def dicom(path: Path, head: bytes = bytes(128) + b"DICM") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + b"x" * 8)


def test_every_file_is_a_case_or_named_as_not_looked_at(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.NII", "子 文件夹/c.nrrd", "d.mha", "e.mhd", "f.zip", "g.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "h.XLSX").write_bytes(b"x")
    for name in ("e.raw", "notes.txt", "._a.nii.gz", "nothing"):
        (tmp_path / name).write_bytes(b"")
    dicom(tmp_path / "patient" / "series 1" / "IM1")
    dicom(tmp_path / "patient" / "series 2" / "deep" / "2", b"MZ" + bytes(126) + b"DICM")
    dicom(tmp_path / "patient" / "series 2" / "bare", b"\x08\x00\x05\x00" + bytes(128))
    dicom(tmp_path / "other" / "x.dcm", b"no dicom at all")
    dicom(tmp_path / "DICOMDIR", b"")
    found = find_cases(tmp_path)
    assert names(found.cases) == {
        "a.nii.gz": "image",
        "b.NII": "image",
        "子 文件夹/c.nrrd": "image",
        "d.mha": "image",
        "e.mhd": "image",
        "f.zip": "zip",
        "g.csv": "table",
        "h.XLSX": "workbook",
        "patient": "dicom",
        "other": "dicom",
        tmp_path.name: "dicom",
    }
    assert {other.file for other in found.others} == {"e.raw", "notes.txt", "._a.nii.gz", "nothing"}
    assert all(other.reason for other in found.others)
    on_disk = [path for path in tmp_path.rglob("*") if path.is_file()]
    files = sum(max(1, len(case.files)) for case in found.cases)
    assert files + len(found.others) == len(on_disk)


def test_our_own_output_is_left_alone_and_nothing_else(tmp_path: Path) -> None:
    for name in ("out/check.json", "in/out/a.nii", "b.nii"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = find_cases(tmp_path, leave=tmp_path / "out")
    assert set(names(found.cases)) == {"in/out/a.nii", "b.nii"}
    assert not found.others
    assert names(find_cases(tmp_path / "in", leave=tmp_path / "in").cases) == {"out/a.nii": "image"}


def test_one_file_is_one_case(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"x")
    (tmp_path / "a.txt").write_bytes(b"x")
    assert names(find_cases(tmp_path / "a.nii").cases) == {"a.nii": "image"}
    assert find_cases(tmp_path / "a.txt").others
    with pytest.raises(DataError, match="no such file or folder"):
        find_cases(tmp_path / "none")
    dicom(tmp_path / "a")
    (tmp_path / "b.IMA").write_bytes(b"x")
    for name in ("a", "b.IMA"):
        (case,) = find_cases(tmp_path / name).cases
        assert (case.kind, case.files) == ("dicom", (tmp_path / name,))


@pytest.mark.skipif(os.name == "nt", reason="links need a right that users of Windows lack")
def test_links_to_folders_and_pipes_are_named_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe")
    found = find_cases(tmp_path)
    assert {other.file: other.reason.split()[0] for other in found.others} == {
        "loop": "a",
        "pipe": "cannot",
    }


def test_what_systems_office_and_ctscribe_leave_is_passed_over_by_name(tmp_path: Path) -> None:
    left = (
        *(".DS_Store", "Thumbs.db", "desktop.ini", "~$报告.xlsx", "caption_rejected.csv"),
        *("a_changes.csv", "caption_quarantine.csv", "caption_join_report.csv", "problems.csv"),
        "c1.json",
    )
    looked_at = ("报告.xlsx", "cases.csv", "c1.nii.gz", "rejected.csv")
    for name in (*left, *looked_at, "other.json"):
        (tmp_path / name).write_bytes(bytes(300))
    found = find_cases(tmp_path)
    assert set(names(found.cases)) == set(looked_at)
    reasons = {other.file: other.reason for other in found.others}
    assert set(reasons) == {*left, "other.json"}
    assert reasons["~$报告.xlsx"] == "Office holds another file open with it"
    assert reasons["c1.json"] == "what import-dicom says of the image beside it"
    assert "neither" in reasons["other.json"]
    (tmp_path / "cases.csv").unlink()
    assert "problems.csv" in names(find_cases(tmp_path).cases)  # somebody's own


def test_near_misses_have_a_reason_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "lone.raw").write_bytes(bytes(300))
    (tmp_path / "a.mhd").write_bytes(b"x")
    (tmp_path / "a.raw").write_bytes(bytes(300))
    (tmp_path / "short").write_bytes(b"\x08\x00\x05\x00")  # begins like DICOM, and ends there
    dicom(tmp_path / "other.bin", b"\x08\x00\x05\x00" + bytes(128))  # and is named otherwise
    (tmp_path / "b.mhd").write_bytes(b"x")
    (tmp_path / "b.zraw").write_bytes(bytes(300))
    reasons = {other.file: other.reason for other in find_cases(tmp_path).others}
    assert reasons.keys() == {"lone.raw", "a.raw", "short", "other.bin", "b.zraw"}
    assert reasons["lone.raw"] == reasons["short"] == reasons["other.bin"]
    assert reasons["a.raw"] == reasons["b.zraw"] == "the voxels of the .mhd beside it"


def test_a_folder_that_cannot_be_entered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    close(tmp_path / "closed", monkeypatch)
    (other,) = find_cases(tmp_path).others
    assert (other.file, other.reason) == ("closed", "cannot be entered (Permission denied)")


def test_a_study_of_an_export_lies_where_its_own_files_do(tmp_path: Path) -> None:
    export = tmp_path / "导出"
    ct = small_ct(1)
    for name, seed in (("甲", 1), ("乙", 2)):
        for number in range(1, seed + 1):
            folder = export / name / f"S{number}"
            write_series(ct, folder, study=Study(seed=seed), number=number, skip=range(3, 999))
    (case,) = find_cases(tmp_path).cases
    studies = studies_of(case)
    assert {study.path for study in studies} == {export / "甲" / "S1", export / "乙"}
    (told,) = [p for s in studies for p in s.problems if p.code == "several-patients"]
    assert told.detail == "2 studies in this folder"  # once, not once a study
