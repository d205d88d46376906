from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu

from ctscribe.model.bridge import VimBlock
from ctscribe.ops.selective_scan import selective_scan_reference

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TIMES = {
    "scan_fwd_b1_l8192_ms",
    "scan_fwdbwd_b4_l2048_ms",
    "scan_fwdbwd_b1_l608_ms",
    "step_b1_l608_ms",
    "step_b4_l608_ms",
    "step_eager_b1_l608_ms",
    "decode_b1_tok_s",
    "decode_b16_tok_s",
    "prefill_65536",
    "cpu_fwd_vs_transformers",
    "cpu_fwdbwd_vs_transformers",
}
# Without a GPU there is no memory to measure, and no official extension.
EMPTY = {"step_b1_l608_gib", "step_b4_l608_gib", "bridge_bidir_vs_official"}


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / "mamba.py", "--device", "cpu", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def results() -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (BENCHMARKS / "results").iterdir()}


def test_quick_measures_every_figure_and_leaves_the_results_alone(tmp_path: Path) -> None:
    before = results()
    out = tmp_path / "mamba.json"
    run = benchmark("--quick", "--out", out)
    assert run.returncode == 0, run.stderr
    assert results() == before
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["quick"] is True
    assert {"date", "device", "versions", "threads"} <= set(document)
    figures = document["figures"]
    assert set(figures) == TIMES | EMPTY
    for key, row in figures.items():
        assert (row["value"] is None) == (key in EMPTY), key
        assert row.get("met") is None, "a tiny shape meets nothing"
        assert f"| {row['what']} " in run.stdout
        for peer, ratio in row["ratios"].items():
            assert ratio > 0, peer
    for key in TIMES:
        assert "transformers" in figures[key]["peers"], key
    for key in TIMES - {"decode_b1_tok_s", "decode_b16_tok_s", "prefill_65536"}:
        assert "mambapy" in figures[key]["peers"], key
    step = figures["step_b1_l608_ms"]
    assert step["ratios"]["transformers"] == pytest.approx(
        step["peers"]["transformers"] / step["value"], rel=2e-3
    )
    decode = figures["decode_b16_tok_s"]
    assert decode["ratios"]["transformers"] == pytest.approx(
        decode["value"] / decode["peers"]["transformers"], rel=2e-3
    )


def test_sections_are_chosen_by_name_and_the_others_keep_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    main = importlib.import_module("mamba").main

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["mamba.py", "--device", "cpu", *map(str, arguments)])
        main()

    before, out = results(), tmp_path / "mamba.json"
    for name in ("bridge", "cpu"):
        run("--quick", "--only", name, "--out", out)
    figures = json.loads(out.read_text(encoding="utf-8"))["figures"]
    assert set(figures) == {k for k in TIMES | EMPTY if k.startswith(("bridge", "cpu"))}
    assert figures["cpu_fwd_vs_transformers"]["peers"] == {}  # peers were not asked for
    run("--quick", "--only", "cpu")
    assert "nothing is written" in capsys.readouterr().out
    assert results() == before
    with pytest.raises(SystemExit, match="2"):
        run("--only", "scan,speed")
    assert "speed is no section" in capsys.readouterr().err


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The peers, with the official extension played by the reference in its (B, D, L) layout."""

    def scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        z: Tensor,
        delta_bias: Tensor,
        delta_softplus: bool,
    ) -> Tensor:
        assert (D.dtype, delta_bias.dtype) == (torch.float32, torch.float32)
        u, delta, z = (x.transpose(1, 2) for x in (u, delta, z))
        B, C = (x[:, 0].transpose(1, 2) for x in (B, C))
        y, _ = selective_scan_reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
        return y.transpose(1, 2)

    def conv(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
        assert activation == "silu"
        kernel = weight.shape[1]
        y = conv1d(x, weight[:, None], bias, padding=kernel - 1, groups=len(weight))
        return silu(y[..., : x.shape[2]])

    fakes: dict[str, dict[str, Any]] = {
        "mamba_ssm": {},
        "mamba_ssm.ops": {},
        "mamba_ssm.ops.selective_scan_interface": {"selective_scan_fn": scan},
        "causal_conv1d": {"causal_conv1d_fn": conv},
    }
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    peers = importlib.import_module("mamba_peers")  # before the fakes: transformers looks for them
    for name, attributes in fakes.items():
        fake = ModuleType(name)
        vars(fake).update(attributes)
        monkeypatch.setitem(sys.modules, name, fake)
    return peers


def test_every_peer_computes_the_same_scan_and_gradients(official: Any) -> None:
    shapes = importlib.import_module("mamba_model")
    values = shapes.scan_inputs(shapes.QUICK, 2, 16, torch.device("cpu"))
    wanted = official.forward_call(official.OURS, values)()
    for peer in (official.TRANSFORMERS, official.MAMBAPY, official.OFFICIAL):
        y = official.forward_call(peer, values)().transpose(1, 2)
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5, msg=peer)
        grads = official.training_call(peer, values)()
        assert [g.shape[0] for g in grads] == [2] * 5
        assert official.training_call(official.OURS, values, ("u", "A", "D"))()[1].shape == (32, 8)


def test_the_official_block_is_our_block(official: Any) -> None:
    torch.manual_seed(0)
    block = VimBlock(8, 8)
    x = torch.randn(2, 7, 8, requires_grad=True)
    ours, theirs = block(x), official.OfficialVimBlock(block)(x)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    leaves = [x, *block.parameters()]
    gy = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, leaves, gy), torch.autograd.grad(theirs, leaves, gy), strict=True
    ):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


def test_extensions_are_out_of_the_way_only_inside(official: Any) -> None:
    module = official.modeling_mamba
    before = module.mamba_selective_scan
    with official.without_extensions():
        assert module.mamba_selective_scan is before.__wrapped__
    assert module.mamba_selective_scan is before


def test_both_ways_to_the_loss_give_the_same_gradient(official: Any) -> None:
    shapes = importlib.import_module("mamba_model")
    cpu = torch.device("cpu")
    random = shapes.RandomMamba(shapes.QUICK, cpu)
    batch = shapes.make_batch(random, shapes.QUICK, 2, cpu)
    loss = random.llm.forward_embeds(batch.embeds(), batch.mask, batch.labels)
    loss.backward()
    ours = batch.visual.grad
    assert ours is not None
    assert ours.abs().max() > 0
    with random.transformers_mixers() as model:
        theirs = official.transformers_step(model, batch)
    torch.testing.assert_close(theirs, loss.detach())
    torch.testing.assert_close(batch.visual.grad, ours, rtol=1e-3, atol=1e-7)
