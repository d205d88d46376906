"""What a header tells, and what of it may be written."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ctscribe.errors import DataError, ImageError
from ctscribe.imaging.dicom import scan_files
from ctscribe.intake.study import REMOVED, Job, facts_of, import_series, look, scrub
from ctscribe.phantom.dicom import Study, write_series
from ctscribe.tables.pseudonym import Pseudonyms
from tests.imaging.bodies import as_volume, body
from tests.intake.hospital import ONE


def one_slice(folder: Path, study: Study, **more: object) -> Path:
    (path,) = write_series(body().volume, folder, study=study, skip=range(1, 72), **more)  # type: ignore[arg-type]
    return path


def test_a_name_is_read_in_its_encoding(tmp_path: Path) -> None:
    utf8 = replace(ONE, tags={**ONE.tags, "SpecificCharacterSet": "ISO_IR 192"})
    a, b = facts_of(one_slice(tmp_path / "a", ONE)), facts_of(one_slice(tmp_path / "b", utf8))
    assert a.identity == b.identity
    assert a.identity.name == "Zhang^Sanfeng=张^三丰"
    assert (a.model, a.kvp) == ("SOMATOM Phantom", "120")
    assert a.content != b.content


def test_names_that_cannot_be_decoded_stay_two_persons(tmp_path: Path) -> None:
    ids, made = Pseudonyms(bytes(32)), set()
    for name in ("张三", "李四"):
        study = Study(patient_id="", patient_name="NAME")
        path = one_slice(tmp_path / name, study)
        path.write_bytes(path.read_bytes().replace(b"NAME", name.encode("gbk")))
        facts = facts_of(path)
        assert facts.identity.name
        made.add(ids.patient(facts.identity, study=study.uid))
    assert len(made) == 2


def test_texts_lose_names_of_files_and_persons(tmp_path: Path) -> None:
    folder = tmp_path / "张三丰 CT"
    paths = write_series(
        body().volume, folder, study=ONE, skip=range(12, 72), name="三丰{:03d}.dcm"
    )
    scan, facts = look(paths)
    (series,), (fact,) = scan.series, facts.values()
    text = (
        f"{paths[3]}: a gap between {paths[3].name} and {paths[4].name} in {folder}, "
        f"lung of {ONE.patient_id} by 李^时珍, 1.5 mm, {ONE.uid}, 1.2.840.10008.1.2"
    )
    assert scrub(text, [series], [fact]) == (
        f"file 4: a gap between file 4 and file 5 in its folder, lung of {REMOVED} by {REMOVED}, "
        f"1.5 mm, {REMOVED}, 1.2.840.10008.1.2"
    )
    assert "Sanfeng" not in repr(fact)
    assert ONE.patient_id not in repr(fact)


@pytest.mark.parametrize(
    "content", [b"", b"text", bytes(200), b"\0" * 128 + b"DICM" + b"\xff" * 64]
)
def test_facts_of_anything_are_facts(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert facts_of(path).identity.patient_id == ""
    assert scan_files([path]).series == ()


def test_a_damaged_element_costs_neither_the_patient_nor_the_other_secrets(tmp_path: Path) -> None:
    whole = one_slice(tmp_path, replace(ONE, tags={**ONE.tags, "StationName": "ABCDEF"}))
    before = facts_of(whole)
    data = whole.read_bytes()
    assert data.count(b"SH\x06\0ABCDEF") == 1
    whole.write_bytes(data.replace(b"SH\x06\0ABCDEF", b"FD\x06\0ABCDEF"))  # no number has 6 bytes
    after = facts_of(whole)
    assert after.identity == before.identity
    assert after.identity.patient_id == ONE.patient_id
    assert set(before.private) - set(after.private) == {"ABCDEF"}


def test_a_file_that_is_gone_is_an_error_and_no_stranger(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no longer be read"):
        facts_of(tmp_path / "gone")


SECRET_TAGS = {
    "OperatorsName": ["Ma^Chao", "Huang^Zhong"],
    "PerformingPhysicianName": "赵^云",
    "ContentDate": "20230405",
    "AcquisitionDateTime": "20230406101112",
    "OtherPatientIDs": ["OTHER-ONE", "OTHER-TWO"],
    "StudyID": "120",
    "ReferencedStudySequence": [{"ReferencedSOPInstanceUID": "1.2.3.4.5.6"}],
    "RequestAttributesSequence": [{"RequestedProcedureID": "REQ-4711"}],
}


def test_every_kind_of_secret_is_taken_out_wherever_the_header_has_it(tmp_path: Path) -> None:
    tags = {
        keyword: [dataset(**held) for held in value] if keyword.endswith("Sequence") else value
        for keyword, value in SECRET_TAGS.items()
    }
    path = one_slice(tmp_path, replace(ONE, tags={**ONE.tags, **tags}))
    (series,), (fact,) = look([path])[0].series, look([path])[1].values()
    secrets = ("Chao", "Huang", "赵^云", "20230405", "20230406101112", "OTHER-ONE", "OTHER-TWO")
    for secret in (*secrets, "赵云", "Ma Chao", "1.2.3.4.5.6", "REQ-4711", "时珍"):
        assert scrub(f"<{secret}>", [series], [fact]) == f"<{REMOVED}>", secret
    # What says nothing of anybody stays, and so does what is too short to be told from other text.
    for plain in ("1.2.840.10008.5.1.4.1.1.2", "赵", "B31f", "CT", "120"):
        assert scrub(f"<{plain}>", [series], [fact]) == f"<{plain}>", plain


def dataset(**values: str) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def test_what_readers_would_log_goes_into_the_sidecar_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume = body().volume
    turn = np.radians(5)
    affine = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    oblique = np.eye(4)
    oblique[:3, :3] = affine @ volume.affine[:3, :3]
    paths = write_series(
        replace(volume, affine=oblique), tmp_path / "张三丰", study=ONE, name="三丰{:03d}"
    )
    scan, facts = look(paths)
    (series,), (fact,) = scan.series, facts.values()
    with caplog.at_level(logging.WARNING):
        made = import_series(Job("c1", series, fact, tmp_path / "c1.nii.gz", any_region=False))
    assert caplog.text == ""
    (note,) = made.sidecar["notes"]
    assert "oblique by 5 degrees" in note["detail"]
    assert "三丰" not in str(made.sidecar)


def test_a_blank_series_is_refused_even_where_any_region_will_do(tmp_path: Path) -> None:
    hu = np.zeros((12, 16, 16), np.int16)
    hu[:, 0, 0] = -1000
    paths = write_series(as_volume(hu, (20.0, 5.0, 5.0)), tmp_path, study=ONE)
    scan, facts = look(paths)
    (series,), (fact,) = scan.series, facts.values()
    with pytest.raises(ImageError) as caught:
        import_series(Job("c1", series, fact, tmp_path / "c1.nii.gz", any_region=True))
    assert caught.value.code == "blank"
    assert not (tmp_path / "c1.nii.gz").exists()
