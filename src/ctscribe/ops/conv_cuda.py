"""The causal convolution by the kernels in `kernels/causal_conv.cu`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ctscribe.ops import cuda
from ctscribe.ops.scan_cuda import ELEMENTS

FILE = "causal_conv.cu"
TAPS = (2, 3, 4)  # filter widths that the kernels take
_THREADS, _WIDE = 128, 4
# Rows of a thread, and rows that it asks for at once: the names in the .cu file.
_ROWS: dict[str, dict[str, str | int]] = {
    "conv_forward": {"GROUP": 8, "STEPS": 8},
    "conv_backward": {"GROUP": 4, "STEPS": 16},
}


def conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    initial: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """y (B, L, D). x: its last dimension contiguous. weight, bias: fp32. mask: (B, L) bool."""
    batch, length, width = x.shape
    y = x.new_empty(batch, length, width)
    kernel = cuda.load(FILE, "conv_forward", _macros("conv_forward", weight, x, y), x.device)
    kernel(
        _grid("conv_forward", x),
        _THREADS,
        *(x, weight, bias, initial, mask, y, length, width, int(silu)),
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
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight (D, K), bias (D,), both fp32, and initial (B, K - 1, D).

    dx: a view (B, L, D) to write into, its last dimension contiguous.
    """
    batch, _, width = x.shape
    taps = weight.shape[1]
    dx = x.new_empty(x.shape) if dx is None else dx
    grid = _grid("conv_backward", x)
    dinitial = x.new_empty(batch, taps - 1, width) if need_initial else None
    partial = weight.new_empty(grid[1], batch, width, taps + 1) if need_weight else None
    kernel = cuda.load(FILE, "conv_backward", _macros("conv_backward", weight, x, gy, dx), x.device)
    kernel(
        grid,
        _THREADS,
        *(gy, x, weight, bias, initial, mask, dx, dinitial, partial),
        *(x.shape[1], width, int(silu), gy.stride(0), gy.stride(1)),
        *(x.stride(0), x.stride(1), dx.stride(0), dx.stride(1)),
    )
    if partial is None:
        return dx, None, None, dinitial
    sums = partial.flatten(0, 1).sum(0)
    return dx, sums[:, :taps], sums[:, taps], dinitial


def variants() -> Iterator[tuple[str, str, dict[str, str | int]]]:
    """File, entry and macros of the kernels: the width that models have, and the least."""
    for element, taps, vector in ((1, 4, 1), (0, 4, 0), (2, 2, 0)):
        for entry in _ROWS:
            yield FILE, entry, _defines(entry, element, taps, vector)


def _macros(entry: str, weight: Tensor, *rows: Tensor) -> dict[str, str | int]:
    """The variant of a kernel for these tensors (B, L, D)."""
    whole = _WIDE * rows[0].element_size()
    vector = rows[0].shape[2] % _WIDE == 0 and all(
        (t.data_ptr() | t.stride(0) * t.element_size() | t.stride(1) * t.element_size()) % whole
        == 0
        for t in rows
    )
    return _defines(entry, ELEMENTS[rows[0].dtype], weight.shape[1], int(vector))


def _defines(entry: str, element: int, taps: int, vector: int) -> dict[str, str | int]:
    return {"ELEMENT": element, "TAPS": taps, "WIDE": _WIDE, "VECTOR": vector, **_ROWS[entry]}


def _grid(entry: str, x: Tensor) -> tuple[int, int, int]:
    batch, length, width = x.shape
    return (-(-width // (_THREADS * _WIDE)), -(-length // int(_ROWS[entry]["STEPS"])), batch)
