"""Cleaning a whole table: finds all the phantom's dirt, restores texts, loses no row."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctscribe.errors import ConfigError, CtscribeError, DataError, ImageError
from ctscribe.phantom.rubbish import ANSWER_BEFORE, EXTRA_ROWS, RUBBISH, add_rubbish, without_truth
from ctscribe.phantom.text import write_report
from ctscribe.reports.schema import AMOUNTS, DENSITIES, LOBES, SIDES, Finding, Language, side_of
from ctscribe.reports.sections import format_report
from ctscribe.tables.clean import CleanOptions, clean_table, run_clean
from ctscribe.tables.manifest import load_rows, read_table

# The filter that must drop each kind of added row.
DROPS = {"missing_image": "missing_image", "duplicate": "duplicate", "one_liner": "generic_only"}


def phantom_rows(n: int, language: Language, folder: Path) -> list[dict[str, str]]:
    rng = np.random.default_rng(7)
    (folder / "images").mkdir(exist_ok=True)
    rows = []
    for i in range(n):
        findings = [
            Finding("nodule", side_of(lobe), lobe, float(rng.integers(8, 31)), DENSITIES[i % 4])
            for lobe in LOBES
            if rng.random() < 0.25
        ]
        findings += [Finding("emphysema", side_of(lb), lb) for lb in LOBES if rng.random() < 0.1]
        findings += [
            Finding("effusion", side, amount=AMOUNTS[i % 3])
            for side in SIDES
            if rng.random() < 0.15
        ]
        image = f"images/c{i}.nii.gz"
        (folder / image).write_bytes(b"x")
        answer = format_report(write_report(findings, language, rng))
        rows.append(
            dict(case_id=f"c{i}", patient_id=f"p{i}", image_path=image, question="", answer=answer)
        )
    return rows


@pytest.mark.parametrize("language", ["zh", "en"])
def test_all_of_the_phantoms_dirt_and_nothing_else(language: Language, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    dirty = add_rubbish(phantom_rows(300, language, tmp_path), rng, language)
    frame = pd.DataFrame(without_truth(dirty))
    options = CleanOptions(drop_missing_paths=True, drop_generic_only=True)
    result = clean_table(frame, options, tmp_path)
    dropped = {
        int(row) - 2: name
        for row, name in zip(result.rejected["row"], result.rejected["filter"], strict=True)
    }
    truth = {i: DROPS[r[RUBBISH]] for i, r in enumerate(dirty) if r[RUBBISH] in EXTRA_ROWS}
    assert dropped == truth
    before = [row[ANSWER_BEFORE] for i, row in enumerate(dirty) if i not in dropped]
    assert list(result.kept["answer"]) == before
    assert result.rows_in == len(dirty)
    # Every change is accounted for, and none fell on a sound row.
    touched = {int(row) - 2 for row in result.changes["row"]}
    sound = {i for i, row in enumerate(dirty) if row[RUBBISH] == "" and i not in dropped}
    assert not touched & sound
    assert sum(count.changed for count in result.counts) == len(result.changes)
    assert sum(count.dropped for count in result.counts) == len(result.rejected)


def table(folder: Path, *rows: tuple[str, str], encoding: str = "utf-8") -> Path:
    """A CSV of (image, answer); images that do not start with "lost" exist."""
    lines = ["case_id,patient_id,image_path,question,answer"]
    for i, (image, answer) in enumerate(rows):
        if not image.startswith("lost"):
            (folder / image).write_bytes(b"x")
        lines.append(f'c{i},p{i},{image},,"{answer}"')
    file = folder / "数据.csv"
    file.write_text("\n".join(lines), encoding=encoding)
    return file


def test_files_written_beside_the_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(
        tmp_path,
        ("a.nii.gz", "右肺上叶结节１２ｍｍ。电话13812345678"),
        ("lost.nii.gz", "左肺结节。"),
        ("b.nii.gz", "扫码关注公众号"),
        encoding="gbk",
    )
    before = source.read_bytes()
    result = run_clean(CleanOptions(input=source, drop_missing_paths=True))
    assert source.read_bytes() == before
    assert result.output == tmp_path / "数据_clean.csv"
    assert result.output.read_bytes().startswith(b"\xef\xbb\xbf")
    assert [row.answer for row in load_rows(result.output)] == ["右肺上叶结节12mm。"]
    rejected = read_table(tmp_path / "数据_rejected.csv")
    assert list(rejected["filter"]) == ["missing_image", "empty"]
    assert list(rejected["answer"]) == ["左肺结节。", "扫码关注公众号"]  # as it was
    out = capsys.readouterr().out
    assert "3 rows, read as gbk" in out
    assert "2 rows rejected" in out


def test_dry_run_says_the_same_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path, ("a.nii.gz", "右肺上叶结节。"), ("b.nii.gz", ""))
    result = run_clean(CleanOptions(input=source, dry_run=True, drop_line_regex="[/x]"))
    assert (len(result.kept), len(result.rejected)) == (1, 1)
    assert list(tmp_path.glob("*.csv")) == [source]
    out = capsys.readouterr().out
    assert "lines with [/x]" in out
    assert "nothing written: 1 rows kept, 1 rejected" in out


def test_missing_images_are_an_error_unless_they_may_go(tmp_path: Path) -> None:
    lost = [(f"lost{i}.nii.gz", "右肺结节。") for i in range(7)]
    source = table(tmp_path, ("a.nii.gz", "右肺结节。"), *lost)
    with pytest.raises(ImageError) as caught:
        run_clean(CleanOptions(input=source))
    message = str(caught.value)
    assert "case c1" in message
    assert "7 of 8 rows" in message
    assert "lost4.nii.gz" in message
    assert "and 2 more" in message
    assert "--drop-missing-paths" in message
    assert list(tmp_path.glob("*.csv")) == [source]


def test_each_option_does_what_it_says(tmp_path: Path) -> None:
    source = table(
        tmp_path,
        ("a.nii.gz", "右肺上叶结节，边界清。\n审核医师：某\n肝囊肿。"),
        ("b.nii.gz", "未见异常。"),
        ("c.nii.gz", "肝囊肿，约2cm，边界清晰，未见强化，随诊。"),
        ("d.nii.gz", "左肺气肿，双侧胸膜增厚。"),
    )

    def cleaned(**options: object) -> dict[str, str]:
        result = run_clean(CleanOptions(input=source, dry_run=True, **options))  # type: ignore[arg-type]
        return dict(zip(result.kept["case_id"], result.kept["answer"], strict=True))

    assert set(cleaned()) == {"c0", "c1", "c2", "c3"}
    assert set(cleaned(drop_generic_only=True)) == {"c0", "c2", "c3"}
    assert set(cleaned(min_answer_chars=12)) == {"c0", "c2", "c3"}
    assert set(cleaned(require_keywords="结节|气肿")) == {"c0", "c3"}
    assert cleaned(thorax_only=True)["c0"] == "右肺上叶结节，边界清。\n审核医师：某"
    assert "c2" not in cleaned(thorax_only=True)
    assert cleaned(drop_line_regex="医师")["c0"] == "右肺上叶结节，边界清。\n肝囊肿。"
    assert cleaned(keep_line_regex="肺")["c0"] == "右肺上叶结节，边界清。"
    assert cleaned(force_numbered_prefix=True)["c3"] == "1.左肺气肿，双侧胸膜增厚。"


def test_the_same_words_on_two_images_are_no_duplicate(tmp_path: Path) -> None:
    said = "双肺气肿，余肺未见结节。"
    source = table(tmp_path, ("a.nii.gz", said), ("b.nii.gz", said), ("a.nii.gz", f" {said} "))
    result = run_clean(CleanOptions(input=source, dry_run=True))
    assert list(result.kept["case_id"]) == ["c0", "c1"]
    assert list(result.rejected["reason"]) == ["the same image and answer as case c0 above"]


def test_relative_images_follow_the_output(tmp_path: Path) -> None:
    source = table(tmp_path, ("a.nii.gz", "右肺结节。"))
    result = run_clean(CleanOptions(input=source, output=tmp_path / "new" / "x.csv"))
    assert result.output is not None
    assert load_rows(result.output)[0].image_path.resolve() == tmp_path / "a.nii.gz"
    assert (tmp_path / "new" / "x_rejected.csv").is_file()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, ConfigError, "--input is not given"),
        ({"input": "数据.csv", "output": "数据.csv"}, ConfigError, "overwrite the input"),
        ({"input": "数据.csv", "min_answer_chars": 99}, DataError, "no row of 1 is left"),
        ({"input": "x.csv"}, DataError, "no such file"),
    ],
)
def test_refusals(
    options: dict[str, object],
    error: type[CtscribeError],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = table(tmp_path, ("a.nii.gz", "右肺结节。"))
    monkeypatch.chdir(tmp_path)
    paths = {k: Path(str(v)) if k in ("input", "output") else v for k, v in options.items()}
    with pytest.raises(error, match=says):
        run_clean(CleanOptions(**paths))  # type: ignore[arg-type]
    assert list(tmp_path.glob("*.csv")) == [source]


def test_a_bad_pattern_names_its_flag() -> None:
    with pytest.raises(ConfigError, match="--drop-line-regex is"):
        CleanOptions(drop_line_regex="(")
