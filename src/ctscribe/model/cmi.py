"""CMI, the cross-modal interaction: the question decides what the visual tokens keep of each other.

A bidirectional selective scan over the visual tokens (Gu & Dao 2023, arXiv:2312.00752) whose dt, B
and C are made from features that the question scales and shifts (FiLM, Perez et al. 2018,
arXiv:1709.07871); the tokens themselves flow through it. What it adds to them starts small, so it
starts as the identity. `compress_to` then averages windows of neighbours with weights that have
seen the question; the first rows, one a slot, stay apart: stage 1 has aligned each with a phrase.
Time and memory are linear in the tokens.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from ctscribe.model.bridge import Direction

EPS = 1e-12  # of mean squares: embeddings may be small, and so may averages of them
HALF = (torch.bfloat16, torch.float16)
START = 0.15  # what the CMI adds at first is about a hundredth of a token


@dataclass(frozen=True)
class CmiConfig:
    """Everything that rebuilds a CMI."""

    width: int = 256  # of the language model's embeddings
    inner: int = 64  # channels of the scan
    state: int = 16  # N of the scan
    compress_to: int | None = None  # visual tokens that are left; None leaves all
    apart: int = 0  # first rows that are not averaged, where more than so many are left

    def tokens_left(self, tokens: int) -> int:
        """How many of so many visual tokens come out."""
        return tokens if self.compress_to is None else min(tokens, self.compress_to)


class CMI(nn.Module):
    """Visual tokens (B, L, W) and a question (B, Q, W) to visual tokens (B, L', W)."""

    scale: Tensor

    def __init__(self, config: CmiConfig) -> None:
        super().__init__()
        self.config = config
        width, inner = config.width, config.inner
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.attend = nn.Linear(width, 1, bias=False)
        self.question = nn.Linear(width, math.ceil(inner / 2))
        self.film = nn.Linear(math.ceil(inner / 2), 4 * inner)  # of two directions
        self.directions = nn.ModuleList(Direction(inner, config.state, kernel=4) for _ in range(2))
        self.out_proj = nn.Linear(inner, width, bias=False)
        # The scale of an embedding: of what is added, and (see `fit_scale`) of what comes out.
        self.register_buffer("scale", torch.ones(()))
        nn.init.zeros_(self.attend.weight)  # the mean of the question
        nn.init.zeros_(self.film.weight)  # scale 1 and shift 0 ...
        nn.init.zeros_(self.film.bias)
        nn.init.normal_(self.out_proj.weight, std=START / math.sqrt(inner))  # ... with a gradient
        if config.compress_to is not None:
            self.score = nn.Linear(inner, 1, bias=False)
            nn.init.zeros_(self.score.weight)  # the mean of each window
            self.norm_out = nn.RMSNorm(width, eps=EPS)

    def fit_scale(self, embedding_rms: float) -> None:
        """Work at this root mean square, the one of what the LLM reads."""
        self.scale.fill_(embedding_rms)
        if self.config.compress_to is not None:
            nn.init.constant_(self.norm_out.weight, embedding_rms)

    def forward(self, visual_BLW: Tensor, question_BQW: Tensor, mask_BQ: Tensor) -> Tensor:
        """Tokens in the question's dtype. mask: 1 at the question, at least once in each row."""
        scale_B2E, shift_B2E = self._film(question_BQW, mask_BQ).unbind(1)
        x_BLW = visual_BLW.to(question_BQW.dtype)
        normed_BLW = _normed(x_BLW, self.norm)
        with _products_in(x_BLW):
            x_BLE, z_BLE = self.in_proj(normed_BLW).chunk(2, dim=-1)
            ahead, back = (
                direction(x_BLE, z_BLE, reverse=i == 1, film=(scale_B2E[:, i], shift_B2E[:, i]))
                for i, direction in enumerate(self.directions)
            )
            y_BLE = (ahead + back) / 2
            tokens_BLW: Tensor = x_BLW + self.out_proj(y_BLE) * self.scale
            left = self.config.tokens_left(x_BLW.shape[1])
            if left == x_BLW.shape[1]:
                return tokens_BLW
            score_BL = self.score(y_BLE)[..., 0]
        apart = self.config.apart if left > self.config.apart else 0
        pooled_BLW = pool_windows(tokens_BLW[:, apart:], score_BL[:, apart:], left - apart)
        # An average is smaller than what it is of: back to the scale of an embedding.
        return torch.cat([tokens_BLW[:, :apart], _normed(pooled_BLW, self.norm_out)], 1)

    def _film(self, question_BQW: Tensor, mask_BQ: Tensor) -> Tensor:
        """(B, 2, 2, E): scale and shift of each direction, from the question as one vector."""
        question_BQW = question_BQW.to(self.film.weight.dtype)
        normed_BQW = rms_norm(question_BQW, question_BQW.shape[-1:], eps=EPS)
        score_BQ = self.attend(normed_BQW)[..., 0].masked_fill(~mask_BQ.bool(), -math.inf)
        asked_BW = (score_BQ.softmax(-1)[:, None] @ normed_BQW)[:, 0]
        film = self.film(silu(self.question(asked_BW)))
        scale_B2E, shift_B2E = film.unflatten(-1, (2, 2, -1)).unbind(1)
        return torch.stack([1 + scale_B2E, shift_B2E], 1)


def pool_windows(tokens_BLW: Tensor, score_BL: Tensor, bins: int) -> Tensor:
    """Averages (B, bins, W) of neighbours, weighted by the softmax of the scores in each window.

    The windows are those of `adaptive_avg_pool1d`: together they hold every token, and neighbours
    share one where the bins do not divide the tokens. `bins` is at most L.
    """
    index_JK, weight_BJK = window_weights(score_BL, bins)
    return torch.einsum("bjk,bjkw->bjw", weight_BJK.to(tokens_BLW.dtype), tokens_BLW[:, index_JK])


def window_weights(score_BL: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Which tokens stand in each window (bins, K), and their weights (B, bins, K).

    Windows shorter than K repeat a token, with weight 0.
    """
    length, bin_J = score_BL.shape[1], torch.arange(bins, device=score_BL.device)
    start_J = bin_J * length // bins
    end_J = -(-(bin_J + 1) * length // bins)
    longest = -(-length // bins) + (length % bins > 0)
    index_JK = start_J[:, None] + torch.arange(longest, device=score_BL.device)
    outside_JK = index_JK >= end_J[:, None]
    index_JK = index_JK.clamp(max=length - 1)
    score_BJK = score_BL[:, index_JK]
    if score_BJK.dtype in HALF:
        score_BJK = score_BJK.float()
    return index_JK, score_BJK.masked_fill(outside_JK, -math.inf).softmax(-1)


def _normed(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    """The norm in x's dtype, summed in fp32."""
    return rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.eps)


def _products_in(x: Tensor) -> AbstractContextManager[object]:
    """Products in x's dtype, whatever the weights are kept in."""
    return torch.autocast(x.device.type, x.dtype) if x.dtype in HALF else nullcontext()
