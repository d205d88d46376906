"""The benchmark of length: every point is measured or says why not, and none is lost."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("tokens")


def run(tokens: Any, monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> dict[str, Any]:
    arguments = ["tokens.py", "--small", "--device", "cpu", "--out", str(out), *more]
    monkeypatch.setattr(sys, "argv", arguments)
    tokens.main()
    return json.loads(out.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def fake(tokens: Any, monkeypatch: pytest.MonkeyPatch, measure: Any) -> None:
    """Models that are nothing, and points as they please."""
    llm = SimpleNamespace(device=torch.device("cpu"))
    monkeypatch.setattr(tokens, "_mamba", lambda profile, device: llm)
    monkeypatch.setattr(tokens, "_transformer", lambda profile, device: llm)
    monkeypatch.setattr(tokens, "_measure", measure)


def figures(length: int) -> dict[str, float]:
    return {"ms": 2.0 * length, "peak_gib": 5 + 0.01 * length, "base_gib": 5.0}


def test_the_small_profile_measures_every_curve_and_draws(
    tokens: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {p.name: p.read_bytes() for p in (BENCHMARKS / "results").iterdir()}
    document = run(tokens, monkeypatch, tmp_path / "new" / "tokens.json")
    assert {p.name: p.read_bytes() for p in (BENCHMARKS / "results").iterdir()} == before
    assert {"date", "device", "versions", "commit", "threads", "text_tokens"} <= set(document)
    assert document["small"] is True
    points = {(p["curve"], p["tokens"]): p for p in document["points"]}
    wanted = {
        (curve.name, n)
        for curve in tokens.CURVES
        for n in ((tokens.SMALL.cmi_at,) if curve.once else tokens.SMALL.lengths)
    }
    assert set(points) == wanted
    for key, point in points.items():
        assert point["ms"] > 0, (key, point)
        assert point["tokens_per_s"] == pytest.approx((key[1] + 64) / point["ms"] * 1e3, rel=2e-3)
    for model in ("mamba", "transformer"):  # both ways are the same step
        for n in tokens.SMALL.lengths:
            kept, again = (points[f"{model} {way}", n]["loss"] for way in ("kept", "recomputed"))
            assert kept == pytest.approx(again, rel=1e-3)
    assert points["mamba kept cmi", 64]["loss"] != points["mamba kept", 64]["loss"]
    assert set(document["slopes"]) == {c.name for c in tokens.CURVES if not c.once}
    assert set(document["cmi_cost"]) == {"kept", "recomputed"}
    for name in ("tokens.png", "tokens.svg"):
        file = tmp_path / "new" / name
        assert file.stat().st_size > 10_000
        file.unlink()
    run(tokens, monkeypatch, tmp_path / "new" / "tokens.json", "--plot-only")
    assert (tmp_path / "new" / "tokens.svg").is_file()
    assert "drew tokens.png and tokens.svg" in capsys.readouterr().out


def test_the_step_trains_bridge_and_cmi_through_the_frozen_model(tokens: Any) -> None:
    profile, cpu = tokens.SMALL, torch.device("cpu")
    for llm in (tokens._mamba(profile, cpu), tokens._transformer(profile, cpu)):
        before = [p.clone() for p in llm.parameters()]
        curve = tokens.Curve("mamba", recompute=True, cmi=True, compress=True)
        step = tokens._step(curve, llm, 40, profile)
        closed = dict(
            zip(step.__code__.co_freevars, (c.cell_contents for c in step.__closure__), strict=True)
        )
        own = [p.clone() for p in closed["parameters"]]
        assert step() != step()
        moved = [not torch.equal(a, b) for a, b in zip(own, closed["parameters"], strict=True)]
        assert sum(moved) > 0.9 * len(moved)
        assert all(torch.equal(a, b) for a, b in zip(before, llm.parameters(), strict=True))


def test_out_of_memory_is_a_point_and_ends_its_curve_alone(
    tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def measure(curve: Any, llm: Any, length: int, profile: Any) -> dict[str, Any]:
        tried.append((curve.name, length))
        if curve.name == "transformer kept" and length >= 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if curve.name == "mamba kept" and length >= 256:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            finally:
                raise RuntimeError("the capture was invalidated")
        if curve.name == "transformer recomputed" and length == 64:
            raise RuntimeError("no kernel\nat all")
        return figures(length)

    fake(tokens, monkeypatch, measure)
    document = run(tokens, monkeypatch, tmp_path / "tokens.json")
    notes = {(p["curve"], p["tokens"]): p["note"] for p in document["points"] if "note" in p}
    out = "out of memory"
    assert notes == {
        ("mamba kept", 256): out,
        ("mamba kept", 512): out,
        ("transformer recomputed", 64): "raises RuntimeError: no kernel",
        ("transformer kept", 64): out,
        ("transformer kept", 256): out,
        ("transformer kept", 512): out,
    }
    assert ("transformer kept", 256) not in tried
    assert ("transformer recomputed", 512) in tried
    assert "out of memory" in (tmp_path / "tokens.svg").read_text(encoding="utf-8")


def test_a_crash_loses_nothing_and_the_other_models_points_stay(
    tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tokens.json"

    def crash(curve: Any, llm: Any, length: int, profile: Any) -> dict[str, Any]:
        if curve.name == "transformer recomputed" and length == 256:
            raise KeyboardInterrupt
        return figures(length)

    fake(tokens, monkeypatch, crash)
    with pytest.raises(KeyboardInterrupt):
        run(tokens, monkeypatch, out)
    kept = json.loads(out.read_text(encoding="utf-8"))["points"]
    assert [p["tokens"] for p in kept if p["curve"] == "transformer recomputed"] == [16, 64]
    assert len([p for p in kept if p["curve"].startswith("mamba")]) == 4 * 4 + 1
    fake(tokens, monkeypatch, lambda curve, llm, length, profile: {"ms": 1.0})
    again = run(tokens, monkeypatch, out, "--only", "transformer")["points"]
    assert [p for p in again if p["curve"].startswith("mamba")] == kept[:17]
    assert [p["ms"] for p in again if p["curve"].startswith("transformer")] == [1.0] * 8
    with pytest.raises(SystemExit, match="2"):
        run(tokens, monkeypatch, out, "--only", "lstm")


def test_slopes_are_those_of_the_largest_lengths_without_the_weights(tokens: Any) -> None:
    lengths = [96, 1024, 4096, 16384, 32768, 65536]
    points = [
        {
            "curve": "mamba kept",
            "tokens": n,
            "ms": max(50.0, 1e-3 * (n + 64) ** 1.5),
            "peak_gib": 5 + 1e-4 * (n + 64),
            "base_gib": 5.0,
        }
        for n in lengths
    ]
    fitted = tokens.slopes({"points": points, "text_tokens": 64})
    assert fitted == {"mamba kept": {"ms": 1.5, "peak_gib": 1.0}}
    assert tokens.slopes({"points": points[:1], "text_tokens": 64}) == {}
