"""Residual sum and RMS norm: plain PyTorch against autograd, kernels against plain PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.ops import cuda
from ctscribe.ops.rms_norm import norm_backward, norm_forward
from tests.ops.cases import FLOATS, QUICK, TOLERANCE, poisoned

EPS = 1e-5
gpu = pytest.mark.skipif(not cuda.available(), reason=f"no kernel can run: {cuda.why_not()}")
rows_of = st.integers(1, 9)
widths = st.one_of(st.integers(1, 70), st.sampled_from([255, 256, 1023, 1024, 1028, 2049, 2560]))


def case(
    rows: int, width: int, dtype: torch.dtype, delta: bool, seed: int = 0, device: str = "cpu"
) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    values = {
        "residual": 3 * normal(rows, width) + normal(rows, 1),
        "delta": normal(rows, width).to(dtype) if delta else None,
        "weight": normal(width),
        "g": normal(rows, width).to(dtype),
        "g_residual": normal(rows, width),
    }
    return {k: None if v is None else v.to(device) for k, v in values.items()}


def run(
    values: dict[str, Any], dtype: torch.dtype, rounds: bool, backend: str
) -> dict[str, Tensor]:
    """Everything that both directions write."""
    residual, g_residual = values["residual"].clone(), values["g_residual"].clone()
    options: Any = {"rounds": rounds, "backend": backend}
    args = (values["delta"], values["weight"], EPS, dtype)
    normed, hat, inv = norm_forward(residual, *args, keep=True, **options)
    assert hat is not None
    assert inv is not None
    # Without what is kept, the same.
    again = norm_forward(values["residual"].clone(), *args, keep=False, **options)
    assert torch.equal(again[0], normed)
    assert again[1:] == (None, None)
    g_delta = norm_backward(values["g"], hat, inv, values["weight"], g_residual, backend=backend)
    return {
        "residual": residual,
        "normed": normed,
        "hat": hat,
        "inv": inv,
        "g_residual": g_residual,
        "g_delta": g_delta,
    }


def definition(values: dict[str, Any], dtype: torch.dtype, rounds: bool) -> dict[str, Tensor]:
    """By autograd in fp64, without a rounding but that of the norm's input."""
    total = values["residual"] if values["delta"] is None else values["residual"] + values["delta"]
    x = (total.to(dtype) if rounds else total).double().requires_grad_()
    inv = (x.square().mean(-1) + EPS).rsqrt()
    hat = x * inv[:, None]
    normed = hat * values["weight"].double()
    (dx,) = torch.autograd.grad((normed * values["g"].double()).sum(), x)
    after = values["g_residual"].double() + dx
    found = {"residual": total, "normed": normed, "hat": hat, "inv": inv}
    return {k: v.detach() for k, v in {**found, "g_residual": after, "g_delta": after}.items()}


def assert_near(
    got: dict[str, Tensor],
    wanted: dict[str, Tensor],
    values: dict[str, Any],
    dtype: torch.dtype,
    factor: float = 1,
) -> None:
    types = {"residual": torch.float32, "inv": torch.float32, "g_residual": torch.float32}
    assert set(got) == set(wanted)
    for name, value in got.items():
        assert value.dtype == types.get(name, dtype), name
        assert value.shape == wanted[name].shape, name
        # g_residual is fp32, but made of the rounded hat.
        tolerance = TOLERANCE[dtype if name == "g_residual" else value.dtype] * factor
        exact = wanted[name].double().cpu()
        size = exact.norm()
        if name in ("g_residual", "g_delta"):  # a small difference of what is as large as this
            g, weight = (values[k].double().cpu() for k in ("g", "weight"))
            size = size + (g * weight).norm() * wanted["inv"].max().item()
        error = (value.double().cpu() - exact).norm()
        assert error <= tolerance * size + 2**-24, f"{name}: {error:.2e}"


@given(
    rows=rows_of,
    width=widths,
    dtype=st.sampled_from(FLOATS),
    rounds=st.booleans(),
    delta=st.booleans(),
    seed=st.integers(0, 999),
)
@QUICK
def test_plain_pytorch_is_the_definition(
    rows: int, width: int, dtype: torch.dtype, rounds: bool, delta: bool, seed: int
) -> None:
    values = case(rows, width, dtype, delta, seed)
    # The input's rounding, that of hat, and that of the product.
    wanted = definition(values, dtype, rounds)
    assert_near(run(values, dtype, rounds, "torch"), wanted, values, dtype, 2)


def test_the_sum_is_kept_in_fp32_and_seen_rounded_only_where_asked() -> None:
    residual, delta = torch.tensor([[1.0, 3.0]]), torch.tensor([[2**-10, 0.0]]).bfloat16()
    ones = torch.ones(2)
    for rounds in (True, False):
        total = residual.clone()
        options: Any = {"rounds": rounds, "keep": True, "backend": "torch"}
        _, _, inv = norm_forward(total, delta, ones, 0.0, torch.bfloat16, **options)
        assert total.tolist() == [[1 + 2**-10, 3.0]]
        first = 1.0 if rounds else 1 + 2**-10
        assert inv is not None
        torch.testing.assert_close(inv[0].item(), ((first**2 + 9) / 2) ** -0.5, rtol=1e-7, atol=0)


@pytest.mark.parametrize("backend", ["torch", pytest.param("cuda", marks=gpu)])
def test_rows_of_zeros_and_of_large_numbers_stay_finite(backend: str) -> None:
    device = "cuda" if backend == "cuda" else "cpu"
    for dtype in FLOATS:
        values = case(3, 40, dtype, True, device=device)
        for name in ("residual", "delta"):
            values[name][0] = 0
            values[name][1] *= 100
        assert all(v.isfinite().all() for v in run(values, dtype, True, backend).values())


@pytest.mark.parametrize("rounds", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("rows", "width"),
    [(1, 1), (2, 3), (3, 24), (5, 77), (2, 1023), (4, 1024), (3, 1028), (2, 2049), (70, 2560)],
)
def test_kernels_equal_plain_pytorch(
    kernels_on: str, rows: int, width: int, dtype: torch.dtype, rounds: bool
) -> None:
    for delta in (True, False):
        values = case(rows, width, dtype, delta, device=kernels_on)
        with poisoned():
            got = run(values, dtype, rounds, "cuda")
        wanted = run(values, dtype, rounds, "torch")
        assert torch.equal(got["residual"], wanted["residual"])
        # A sum in another order may move a rounding to the next number, here and there.
        assert_near(got, wanted, values, dtype, 0.5)
        again = run(values, dtype, rounds, "cuda")
        assert all(torch.equal(got[name], again[name]) for name in got)


def test_kernels_write_their_rows_alone(kernels_on: str) -> None:
    for width in (77, 80):
        values = case(3, width, torch.bfloat16, True, device=kernels_on)
        room = torch.full((5, width), 7.0, device=kernels_on)
        room[1:4] = values["residual"]
        options: Any = {"rounds": True, "keep": True, "backend": "cuda"}
        args = (values["delta"], values["weight"], EPS, torch.bfloat16)
        norm_forward(room[1:4], *args, **options)
        assert (room[[0, 4]] == 7).all()
