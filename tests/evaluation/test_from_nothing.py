"""Parts made from nothing: the rest of the package loads them, and their figures are kept."""

from __future__ import annotations

import json
from pathlib import Path

from ctscribe.config import DemoConfig
from ctscribe.evaluation.demo import run_demo
from ctscribe.evaluation.from_nothing import plan
from ctscribe.model.encoders import load_encoder
from ctscribe.model.llm import load_llm


def test_parts_are_made_loaded_and_described(tmp_path: Path) -> None:
    config = DemoConfig(
        output_dir=tmp_path,
        profile="small",
        from_nothing=True,
        parts_only=True,
        language="en",
        device="cpu",
    )
    parts = run_demo(config)
    assert parts == tmp_path / "parts"
    assert load_encoder(parts / "encoder").config.spacing_zyx_mm == (4.5, 3.75, 3.75)
    llm = load_llm(parts / "llm")
    assert llm.path_name.startswith("ctscribe: ")
    assert not llm.decode(llm.answer_ids("No pneumothorax.")).count("�")
    made = json.loads((parts / "parts.json").read_text("utf-8"))
    assert made["encoder"]["steps"] >= 1  # a busy machine does a few in its 20 seconds
    assert 0 <= made["encoder"]["lobe_dice"] <= 1
    assert set(made["llm"]) == {"en", "training"}
    assert made["made_on"]["torch"]
    for name in ("encoder", "llm"):
        log = (parts / name / "pretraining.log").read_text("utf-8")
        assert "seed=7" in log


def test_parts_of_two_cores_leave_time_for_the_demo() -> None:
    _, encoder, llm = plan("cpu", "zh", small=False)
    assert llm.seconds is not None
    assert encoder.seconds + llm.seconds <= 45 * 60 - 10 * 60 - 3 * 60
