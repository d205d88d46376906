"""Does the report depend on the image? Controls on the same studies that do not, or barely, look.

blank: the encoder is shown air. swapped: every study gets the image of another patient. normal:
the commonest training report without a finding. voxels, features: the report of the nearest
training study, by raw voxels or by the stage-1 embedding. heads: what stage 1 says without a
language model, the ceiling that the text can be held against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ctscribe.errors import DataError
from ctscribe.model.encoder import EncoderConfig
from ctscribe.model.nnunet_encoder import NnunetConfig
from ctscribe.reports.labeller import label_report


def blank_image(config: EncoderConfig | NnunetConfig) -> Tensor:
    """An image of nothing but air (1, 1, *space), of a usual size."""
    size = config.tile or [n * 8 if n > 1 else 64 for n in config.multiple]
    return torch.full((1, 1, *size), config.blank)


def other_patient(patients: Sequence[str], seed: int) -> list[int]:
    """For each study the index of another patient's; every study is used about once.

    Raises DataError if all studies are of one patient.
    """
    n = len(patients)
    if len(set(patients)) < 2:
        raise DataError(
            "all studies are of one patient, so none can be swapped for another's",
            fix="evaluate on studies of several patients, or leave the controls out",
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    # Sorted by patient and turned by the largest group, no study meets its own patient.
    order.sort(key=lambda i: (Counter(patients)[patients[i]] == 1, patients[i]))
    largest = max(Counter(patients).values())
    swapped = [0] * n
    for a, b in zip(order, order[largest:] + order[:largest], strict=True):
        swapped[a] = b
    if any(patients[a] == patients[b] for a, b in enumerate(swapped)):
        others = [[j for j in range(n) if patients[j] != p] for p in patients]
        swapped = [o[(seed + 7 * i) % len(o)] for i, o in enumerate(others)]
    return swapped


def commonest_normal(answers: Sequence[str]) -> str:
    """The commonest training report that states no finding; DataError if there is none."""
    normal = [a for a in answers if not label_report(a).findings]
    if not normal:
        raise DataError(
            "no training report is without findings, so there is no always-normal control",
            fix="add normal studies to the training rows, or leave the controls out",
        )
    return Counter(normal).most_common(1)[0][0]


def nearest(test: Tensor, train: Tensor) -> list[int]:
    """Index of the nearest training row (cosine of standardised features) of each test row."""
    mean, deviation = train.mean(0), train.std(0).clamp_min(1e-4)
    a, b = ((x - mean) / deviation for x in (test, train))
    a, b = (torch.nn.functional.normalize(x, dim=1) for x in (a, b))
    return [int(i) for i in (a @ b.T).argmax(1)]
