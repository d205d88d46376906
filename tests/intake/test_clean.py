"""`ctscribe clean`: personal data goes, findings stay, no output tells it; one way of writing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ctscribe.cli import main

ROWS = [
    (
        "A1",
        "P1",
        "a.nii.gz",
        "",
        "患者欧阳建国，电话13912345678。右肺上叶见结节，约8×6mm。",
        "欧阳建国",
    ),
    ("A2", "P2", "b.nii.gz", "", "左肺下叶实变。段小诺诉胸痛，2024年3月5日复查。", "段小诺"),
    ("A3", "P3", "c.nii.gz", "", "左肺上叶尖后段见磨玻璃结节，直径5mm。", "白云"),
]
SECRETS = ("欧阳建国", "13912345678", "段小诺", "2024年3月5日")


def run(folder: Path, *flags: str) -> dict[str, str]:
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        header = ("case_id", "patient_id", "image_path", "question", "answer", "姓名")
        csv.writer(file).writerows([header, *ROWS])
    for name in ("a", "b", "c"):
        (folder / f"{name}.nii.gz").write_bytes(b"x")
    with pytest.raises(SystemExit) as ended:
        main(["clean", str(folder / "rows.csv"), *flags])
    assert ended.value.code == 0
    with (folder / "rows_clean.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["case_id"]: row["answer"] for row in csv.DictReader(file)}


def test_personal_data_is_replaced_and_findings_stay(tmp_path: Path) -> None:
    answers = run(tmp_path, "--deidentify")
    assert not any(secret in answer for secret in SECRETS for answer in answers.values())
    assert "右肺上叶见结节，约8×6mm" in answers["A1"]
    assert "电话" not in answers["A1"]  # nor a label with nothing behind it
    assert "左肺下叶实变" in answers["A2"]
    assert answers["A3"] == ROWS[2][4]
    for written in (tmp_path / "rows_changes.csv", tmp_path / "rows_diff.html"):
        text = written.read_text(encoding="utf-8-sig")
        assert not any(secret in text for secret in SECRETS), written.name


def test_reports_can_be_written_in_one_way(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    written = "右肺上叶见结节,约1.2×0.8cm."
    text = f'case_id,patient_id,image_path,question,answer\nA,P,a.nii.gz,,"{written}"\n'
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    for name in ("rows", "rows_clean"):  # twice: what is normal stays as it is
        with pytest.raises(SystemExit) as ended:
            main(["clean", str(tmp_path / f"{name}.csv"), "--normalise"])
        assert ended.value.code == 0
    for name in ("rows_clean", "rows_clean_clean"):
        with (tmp_path / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["answer"] == "右肺上叶见结节，约12×8mm。"


def test_names_stay_where_nobody_asked(tmp_path: Path) -> None:
    assert "段小诺" in run(tmp_path)["A2"]
