from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.ops import scan_torch
from ctscribe.ops.selective_scan import (
    selective_scan,
    selective_scan_reference,
    selective_scan_step,
)

NAMES = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state")


def inputs(
    batch: int,
    length: int,
    width: int,
    n: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    # Views with odd strides: what `chunk` and `split` of one projection leave.
    u, z = normal(batch, length, 2 * width).chunk(2, -1)
    B, C = normal(batch, length, 2 * n + 3)[..., 3:].chunk(2, -1)
    values = {
        "u": u,
        "dt": normal(batch, length, width),
        "A": -normal(width, n).exp(),
        "B": B,
        "C": C,
        "D": normal(width),
        "z": z,
        "dt_bias": normal(width) - 1,
        "initial_state": normal(batch, width, n),
    }
    return {name: value.to(dtype) for name, value in values.items()}


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
    values = {k: v for k, v in inputs(batch, length, width, n, seed=seed).items()}
    values = {k: v for k, v in values.items() if k not in left_out}
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
    values = inputs(2, 5, 3, 4)
    leaves = [values[k].clone().requires_grad_() for k in NAMES]
    assert torch.autograd.gradcheck(
        lambda *a: selective_scan_reference(**dict(zip(NAMES, a, strict=True))), leaves
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)]
)
def test_low_precision_stays_near_the_exact_result(dtype: torch.dtype, tolerance: float) -> None:
    rounded = inputs(2, 70, 24, 16, dtype=dtype)
    exact_leaves = {k: v.double().requires_grad_() for k, v in rounded.items()}
    exact, _ = selective_scan_reference(**exact_leaves)
    leaves = {k: v.clone().requires_grad_() for k, v in rounded.items()}
    y = selective_scan(**leaves)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact, rtol=tolerance, atol=tolerance * 5)
    exact.sum().backward()
    y.float().sum().backward()
    for name, leaf in leaves.items():
        wanted, got = exact_leaves[name].grad, leaf.grad
        assert got is not None
        assert wanted is not None
        error = (got.double() - wanted).norm() / wanted.norm()
        assert error < tolerance, name


@pytest.mark.parametrize("cut", [1, 13, 36])
def test_a_sequence_split_anywhere_gives_the_same_result(cut: int) -> None:
    values = inputs(2, 37, 5, 8)
    whole, state = selective_scan(**values, return_final_state=True)
    time = ("u", "dt", "B", "C", "z")
    first = {k: v[:, :cut] if k in time else v for k, v in values.items()}
    second = {k: v[:, cut:] if k in time else v for k, v in values.items()}
    y1, middle = selective_scan(**first, return_final_state=True)
    y2, end = selective_scan(**{**second, "initial_state": middle}, return_final_state=True)
    torch.testing.assert_close(torch.cat([y1, y2], 1), whole)
    torch.testing.assert_close(end, state)


def test_steps_equal_the_scan() -> None:
    values = inputs(3, 9, 5, 8)
    state = values.pop("initial_state")
    whole, end = selective_scan(**values, initial_state=state, return_final_state=True)
    state = state.clone()
    for t in range(9):
        now = {k: v[:, t] if k in ("u", "dt", "B", "C", "z") else v for k, v in values.items()}
        torch.testing.assert_close(selective_scan_step(state, **now), whole[:, t])
    torch.testing.assert_close(state, end)


def test_extreme_steps_give_no_nan() -> None:
    values = inputs(1, 40, 4, 16, dtype=torch.float32)
    values["dt"] = torch.tensor([-1e4, 1e4, 0.0, 60.0]).expand(1, 40, 4) * 1.0
    leaves = {k: v.clone().requires_grad_() for k, v in values.items()}
    y = selective_scan(**leaves)
    y.sum().backward()
    exact, _ = selective_scan_reference(**values)
    torch.testing.assert_close(y, exact, rtol=1e-4, atol=1e-3)
    assert all(torch.isfinite(v.grad).all() for v in leaves.values() if v.grad is not None)


def test_autocast_does_not_lower_the_state() -> None:
    values = {k: v.requires_grad_() for k, v in inputs(2, 33, 6, 8, dtype=torch.float32).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = selective_scan(**values, return_final_state=True)
        y.sum().backward()
    wanted, _ = selective_scan_reference(**values)
    assert state.dtype == torch.float32
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)


def test_only_what_requires_a_gradient_gets_one_and_memory_does_not_hold_all_states() -> None:
    values = inputs(2, 64, 32, 16, dtype=torch.float32)
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


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dt", (2, 4, 5)), ("A", (4, 8)), ("B", (2, 4, 7)), ("z", (2, 5, 4)), ("D", (3,))],
)
def test_a_wrong_shape_names_the_argument(name: str, shape: tuple[int, ...]) -> None:
    values = inputs(2, 5, 5, 8)
    values[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"^{name} must be [^\n]*$"):
        selective_scan(**values)
