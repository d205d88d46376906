"""Stage 2: captions. Cross-entropy of the answer, through the frozen language model, into the bridge.

Only the bridge learns (and LoRA adapters, if asked for). The loss covers answer tokens alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import VLM
from ctscribe.training.align import write_log
from ctscribe.training.data import TokenizedRows, collate


@dataclass(frozen=True)
class CaptionStudies:
    """One side of the split, ready for stage 2: pooled features (n, L, D) and token ids."""

    pooled: Pooled
    tokens: TokenizedRows

    def batch(self, index: list[int], pad: int, device: str) -> tuple[Pooled, Tensor, Tensor, Tensor]:
        """Pooled features, ids, mask and labels of some studies."""
        pooled = Pooled(
            self.pooled.features[index].to(device), self.pooled.position_mm[index].to(device)
        )
        ids, mask, labels = (t.to(device) for t in collate(self.tokens, index, pad))
        return pooled, ids, mask, labels


@dataclass(frozen=True)
class CaptionStep:
    """What the caller hears of after each optimiser step."""

    step: int
    epoch: int
    loss: float


def caption(
    vlm: VLM,
    train: CaptionStudies,
    *,
    epochs: int,
    batch_size: int,
    accumulation: int,
    lr: float,
    seed: int,
    device: str,
    on_step: Callable[[CaptionStep], None] | None = None,
) -> list[dict[str, float]]:
    """Train; returns the log, one row an optimiser step: step, epoch, caption_loss."""
    torch.manual_seed(seed)
    bridge_parameters = list(vlm.bridge.parameters())
    adapters = [p for p in vlm.llm.model.parameters() if p.requires_grad]
    parameters = bridge_parameters + adapters
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    n = len(train.tokens.answers)
    steps = epochs * math.ceil(math.ceil(n / batch_size) / accumulation)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: _warm_cosine(s, steps))
    vlm.bridge.train()
    history: list[dict[str, float]] = []
    for epoch in range(epochs):
        batches = list(_batches(train.tokens, batch_size))
        for start in range(0, len(batches), accumulation):
            group = batches[start : start + accumulation]
            loss_sum = 0.0
            for index in group:
                pooled, ids, mask, labels = train.batch(index, vlm.llm.pad_id, device)
                loss = vlm(pooled, ids, mask, labels) / len(group)
                loss.backward()
                loss_sum += float(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            step = CaptionStep(len(history) + 1, epoch + 1, loss_sum)
            history.append({"step": step.step, "epoch": step.epoch, "caption_loss": loss_sum})
            if on_step is not None:
                on_step(step)
    vlm.bridge.eval()
    return history


def _batches(tokens: TokenizedRows, size: int) -> Iterator[list[int]]:
    """Shuffled batches of similar length: padding costs as much as text."""
    n = len(tokens.answers)
    order = torch.randperm(n).tolist()
    chunks = [order[i : i + 8 * size] for i in range(0, n, 8 * size)]
    batches = []
    for chunk in chunks:
        chunk.sort(key=lambda i: len(tokens.questions[i]) + len(tokens.answers[i]))
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    yield from (batches[i] for i in torch.randperm(len(batches)).tolist())


def _warm_cosine(step: int, steps: int) -> float:
    warm = max(1, min(20, steps // 10))
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@torch.no_grad()
def caption_loss(vlm: VLM, studies: CaptionStudies, batch_size: int, device: str) -> float:
    """Mean loss over studies that are not trained on."""
    total, count = 0.0, 0
    n = len(studies.tokens.answers)
    for start in range(0, n, batch_size):
        index = list(range(start, min(n, start + batch_size)))
        total += float(vlm(*studies.batch(index, vlm.llm.pad_id, device))) * len(index)
        count += len(index)
    return total / max(1, count)


def write_caption_log(file: Path, history: list[dict[str, float]]) -> None:
    """`stage2_train_log.csv`: step, epoch, caption_loss."""
    write_log(file, history)
