"""`ctscribe split`: whole rows, whole patients, nothing written when it cannot be right."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctscribe.config import SplitConfig
from ctscribe.errors import ConfigError, DataError
from ctscribe.files import default_cache_dir
from ctscribe.imaging import duplicates
from ctscribe.intake import split
from ctscribe.intake.split import run_split
from ctscribe.sandbox import Limits
from ctscribe.tables.manifest import load_rows, read_table
from tests.imaging.test_nifti import stored
from tests.tables.test_leaks import LONG

EFFUSION = "所见：右侧胸腔少量积液。\n结论：右侧胸腔积液。"
NODULE = "所见：左肺下叶见实性结节，大小约9mm。\n结论：左肺下叶结节。"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered of images stays out of the user's folder."""
    folder = tmp_path_factory.mktemp("cache")
    assert default_cache_dir() != folder
    monkeypatch.setattr(duplicates, "default_cache_dir", lambda: folder)


def table(folder: Path, answers: dict[int, str] | None = None, n: int = 20) -> Path:
    """Studies c0, c1, … of n / 2 patients with two each, every image its own."""
    (folder / "images").mkdir()
    rows = [["case_id", "patient_id", "image_path", "question", "answer", "stage"]]
    for i in range(n):
        image = stored("LPS")
        data = np.asanyarray(image.dataobj).copy()
        data[0, 0, 0] = i
        nib.save(nib.Nifti1Image(data, image.affine), folder / "images" / f"c{i}.nii.gz")
        said = (answers or {}).get(i, NODULE)
        # One patient, spelled in two ways.
        patient = f"P{i // 2}" if i % 2 else f" ｐ{i // 2} "
        rows.append([f"c{i}", patient, f"images/c{i}.nii.gz", "问?", said, f"g{i}"])
    file = folder / "rows.csv"
    with file.open("w", encoding="utf-8-sig", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return file


def test_a_table_that_would_fill_the_memory_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "huge.csv"
    with source.open("wb") as file:
        file.truncate(1 << 30)
    monkeypatch.setattr(split, "LIMITS", Limits(memory_bytes=64 << 20))
    with pytest.raises(DataError, match=r"huge\.csv: reading it took more than 64 MiB") as caught:
        run_split(SplitConfig(input=source))
    assert caught.value.code == "parse-limit"


def test_parts_are_the_whole_and_share_no_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path, {i: EFFUSION for i in range(6)})
    result = run_split(SplitConfig(input=source, val_ratio=0.3, test_ratio=0.3, seed=3))
    written = result.files
    assert written == {p: tmp_path / f"rows_{p}.csv" for p in ("train", "val", "test")}
    parts = {part: load_rows(file) for part, file in written.items()}
    assert parts == result.parts
    assert not result.leaks
    assert {p: len(rows) for p, rows in parts.items()} == {"train": 8, "val": 6, "test": 6}
    # A patient's two studies stay together, though the id is spelled in two ways.
    for rows in parts.values():
        ids = {int(row.case_id[1:]) // 2 for row in rows}
        assert len(rows) == 2 * len(ids)
        assert sum(row.answer == EFFUSION for row in rows) == 2, "one of three patients in each"
    split = sorted((r for rows in parts.values() for r in rows), key=lambda r: r.case_id)
    assert split == sorted(load_rows(source), key=lambda r: r.case_id)
    assert split[0].extra == {"stage": "g0"}
    out = capsys.readouterr().out
    assert "train: 8 rows of 4 patients" in out
    (effusion,) = [line for line in out.splitlines() if "effusion" in line and "│" in line]
    assert effusion.replace(" ", "").strip("│") == "effusion│2(25.0%)│2(33.3%)│2(33.3%)"


def test_paths_follow_into_another_folder(tmp_path: Path) -> None:
    source = table(tmp_path)
    folder = tmp_path / "a" / "b"
    written = run_split(SplitConfig(input=source, output_dir=folder, test_ratio=0)).files
    assert set(written) == {"train", "val"}
    rows = load_rows(written["val"])
    assert all(row.image_path.resolve().parent == tmp_path / "images" for row in rows)
    assert str(read_table(written["val"])["image_path"].iloc[0]).startswith("../../images/")
    assert {f.name for f in folder.iterdir()} == {
        *("rows_train.csv", "rows_val.csv", "balance.html", "balance.json")
    }
    told = json.loads((folder / "balance.json").read_text("utf-8"))
    assert set(told["parts"]) == {"train", "val"}  # not of a part that was not asked for


def test_folds_validate_every_patient_once(tmp_path: Path) -> None:
    source = table(tmp_path, {i: EFFUSION for i in range(6)})
    result = run_split(SplitConfig(input=source, folds=3))
    assert set(result.files) == {f"fold{k}_{part}" for k in range(3) for part in ("train", "val")}
    every = {row.case_id for row in load_rows(source)}
    seen: list[str] = []
    for k in range(3):
        train, val = (
            {row.case_id for row in load_rows(tmp_path / f"rows_fold{k}_{part}.csv")}
            for part in ("train", "val")
        )
        assert train | val == every
        assert not train & val
        assert len({c for c in val if int(c[1:]) < 6}) == 2
        seen += sorted(val)
    assert sorted(seen) == sorted(every)
    with pytest.raises(DataError, match="cannot be divided into 11 folds"):
        run_split(SplitConfig(input=source, folds=11))


def test_training_rows_get_weights_if_asked(tmp_path: Path) -> None:
    source = table(tmp_path, {i: EFFUSION for i in range(4)})
    files = run_split(SplitConfig(input=source, sampler_weights=True)).files
    for part, file in files.items():
        rows = load_rows(file)
        assert all(("sample_weight" in row.extra) == (part == "train") for row in rows)
    rows = load_rows(files["train"])
    weight = {row.case_id: float(row.extra["sample_weight"]) for row in rows}
    assert sum(weight.values()) / len(weight) == pytest.approx(1, abs=1e-3)
    rare = {case for case in weight if int(case[1:]) < 4}
    assert rare
    common = [weight[case] for case in weight if case not in rare]
    ratio = np.sqrt(len(common) / len(rare))
    assert weight[next(iter(rare))] / common[0] == pytest.approx(ratio, rel=1e-3)
    assert "sample_weight" not in read_table(run_split(SplitConfig(input=source)).files["train"])


def save_as(code: str, source: Path, target: Path) -> None:
    """The same CT in another orientation."""
    image = nib.load(source)
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(code)
    )
    nib.save(image.as_reoriented(change), target)


@pytest.mark.parametrize("leak", ["image", "report"])
def test_nothing_is_written_when_the_split_would_leak(
    leak: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each fault ties all patients together, so that it crosses whatever the seed."""
    answers = {}
    if leak == "report":
        answers = {i: LONG if i % 3 else LONG.replace("心影不大", "心影正常") for i in range(20)}
    source = table(tmp_path, answers)
    if leak == "image":
        for i in range(1, 20):
            code = ("RAS", "PIR", "LPI", "ASL")[i % 4]
            first = tmp_path / "images" / "c0.nii.gz"
            save_as(code, first, tmp_path / "images" / f"c{i}.nii.gz")
    with pytest.raises(DataError, match="in two parts") as caught:
        run_split(SplitConfig(input=source))
    assert caught.value.code == f"{leak}-duplicate"
    assert f"{leak} in two parts: " in capsys.readouterr().out
    with pytest.raises(DataError, match="in two parts"):
        run_split(SplitConfig(input=source, folds=2))
    with pytest.raises(DataError, match="cannot be divided"):
        run_split(SplitConfig(input=source, val_ratio=0.6, test_ratio=0.6))
    assert [f.name for f in tmp_path.iterdir() if f.is_file()] == ["rows.csv"]
    if leak == "report":
        allowed = run_split(SplitConfig(input=source, allow_similar_reports=True))
        assert {found.kind for found in allowed.leaks} == {"report"}
        assert len(allowed.files) == 3


def test_no_table_no_split() -> None:
    with pytest.raises(ConfigError, match="--input is not given"):
        run_split(SplitConfig())


def test_balance_counts_what_the_parts_hold(tmp_path: Path) -> None:
    source = table(tmp_path, {0: EFFUSION, 1: "<b>双肺未见异常。</b>"})
    result = run_split(SplitConfig(input=source, val_ratio=0.3, test_ratio=0.3))
    told = json.loads((tmp_path / "balance.json").read_text("utf-8"))
    for part, rows in result.parts.items():
        assert told["parts"][part] == {"rows": len(rows), "patients": len(rows) // 2}
        nodules = sum(row.answer == NODULE for row in rows)
        assert told["finding"]["nodule"][part] == nodules
        assert told["lobe"]["LLL"][part] == nodules
        assert told["size_mm"]["8–15 mm"][part] == nodules
        assert told["side"]["right"][part] == sum(row.answer == EFFUSION for row in rows)
        assert sum(told["length"][name][part] for name in told["length"]) == len(rows)
    assert told["finding"]["normal"] != {"train": 0, "val": 0, "test": 0}
    few = {(entry["part"], entry["finding"]): entry["reports"] for entry in told["too_few"]}
    assert few["test", "effusion"] == told["finding"]["effusion"]["test"]
    assert not any(part == "train" for part, _ in few)
    page = (tmp_path / "balance.html").read_text("utf-8")
    assert "test 中以下征象的报告少于 10 份" in page
    assert "In test fewer than 10 reports state each of these" in page
    assert page.count("<svg") > 20
    assert "<script" not in page
    assert "<b>双肺" not in page
