"""Training starts only on parts that share no patient and no voxels."""

from pathlib import Path

import pytest

from ctscribe.errors import DataError
from ctscribe.training.setup import open_rows
from tests.intake.test_leaks import parts
from tests.intake.test_split import own_cache as own_cache
from tests.intake.test_split import save_as
from tests.tables.test_leaks import LONG


def test_sound_parts_are_opened(tmp_path: Path) -> None:
    train, val = parts(tmp_path, "a,p1,images/c0.nii.gz,,甲", "b,p2,images/c1.nii.gz,,乙")
    opened = open_rows(train, val, val_ratio=0.1, seed=0)
    assert [[row.case_id for row in rows] for rows in opened] == [["a"], ["b"]]


def test_the_same_ct_stored_otherwise_is_refused(tmp_path: Path) -> None:
    train, val = parts(tmp_path, "a,p1,images/c0.nii.gz,,甲", "b,p2,again.nii,,乙")
    save_as("SAR", tmp_path / "images" / "c0.nii.gz", tmp_path / "again.nii")
    with pytest.raises(DataError, match=r"1 image stands.*\(a in train, b in val\)") as caught:
        open_rows(train, val, val_ratio=0.1, seed=0)
    assert caught.value.code == "image-duplicate"


def test_a_patient_on_both_sides_is_refused(tmp_path: Path) -> None:
    train, val = parts(tmp_path, "a,p1,images/c0.nii.gz,,甲", "b,P1,images/c1.nii.gz,,乙")
    with pytest.raises(DataError, match="1 patient stands"):
        open_rows(train, val, val_ratio=0.1, seed=0)


def test_similar_reports_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (LONG.replace("\n", "") + end for end in ("甲", "乙"))
    train, val = parts(
        tmp_path, f'a,p1,images/c0.nii.gz,,"{one}"', f'b,p2,images/c1.nii.gz,,"{two}"'
    )
    assert len(open_rows(train, val, val_ratio=0.1, seed=0)) == 2
    assert "note: 1 pairs of nearly the same measured report" in capsys.readouterr().out
