"""Public sets as they are downloaded, in little: every image and report is in a row or rejected."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ctscribe.errors import DataError
from ctscribe.imaging.nifti import read_volume
from ctscribe.intake.dataset import Dataset
from ctscribe.intake.m3d_cap import report_of
from ctscribe.intake.public import DatasetOptions, detect_layout, read_dataset, run_import_dataset
from ctscribe.tables.manifest import load_rows, read_table


def volume(
    file: Path, *, low: float = -1000, slope: float = 1, inter: float = 0, bare: bool = False
) -> Path:
    """A small CT with air around; `low` is what the air is stored as."""
    stored = np.full((8, 8, 6), low, np.int16)
    stored[2:6, 2:6] = low + 1040
    affine = np.diag([-1.0, -1, 2, 1])
    image = nibabel.Nifti1Image(stored, affine)
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, file)
    data = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into("<2f", data, 112, slope, inter)
    if bare:
        struct.pack_into("<2h", data, 252, 0, 0)
    file.write_bytes(gzip.compress(bytes(data)))
    return file


def table(file: Path, *rows: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (",".join(f'"{cell}"' for cell in row) for row in rows)
    file.write_text("\n".join(lines), encoding="utf-8")


def ct(folder: Path, name: str, part: str = "train_fixed", **how: Any) -> Path:
    patient, scan = "_".join(name.split("_")[:2]), "_".join(name.split("_")[:3])
    return volume(folder / "dataset" / part / patient / scan / f"{name}.nii.gz", **how)


def told(data: Dataset) -> dict[tuple[str, str], str]:
    found = {(r.case_id, r.source): r.code for r in data.rejected}
    assert all(r.reason and r.item for r in data.rejected)
    return found


REPORT = ("VolumeName", "Findings_EN", "Impressions_EN", "ClinicalInformation_EN")


def ct_rate(folder: Path) -> Path:
    reports = folder / "dataset" / "radiology_text_reports"
    rows = [
        ("train_1_a_1.nii.gz", "A nodule of 8 mm, right.", "Nodule.", "Cough."),
        ("train_1_a_2.nii.gz", "A nodule of 8 mm, right.", "Nodule.", "Not given."),
        ("train_2_a_1.nii.gz", "Not given.", "", ""),
        ("train_3_a_1.nii.gz", "Clear.", "Not given.", ""),  # no volume
        ("train_4_a_1.nii.gz", "Clear.", "", ""),  # of the first release, bare
        ("train_5_a_1.nii.gz", "Clear.", "", ""),  # slope not applied
        ("train_6_a_1.nii.gz", "One.", "", ""),
        ("train_6_a_1.nii.gz", "Two.", "", ""),
        ("train_1_a_1.nii.gz", "A nodule of 8 mm, right.", "Nodule.", "Cough."),
        ("train_8_a_1.nii.gz", "Damaged.", "", ""),
    ]
    table(reports / "train_reports.csv", REPORT, *rows)
    valid = ("valid_1_a_1.nii.gz", "Clear.", "Normal.", "")
    table(reports / "validation_reports.csv", REPORT, valid)
    head = ("VolumeName", "RescaleSlope", "RescaleIntercept")
    meta = folder / "dataset" / "metadata" / "train_metadata.csv"
    table(meta, head, ("train_5_a_1.nii.gz", "1", "-1024"))
    labels = folder / "dataset" / "multi_abnormality_labels" / "train_predicted_labels.csv"
    table(labels, ("VolumeName", "Lung nodule"), ("train_1_a_1.nii.gz", "1"))
    ct(folder, "train_1_a_1")
    ct(folder, "train_1_a_1", "train", bare=True)  # the same in the first release
    ct(folder, "train_1_a_2", low=24, inter=-1024)  # the header has what is to be applied
    for n in (2, 6, 7):
        ct(folder, f"train_{n}_a_1")
    ct(folder, "train_4_a_1", "train", bare=True)
    ct(folder, "train_5_a_1", low=24)
    ct(folder, "train_8_a_1").write_bytes(b"no volume")
    ct(folder, "valid_1_a_1", "valid_fixed")
    volume(folder / "dataset" / "train_fixed" / "other.nii.gz")
    return folder


def test_ct_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ct_rate(tmp_path / "数据 集")
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    out = tmp_path / "out" / "table.csv"
    data = run_import_dataset(DatasetOptions(folder=folder, output=out))
    rows = load_rows(out)
    assert [r.case_id for r in rows] == ["train_1_a_1", "train_1_a_2", "valid_1_a_1"]
    assert [r.patient_id for r in rows] == ["train_1", "train_1", "valid_1"]
    assert rows[0].answer == "Findings: A nodule of 8 mm, right.\nImpression: Nodule."
    assert rows[0].extra == {
        "study": "train_1_a",
        "split": "train",
        "clinical_information": "Cough.",
        "technique": "",
        "label_lung_nodule": "1",
    }
    assert rows[1].extra["clinical_information"] == rows[1].extra["label_lung_nodule"] == ""
    assert rows[2].extra["split"] == "val"
    # What is in the table is in HU when read.
    assert [read_volume(r.image_path).array_zyx.min() for r in rows] == [-1000] * 3
    assert told(data) == {
        ("train_1_a_1", "images"): "left-out",
        ("train_1_a_1", "reports"): "repaired",
        ("train_2_a_1", "images"): "report-empty",
        ("train_2_a_1", "reports"): "report-empty",
        ("train_3_a_1", "reports"): "unmatched",
        ("train_4_a_1", "images"): "no-geometry",
        ("train_4_a_1", "reports"): "no-geometry",
        ("train_5_a_1", "images"): "not-hu",
        ("train_5_a_1", "reports"): "not-hu",
        ("train_6_a_1", "images"): "report-conflict",
        ("train_6_a_1", "reports"): "report-conflict",
        ("train_7_a_1", "images"): "unmatched",
        ("train_8_a_1", "images"): "unreadable",
        ("train_8_a_1", "reports"): "unreadable",
        ("other", "images"): "left-out",
    }
    slope = next(r.reason for r in data.rejected if r.code == "not-hu")
    assert "the set's metadata has slope 1 and intercept -1024" in slope
    assert (data.images, data.reports) == (11, 11)
    shown = capsys.readouterr().out
    assert "images: 11 = 3 in rows + 8 rejected" in shown
    assert "reports: 11 = 3 in rows + 8 rejected" in shown
    assert len(read_table(out.with_name("table_rejected.csv"), required=["reason"])) == 16
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


def test_radgenome(tmp_path: Path) -> None:
    files = tmp_path / "dataset" / "radgenome_files"
    head = ("Volumename", "Anatomy", "Sentence")
    table(
        files / "train_region_report.csv",
        head,
        *(("train_1_a_1.nii.gz", "lung", "A nodule."), ("train_1_a_1.nii.gz", "lung", "Clear.")),
        *(("train_1_a_1.nii.gz", "heart", "Normal."), ("train_1_a_1.nii.gz", "", "Whole.")),
        *(("train_1_a_1.nii.gz", "bone", ""), ("train_9_a_1.nii.gz", "lung", "Lost.")),
        ("train_3_a_1.nii.gz", "lung", "Not in HU."),
    )
    ct(tmp_path, "train_1_a_1", "train_preprocessed")
    ct(tmp_path, "train_2_a_1", "train_preprocessed")
    ct(tmp_path, "train_3_a_1", "train_preprocessed", low=0)
    mask = tmp_path / "dataset" / "train_region_mask" / "seg_train_1_a_1" / "lung.nii.gz"
    volume(mask, low=0)
    data = run_import_dataset(DatasetOptions(folder=tmp_path))
    rows = load_rows(tmp_path / "caption_full.csv")
    assert [(r.case_id, r.extra["region"], r.answer) for r in rows] == [
        ("train_1_a_1", "lung", "A nodule. Clear."),
        ("train_1_a_1", "heart", "Normal."),
        ("train_1_a_1", "", "Whole."),
    ]
    assert [r.mask_path for r in rows] == [mask, None, None]
    assert rows[0].question == "Describe the findings of this region: lung."
    assert rows[2].question == ""
    assert (data.images, data.reports) == (3, 7)
    assert told(data) == {
        ("train_1_a_1", "reports"): "report-empty",
        ("train_9_a_1", "reports"): "unmatched",
        ("train_2_a_1", "images"): "unmatched",
        ("train_3_a_1", "images"): "not-hu",
        ("train_3_a_1", "reports"): "not-hu",
    }


def test_m3d_cap(tmp_path: Path) -> None:
    cases = tmp_path / "M3D_Cap" / "ct_case"
    for case, text in (("000007", "study_findings: A mass.\ndiscussion: Rare."), ("000008", "x")):
        for series in ("Axial_bone_window", "Axial_non_contrast"):
            (cases / case / series).mkdir(parents=True)
            (cases / case / series / "0.png").write_bytes(b"x")
        (cases / case / "text.txt").write_text(text, encoding="utf-8")
    volume(cases / "000007" / "Axial_non_contrast.nii.gz")
    volume(cases / "000007" / "Axial_lung.nii.gz")
    volume(cases / "000009" / "Axial.nii.gz")
    data = run_import_dataset(DatasetOptions(folder=tmp_path, layout="m3d-cap"))
    rows = load_rows(tmp_path / "caption_full.csv")
    assert [(r.patient_id, r.answer, r.extra["series"]) for r in rows] == [
        ("ct_case_000007", "A mass.", "Axial_lung"),
        ("ct_case_000007", "A mass.", "Axial_non_contrast"),
    ]
    assert (data.images, data.reports) == (7, 2)
    assert sum(r.code == "not-hu" for r in data.rejected) == 4
    kept = [(r.code, r.answer) for r in data.rejected if r.source == "reports"]
    assert kept == [("unmatched", "x")]
    assert sum(r.code == "unmatched" and r.source == "images" for r in data.rejected) == 1


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("study_findings:\nA\nmass.\ndiscussion: Rare.", "A mass."),
        ("study_findings: \ndiscussion: A rare mass.", "A rare mass."),
        ("study_findings:\n\ndiscussion:\n", ""),
        ("A mass of the lung.", "A mass of the lung."),
        ("", ""),
    ],
)
def test_the_report_of_a_text_of_m3d_cap(text: str, report: str) -> None:
    assert report_of(text) == report


NODULE = """<unblindedReadNodule><noduleID>1</noduleID><characteristics>
<subtlety>5</subtlety><malignancy>{}</malignancy></characteristics><roi/></unblindedReadNodule>"""
SMALL = "<unblindedReadNodule><noduleID>2</noduleID><roi/></unblindedReadNodule>"


def readings(*sessions: str, root: str = "LidcReadMessage") -> str:
    inner = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    return f'<{root} xmlns="http://www.nih.gov"><ResponseHeader/>{inner}</{root}>'


def test_lidc(tmp_path: Path) -> None:
    def series(patient: int, name: str, xml: str | None, volumes: int = 1) -> Path:
        at = tmp_path / f"LIDC-IDRI-{patient:04d}" / "1.2" / name
        at.mkdir(parents=True)
        (at / "000001.dcm").write_bytes(b"x")
        if xml is not None:
            (at / "069.xml").write_text(xml, encoding="utf-8")
        for n in range(volumes):
            volume(at / f"v{n}.nii.gz")
        return at

    both = readings(NODULE.format(4), NODULE.format(2) + SMALL, "")
    series(1, "3.1", both)
    series(1, "3.2", readings(root="IdriReadMessage"), 0)
    series(2, "3.3", both, 0)
    series(3, "3.4", both, 2)
    series(4, "3.5", "<broken", 1)
    series(5, "3.6", '<!DOCTYPE x [<!ENTITY e "e">]>' + both)
    series(6, "3.7", both, 0)
    images = tmp_path / "nifti"
    volume(images / "LIDC-IDRI-0006.nii.gz")
    # Of two series nobody can tell which one bears the patient's name.
    series(7, "3.8", both, 0)
    series(7, "3.9", both, 0)
    volume(images / "LIDC-IDRI-0007.nii.gz")
    out = tmp_path / "t.csv"
    data = run_import_dataset(DatasetOptions(folder=tmp_path, output=out, images=images))
    rows = read_table(out).to_dict("records")
    assert [r["case_id"] for r in rows] == ["LIDC-IDRI-0001_3.1", "LIDC-IDRI-0006_3.7"]
    assert {r["answer"] for r in rows} == {""}
    assert rows[0]["image_path"] == "LIDC-IDRI-0001/1.2/3.1/v0.nii.gz"
    assert (rows[0]["readers"], rows[0]["nodule_readings"]) == ("3", "2")
    assert (rows[0]["small_nodule_readings"], rows[0]["label_malignancy"]) == ("1", "4;2")
    assert rows[0]["label_texture"] == ""
    assert Path(rows[1]["image_path"]).name == "LIDC-IDRI-0006.nii.gz"
    assert told(data) == {
        ("LIDC-IDRI-0001_3.2", "images"): "unmatched",
        ("LIDC-IDRI-0002_3.3", "images"): "missing",
        ("LIDC-IDRI-0002_3.3", "reports"): "missing",
        ("LIDC-IDRI-0003_3.4", "images"): "several-series",
        ("LIDC-IDRI-0003_3.4", "reports"): "several-series",
        ("LIDC-IDRI-0004_3.5", "images"): "unmatched",
        ("LIDC-IDRI-0004_3.5", "reports"): "unreadable",
        ("LIDC-IDRI-0005_3.6", "images"): "unmatched",
        ("LIDC-IDRI-0005_3.6", "reports"): "unreadable",
        ("LIDC-IDRI-0007_3.8", "images"): "missing",
        ("LIDC-IDRI-0007_3.8", "reports"): "missing",
        ("LIDC-IDRI-0007_3.9", "images"): "missing",
        ("LIDC-IDRI-0007_3.9", "reports"): "missing",
    }


def test_layouts_are_told_by_their_files_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known set"):
        detect_layout(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        detect_layout(tmp_path / "none")
    for layout in ("ct-rate", "radgenome"):
        with pytest.raises(DataError, match=r"there is no .* with the columns"):
            read_dataset(tmp_path, layout)  # type: ignore[arg-type]
    out = tmp_path / "t.csv"
    with pytest.raises(DataError, match="nothing of lidc"):
        run_import_dataset(DatasetOptions(folder=tmp_path, layout="lidc", output=out))
    assert not out.exists()
    ct_rate(tmp_path)
    assert detect_layout(tmp_path) == "ct-rate"
    table(tmp_path / "train_region_report.csv", ("Volumename", "Anatomy", "Sentence"))
    with pytest.raises(DataError, match="ct-rate and radgenome"):
        detect_layout(tmp_path)


def test_sums_that_do_not_add_up_are_found() -> None:
    data = Dataset(images=1)
    with pytest.raises(AssertionError):
        data.require_sums()
    data.reject("images", "a", "a", "missing", "lost")
    data.require_sums()
