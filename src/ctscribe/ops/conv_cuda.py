"""The causal convolution by the kernels in `kernels/causal_conv.cu`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ctscribe.ops import cuda
from ctscribe.ops.scan_cuda import ELEMENTS, many

FILE = "causal_conv.cu"
TAPS = (2, 3, 4)  # filter widths that the kernels take
_THREADS, _WIDE = 128, 4
# STEPS and GROUP in the .cu file: rows of a thread, for few channels and for many, and rows that it
# asks for at once. With more rows a thread reads fewer of its neighbours', but threads are fewer.
_STEPS = {"conv_forward": (8, 8), "conv_backward": (16, 32)}
_GROUP = {"conv_forward": 8, "conv_backward": 4}


def conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    initial: Tensor | None,
    mask: Tensor | None,
    *,
    frozen: bool = False,
) -> Tensor:
    """y (B, L, D). x: its last dimension contiguous. weight, bias: fp32. mask: (B, L) bool.

    frozen: weight and bias are not being written by what was launched just before.
    """
    batch, length, width = x.shape
    y = x.new_empty(batch, length, width)
    kernel = cuda.load(
        FILE, "conv_forward", _macros("conv_forward", weight, bias, initial, x, y), x.device
    )
    kernel(
        _grid("conv_forward", x),
        _THREADS,
        *(x, weight, bias, initial, mask, y, length, width, int(silu), int(frozen)),
        *(x.stride(0), x.stride(1), y.stride(0), y.stride(1)),
    )
    return y


def conv_backward(
    gy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    initial: Tensor | None,
    mask: Tensor | None,
    *,
    need_weight: bool,
    need_initial: bool,
    dx: Tensor | None = None,
    frozen: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight (D, K), bias (D,), both fp32, and initial (B, K - 1, D).

    dx: a view (B, L, D) to write into, its last dimension contiguous. frozen: as in `conv_forward`.
    """
    batch, _, width = x.shape
    taps = weight.shape[1]
    dx = x.new_empty(x.shape) if dx is None else dx
    grid = _grid("conv_backward", x)
    dinitial = x.new_empty(batch, taps - 1, width) if need_initial else None
    partial = weight.new_empty(grid[1], batch, width, taps + 1) if need_weight else None
    macros = _macros("conv_backward", weight, bias, initial, x, gy, dx)
    kernel = cuda.load(FILE, "conv_backward", macros, x.device)
    kernel(
        grid,
        _THREADS,
        *(gy, x, weight, bias, initial, mask, dx, dinitial, partial),
        *(x.shape[1], width, int(silu), int(frozen), gy.stride(0), gy.stride(1)),
        *(x.stride(0), x.stride(1), dx.stride(0), dx.stride(1)),
    )
    if partial is None:
        return dx, None, None, dinitial
    sums = partial.flatten(0, 1)  # two sums: an operator's results must not share memory
    return dx, sums[..., :taps].sum(0), sums[..., taps].sum(0), dinitial


def variants() -> Iterator[tuple[str, str, dict[str, str | int]]]:
    """File, entry and macros of the kernels: the width that models have, and the least."""
    for element, taps, vector in ((1, 4, 1), (0, 4, 0), (2, 2, 0)):
        for entry in _STEPS:
            for steps in dict.fromkeys(_STEPS[entry]):
                yield FILE, entry, _defines(entry, steps, element, taps, vector)


def _macros(
    entry: str, weight: Tensor, bias: Tensor | None, initial: Tensor | None, *rows: Tensor
) -> dict[str, str | int]:
    """The variant of a kernel for these tensors; rows: those of (B, L, D)."""
    size = rows[0].element_size()
    apart = [t.data_ptr() % 16 for t in (weight, bias, initial) if t is not None]
    apart += [
        (t.data_ptr() | t.stride(0) * size | t.stride(1) * size) % (_WIDE * size) for t in rows
    ]
    vector = int(rows[0].shape[2] % _WIDE == 0 and not any(apart))
    element = ELEMENTS[rows[0].dtype]
    return _defines(entry, _steps(entry, rows[0]), element, weight.shape[1], vector)


def _defines(entry: str, steps: int, element: int, taps: int, vector: int) -> dict[str, str | int]:
    rows = {"STEPS": steps, "GROUP": _GROUP[entry]}
    return {"ELEMENT": element, "TAPS": taps, "WIDE": _WIDE, "VECTOR": vector, **rows}


def _steps(entry: str, x: Tensor) -> int:
    return _STEPS[entry][many(x)]


def _grid(entry: str, x: Tensor) -> tuple[int, int, int]:
    batch, length, width = x.shape
    return (-(-width // (_THREADS * _WIDE)), -(-length // _steps(entry, x)), batch)
