"""Stage 1: align what the bridge says of an image with what its report says.

Four terms, none of which a constant bridge can win: the labels that the rule labeller finds in the
report (heads on the bridge's hidden states); the visual token of each slot against the language
model's embedding of that slot's phrase; image against report as a sigmoid contrast over the batch;
a floor under the variance of the image embeddings. Then the gate measures it on held-out studies.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctscribe.model.heads import SlotLabels, label_losses, slot_labels
from ctscribe.model.llm import LLM
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import Vision
from ctscribe.reports.labeller import label_report
from ctscribe.reports.language import SLOTS, slot_phrase, slots_of
from ctscribe.reports.schema import Finding, Language
from ctscribe.training import gates
from ctscribe.training.losses import sigmoid_contrastive, token_alignment, variance_floor

VARIANCE_FLOOR = 0.5 / 128**0.5  # half of what unit vectors of 128 dimensions have at random
WEIGHTS = {
    "present": 4.0,
    "density": 0.5,
    "amount": 0.5,
    "size": 1.0,
    "token": 2.0,
    "contrast": 0.3,
    "variance": 1.0,
}


@dataclass(frozen=True)
class AlignStudies:
    """One side of the split, ready for stage 1.

    pooled: (n, L, D). labels: of the slots, read from the reports. phrases: (n, S, W) the LLM's
    embedding of what each slot's phrase says. text: (n, W) its embedding of the whole report.
    same: (n, n) bool, reports that state the same findings in the same places.
    """

    pooled: Pooled
    labels: SlotLabels
    phrases: Tensor
    text: Tensor
    same: Tensor


def align_studies(
    pooled: Pooled, answers: Sequence[str], llm: LLM, language: Language
) -> AlignStudies:
    """Read labels and embeddings from the reports `answers` of the pooled images."""
    stated = [label_report(answer).findings for answer in answers]
    slots = [slots_of(findings) for findings in stated]
    phrases = [
        [
            slot_phrase(name, place, finding, language)
            for (name, place), finding in zip(SLOTS, study, strict=True)
        ]
        for study in slots
    ]
    known = sorted({p for study in phrases for p in study})
    vectors = dict(zip(known, llm.phrase_embeddings(known).float().cpu(), strict=True))
    keys = [_key(findings) for findings in stated]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    group = torch.tensor([number[key] for key in keys])
    return AlignStudies(
        pooled=pooled,
        labels=slot_labels(slots),
        phrases=torch.stack([torch.stack([vectors[p] for p in study]) for study in phrases]),
        text=llm.text_embedding(list(answers)).float().cpu(),
        same=group[:, None] == group[None],
    )


def _key(findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(f.name, f.place or "") for f in findings}))


class TextProjection(torch.nn.Module):
    """Report embeddings (B, W) to the contrastive space; used in stage 1 only."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.linear = torch.nn.Linear(width, out)

    def forward(self, text: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.linear(self.norm(text)), dim=-1)


def align(
    vision: Vision,
    train: AlignStudies,
    val: AlignStudies,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    device: str,
    log_file: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[gates.GateFigures, list[dict[str, float]]]:
    """Train bridge and heads; returns the gate's figures and the log, one row an epoch."""
    torch.manual_seed(seed)
    vision.to(device)
    text = TextProjection(train.text.shape[1], vision.heads.study.out_features).to(device)
    modules = [vision.bridge, vision.heads, text]
    parameters = [p for m in modules for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)
    n = len(train.text)
    batches = max(1, n // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=epochs * batches, pct_start=0.1
    )
    history = []
    best: tuple[float, list[dict[str, Tensor]]] | None = None
    for epoch in range(epochs):
        for module in modules:
            module.train()
        sums: dict[str, float] = {}
        for index in torch.randperm(n)[: batches * batch_size].chunk(batches):
            terms = _terms(vision, text, train, index, device)
            loss = torch.stack([WEIGHTS[k] * v for k, v in terms.items()]).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            for k, v in {**terms, "loss": loss}.items():
                sums[k] = sums.get(k, 0.0) + float(v) / batches
        for module in modules:
            module.eval()
        with torch.no_grad():
            held_out = _terms(vision, text, val, torch.arange(len(val.text)), device)
        total = sum(WEIGHTS[k] * float(v) for k, v in held_out.items())
        history.append({"epoch": epoch + 1, **sums, "val_loss": total})
        # Few studies: keep the epoch that does best on studies that were not trained on.
        if best is None or total <= best[0]:
            best = total, [_copy(m) for m in modules]
        if progress is not None:
            progress(1)
    assert best is not None, "at least one epoch"
    for module, state in zip(modules, best[1], strict=True):
        module.load_state_dict(state)
    if log_file is not None:
        write_log(log_file, history)
    return gate_figures(vision, text, val, device), history


def _copy(module: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def _terms(
    vision: Vision, text: TextProjection, studies: AlignStudies, index: Tensor, device: str
) -> dict[str, Tensor]:
    pooled = Pooled(
        studies.pooled.features[index].to(device), studies.pooled.position_mm[index].to(device)
    )
    labels = studies.labels.rows(index)
    labels = SlotLabels(*(t.to(device) for t in vars(labels).values()))
    tokens, hidden = vision.bridge(pooled)
    output = vision.heads(hidden)
    terms = label_losses(output, labels)
    if vision.pooling == "region":
        targets = studies.phrases[index].to(device)
        terms["token"] = token_alignment(tokens[:, : len(SLOTS)], targets, labels.present)
    same = studies.same[index][:, index].to(device)
    report = text(studies.text[index].to(device))
    scale, bias = vision.heads.scale, vision.heads.bias
    terms["contrast"] = sigmoid_contrastive(output.study, report, same, scale, bias)
    terms["variance"] = variance_floor(output.study, VARIANCE_FLOOR)
    return terms


@torch.no_grad()
def gate_figures(
    vision: Vision, text: TextProjection, val: AlignStudies, device: str
) -> gates.GateFigures:
    """What the gate asks, on held-out studies."""
    pooled = Pooled(val.pooled.features.to(device), val.pooled.position_mm.to(device))
    _, hidden = vision.bridge(pooled)
    output = vision.heads(hidden)
    return gates.measure(
        output.study.cpu(),
        text(val.text.to(device)).cpu(),
        val.same,
        output.present.cpu(),
        val.labels.present,
    )


def write_log(file: Path, rows: Sequence[dict[str, float]]) -> None:
    """A CSV of numbers, one row a record."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def write_gate(file: Path, figures: gates.GateFigures, wrong: Sequence[str]) -> dict[str, Any]:
    """The gate's figures and verdict as JSON; returns them."""
    result = {**asdict(figures), "passed": not wrong, "wrong": list(wrong)}
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    return result
