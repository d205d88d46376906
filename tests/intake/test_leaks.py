"""`ctscribe leaks`: parts that somebody else divided."""

from pathlib import Path

import pytest

from ctscribe import cli
from ctscribe.config import LeaksConfig
from ctscribe.errors import ConfigError, DataError
from ctscribe.intake.leaks import run_leaks
from tests.intake.test_split import own_cache as own_cache
from tests.intake.test_split import save_as, table

HEADER = "case_id,patient_id,image_path,question,answer"


def parts(folder: Path, *lines: str) -> list[Path]:
    """Tables of one row each, over images of `table`."""
    table(folder, n=4)
    files = []
    for i, line in enumerate(lines):
        files.append(folder / f"part{i}.csv")
        files[-1].write_text(f"{HEADER}\n{line}", encoding="utf-8")
    return files


def test_sound_parts_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = parts(
        tmp_path, "a,p1,images/c0.nii.gz,,双肺未见异常。", "b,p2,images/c1.nii.gz,,双肺未见异常。"
    )
    assert run_leaks(LeaksConfig(train=train, test=test)) == []
    assert "train 1 rows, test 1 rows: no patient and no image" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="between two parts"):
        run_leaks(LeaksConfig(train=train))


@pytest.mark.parametrize("code", ["RAS", "PIR", "IPL"])
def test_the_same_ct_in_another_orientation(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = parts(tmp_path, "a,p1,images/c0.nii.gz,,甲", "b,p2,again.nii,,乙")
    save_as(code, tmp_path / "images" / "c0.nii.gz", tmp_path / "again.nii")
    with pytest.raises(DataError, match=r"1 image stands.*\(a in train, b in val\)") as caught:
        run_leaks(LeaksConfig(train=train, val=val))
    assert caught.value.code == "image-duplicate"
    with pytest.raises(SystemExit) as stop:
        cli.main(["leaks", "--train", str(train), "--val", str(val)])
    assert stop.value.code == 2
    assert "image in two parts: " in capsys.readouterr().out


def test_the_same_patient_spelled_otherwise(tmp_path: Path) -> None:
    val, test = parts(tmp_path, "a,P 01,images/c0.nii.gz,,甲", "b,ｐ01,images/c1.nii.gz,,乙")
    with pytest.raises(DataError, match=r"1 patient stands.*\(a in val, b in test\)"):
        run_leaks(LeaksConfig(val=val, test=test))


def test_every_leak_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = parts(tmp_path, "a,p1,images/c0.nii.gz,,甲", "b,p1,images/c0.nii.gz,,乙")
    with pytest.raises(DataError):
        run_leaks(LeaksConfig(train=train, test=test))
    printed = capsys.readouterr().out
    assert {line.split(":")[0] for line in printed.splitlines()} == {
        "image in two parts",
        "patient in two parts",
    }
