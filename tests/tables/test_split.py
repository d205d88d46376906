"""`ctscribe split`: whole rows, whole patients, nothing written when it cannot be right."""

import gzip
from pathlib import Path

import pytest

from ctscribe.config import SplitConfig
from ctscribe.errors import ConfigError, DataError
from ctscribe.tables.manifest import load_rows, read_table
from ctscribe.tables.split import run_split


def table(folder: Path, *, shared_image: bool = False) -> Path:
    lines = ["case_id,patient_id,image_path,question,answer,stage"]
    (folder / "images").mkdir()
    for i in range(20):
        name = f"images/c{i}.nii.gz"
        content = b"the same" if shared_image else f"image {i}".encode()
        (folder / name).write_bytes(gzip.compress(content))
        lines.append(f'c{i}, p{i // 2} ,{name},问?,"所见：无, {i}。",g{i}')
    file = folder / "rows.csv"
    file.write_text("\n".join(lines), encoding="utf-8-sig")
    return file


def test_parts_are_the_whole_and_share_no_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path)
    result = run_split(SplitConfig(input=source, val_ratio=0.2, test_ratio=0.2, seed=3))
    written = result.files
    assert written == {p: tmp_path / f"rows_{p}.csv" for p in ("train", "val", "test")}
    parts = {part: load_rows(file) for part, file in written.items()}
    assert parts == result.parts
    assert not result.leaks
    assert {p: len(rows) for p, rows in parts.items()} == {"train": 12, "val": 4, "test": 4}
    patients = {part: {row.patient_id for row in rows} for part, rows in parts.items()}
    assert not patients["train"] & patients["val"]
    assert not (patients["train"] | patients["val"]) & patients["test"]
    split = sorted((r for rows in parts.values() for r in rows), key=lambda r: r.case_id)
    assert split == sorted(load_rows(source), key=lambda r: r.case_id)
    assert split[0].extra == {"stage": "g0"}
    assert "train: 12 rows of 6 patients" in capsys.readouterr().out


def test_paths_follow_into_another_folder(tmp_path: Path) -> None:
    source = table(tmp_path)
    written = run_split(
        SplitConfig(input=source, output_dir=tmp_path / "a" / "b", test_ratio=0)
    ).files
    assert set(written) == {"train", "val"}
    rows = load_rows(written["val"])
    assert all(row.image_path.resolve().parent == tmp_path / "images" for row in rows)
    assert str(read_table(written["val"])["image_path"].iloc[0]).startswith("../../images/")


def test_nothing_is_written_when_the_split_would_leak_or_be_empty(tmp_path: Path) -> None:
    source = table(tmp_path, shared_image=True)
    with pytest.raises(DataError, match="in two parts"):
        run_split(SplitConfig(input=source))
    with pytest.raises(DataError, match="cannot be divided"):
        run_split(SplitConfig(input=source, val_ratio=0.6, test_ratio=0.6))
    with pytest.raises(ConfigError, match="--input is not given"):
        run_split(SplitConfig())
    assert [f.name for f in tmp_path.glob("*.csv")] == ["rows.csv"]
