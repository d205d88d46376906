"""The causal convolution by the kernels in `kernels/causal_conv.cu`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from torch import Tensor

from ctscribe.ops import cuda
from ctscribe.ops.scan_cuda import ELEMENTS, aligned, many

FILE = "causal_conv.cu"
TAPS = (2, 3, 4)  # filter widths that the kernels take
_THREADS, _WIDE = 128, 4
# Rows of a thread, for few channels and for many. With more rows a thread reads fewer of its
# neighbours', but threads are fewer. Backward it asks for _GROUP of them at once.
_STEPS = {"conv_forward": (8, 8), "conv_backward": (16, 32)}
_GROUP = 4


def conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    initial: Tensor | None,
    mask: Tensor | None,
    *,
    frozen: bool = False,
    reverse: bool = False,
) -> Tensor:
    """y (B, L, D). x: its last dimension contiguous. weight, bias: fp32. mask: (B, L) bool.

    frozen: weight and bias are not being written by what was launched just before. reverse: from
    the last row to the first.
    """
    batch, length, width = x.shape
    y = x.new_empty(batch, length, width)
    macros = _macros("conv_forward", silu, reverse, False, weight, bias, initial, x, y)
    kernel = cuda.load(FILE, "conv_forward", macros, x.device)
    kernel(
        _grid("conv_forward", x),
        _THREADS,
        *(x, weight, bias, initial, mask, y, length, width, int(frozen)),
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
    reverse: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight (D, K), bias (D,), both fp32, and initial (B, K - 1, D).

    dx: a view (B, L, D) to write into, its last dimension contiguous. frozen, reverse: as in
    `conv_forward`.
    """
    batch, _, width = x.shape
    taps = weight.shape[1]
    dx = x.new_empty(x.shape) if dx is None else dx
    grid = _grid("conv_backward", x)
    dinitial = x.new_empty(batch, taps - 1, width) if need_initial else None
    partial = weight.new_empty(grid[1], batch, width, taps + 1) if need_weight else None
    macros = _macros("conv_backward", silu, reverse, need_weight, weight, bias, initial, x, gy, dx)
    kernel = cuda.load(FILE, "conv_backward", macros, x.device)
    kernel(
        grid,
        _THREADS,
        *(gy, x, weight, bias, initial, mask, dx, dinitial, partial),
        *(x.shape[1], width, int(frozen), gy.stride(0), gy.stride(1)),
        *(x.stride(0), x.stride(1), dx.stride(0), dx.stride(1)),
    )
    if partial is None:
        return dx, None, None, dinitial
    sums = partial.flatten(0, 1)  # two sums: an operator's results must not share memory
    return dx, sums[..., :taps].sum(0), sums[..., taps].sum(0), dinitial


def variants() -> Iterator[tuple[str, str, dict[str, str | int]]]:
    """File, entry and macros of the kernels: as models run them, and with all there is to do."""
    for entry, steps_of in _STEPS.items():
        weight = entry == "conv_backward"
        every = {"silu": True, "initial": True, "weight": weight}
        for steps in dict.fromkeys(steps_of):
            for element, taps, vector, options in (
                (1, 4, 1, {"silu": True}),
                (1, 4, 1, {"silu": True, "reverse": True, "weight": weight}),
                (0, 4, 0, every),
                (2, 2, 0, every),
            ):
                yield FILE, entry, _defines(entry, steps, element, taps, vector, **options)


def _macros(
    entry: str,
    silu: bool,
    reverse: bool,
    need_weight: bool,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    *rows: Tensor,
) -> dict[str, str | int]:
    """The variant of a kernel for these tensors; rows: those of (B, L, D)."""
    x = rows[0]
    vector = (
        x.shape[2] % _WIDE == 0
        and aligned(rows, _WIDE * x.element_size())
        and all(t is None or t.data_ptr() % 16 == 0 for t in (weight, bias, initial))
    )
    return _defines(
        entry,
        _steps(entry, x),
        ELEMENTS[x.dtype],
        weight.shape[1],
        int(vector),
        silu=silu,
        reverse=reverse,
        initial=initial is not None,
        weight=need_weight,
    )


@cache
def _defines(
    entry: str,
    steps: int,
    element: int,
    taps: int,
    vector: int,
    *,
    silu: bool,
    reverse: bool = False,
    initial: bool = False,
    weight: bool = False,
) -> dict[str, str | int]:
    shape = {"ELEMENT": element, "TAPS": taps, "WIDE": _WIDE, "VECTOR": vector}
    group = {"GROUP": steps} if entry == "conv_forward" else {"GROUP": _GROUP, "STEPS": steps}
    options = {"SILU": silu, "REVERSE": reverse, "WITH_INITIAL": initial, "WITH_WEIGHT": weight}
    return {**shape, **group, **{name: 1 for name, wanted in options.items() if wanted}}


def _steps(entry: str, x: Tensor) -> int:
    return _STEPS[entry][many(x)]


def _grid(entry: str, x: Tensor) -> tuple[int, int, int]:
    batch, length, width = x.shape
    return (-(-width // (_THREADS * _WIDE)), -(-length // _steps(entry, x)), batch)
