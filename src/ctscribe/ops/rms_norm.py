"""Residual sum and RMS norm, forward and backward: by a CUDA kernel, or by plain PyTorch.

Not an operator of autograd: `model.frozen` calls both directions itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from ctscribe.ops import cuda
from ctscribe.ops.scan_cuda import ELEMENTS

FILE = "rms_norm.cu"
_THREADS, _WIDE = 256, 4


def norm_forward(
    residual: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    eps: float,
    dtype: torch.dtype,
    *,
    rounds: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Adds delta to residual in place; returns the norm's output and what `norm_backward` needs.

    residual: (rows, W) fp32. delta: (rows, W) in dtype, or None. weight: (W,) fp32. rounds: the
    norm sees the sum rounded to dtype, as transformers' blocks do. keep: return x / rms (rows, W)
    in dtype and 1 / rms (rows,) as well.
    """
    if backend != "cuda":
        if delta is not None:
            residual += delta
        x = residual.to(dtype).float() if rounds else residual
        inv = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        hat = (x * inv).to(dtype) if rounds else x * inv
        normed = (hat * weight).to(dtype)
        return (normed, hat.to(dtype), inv[:, 0]) if keep else (normed, None, None)
    rows, width = residual.shape
    out = residual.new_empty(rows, width, dtype=dtype)
    kept = torch.empty_like(out) if keep else None
    scale = residual.new_empty(rows) if keep else None
    kernel = cuda.load(FILE, "norm_forward", _defines(dtype, width, rounds), residual.device)
    kernel((rows, 1, 1), _THREADS, residual, delta, weight, kept, out, scale, width, float(eps))
    return out, kept, scale


def norm_backward(
    g: Tensor, hat: Tensor, inv: Tensor, weight: Tensor, g_residual: Tensor, *, backend: str
) -> Tensor:
    """Adds the gradient of the norm's input to g_residual in place; returns the sum in g's dtype.

    g: (rows, W), gradient of the norm's output. g_residual: (rows, W) fp32. hat, inv: as kept by
    `norm_forward`.
    """
    if backend != "cuda":
        gw, x = g.float() * weight, hat.float()
        g_residual += inv[:, None] * (gw - x * (gw * x).mean(-1, keepdim=True))
        return g_residual.to(g.dtype)
    rows, width = g.shape
    g_delta = torch.empty_like(g)
    kernel = cuda.load(FILE, "norm_backward", _defines(g.dtype, width, True), g.device)
    kernel((rows, 1, 1), _THREADS, g, hat, inv, weight, g_residual, g_delta, width)
    return g_delta


def variants() -> Iterator[tuple[str, str, dict[str, str | int]]]:
    """File, entry and macros of the kernels at a model's width and an odd one."""
    for dtype, width in ((torch.bfloat16, 2560), (torch.float32, 77), (torch.float16, 4096)):
        for entry in ("norm_forward", "norm_backward"):
            yield FILE, entry, _defines(dtype, width, True)


@cache
def _defines(dtype: torch.dtype, width: int, rounds: bool) -> dict[str, str | int]:
    # Rows are contiguous and start at allocations or multiples of an even width: aligned.
    return {
        "ELEMENT": ELEMENTS[dtype],
        "WIDE": _WIDE,
        "ROUNDS": -(-width // (_THREADS * _WIDE)),
        "ROUND": int(rounds),
        "VECTOR": int(width % _WIDE == 0),
    }
