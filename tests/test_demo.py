"""The demo in its small profile, end to end: everything runs, and the page says what it must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctscribe.config import DemoConfig
from ctscribe.evaluation.demo import run_demo

FIGURES = {
    "studies",
    "finding_f1",
    "strict_f1",
    "nodule_f1",
    "side_accuracy",
    "lobe_accuracy",
    "hallucinated_share",
    "size_error_mm",
    "swapped_strict_f1",
    "blank_strict_f1",
    "normal_strict_f1",
    "nearest_voxels_strict_f1",
    "nearest_features_strict_f1",
    "heads_strict_f1",
    "wall_seconds",
    "peak_gib",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run_demo(DemoConfig(output_dir=folder, profile="small", device="cpu", workers=1))
    return folder


def test_figures_are_all_there_and_the_model_looks(out: Path) -> None:
    figures = json.loads((out / "demo.json").read_text("utf-8"))
    assert set(figures) >= FIGURES
    # 64 training studies are few, but what the encoder sees must already come through.
    assert figures["strict_f1"] > figures["swapped_strict_f1"] + 0.2
    assert figures["normal_strict_f1"] == 0
    assert figures["peak_gib"] < 6
    assert figures["wall_seconds"] > 0
    parts = json.loads((out / "stage1_gate.json").read_text("utf-8"))
    assert parts["label_auroc"] > 0.75


def test_page_holds_cases_controls_and_no_scripts(out: Path) -> None:
    html = (out / "index.html").read_text("utf-8")
    assert html.count("data:image/png;base64,") >= 8
    assert "<script" not in html
    assert 'http-equiv="Content-Security-Policy"' in html
    reports = (out / "evaluation" / "reports.jsonl").read_text("utf-8").splitlines()
    first = json.loads(reports[0])
    assert first["generated"]["model"]


def test_cleaning_had_work_to_do(out: Path) -> None:
    rejected = (out / "data" / "captions_rejected.csv").read_text("utf-8-sig").splitlines()
    assert len(rejected) > 3


def test_cleaned_reports_of_sound_rows_say_what_is_true(out: Path) -> None:
    from ctscribe.evaluation.run import true_findings
    from ctscribe.reports.labeller import label_report
    from ctscribe.tables.manifest import load_rows

    for row in load_rows(out / "data" / "captions_clean_test.csv"):
        said = {(f.name, f.place) for f in label_report(row.answer).findings}
        assert said == {(f.name, f.place) for f in true_findings(row, out / "data" / "truth")}
