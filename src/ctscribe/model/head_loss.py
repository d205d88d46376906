"""Cross-entropy over a large vocabulary, a chunk of logits at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ctscribe.ops.cross_entropy import cross_entropy_

IGNORED = -100  # label of positions without loss
CHUNK = 512  # positions whose logits exist together: 51 MB in bf16 over 50,280 words


def head_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of hidden @ weight.T over the targets that are not IGNORED.

    hidden: (n, W). weight: (V, W), frozen. targets: (n,). The gradient of hidden is computed along
    with the loss, so that logits never outlive their chunk; sums in fp32. All IGNORED: nan.
    """
    if weight.requires_grad:
        raise ValueError("weight must be frozen: it gets no gradient here")
    loss: Tensor = _HeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        count = (targets != IGNORED).sum()
        total = hidden.new_zeros((), dtype=torch.float32)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = linear(hidden[part], weight)
            losses, share = cross_entropy_(logits, targets[part], gradient=grad is not None)
            total += losses.sum()
            if grad is not None:
                torch.mm(share, weight, out=grad[part])
        ctx.count = count
        ctx.grad = grad
        return total / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        # Divided last: before, small probabilities would vanish in 16 bits.
        return ctx.grad * (g / ctx.count), None, None
