"""The cases that the official implementations test themselves with, within their tolerances.

Mamba's selective scan and causal-conv1d: sizes, distributions and limits of their own tests, as far
as they apply (no complex A, no groups, one layout); a subset of the long ones. The gradient of the
last state, which the official scan lacks, is not part of them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ctscribe.ops.causal_conv import causal_conv1d, causal_conv1d_step
from ctscribe.ops.selective_scan import NAMES
from tests.ops.cases import FLOATS, scan, spec
from tests.ops.test_conv_backends import spec as conv_spec

Limit = tuple[float, float]  # relative, absolute
SCAN: dict[torch.dtype, Limit] = {
    torch.float32: (6e-4, 2e-3),
    torch.float16: (3e-3, 5e-3),
    torch.bfloat16: (3e-2, 5e-2),
}
CONV: dict[torch.dtype, Limit] = {
    torch.float32: (3e-4, 1e-3),
    torch.float16: (3e-3, 5e-3),
    torch.bfloat16: (1e-2, 5e-2),
}


def close(got: Tensor, wanted: Tensor, limit: Limit, name: str) -> None:
    wanted = wanted.to(got.dtype)
    assert torch.allclose(got.cpu(), wanted.cpu(), *limit), f"{name} not within {limit}"


def scan_case(
    length: int, dtype: torch.dtype, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Batch 2, D 4, N 8, and the gradient of y."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    def even(*shape: int) -> Tensor:
        return 0.5 * torch.rand(shape, generator=g)

    values = {
        "A": -even(4, 8),
        "B": normal(2, length, 8),
        "C": normal(2, length, 8),
        "D": normal(4),
        "z": normal(2, length, 4),
        "dt_bias": even(4),
        "u": normal(2, length, 4),
        "dt": even(2, length, 4),
    }
    values = {
        k: v.to(torch.float32 if k in ("A", "D", "dt_bias") else dtype) for k, v in values.items()
    }
    return {k: v.to(device) for k, v in values.items()}, normal(2, length, 4).to(device, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("length", "left_out", "plus"),
    [
        (8, (), True),
        (128, (), True),
        (151, (), True),
        (256, ("z",), True),
        (372, ("D", "z"), True),
        (512, ("D", "z", "dt_bias"), False),
        (1134, (), True),
        (2048, (), True),
    ],
)
def test_selective_scan(
    place: torch.device, dtype: torch.dtype, length: int, left_out: tuple[str, ...], plus: bool
) -> None:
    values, gy = scan_case(length, dtype, place)
    values = {k: v for k, v in values.items() if k not in left_out}
    outputs, grads = scan(values, NAMES, gy, plus=plus)
    wanted, wanted_grads = spec(values, NAMES, gy, plus=plus, dtype=torch.float32)
    relative, absolute = SCAN[dtype]
    gated = "z" in values
    weights = (max(1e-3, relative), max(1e-3, absolute)) if gated else (1e-3, 1e-3)
    limits = {
        "y": SCAN[dtype],
        "state": SCAN[dtype],
        "u": (2 * relative, 2 * absolute),
        "dt": (5 * relative, 10 * absolute),
        "A": (weights[0], 5 * weights[1]),
        "B": SCAN[dtype],
        "C": SCAN[dtype],
        "D": weights,
        "z": weights,
        "dt_bias": weights,
    }
    for name, got in (outputs | grads).items():
        close(got, (wanted | wanted_grads)[name], limits[name], name)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("parts", [2, 3])
def test_selective_scan_in_parts(place: torch.device, dtype: torch.dtype, parts: int) -> None:
    values, _ = scan_case(151, dtype, place)
    wanted, _ = spec(values, (), dtype=torch.float32)
    edges = [151 // parts * i for i in range(parts)] + [151]
    outputs, now = [], {}
    for start, end in pairwise(edges):
        part = {k: v[:, start:end] if v.dim() == 3 else v for k, v in values.items()}
        out, _ = scan({**part, **now}, ())
        outputs.append(out["y"])
        now = {"initial_state": out["state"]}
    close(torch.cat(outputs, 1), wanted["y"], SCAN[dtype], "y")
    close(now["initial_state"], wanted["state"], SCAN[dtype], "state")


def conv_case(
    batch: int, length: int, width: int, taps: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """x in the middle of a wider tensor."""
    g = torch.Generator().manual_seed(0)
    wide = torch.randn(batch, length, 4096 + width + 64, generator=g).to(device, dtype)
    values = {
        "x": wide[..., 4096 : 4096 + width],
        "weight": torch.randn(width, taps, generator=g),
        "bias": torch.randn(width, generator=g),
        "initial_state": torch.randn(batch, taps - 1, width, generator=g).to(dtype),
    }
    return {k: v.to(device) for k, v in values.items()}


def activated(
    call: Callable[..., tuple[Tensor, Tensor]], values: dict[str, Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """y, the last inputs, and the gradients of a loss that takes both."""
    leaves = {k: v.detach().requires_grad_() for k, v in values.items()}
    y, state = call(**leaves)
    out = y + torch.sigmoid(state).sum(1, keepdim=True)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype).to(out)
    return [y, state, *torch.autograd.grad(out, list(leaves.values()), g)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize(
    ("length", "width", "silu", "biased", "carried"),
    [
        (1, 64, True, True, True),
        (2, 64, True, True, True),
        (8, 64, False, False, True),
        (129, 64, True, False, True),
        (151, 64, False, True, False),
        (372, 64, True, True, True),
        (130, 4128, True, True, True),
        (2048, 64, True, True, False),
    ],
)
def test_causal_conv1d(
    place: torch.device,
    dtype: torch.dtype,
    taps: int,
    length: int,
    width: int,
    silu: bool,
    biased: bool,
    carried: bool,
) -> None:
    values = conv_case(2, length, width, taps, dtype, place)
    if not biased:
        del values["bias"]
    if not carried:
        del values["initial_state"]

    def ours(**leaves: Tensor) -> tuple[Tensor, Tensor]:
        return causal_conv1d(**leaves, activation="silu" if silu else None, return_final_state=True)

    def exact(**leaves: Tensor) -> tuple[Tensor, Tensor]:
        return conv_spec(**leaves, active=silu)

    got = activated(ours, values, dtype)
    wanted = activated(exact, {k: v.detach().cpu().float() for k, v in values.items()}, dtype)
    for name, one, two in zip(("y", "state", *values), got, wanted, strict=True):
        close(one, two, (1e-3, 1e-3) if name in ("weight", "bias") else CONV[dtype], name)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize(
    ("tokens", "silu", "biased"), [(1, True, True), (4, True, False), (5, False, True)]
)
def test_causal_conv1d_update(
    place: torch.device, dtype: torch.dtype, taps: int, tokens: int, silu: bool, biased: bool
) -> None:
    values = conv_case(64, tokens, 2064, taps, dtype, place)
    state = values.pop("initial_state")
    bias = values.pop("bias")
    exact = {k: v.cpu().float() for k, v in values.items()}
    wanted, last = conv_spec(
        **exact,
        bias=bias.cpu() if biased else None,
        initial_state=state.cpu().float(),
        active=silu,
    )
    for t in range(tokens):
        y = causal_conv1d_step(
            state,
            values["x"][:, t],
            values["weight"],
            bias if biased else None,
            "silu" if silu else None,
        )
        close(y, wanted[:, t], CONV[dtype], "y")
    assert torch.equal(state.cpu(), last.to(dtype))


def test_causal_conv1d_is_bit_equal_from_run_to_run(place: torch.device) -> None:
    values = conv_case(2, 1024 if place.type == "cuda" else 100, 4128, 4, torch.bfloat16, place)
    leaves = {k: v.detach().requires_grad_() for k, v in values.items()}
    g = torch.randn_like(values["x"])
    first: list[Tensor] | None = None
    for _ in range(300 if place.type == "cuda" else 3):
        y = causal_conv1d(**leaves)
        results = [y, *torch.autograd.grad(y, list(leaves.values()), g)]
        first = first or results
        assert all(torch.equal(a, b) for a, b in zip(first, results, strict=True))
