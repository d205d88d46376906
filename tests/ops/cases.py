"""What the tests of the operators share: inputs in every layout, the spec in fp64, tolerances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.ops import scan_cuda, scan_torch
from ctscribe.ops.selective_scan import NAMES, selective_scan, selective_scan_reference

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
ROWS = ("u", "dt", "B", "C", "z")  # along L, in the activations' dtype; the others are fp32
OPTIONAL = ("D", "z", "dt_bias", "initial_state")
LAYOUTS = ("contiguous", "offset", "half", "strided", "transposed", "expanded")
# Relative, in norm, to the spec in fp64 on the same rounded inputs: in 16 bits what rounding the
# result once can do (half a unit in the last place), in fp32 rounding of sums.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 5e-4}
# For bf16 the backward kernel of the scan rounds the states that it sums up, and then the sum.
SUMMED_FROM_ROUNDED = ("u", "dt", "z", "dt_bias")
FROM_16_BITS = 5e-5  # of an fp32 result of 16-bit inputs, whose kernels take a cheaper softplus
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

lengths = st.one_of(
    st.integers(1, 70), st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65])
)
states = st.sampled_from([8, 16, 32, 64])
widths = st.one_of(st.integers(1, 70), st.sampled_from([1, 15, 16, 24, 31, 32, 33, 48, 64, 65]))


def laid_out(values: Tensor, layout: str, device: torch.device | str = "cpu") -> Tensor:
    """These values in another layout, with NaN in the memory around them.

    `expanded` repeats the first sequence, all others keep the values.
    """
    values = values.to(device)
    *rows, width = values.shape
    if layout == "expanded":
        return values[:1].expand_as(values) if values.dim() > 1 else values
    if layout == "transposed":
        return values.transpose(0, -2).contiguous().transpose(0, -2) if len(rows) > 1 else values
    place, room = {
        "contiguous": (slice(width), width),
        "offset": (slice(1, 1 + width), width + 3),
        "half": (slice(width, 2 * width), 2 * width),
        "strided": (slice(1, 1 + 2 * width, 2), 2 * width + 1),
    }[layout]
    out = values.new_full((*rows, room), float("nan"))[..., place]
    return out.copy_(values)


def scan_inputs(
    batch: int,
    length: int,
    width: int,
    n: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    left_out: Iterable[str] = (),
    positive: bool = False,
    layouts: dict[str, str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Arguments of `selective_scan` by name. positive: dt that needs no softplus."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    values = {
        "u": normal(batch, length, width),
        "dt": normal(batch, length, width),
        "A": -normal(width, n).exp(),
        "B": normal(batch, length, n),
        "C": normal(batch, length, n),
        "D": normal(width),
        "z": normal(batch, length, width),
        "dt_bias": normal(width) - 1,
        "initial_state": normal(batch, width, n),
    }
    if positive:
        values |= {name: values[name].abs() for name in ("dt", "dt_bias")}
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    out = {}
    for name, value in values.items():
        if name not in left_out:
            rounded = value.to(dtype if name in ROWS else wide)
            out[name] = laid_out(rounded, (layouts or {}).get(name, "contiguous"), device)
    return out


Result = tuple[dict[str, Tensor], dict[str, Tensor]]


def scan(
    values: dict[str, Tensor],
    needs: Iterable[str] = NAMES,
    gy: Tensor | None = None,
    gstate: Tensor | None = None,
    *,
    plus: bool = True,
    reverse: bool = False,
) -> Result:
    """y and state, and the gradients that are needed, by name."""
    leaves = {k: v.detach().requires_grad_(k in needs) for k, v in values.items()}
    y, state = selective_scan(**leaves, dt_softplus=plus, return_final_state=True, reverse=reverse)
    return {"y": y.detach(), "state": state.detach()}, _grads(y, state, leaves, needs, gy, gstate)


def spec(
    values: dict[str, Tensor],
    needs: Iterable[str] = NAMES,
    gy: Tensor | None = None,
    gstate: Tensor | None = None,
    *,
    plus: bool = True,
    reverse: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Result:
    """The same of the reference, in fp64 on the CPU."""
    leaves = {k: v.detach().cpu().to(dtype).requires_grad_() for k, v in values.items()}
    y, state = selective_scan_reference(**leaves, dt_softplus=plus, reverse=reverse)
    gy, gstate = (None if g is None else g.cpu().to(dtype) for g in (gy, gstate))
    return {"y": y.detach(), "state": state.detach()}, _grads(y, state, leaves, needs, gy, gstate)


def _grads(
    y: Tensor,
    state: Tensor,
    leaves: dict[str, Tensor],
    needs: Iterable[str],
    gy: Tensor | None,
    gstate: Tensor | None,
) -> dict[str, Tensor]:
    wanted = {k: v for k, v in leaves.items() if k in needs}
    pairs = [(out, g) for out, g in ((y, gy), (state, gstate)) if g is not None]
    if not wanted or not pairs:
        return {}
    outputs, grads = zip(*pairs, strict=True)
    found = torch.autograd.grad(outputs, list(wanted.values()), grads, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(wanted.items(), found, strict=True)
    }


def assert_near(
    got: dict[str, Tensor],
    wanted: dict[str, Tensor],
    dtype: torch.dtype,
    factor: float = 1.0,
    rows: int | None = None,
) -> None:
    """Each within the tolerance of its dtype; dtype: the inputs'. rows: B L, if it may be small."""
    assert set(got) == set(wanted)
    for name, value in got.items():
        exact = wanted[name]
        assert value.shape == exact.shape, name
        tolerance, count, least = TOLERANCE[value.dtype], value.numel(), 2**-24
        if dtype == torch.bfloat16 and name in SUMMED_FROM_ROUNDED:
            tolerance = 2 * TOLERANCE[dtype]
        elif value.dtype == torch.float32 != dtype:
            tolerance = FROM_16_BITS
        if rows is not None and dtype == torch.bfloat16 and name in {*SUMMED_FROM_ROUNDED, *ROWS}:
            # What is in a row shares sums over states or channels; a few of them may all cancel.
            count = min(count, rows)
            least = 2**-5 if count < 20 else least
        # A few numbers alone may be small differences of large ones; below fp16's least number
        # everything is rounded away.
        tolerance *= factor * (1 + 20 / max(1, count))
        error = (value.double().cpu() - exact.double().cpu()).norm().item()
        allowed = tolerance * exact.double().norm().item() + least * value.numel() ** 0.5
        assert error <= allowed, f"{name}: {error:.2e} from the spec, {allowed:.2e} allowed"


def assert_equal(one: Result, two: Result) -> None:
    """Bit by bit."""
    for a, b in zip(one, two, strict=True):
        assert set(a) == set(b)
        for name in a:
            assert torch.equal(a[name], b[name]), name


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that is allocated holds NaN until somebody writes to it."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = before


@contextmanager
def pieces(small: bool) -> Iterator[None]:
    """Both ways of cutting up the work, whatever the size.

    On the backend cuda its two tilings, and time in two segments or one; on a CPU several threads,
    or one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_cuda, "_MANY", 1 << 60 if small else 0)
        patch.setattr(scan_cuda, "_multiprocessors", lambda _: 1 << 60 if small else 0)
        if (loops := scan_torch.loops()) is not None:  # not on every machine that has a GPU
            patch.setattr(loops, "ALONE", 0 if small else 1 << 60)
        yield
