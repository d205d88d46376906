"""One token through Mamba's blocks by the kernels in `kernels/decode.cu`.

All of a block where its weights are frozen and plain (`model.decoder`), and the steps of the
convolution and of the scan alone (`causal_conv1d_step`, `selective_scan_step`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ctscribe.ops import cuda
from ctscribe.ops.scan_cuda import ELEMENTS, FORWARD

FILE = "decode.cu"
MOST = 4  # sequences whose products the kernels do themselves; with more, a library's are faster
_WARPS = 8
_SHARED, _REGISTERS = 48 << 10, 20 << 10  # bytes of inputs in a block, and of weights in a warp


def takes_products(batch: int, matrix: Tensor, rows_a_warp: int) -> bool:
    """Whether the kernels can do the product of a matrix (rows, inputs) with `batch` vectors."""
    inputs, size = matrix.shape[1], matrix.element_size()
    return (
        batch <= MOST
        and inputs * size % 16 == 0
        and matrix.data_ptr() % 16 == 0
        and batch * inputs * size <= _SHARED - 1024
        and rows_a_warp * inputs * size <= _REGISTERS
    )


def takes_step(state: Tensor, *others: Tensor | None) -> bool:
    """Whether a kernel can do a step: it keeps no gradients, and torch.compile cannot trace it."""
    tensors = (state, *others)
    learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    there = state.numel() > 0 and state.is_contiguous()
    return there and not learns and not torch.compiler.is_compiling()


def step_in(
    residual: Tensor,
    norm: Tensor,
    eps: float,
    matrix: Tensor,
    conv: Tensor,
    conv_bias: Tensor | None,
    conv_state: Tensor,
    u: Tensor,
    z: Tensor,
) -> None:
    """residual (B, W) fp32 to u, z (B, D): norm, in_proj (2 D, W), a step of the convolution."""
    inner = u.shape[1]
    macros = _product(matrix, len(residual), 1) | {"STEP_IN": 1, "TAPS": conv.shape[1], "ROUND": 1}
    kernel = cuda.load(FILE, "step_in", macros, residual.device)
    kernel(
        (-(-2 * inner // _WARPS), 1, 1),
        32 * _WARPS,
        *(residual, norm, matrix, conv, conv_bias, conv_state, u, z, inner, eps),
    )


def step_x(u: Tensor, matrix: Tensor, out: Tensor) -> None:
    """u (B, D) to out (B, R + 2 N), by x_proj (R + 2 N, D)."""
    macros = _product(matrix, len(u), 1) | {"STEP_X": 1, "TAPS": 2}
    kernel = cuda.load(FILE, "step_x", macros, u.device)
    kernel((len(matrix), 1, 1), 32 * _WARPS, u, matrix, out, len(matrix))


def step_out(y: Tensor, matrix: Tensor, residual: Tensor) -> None:
    """Adds out_proj (W, D) of y (B, D) to residual (B, W) fp32."""
    macros = _product(matrix, len(y), 1) | {"STEP_OUT": 1, "TAPS": 2}
    kernel = cuda.load(FILE, "step_out", macros, y.device)
    kernel((-(-len(matrix) // _WARPS), 1, 1), 32 * _WARPS, y, matrix, residual, len(matrix))


def step_head(residual: Tensor, norm: Tensor, eps: float, matrix: Tensor, logits: Tensor) -> None:
    """residual (B, W) fp32 to logits (B, V) fp32: the last norm and the head (V, W)."""
    macros = _product(matrix, len(residual), 2) | {"STEP_HEAD": 1, "TAPS": 2, "ROUND": 0}
    kernel = cuda.load(FILE, "step_head", macros, residual.device)
    blocks = -(-len(matrix) // (2 * _WARPS))
    kernel((blocks, 1, 1), 32 * _WARPS, residual, norm, matrix, logits, len(matrix), eps)


def step_conv(
    x: Tensor,
    conv: Tensor,
    conv_bias: Tensor | None,
    conv_state: Tensor,
    u: Tensor,
    *,
    silu: bool = True,
) -> None:
    """One step of the convolution: x (B, D), a view with contiguous rows, to u (B, D)."""
    batch, inner = u.shape
    macros = {"ELEMENT": ELEMENTS[u.dtype], "STEP_CONV": 1, "TAPS": conv.shape[1]}
    kernel = cuda.load(FILE, "step_conv", macros, u.device)
    blocks = (-(-inner // 128), batch, 1)
    kernel(blocks, 128, x, conv, conv_bias, conv_state, u, inner, x.stride(0), int(silu))


def step_scan(
    u: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    dt_bias: Tensor | None,
    A: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    state: Tensor,
    y: Tensor,
    *,
    low: Tensor | None = None,
    softplus: bool = True,
) -> None:
    """One step of the scan: state (B, D, N) fp32 in place, and y (B, D).

    B, C: (B, N), and z: (B, D), views with contiguous rows. dt: the step sizes (B, D) before bias
    and softplus, or with `low` (B, R), whose rows are whole 16 bytes, dt_proj (D, R).
    """
    batch, inner = u.shape
    states = A.shape[1]
    macros = _scan(u.dtype, states, None if low is None else low.shape[1])
    kernel = cuda.load(FILE, "step_scan", macros, u.device)
    channels = 128 // (states // FORWARD[states][0].per_lane)
    kernel(
        (-(-inner // channels), batch, 1),
        128,
        *(u, low, B, C, dt, dt_bias, A, D, z, state, y),
        *(inner, 0 if low is None else low.stride(0), B.stride(0), C.stride(0)),
        *(0 if z is None else z.stride(0), int(softplus)),
    )


def variants() -> Iterator[tuple[str, str, dict[str, str | int]]]:
    """File, entry and macros of the kernels, at the width of mamba-2.8b."""
    for batch in (1, MOST):
        product: dict[str, str | int] = {"ELEMENT": 1, "PRODUCT": 1, "BATCH": batch}
        narrow: dict[str, str | int] = {"INPUTS": 2560, "ROWS_A_WARP": 1}
        wide: dict[str, str | int] = {"INPUTS": 5120, "ROWS_A_WARP": 1}
        yield FILE, "step_in", product | narrow | {"STEP_IN": 1, "TAPS": 4, "ROUND": 1}
        yield FILE, "step_x", product | wide | {"STEP_X": 1, "TAPS": 2}
        yield FILE, "step_out", product | wide | {"STEP_OUT": 1, "TAPS": 2}
        yield (
            FILE,
            "step_head",
            product | narrow | {"ROWS_A_WARP": 2, "STEP_HEAD": 1, "TAPS": 2, "ROUND": 0},
        )
    yield FILE, "step_conv", {"ELEMENT": 0, "STEP_CONV": 1, "TAPS": 4}
    yield FILE, "step_scan", _scan(torch.bfloat16, 16, 160)
    for states in FORWARD:
        yield FILE, "step_scan", _scan(torch.bfloat16, states, None)


def _product(matrix: Tensor, batch: int, rows_a_warp: int) -> dict[str, str | int]:
    return {
        "ELEMENT": ELEMENTS[matrix.dtype],
        "PRODUCT": 1,
        "BATCH": batch,
        "INPUTS": matrix.shape[1],
        "ROWS_A_WARP": rows_a_warp,
    }


def _scan(dtype: torch.dtype, states: int, rank: int | None) -> dict[str, str | int]:
    """rank: of dt_proj, or None where its products come ready."""
    return {
        "ELEMENT": ELEMENTS[dtype],
        "STEP_SCAN": 1,
        "TAPS": 2,
        "STATES": states,
        "PER_LANE": FORWARD[states][0].per_lane,
        "WITH_DT": int(rank is not None),
        "RANK": rank or 0,
    }
