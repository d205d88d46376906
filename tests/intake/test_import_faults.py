"""Imports that are interrupted, run out of room, meet odd headers, or could betray somebody."""

from __future__ import annotations

import base64
import errno
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from ctscribe.errors import DataError
from ctscribe.intake import import_dicom
from ctscribe.intake.import_options import ImportOptions
from ctscribe.phantom.dicom import write_series
from ctscribe.tables.csv_file import read_table, write_table
from tests.imaging.bodies import body
from tests.intake.hospital import TWO, Imported, digest, leaks, quiet

pytestmark = pytest.mark.usefixtures("no_temporary_files")


def test_studies_without_uids_and_patients_are_known_by_their_content(
    imported: Imported, tmp_path: Path
) -> None:
    source, out = tmp_path / "share", tmp_path / "out"
    uids = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "")
    tags = {**uids, "PatientID": "", "PatientName": "", "InstitutionName": "Qingshan"}
    for name, seed in (("a", 0), ("c", 1)):
        write_series(body(seed=seed).volume, source / name, study=TWO, tags=tags, kernel="Qingshan")
    shutil.copytree(source / "a", source / "b")
    result, _ = quiet(replace(imported.options, source=source, out=out))
    a, b, c = result.studies
    assert [study.verdict for study in result.studies] == ["accepted", "rejected", "accepted"]
    assert (a.case, a.patient) == (b.case, b.patient)
    assert a.case != c.case
    assert a.patient != c.patient
    codes = [[problem.code for problem in study.problems] for study in result.studies]
    known = ["id-missing", "uid-missing"]
    assert codes == [known, [*known, "image-duplicate"], known]
    assert leaks(out, ["Qingshan"]) == []


def test_a_case_without_its_sidecar_is_read_again_and_so_is_all_with_overwrite(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, source = tmp_path / "out", tmp_path / "share"
    shutil.copytree(imported.source / "two", source)
    case = imported.cases.loc[TWO.accession].case_id
    (out / "images").mkdir(parents=True)
    for ending in ("nii.gz", "json"):
        shutil.copyfile(
            imported.out / "images" / f"{case}.{ending}", out / "images" / f"{case}.{ending}"
        )
    options = replace(imported.options, source=source, out=out)

    def verdicts(**more: bool) -> list[str]:
        result, _ = quiet(replace(options, **more))  # type: ignore[arg-type]
        return [study.verdict for study in result.studies]

    assert verdicts() == ["there already"]
    (out / "images" / f"{case}.json").unlink()
    assert verdicts() == ["accepted"]
    assert verdicts(overwrite=True) == ["accepted"]

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.write_bytes(data)

    # A new image beside an old sidecar would pass for a case.
    with monkeypatch.context() as patch:
        patch.setattr(import_dicom, "write_atomically", full)
        with pytest.raises(DataError, match="No space left"):
            verdicts(overwrite=True)
    assert [file.name for file in (out / "images").iterdir()] == [f"{case}.nii.gz"]
    (out / "images" / "other.json").write_text("{}")
    with pytest.raises(DataError, match="no sidecar of this program"):
        verdicts()


HIDDEN = (
    "诸葛亮",
    "诸葛",
    "Zhuge",
    "zhuge@shu.cn",
    "13800001111",
    "ID-77777",
    "1.2.3.99.7",
    "1934",
)


def hide(data: Dataset, index: int) -> None:
    """A patient in every odd place of a header."""
    said = "诸葛亮 Zhuge zhuge@shu.cn 13800001111 ID-77777"
    for keyword in ("ImageComments", "PatientComments", "AdditionalPatientHistory"):
        setattr(data, keyword, said)
    for keyword in ("SeriesDescription", "ProtocolName", "StudyDescription"):
        setattr(data, keyword, f"Chest {said}"[:60])
    for keyword in ("ManufacturerModelName", "Manufacturer", "ConvolutionKernel"):
        setattr(data, keyword, "B31f ID-77777 诸葛^亮")
    data.OtherPatientNames = ["Zhuge^Liang", "诸葛^亮"]
    data.BodyPartExamined = "CHEST ZHUGE"
    data.PatientBirthDate = "19340405"
    block = data.private_block(0x0009, "ACME Zhuge", create=True)
    block.add_new(1, "LO", "诸葛亮 ID-77777")
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    referenced.ReferencedSOPInstanceUID = f"1.2.3.99.7.{index}"
    data.ReferencedImageSequence = [referenced]


def test_a_patient_in_odd_places_is_in_nothing_that_is_written(
    imported: Imported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = replace(TWO, patient_id="ID-77777", patient_name="诸葛^亮", accession="AC1")
    share = tmp_path / "share"
    for name, skip in (("诸葛亮 good", ()), ("Zhuge gap", (30,))):
        seeded = replace(study, seed=len(name))
        write_series(
            body().volume,
            share / name,
            study=seeded,
            skip=skip,
            name="诸葛亮_{:03d}",
            change=hide,
        )
    (share / "Zhuge gap" / "诸葛亮.dcm").write_bytes(bytes(128) + b"DICM" + b"Zhuge" * 50)
    packed = tmp_path / "诸葛亮.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(share.rglob("*")):
            archive.write(file, file.relative_to(share).as_posix())
    caplog.set_level("DEBUG")
    for source in (share, packed):
        out = tmp_path / f"out {source.suffix}"
        result, _ = quiet(replace(imported.options, source=source, out=out))
        assert (result.accepted, result.rejected) == (1, 1)
        assert leaks(out, HIDDEN) == []
    assert not [word for word in HIDDEN if word in caplog.text and word != "诸葛亮"]
    assert leaks(share, HIDDEN)


@pytest.mark.skipif(os.name == "nt", reason="links need a right that users of Windows lack")
def test_links_are_told_and_not_followed(imported: Imported, tmp_path: Path) -> None:
    source = tmp_path / "share"
    shutil.copytree(imported.source / "two", source / "two")
    (source / "loop").symlink_to(source, target_is_directory=True)
    result, said = quiet(
        replace(imported.options, source=source, out=tmp_path / "out", dry_run=True)
    )
    (problem,) = result.problems
    assert (problem.code, Path(problem.file).name) == ("left-out", "loop")
    assert "a link to a folder, which is not followed" in said
    assert len(result.studies[0].series[0].instances) == 72


def test_an_archive_among_the_files_is_named(imported: Imported, tmp_path: Path) -> None:
    source = tmp_path / "share"
    write_series(body().volume, source / "a", study=TWO, skip=range(12, 72))
    with zipfile.ZipFile(source / "补充.ZIP", "w") as archive:
        archive.writestr("IM1", b"x")
    options = replace(imported.options, source=source, out=tmp_path / "out", dry_run=True)
    result, said = quiet(options)
    assert [problem.code for problem in result.problems] == ["left-out"]
    assert "补充.ZIP: an archive in the source, which is not opened. Fix: run import-dicom" in said
    assert "not DICOM" not in said
    shutil.rmtree(source / "a")
    with pytest.raises(DataError, match=r"an archive.*Fix: run import-dicom on it too"):
        quiet(options)


def test_persons_who_share_an_id_are_warned_of(imported: Imported, tmp_path: Path) -> None:
    source = tmp_path / "share"
    few = range(12, 72)
    for seed, name in enumerate(("Li^Si", "Wang^Wu"), 20):
        study = replace(TWO, seed=seed, patient_id="0", patient_name=name)
        write_series(
            body().volume, source / name, study=study, skip=few, tags={"PatientBirthDate": ""}
        )
    result, said = quiet(
        replace(imported.options, source=source, out=tmp_path / "out", dry_run=True)
    )
    assert [next(p.code for p in s.problems) for s in result.studies] == ["patient-shared"] * 2
    assert "2 studies share a patient id, but have 2 names" in said


def test_a_person_under_two_ids_is_told_and_a_patient_named_by_hand_stays(
    imported: Imported, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    again = replace(TWO, seed=30, patient_id=TWO.patient_id.removeprefix("ZY"), accession="")
    write_series(body(seed=5).volume, tmp_path / "later", study=again)
    shutil.copytree(imported.source / "two", tmp_path / "two")
    options = replace(imported.options, out=out)
    quiet(replace(options, source=tmp_path / "two"))
    (_, first) = read_table(out / "cases.csv").iloc[0][["case_id", "patient_id"]]
    result, said = quiet(replace(options, source=tmp_path / "later"))
    assert [p.code for p in result.studies[0].problems] == ["id-missing", "patient-split"]
    assert f"stand under {first} as well" in said
    cases = read_table(out / "cases.csv")
    assert cases.patient_id.is_unique
    listed = read_table(out / "problems.csv")
    assert list(listed.case_id.unique()) == list(cases.case_id)  # of both runs
    assert leaks(out, [TWO.patient_id, "Wang", "19600101"]) == []
    write_table(cases.assign(patient_id=first, accession=["A1", "A2"]), out / "cases.csv")
    result, _ = quiet(replace(options, source=tmp_path / "later", overwrite=True))
    assert [p.code for p in result.studies[0].problems] == ["id-missing"]
    kept = read_table(out / "cases.csv")
    assert list(kept.patient_id) == [first, first]
    assert list(kept.accession) == ["A1", "A2"]
    problems = read_table(out / "problems.csv")
    assert "patient-split" not in set(problems.code)
    assert len(problems) == 2


def test_an_output_that_cannot_be_written_is_refused_before_reading(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> Iterator[object]:
        raise AssertionError("it was read")

    out = tmp_path / "out"
    out.mkdir()
    (out / "cases.csv").mkdir()  # nobody can write to it, whoever runs this
    monkeypatch.setattr(import_dicom, "_import", never)
    with pytest.raises(DataError, match=r"cannot be written.*Excel"):
        quiet(replace(imported.options, out=out))
    assert [f.name for f in out.iterdir()] == ["cases.csv"]


def test_the_secret_is_named_and_never_shown(imported: Imported, tmp_path: Path) -> None:
    assert f"made with the secret {imported.salt}: keep a copy" in " ".join(imported.said.split())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_dicom, "default_salt_file", lambda: tmp_path / "none")
        patch.setattr("ctscribe.tables.pseudonym.default_salt_file", lambda: tmp_path / "none")
        _, said = quiet(ImportOptions(source=imported.source, out=tmp_path / "o", dry_run=True))
    assert "no secret at" in said
    salt = imported.salt.read_bytes()
    for form in (salt, salt.hex().encode(), base64.b64encode(salt), base64.b32encode(salt)):
        assert form.lower() not in imported.said.encode().lower()
        for file in imported.out.rglob("*"):
            assert not file.is_file() or form.lower() not in file.read_bytes().lower()


def test_a_full_disk_leaves_whole_cases_alone_and_the_next_run_completes_them(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, copies = tmp_path / "out", []

    def copy(source: Path, target: Path) -> None:
        copies.append(source)
        target.write_bytes(source.read_bytes()[:1000])
        if len(copies) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(import_dicom.shutil, "copyfile", copy)
    with pytest.raises(DataError, match="No space left"):
        quiet(replace(imported.options, out=out))
    whole = sorted(file.name.partition(".")[0] for file in (out / "images").iterdir())
    assert len(whole) == 2
    assert whole[0] == whole[1]  # the first one's image and sidecar
    result, _ = quiet(replace(imported.options, out=out))
    assert sorted(s.verdict for s in result.studies) == ["accepted", "accepted", "there already"]
    assert digest(out / "images").keys() == digest(imported.out / "images").keys()
    assert set(read_table(out / "cases.csv").case_id) == set(imported.cases.case_id)
