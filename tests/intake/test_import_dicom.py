"""A share goes in; images under pseudonyms come out, and nothing that names anybody."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from ctscribe import cli
from ctscribe.errors import ConfigError, DataError
from ctscribe.imaging.nifti import read_volume
from ctscribe.intake import import_dicom
from ctscribe.intake.import_dicom import import_studies
from ctscribe.intake.import_options import ImportOptions
from ctscribe.intake.import_result import ImportResult
from ctscribe.intake.study import look
from ctscribe.phantom.dicom import uid_of, write_series
from ctscribe.tables.csv_file import read_table, write_table
from tests.imaging.bodies import as_volume, body
from tests.intake.hospital import (
    AGAIN,
    NAME,
    ONE,
    SECRETS,
    TWO,
    Imported,
    RawName,
    close,
    digest,
    leaks,
    quiet,
)

ACCESSIONS = (ONE.accession, AGAIN.accession, TWO.accession)

pytestmark = pytest.mark.usefixtures("no_temporary_files")


def test_every_study_becomes_a_case_with_its_accession(imported: Imported) -> None:
    assert (imported.result.accepted, imported.result.rejected) == (3, 0)
    assert not imported.result.has_errors
    assert sorted(imported.cases.index) == sorted(ACCESSIONS)
    assert list(imported.cases.columns) == [
        *("case_id", "patient_id", "image_path", "question", "answer")
    ]
    assert imported.cases.case_id.is_unique
    assert (imported.cases.answer == "").all()
    assert "3 accepted + 0 rejected = 3 studies" in imported.said


def test_a_patient_has_one_id_in_all_studies(imported: Imported) -> None:
    ids = imported.cases.patient_id
    assert ids[ONE.accession] == ids[AGAIN.accession] != ids[TWO.accession]


def test_the_image_is_the_scan(imported: Imported) -> None:
    row = imported.cases.loc[TWO.accession]
    image = read_volume(imported.out / row.image_path)
    truth = body(seed=2).volume
    assert np.array_equal(image.array_zyx, truth.array_zyx)
    assert np.allclose(image.affine, truth.affine, atol=1e-3)


def test_the_sidecar_says_how_it_was_made(imported: Imported) -> None:
    case = imported.cases.loc[ONE.accession].case_id
    sidecar = json.loads((imported.out / "images" / f"{case}.json").read_text(encoding="utf-8"))
    expected = {
        "case_id": case,
        "patient_id": imported.cases.loc[ONE.accession].patient_id,
        "kernel": "B31f",
        "kvp": "120",
        "manufacturer": "ctscribe phantom",
        "model": "SOMATOM Phantom",
        "slice_step_mm": 4.0,
        "slice_thickness_mm": 4.0,
        "spacing_zyx_mm": [4.0, 3.0, 3.0],
        "shape_zyx": [72, 96, 128],
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "lossy": False,
    }
    assert expected.items() <= sidecar.items()
    assert sidecar["chest"]["plausible"]


def test_nothing_that_is_written_names_anybody(imported: Imported) -> None:
    everywhere = [secret for secret in SECRETS if secret not in ACCESSIONS]
    assert leaks(imported.out, everywhere) == []
    assert {name for name, _ in leaks(imported.out)} == {"cases.csv"}  # by which reports are joined
    assert leaks(imported.source, [ONE.patient_id, "三丰"])  # the search does find them


def test_the_source_is_only_read(imported: Imported) -> None:
    assert digest(imported.source) == imported.before


def test_what_was_left_out_is_listed(imported: Imported) -> None:
    said = " ".join(imported.said.split())
    short = ("90 Topogram 0.6 T20f (a localizer)", "91 Patient Protocol (a secondary capture)")
    assert "; ".join(short) in said
    _, dry = quiet(replace(imported.options, dry_run=True))  # has what --series-uid takes
    assert f"{uid_of('series', 1, ONE.patient_id, 90)}: a localizer" in dry
    assert f"{uid_of('series', 1, ONE.patient_id, 91)}: a secondary capture" in dry
    (readme,) = [file for file in imported.before if file.endswith("readme.txt")]
    assert f"1 file left out: not DICOM ({readme})" in said
    assert "X-Ray Radiation Dose SR" in said
    table = read_table(imported.out / "problems.csv")
    (row,) = table[table.code == "left-out"].itertuples()
    assert row.case_id == imported.cases.loc[ONE.accession].case_id
    assert row.detail == "1 series: a localizer; 1 series: a secondary capture"
    assert set(table.verdict) == {"accepted"}
    assert set(table.case_id) == set(imported.cases.case_id)


def test_excel_joins_reports_by_accession(imported: Imported, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["检查号", "患者ID", "检查所见", "诊断意见"])
    for number in ACCESSIONS:
        said = f"两肺纹理清晰，右肺上叶见结节，编号{number[-3:]}。"
        patient = TWO.patient_id if number == TWO.accession else ONE.patient_id
        sheet.append([number, patient, said, "右肺结节。"])
    book.save(tmp_path / "reports.xlsx")
    pairs = str(imported.out / "cases.csv")
    with pytest.raises(SystemExit) as stop:
        cli.main(["excel", str(tmp_path / "reports.xlsx"), "--pairs-csv", pairs])
    assert stop.value.code == 0
    full = read_table(tmp_path / "caption_full.csv")
    assert len(full) == 3
    for row in full.itertuples():
        image = (tmp_path / str(row.image_path)).resolve()
        expected = imported.out / str(imported.cases.loc[row.accession].image_path)
        assert image == expected.resolve()
        assert row.patient_id == imported.cases.loc[row.accession].patient_id


def test_a_second_run_leaves_what_is_there_and_keeps_answers(
    imported: Imported, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(imported.out, out)
    table = read_table(out / "cases.csv").assign(reader="li")
    table.loc[0, "answer"] = "两肺未见异常。"
    write_table(table, out / "cases.csv")
    images = {f.name: f.stat().st_mtime_ns for f in (out / "images").iterdir()}
    result, said = quiet(replace(imported.options, out=out, hash_accession=True))
    assert {study.verdict for study in result.studies} == {"there already"}
    assert "3 were there already; --overwrite reads them again" in " ".join(said.split())
    assert {f.name: f.stat().st_mtime_ns for f in (out / "images").iterdir()} == images
    again = read_table(out / "cases.csv")
    assert list(again.answer) == list(table.answer)
    assert list(again.reader) == ["li"] * 3
    assert list(again.case_id) == list(table.case_id)
    assert again.accession.str.fullmatch("a[a-z2-7]{15}").all()
    assert leaks(out) == []  # not even accession numbers


def test_a_missing_image_is_read_again_and_another_series_is_another_case(
    imported: Imported, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(imported.out, out)
    gone = out / "images" / f"{imported.cases.loc[TWO.accession].case_id}.nii.gz"
    gone.unlink()
    source = tmp_path / "share"
    shutil.copytree(imported.source / "two", source / "two")
    write_series(body(seed=4).volume, source / "two lung", study=TWO, number=3, kernel="B70f")
    sharp = uid_of("series", TWO.seed, TWO.patient_id, 3)
    result, _ = quiet(replace(imported.options, source=source, out=out))
    (study,) = result.studies
    assert study.verdict == "accepted"
    assert [p.code for p in study.problems] == ["several-series"]
    assert "2 series would do; taken was the best of 2" in study.problems[0].detail
    assert gone.is_file()
    result, said = quiet(
        replace(imported.options, source=source, out=out, series_uid=sharp, dry_run=True)
    )
    (study,) = result.studies
    assert study.case not in set(imported.cases.case_id)
    assert study.why == "named with --series-uid"
    assert "another one is named with --series-uid" in said
    assert len(read_table(out / "cases.csv")) == 3  # rows of other sources stay


def test_another_salt_gives_other_ids_and_never_mixes(imported: Imported, tmp_path: Path) -> None:
    other = tmp_path / "salt"
    other.write_bytes(bytes(32))
    options = replace(imported.options, salt_file=other)
    before = digest(imported.out)
    with pytest.raises(ConfigError, match="another salt"):
        import_studies(options)
    assert digest(imported.out) == before
    result, _ = quiet(replace(options, out=tmp_path / "new", dry_run=True))
    ids = {study.patient for study in result.studies}
    assert len(ids) == 2
    assert not ids & set(imported.cases.patient_id)


def test_a_dry_run_writes_nothing(imported: Imported, tmp_path: Path) -> None:
    with_home = ImportOptions(source=imported.source, out=tmp_path / "new", dry_run=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        patch.setenv("APPDATA", str(tmp_path / "config"))
        patch.setenv("HOME", str(tmp_path / "home"))
        _, said = quiet(with_home)
    assert "nothing read or written" in said
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------- what is not as it should


def bad_share(folder: Path) -> Path:
    """A sound study, one with a gap, one without lungs, one of a localizer alone, a torn file."""
    write_series(body().volume, folder / "good", study=ONE, name=f"{NAME}{{:03d}}.dcm")
    studies = [replace(TWO, seed=10 + n, accession=f"B{n}") for n in range(4)]
    write_series(
        body().volume, folder / "gap", study=studies[0], skip=[30], name=f"{NAME}{{:03d}}.dcm"
    )
    noise = np.random.default_rng(5).integers(-8, 9, (60, 64, 64))  # no scanner is without
    soft = (40 + noise).astype(np.int16)
    soft[:, :8] = soft[:, -8:] = -1000
    write_series(as_volume(soft, (4.0, 5.0, 5.0)), folder / "belly", study=studies[1])
    write_series(body().volume, folder / "few", study=studies[2], skip=range(5, 72))
    torn = write_series(body().volume, folder / "torn", study=studies[3])[40]
    torn.write_bytes(torn.read_bytes()[:-3000])
    return folder


@pytest.fixture(scope="module")
def rejecting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ImportResult, str]:
    """A zip whose names are GBK without a flag, as Chinese Windows packs it."""
    folder = tmp_path_factory.mktemp("zip")
    share = bad_share(folder / "share")
    packed = folder / "医院.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(share.rglob("*.dcm")):
            name = file.relative_to(share).as_posix().encode("gbk")
            archive.writestr(RawName(name), file.read_bytes())
    salt = folder / "salt"
    salt.write_bytes(bytes(range(32)))
    out = folder / "out"
    result, said = quiet(ImportOptions(source=packed, out=out, salt_file=salt, workers=1))
    return packed, out, result, said


def test_accepted_and_rejected_are_all_and_each_has_its_reason(
    rejecting: tuple[Path, Path, ImportResult, str],
) -> None:
    _, out, result, said = rejecting
    assert (result.accepted, result.rejected, len(result.studies)) == (1, 4, 5)
    assert result.has_errors
    table = read_table(out / "problems.csv")
    errors = table[table.severity == "error"]
    by_code = dict(zip(errors.code, errors.detail, strict=True))
    assert set(by_code) == {"slices-missing", "no-chest", "unreadable"}
    assert sorted(errors.code).count("no-chest") == 2
    assert set(errors.verdict) == {"rejected"}
    assert (errors.fix != "").all()
    assert "1 slice is missing of 72" in by_code["slices-missing"]
    assert "1 accepted + 4 rejected = 5 studies" in said
    assert set(table.case_id) == {study.case for study in result.studies}


def test_nothing_of_a_rejected_study_is_written(
    rejecting: tuple[Path, Path, ImportResult, str],
) -> None:
    packed, out, result, _ = rejecting
    (good,) = [study.case for study in result.studies if study.accepted]
    names = {str(f.relative_to(out)).replace("\\", "/") for f in out.rglob("*") if f.is_file()}
    images = {f"images/{good}.nii.gz", f"images/{good}.json"}
    assert names == {"cases.csv", "problems.csv", *images}
    assert list(read_table(out / "cases.csv").case_id) == [good]
    assert zipfile.ZipFile(packed).testzip() is None


def test_names_of_files_are_for_the_user_alone(
    rejecting: tuple[Path, Path, ImportResult, str],
) -> None:
    _, out, _, said = rejecting
    assert f"gap/{NAME}029.dcm" in said  # as the archive has it, for whoever looks for it
    assert leaks(out, [NAME, ONE.patient_id, TWO.patient_id]) == []
    detail = " ".join(read_table(out / "problems.csv").detail)
    assert "file 30 and file 31" in detail


def test_any_region_and_the_exit_code(
    rejecting: tuple[Path, Path, ImportResult, str], tmp_path: Path
) -> None:
    share, salt = rejecting[0].parent / "share", rejecting[0].parent / "salt"
    given = [("few", [], 2, "rejected"), ("belly", ["--any-region"], 0, "accepted")]
    for name, more, code, verdict in given:
        shutil.copytree(share / name, tmp_path / name)
        with pytest.raises(SystemExit) as stop:
            cli.main(["import-dicom", str(tmp_path / name), "--salt-file", str(salt), *more])
        assert stop.value.code == code
        table = read_table(tmp_path / f"{name}_ctscribe" / "problems.csv")
        assert set(table.verdict) == {verdict}
    (sidecar,) = (tmp_path / "belly_ctscribe" / "images").glob("*.json")
    assert not json.loads(sidecar.read_text(encoding="utf-8"))["chest"]["plausible"]


def test_a_study_that_takes_too_much_is_rejected_and_the_rest_goes_on(
    imported: Imported, tmp_path: Path
) -> None:
    options = replace(imported.options, out=tmp_path / "out", minutes=0.001, workers=2)
    result, _ = quiet(options)
    assert result.rejected == 3
    assert {p.code for s in result.studies for p in s.problems} == {"parse-limit"}
    assert {f.name for f in (tmp_path / "out").rglob("*")} == {"problems.csv"}


def break_on_bad(files: tuple[Path, ...]) -> object:
    if any(file.name == "CT0003.dcm" for file in files):
        os._exit(9)
    return look(files)


def break_on_bad_alone(file: Path) -> None:
    break_on_bad((file,))


def test_a_file_that_breaks_the_reader_is_named_and_the_rest_is_read(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_dicom, "look", break_on_bad)
    monkeypatch.setattr(import_dicom, "_scan_one", break_on_bad_alone)
    source = tmp_path / "share"
    write_series(body().volume, source, study=TWO, skip=range(12, 72))
    result, said = quiet(
        replace(imported.options, source=source, out=tmp_path / "out", dry_run=True)
    )
    (problem,) = result.problems
    assert problem.code == "parse-limit"
    assert "CT0003.dcm" in said
    assert result.has_errors
    assert sum(len(s.series[0].instances) for s in result.studies) == 11


def test_paths_longer_than_260_characters_with_chinese_and_spaces(
    imported: Imported, tmp_path: Path
) -> None:
    deep = tmp_path.joinpath(*["很 长的文件夹名" * 4] * 9)
    source = import_dicom.long_path(deep / "数据")
    assert len(str(source)) > 300
    shutil.copytree(imported.source / "two", source)
    result, _ = quiet(replace(imported.options, source=source, out=deep / "出 数据"))
    assert [s.verdict for s in result.studies] == ["accepted"]
    (image,) = import_dicom.long_path(deep / "出 数据" / "images").glob("*.nii.gz")
    assert len(str(image)) > 300
    assert read_volume(image).array_zyx.shape == (72, 96, 128)


# -------------------------------------------------------------------- what is asked for wrongly


def test_wrong_calls_are_refused_before_anything_is_written(
    imported: Imported, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("x")
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong = [
        ({"source": None}, "no source"),
        ({"source": tmp_path / "gone"}, "no such folder"),
        ({"source": text}, "neither a folder nor a .zip"),
        ({"source": empty}, "no DICOM image among 0 files"),
        ({"out": imported.source / "here"}, "lies in the source"),
        ({"out": text}, "is a file"),
        ({"out": imported.salt.parent}, "whoever gets the data could undo"),
        ({"salt_file": tmp_path / "gone"}, "cannot be used"),
        ({"series_uid": "1.2.3", "dry_run": True}, "names 1 series"),
    ]
    before = digest(imported.out), digest(imported.source)
    for change, words in wrong:
        with pytest.raises((ConfigError, DataError), match=words):
            quiet(replace(imported.options, **change))
    assert (digest(imported.out), digest(imported.source)) == before
    assert {f.name for f in tmp_path.iterdir()} == {"text.txt", "empty"}


def test_a_closed_folder_is_a_problem(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "share"
    shutil.copytree(imported.source / "two", source / "two")
    (source / "closed").mkdir()
    close(source / "closed", monkeypatch)
    result, said = quiet(
        replace(imported.options, source=source, out=tmp_path / "out", dry_run=True)
    )
    assert [p.code for p in result.problems] == ["unreadable"]
    assert result.rejected == 0
    assert result.has_errors
    assert "the folder cannot be opened (Permission denied)" in said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_pipe_among_the_files_keeps_nobody_waiting(imported: Imported, tmp_path: Path) -> None:
    source = tmp_path / "share"
    shutil.copytree(imported.source / "two", source)
    os.mkfifo(source / "pipe")
    (source / "dangling").symlink_to(source / "nowhere")
    result, _ = quiet(replace(imported.options, source=source, out=tmp_path / "out", dry_run=True))
    assert [p.code for p in result.problems] == ["missing"]
