"""Cross-entropy over a large vocabulary, a chunk of logits at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

IGNORED = -100  # label of positions without loss
CHUNK = 256  # positions whose logits exist together: 51 MB in fp32 over 50,280 words


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
            rows = hidden[start : start + CHUNK]
            labels = targets[start : start + CHUNK, None]
            wanted = labels != IGNORED
            labels = labels.clamp_min(0)
            logits = linear(rows, weight).float()
            norm = logits.logsumexp(-1, keepdim=True)
            total += ((norm - logits.gather(1, labels)) * wanted).sum()
            if grad is not None:
                share = logits.sub_(norm).exp_().mul_(wanted / count)
                share.scatter_add_(1, labels, -(wanted / count).float())
                torch.mm(share.to(weight.dtype), weight, out=grad[start : start + CHUNK])
        ctx.grad = grad
        return total / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return ctx.grad * g, None, None
