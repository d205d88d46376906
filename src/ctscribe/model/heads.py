"""Stage-1 heads: what the bridge's hidden states say of each slot, without a language model.

They train the bridge before any text is generated, and their own score stands beside the
report's on every page: where the report is worse than the heads, the language model is at fault.
Where the training table has grades, one more head reads the grade of the whole study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from ctscribe.reports.language import SLOTS
from ctscribe.reports.schema import (
    AMOUNTS,
    DENSITIES,
    LOBAR,
    Finding,
    side_of,
)
from ctscribe.tables.grade import GRADES, Grade

CONTRASTIVE_WIDTH = 128
SIZE_UNIT_MM = 10.0
GRADE_WEIGHTS = (0.25, 4.0)  # least and greatest weight of a grade in the loss


@dataclass(frozen=True)
class SlotLabels:
    """What a report says of each slot, as tensors (n studies, S slots).

    present: 0/1. density, amount: class index, -1 where unstated. size_mm: 0 where unstated.
    """

    present: Tensor
    density: Tensor
    amount: Tensor
    size_mm: Tensor

    def rows(self, index: Tensor) -> SlotLabels:
        """The labels of some studies."""
        return SlotLabels(
            self.present[index], self.density[index], self.amount[index], self.size_mm[index]
        )


def slot_labels(slots: Sequence[Sequence[Finding | None]]) -> SlotLabels:
    """Labels from `reports.language.slots_of` of each study."""

    def grid(value: Any) -> list[list[float]]:
        return [[value(f) for f in study] for study in slots]

    return SlotLabels(
        torch.tensor(grid(lambda f: float(f is not None))),
        torch.tensor(
            grid(lambda f: DENSITIES.index(f.density) if f and f.density else -1), dtype=torch.long
        ),
        torch.tensor(
            grid(lambda f: AMOUNTS.index(f.amount) if f and f.amount else -1), dtype=torch.long
        ),
        torch.tensor(grid(lambda f: (f.size_mm or 0.0) if f else 0.0)),
    )


@dataclass(frozen=True)
class HeadOutput:
    """present (B, S) logits, density (B, S, 4) and amount (B, S, 3) logits, size_mm (B, S).

    study (B, CONTRASTIVE_WIDTH): the whole image, unit length, to compare with report texts.
    grade (B, 4): logits, None without that head.
    """

    present: Tensor
    density: Tensor
    amount: Tensor
    size_mm: Tensor
    study: Tensor
    grade: Tensor | None = None

    def cpu(self) -> HeadOutput:
        """The same on the CPU."""
        return replace(self, **{k: t.cpu() for k, t in vars(self).items() if t is not None})


class Heads(nn.Module):
    """Linear readings of the bridge's hidden states (B, L, width).

    Row s is slot s. grades: whether there is a head for the study's grade.
    """

    def __init__(self, width: int, grades: bool = False) -> None:
        super().__init__()
        self.outputs = nn.Linear(width, 1 + len(DENSITIES) + len(AMOUNTS) + 1)
        self.study = nn.Linear(2 * width, CONTRASTIVE_WIDTH)
        self.scale = nn.Parameter(torch.tensor(2.3))  # of the contrastive logits, as an exponent
        self.bias = nn.Parameter(torch.tensor(-5.0))
        self.grade = nn.Linear(2 * width, len(GRADES)) if grades else None

    def forward(self, hidden_BLD: Tensor) -> HeadOutput:
        """Read every slot and the whole study."""
        present, density, amount, size = self.outputs(hidden_BLD[:, : len(SLOTS)]).split(
            [1, len(DENSITIES), len(AMOUNTS), 1], -1
        )
        whole = torch.cat([hidden_BLD.mean(1), hidden_BLD.amax(1)], -1)
        return HeadOutput(
            present[..., 0],
            density,
            amount,
            (size[..., 0] + 1.5) * SIZE_UNIT_MM,
            nn.functional.normalize(self.study(whole), dim=-1),
            None if self.grade is None else self.grade(whole),
        )


def label_losses(output: HeadOutput, labels: SlotLabels) -> dict[str, Tensor]:
    """Presence, and for what is present its density, amount and size."""
    sized = labels.size_mm > 0
    size = smooth_l1_loss(output.size_mm, labels.size_mm, reduction="none", beta=2.0)
    return {
        "present": binary_cross_entropy_with_logits(output.present, labels.present),
        "density": _stated(output.density, labels.density),
        "amount": _stated(output.amount, labels.amount),
        "size": (size * sized).sum() / sized.sum().clamp_min(1) / SIZE_UNIT_MM,
    }


def _stated(logits: Tensor, labels: Tensor) -> Tensor:
    total = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="sum")
    return total / (labels >= 0).sum().clamp_min(1)


def grade_labels(grades: Sequence[Grade | None]) -> Tensor:
    """Class index of each study's grade (n,), -1 where it is not known."""
    return torch.tensor([-1 if g is None else GRADES.index(g) for g in grades], dtype=torch.long)


def grade_weights(labels: Tensor) -> Tensor:
    """Weight of each grade in the loss: inverse to how often it stands, within GRADE_WEIGHTS."""
    counts = torch.bincount(labels[labels >= 0], minlength=len(GRADES)).float()
    return (counts.sum() / (len(GRADES) * counts)).nan_to_num(1.0).clamp(*GRADE_WEIGHTS)


def grade_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy (B, 4) over the studies with a grade; 0 without any."""
    known = labels >= 0
    total = cross_entropy(logits, labels, weights, ignore_index=-1, reduction="sum")
    return total / weights[labels[known]].sum().clamp_min(1e-6)


def findings_of(output: HeadOutput, threshold: float = 0.5) -> list[tuple[Finding, ...]]:
    """The heads' own findings, to score beside the reports."""
    studies = []
    for b in range(len(output.present)):
        found = []
        for s, (name, place) in enumerate(SLOTS):
            if float(output.present[b, s].sigmoid()) < threshold:
                continue
            lobar = name in LOBAR
            found.append(
                Finding(
                    name,
                    side_of(place) if lobar else place,  # type: ignore[arg-type]
                    place if lobar else None,  # type: ignore[arg-type]
                    round(float(output.size_mm[b, s])) if name == "nodule" else None,
                    DENSITIES[int(output.density[b, s].argmax())] if name == "nodule" else None,
                    None if lobar else AMOUNTS[int(output.amount[b, s].argmax())],
                )
            )
        studies.append(tuple(found))
    return studies
