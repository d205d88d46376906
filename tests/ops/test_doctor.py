from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ctscribe import cli
from ctscribe.ops import backend, doctor, nvrtc, scan_torch

Result = tuple[Tensor, Tensor]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, and with one look at the clock; the backend chosen is chosen for one test."""
    monkeypatch.delenv(backend.VARIABLE, raising=False)
    monkeypatch.setattr(backend, "_chosen", None)
    monkeypatch.setattr(doctor, "_has_gpu", lambda: False)
    monkeypatch.setattr(doctor, "bandwidth", lambda device: 12.0)

    def once(run: Callable[[], object], device: torch.device) -> float:
        run()
        return 0.5

    monkeypatch.setattr(doctor, "_ms", once)


def run(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    return int(stop.value.code or 0), capsys.readouterr().out


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, run: doctor.Operator) -> None:
    ops = tuple(
        doctor.Op(op.name, run if op.name == name else op.run, op.reference, op.inputs)
        for op in doctor.OPS
    )
    monkeypatch.setattr(doctor, "OPS", ops)


def test_a_cpu_only_machine_is_told_so_and_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = run(capsys)
    assert code == 0
    for part in (
        torch.__version__,
        "no NVIDIA GPU",
        f"NVRTC: {nvrtc.version()}",
        f"Numba: {version('numba')}",
        "backend: torch",
        "12 GB/s",
        "selective_scan forward",
        "selective_scan backward",
        "causal_conv1d forward",
        "causal_conv1d backward",
        "every operator is right",
    ):
        assert part in shown
    assert "WRONG" not in shown


def test_a_cpu_without_numba_is_told_what_that_costs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scan_torch, "loops", lambda: None)
    code, shown = run(capsys)
    assert code == 0
    assert "Numba: 无，扫描慢三倍 / none, scans take three times as long" in shown


@pytest.mark.parametrize("name", ["cuda", "mamba_ssm"])
def test_a_backend_that_cannot_run_here_is_one_line_with_the_flag(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", "--backend", name])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: the backend {name} needs a GPU, not cpu. Fix: use --backend auto\n"


@pytest.mark.parametrize("name", ["selective_scan", "causal_conv1d"])
@pytest.mark.parametrize("fault", ["output", "state", "nan", "gradient", "raises", "raises late"])
def test_an_operator_that_is_wrong_is_named_and_the_exit_code_is_1(
    name: str, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (true,) = (op.run for op in doctor.OPS if op.name == name)

    def wrong(*inputs: Tensor) -> Result:
        if fault == "raises":
            raise RuntimeError("no kernel image\n is available")
        y, state = true(*inputs)
        if fault == "raises late" and y.requires_grad:
            y.register_hook(explode)
        if fault == "output":
            y = y * 1.01
        if fault == "state":
            state = state + 0.01 * state.abs().max()
        if fault == "nan":
            y = y + y.new_tensor([float("nan")] + [0.0] * (y.shape[2] - 1))
        if fault == "gradient":
            y = y.detach() + (y - y.detach()) * 1.01
        return y, state

    def explode(grad: Tensor) -> Tensor:
        raise RuntimeError("no kernel image\n is available")

    replaced(monkeypatch, name, wrong)
    code, shown = run(capsys)
    assert code == 1
    assert f"verdict: {name} wrong here" in shown
    checks = {(c.op, c.direction): c.right for c in doctor.check_ops(CPU)}
    assert all(right for (op, _), right in checks.items() if op != name)
    assert checks[name, "backward" if fault in ("gradient", "raises late") else "forward"] is False
    if fault.startswith("raises"):
        assert "RuntimeError: no kernel image is available" in shown
    if fault == "gradient":
        assert checks[name, "forward"]


def test_each_gradient_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    for op in doctor.OPS:
        for at in range(len(op.inputs(doctor.SMALL, torch.float32))):

            def wrong(*inputs: Any, op: doctor.Op = op, at: int = at) -> Result:
                leaf = inputs[at]
                bent = leaf.detach() + (leaf - leaf.detach()) * 1.01  # same value, other gradient
                return op.run(*inputs[:at], bent, *inputs[at + 1 :])

            bent = doctor.Op(op.name, wrong, op.reference, op.inputs)
            forward, backward = doctor._check(bent, torch.float32, CPU, (1, 4, 8))
            assert forward.right, (op.name, at)
            assert not backward.right, (op.name, at)


def test_bfloat16_inputs_are_within_their_limit() -> None:
    for op in doctor.OPS:
        forward, backward = doctor._check(op, torch.bfloat16, CPU, (1, 4, 8))
        assert forward.right, forward
        assert backward.right, backward
        assert forward.error > doctor.LIMITS[torch.float32]  # it did run in bfloat16


def test_the_clock_shows_milliseconds_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    ticks = iter(range(1000))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: float(next(ticks)))
    calls: list[None] = []
    assert doctor._ms(lambda: calls.append(None), CPU) == 1000.0
    assert len(calls) == 6
    monkeypatch.setattr(doctor, "_ms", lambda run, device: (run(), 10.0)[1])
    assert doctor.bandwidth(CPU) == pytest.approx(2 * 2**27 / 1e9 / 0.01)


def test_without_nvrtc_the_pip_command_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> str:
        raise doctor.KernelError("NVRTC is not found", fix=nvrtc.pip_command())

    monkeypatch.setattr(nvrtc, "version", missing)
    code, shown = run(capsys)
    assert code == 0
    assert f"NVRTC: none: NVRTC is not found. Fix: {nvrtc.pip_command()}" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_the_drivers_version_is_what_its_own_tool_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.driver_version() is None
    tool = tmp_path / "nvidia-smi"
    for script, printed in (
        ("echo 580.65.06; echo 580.65.06", "580.65.06"),
        ("echo cannot reach the driver; exit 9", None),
        ("true", None),
    ):
        tool.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        assert doctor.driver_version() == printed


def test_what_to_install_depends_on_driver_build_and_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver: list[str | None] = [None]
    monkeypatch.setattr(doctor, "driver_version", lambda: driver[0])
    assert "nothing" in doctor.to_install(None)
    driver[0] = "580.65"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "install the CUDA build of 2." in doctor.to_install(None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "a newer GPU driver: PyTorch is built for CUDA 13.0" in doctor.to_install(None)
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(doctor.cuda, "why_not", lambda device: None)
    assert "nothing" in doctor.to_install(gpu)
    monkeypatch.setattr(doctor.cuda, "why_not", lambda device: "no NVRTC. Fix: pip install x")
    assert doctor.to_install(gpu) == "no NVRTC. Fix: pip install x"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_every_operator_is_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    code, shown = run(capsys)
    assert code == 0, shown
    assert torch.cuda.get_device_name() in shown
    assert "bfloat16" in shown
