from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.ops import scan_torch
from ctscribe.ops import selective_scan as ops
from ctscribe.ops.selective_scan import (
    NAMES,
    selective_scan,
    selective_scan_reference,
    selective_scan_step,
)
from tests.ops.cases import scan_inputs


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([1, 8, 16]),
    st.integers(1, 1000),
    st.sets(st.sampled_from(["D", "z", "dt_bias", "initial_state"])),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_equals_the_reference_forward_and_backward(
    batch: int,
    length: int,
    width: int,
    n: int,
    chunk: int,
    left_out: set[str],
    plus: bool,
    seed: int,
) -> None:
    values = scan_inputs(batch, length, width, n, seed=seed, left_out=left_out)
    if not plus:
        values["dt"] = values["dt"].abs()
        values.pop("dt_bias", None)
    results = []
    for scan in (selective_scan, selective_scan_reference):
        leaves = {k: v.clone().requires_grad_() for k, v in values.items()}
        if scan is selective_scan:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(scan_torch, "CPU_CHUNK", chunk)
                patch.setattr(scan_torch, "SHORTEST_CHUNK", 1)
                y, state = selective_scan(**leaves, dt_softplus=plus, return_final_state=True)
        else:
            y, state = selective_scan_reference(**leaves, dt_softplus=plus)
        weight = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
        ((y * weight).sum() + (state * state).sum()).backward()
        results.append((y, state, *(leaves[k].grad for k in leaves)))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


def test_reference_gradients_are_those_of_finite_differences() -> None:
    values = scan_inputs(2, 5, 3, 4)
    leaves = [values[k].clone().requires_grad_() for k in NAMES]
    assert torch.autograd.gradcheck(
        lambda *a: selective_scan_reference(**dict(zip(NAMES, a, strict=True))), leaves
    )


def test_steps_equal_the_scan() -> None:
    values = scan_inputs(3, 9, 5, 8)
    state = values.pop("initial_state")
    whole, end = selective_scan(**values, initial_state=state, return_final_state=True)
    state = state.clone()
    for t in range(9):
        now = {k: v[:, t] if k in ("u", "dt", "B", "C", "z") else v for k, v in values.items()}
        torch.testing.assert_close(selective_scan_step(state, **now), whole[:, t])
    torch.testing.assert_close(state, end)


def test_autocast_does_not_lower_the_state() -> None:
    values = {
        k: v.requires_grad_() for k, v in scan_inputs(2, 33, 6, 8, dtype=torch.float32).items()
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = selective_scan(**values, return_final_state=True)
        y.sum().backward()
    wanted, _ = selective_scan_reference(**values)
    assert state.dtype == torch.float32
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)


def test_only_what_requires_a_gradient_gets_one_and_memory_does_not_hold_all_states() -> None:
    values = scan_inputs(2, 64, 32, 16, dtype=torch.float32)
    values["u"] = values["u"].clone().requires_grad_()
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = selective_scan(**values)
    y.sum().backward()
    assert all(v.grad is None for k, v in values.items() if k != "u")
    assert kept < 2 * 64 * 32 * 16 / 1.5  # all states would be 2 * 64 * 32 * 16 alone


def test_without_gradients_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def watched(*args: Any) -> Any:
        outputs = operator(*args)
        kept.append(outputs[2].numel())
        return outputs

    operator = ops._scan
    monkeypatch.setattr(ops, "_scan", watched)
    values = scan_inputs(2, 9, 4, 8)
    selective_scan(**values)
    values["A"].requires_grad_()
    with torch.no_grad():
        selective_scan(**values)
    assert kept == [0, 0]
    selective_scan(**values)
    assert kept[2] > 0
