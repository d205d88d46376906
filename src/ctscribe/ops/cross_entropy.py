"""Cross-entropy of rows of logits with its gradient in their place: a CUDA kernel, or PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ctscribe.ops import backend, cuda
from ctscribe.ops.scan_cuda import ELEMENTS

FILE = "cross_entropy.cu"
_THREADS = 512


def cross_entropy_(logits: Tensor, targets: Tensor, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Loss of each row (n,) fp32, and with `gradient` softmax - onehot (n, V) in place of logits.

    logits: (n, V) contiguous, not to be used afterwards. targets: (n,); a negative one has no loss
    and no gradient. Sums in fp32.
    """
    if len(logits) and backend.pick(logits.device, logits.dtype) == "cuda":
        losses = logits.new_empty(len(logits), dtype=torch.float32)
        width = logits.shape[1]
        kernel = cuda.load(FILE, "cross_entropy", _defines(logits.dtype, width), logits.device)
        kernel((len(logits), 1, 1), _THREADS, logits, targets, losses, width, int(gradient))
        return losses, logits
    wanted, labels = targets[:, None] >= 0, targets[:, None].clamp_min(0)
    wide = logits.float()
    norm = wide.logsumexp(-1, keepdim=True)
    losses = ((norm - wide.gather(1, labels)) * wanted)[:, 0]
    if gradient:
        share = (wide - norm).exp_().mul_(wanted)
        wide = share.scatter_add_(1, labels, -wanted.float())
    return losses, wide.to(logits.dtype)


def variants() -> Iterator[tuple[str, str, dict[str, str | int]]]:
    """File, entry and macros of the kernel at a vocabulary of even and of odd size."""
    for dtype, width in ((torch.bfloat16, 50280), (torch.float32, 77)):
        yield FILE, "cross_entropy", _defines(dtype, width)


def _defines(dtype: torch.dtype, width: int) -> dict[str, str | int]:
    wide = 16 // dtype.itemsize
    return {"ELEMENT": ELEMENTS[dtype], "WIDE": wide, "VECTOR": int(width % wide == 0)}
