"""The gate between the stages: did stage 1 learn anything, measured on studies it did not see?

A bridge can reach a low loss by saying the same of every image. Three figures tell: the effective
rank of what it says (Roy and Vetterli 2007), how well it ranks studies by each label, and whether
a study finds its own report among the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ctscribe.config import AlignConfig
from ctscribe.errors import GateError
from ctscribe.reports.language import SLOTS
from ctscribe.reports.schema import FINDINGS

FEWEST_STUDIES = 8  # of five, each finds its own report among five
RANK_SHARE = 0.25  # of n, the greatest rank of n studies, is asked where that is less


@dataclass(frozen=True)
class GateFigures:
    """What the gate measured on held-out studies."""

    studies: int
    effective_rank: float  # of the study embeddings; 1 is collapse
    label_auroc: float  # mean over findings with both classes; 0.5 is chance
    auroc: dict[str, float]  # of each finding
    retrieval_top5: float  # share of studies whose own report (or its equal) is among the first 5
    retrieval_chance: float  # the same for a random order


def measure(
    study: Tensor, text: Tensor, same: Tensor, present: Tensor, truth: Tensor
) -> GateFigures:
    """The gate's figures.

    study, text: (n, D) unit-length embeddings of images and reports. same: (n, n) bool, reports
    that say the same. present: (n, S) logits of the slots; truth: (n, S) 0/1.
    """
    auroc = {}
    for name in FINDINGS:
        columns = [s for s, (finding, _) in enumerate(SLOTS) if finding == name]
        score, label = present[:, columns].flatten().numpy(), truth[:, columns].flatten().numpy()
        if 0 < label.sum() < len(label):
            auroc[name] = float(roc_auc_score(label, score))
    order = (study @ text.T).argsort(1, descending=True)[:, :5]
    hits = same.gather(1, order).any(1).float().mean()
    n = len(study)
    # Chance that at least one of `k` equal reports is among five drawn without replacement.
    missed = [
        np.prod([max(0.0, n - k - j) / (n - j) for j in range(min(5, n))])
        for k in same.sum(1).tolist()
    ]
    return GateFigures(
        studies=n,
        effective_rank=effective_rank(study),
        label_auroc=float(np.mean(list(auroc.values()))) if auroc else float("nan"),
        auroc={k: round(v, 4) for k, v in auroc.items()},
        retrieval_top5=float(hits),
        retrieval_chance=float(1 - np.mean(missed)),
    )


def effective_rank(x: Tensor) -> float:
    """exp of the entropy of the normalised singular values of x (n, D).

    Not centred: of rows that are all but equal, centring leaves their noise, whose rank is high.
    """
    values = torch.linalg.svdvals(x.double())
    p = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(p * torch.log(p.clamp_min(1e-12))).sum()))


@dataclass(frozen=True)
class Thresholds:
    """What each figure must reach before stage 2 starts."""

    effective_rank: float
    label_auroc: float
    retrieval_top5: float

    @classmethod
    def of(cls, config: AlignConfig, figures: GateFigures) -> Thresholds:
        """From the settings; where few studies are held out, chance is high and rank is bounded."""
        chance = figures.retrieval_chance
        retrieval = chance + config.gate_min_retrieval * (1 - chance)
        rank = min(config.gate_min_rank, RANK_SHARE * figures.studies)
        return cls(rank, config.gate_min_auroc, retrieval)


def verdict(figures: GateFigures, thresholds: Thresholds) -> list[str]:
    """What is below its threshold, in words; empty if stage 2 may start."""
    if figures.studies < FEWEST_STUDIES:
        return [
            f"{figures.studies} held-out studies are too few to judge by, at least "
            f"{FEWEST_STUDIES} are needed (--val-ratio, --csv-val)"
        ]
    names = {
        "effective_rank": "effective rank",
        "label_auroc": "label AUROC",
        "retrieval_top5": "retrieval top-5",
    }
    return [
        f"{name} {getattr(figures, key):.3g} is below {getattr(thresholds, key):.3g}"
        for key, name in names.items()
        if not getattr(figures, key) >= getattr(thresholds, key)
    ]


def require(wrong: Sequence[str], *, ignore: bool, file: str) -> None:
    """Raise GateError if stage 1 failed its gate, unless the user said to go on."""
    if wrong and not ignore:
        raise GateError(
            f"stage 1 did not pass its gate: {'; '.join(wrong)}",
            file=file,
            fix="train stage 1 longer or on more studies, or start stage 2 with --ignore-gate",
        )
