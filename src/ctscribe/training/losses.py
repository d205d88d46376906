"""Losses of stage 1 that look at whole studies rather than at slots."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PRESENT_WEIGHT = 4.0


def sigmoid_contrastive(
    study: Tensor, text: Tensor, same: Tensor, scale: Tensor, bias: Tensor
) -> Tensor:
    """Pairwise sigmoid loss of images and reports (SigLIP, Zhai et al. 2023, algorithm 1).

    study, text: (B, D) unit length. same: (B, B) bool: pairs whose reports say the same are
    positives too, or the loss would push equal normal studies apart. Positives and negatives
    weigh the same whatever their number.
    """
    logits = study @ text.T * scale.exp() + bias
    positive, negative = same.float(), 1 - same.float()
    pull = -(logsigmoid(logits) * positive).sum() / positive.sum().clamp_min(1)
    push = -(logsigmoid(-logits) * negative).sum() / negative.sum().clamp_min(1)
    return pull + push


def variance_floor(x: Tensor, floor: float) -> Tensor:
    """Hinge on the standard deviation of each dimension over the batch (VICReg, 2022, eq. 1)."""
    return torch.relu(floor - (x.float().var(0) + 1e-6).sqrt()).mean()


def token_alignment(tokens: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    """Distance of visual tokens from their phrases' embeddings, relative to the phrases' length.

    tokens, targets: (B, S, D); present: (B, S) 0/1. Slots that state a finding are rare, so they
    weigh PRESENT_WEIGHT times those that deny one.
    """
    gap = (tokens.float() - targets.float()).square().sum(-1)
    relative = gap / targets.float().square().sum(-1).clamp_min(1e-6)
    weight = 1 + (PRESENT_WEIGHT - 1) * present
    return (relative * weight).sum() / weight.sum()
