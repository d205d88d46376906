"""What a header tells, and what of it may be written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ctscribe.imaging.dicom import scan_files
from ctscribe.intake.pseudonym import Pseudonyms
from ctscribe.intake.study import REMOVED, facts_of, look, scrub
from ctscribe.phantom.dicom import Study, write_series
from tests.imaging.bodies import body
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
