"""What both languages' report writers share: cheap draws, order, grouping, and clinical weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctscribe.reports.language import SLOTS
from ctscribe.reports.schema import Finding

_SLOT_ORDER = {slot: index for index, slot in enumerate(SLOTS)}
# How urgently an impression mentions a finding: the first comes first.
_URGENCY = {"pneumothorax": 0, "effusion": 1, "nodule": 2, "consolidation": 3, "emphysema": 4}
_SUSPICION = {"part-solid": 3.0, "solid": 2.0, None: 1.5, "ground-glass": 1.0, "calcified": 0.0}


class Picker:
    """Draws from short lists, a block of random numbers at a time: a draw costs no numpy call."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._draws: list[float] = []

    def draw(self) -> float:
        """A number in [0, 1)."""
        if not self._draws:
            self._draws = self._rng.random(48).tolist()
        return self._draws.pop()

    def one(self, *options: str) -> str:
        """One of the options, all equally likely."""
        return options[int(self.draw() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.draw() < probability

    def shuffled(self, options: Sequence[str]) -> list[str]:
        """The options in a random order."""
        return [option for _, option in sorted((self.draw(), option) for option in options)]


def arrange(findings: Sequence[Finding], pick: Picker, *, by_weight: bool = False) -> list[Finding]:
    """Findings in anatomical order or with one kind first; `by_weight`: as impressions put them."""
    anatomical = sorted(
        findings,
        key=lambda f: (_SLOT_ORDER[(f.name, f.place or "")], -(f.size_mm or 0)),  # type: ignore[index]
    )
    if by_weight:
        return sorted(anatomical, key=lambda f: (_URGENCY[f.name], -(f.size_mm or 0)))
    if pick.chance(0.4):
        return sorted(anatomical, key=lambda f: f.name != "nodule")
    return anatomical


def groups(findings: Sequence[Finding], pick: Picker) -> list[list[Finding]]:
    """Findings that one sentence states together: equal ones but for the place.

    Nodules stay alone; the others are joined with probability 0.7, where the first of them stands.
    """
    joined: list[list[Finding]] = []
    for finding in findings:
        if finding.name != "nodule" and finding.size_mm is None and pick.chance(0.7):
            host = next(
                (g for g in joined if g[0].name == finding.name and g[0].size_mm is None), None
            )
            if host is not None and host[0].amount == finding.amount:
                host.append(finding)
                continue
        joined.append([finding])
    return joined


def most_suspicious(findings: Sequence[Finding]) -> Finding | None:
    """The nodule that follow-up and pathology speak of: by density, then by size."""
    nodules = [f for f in findings if f.name == "nodule"]
    return max(nodules, key=lambda f: _SUSPICION[f.density] * 10 + (f.size_mm or 8.0), default=None)


def second_axis(size_mm: float, pick: Picker) -> int:
    """A shorter axis in whole millimetres for a nodule of this longest diameter."""
    return max(1, min(int(size_mm * (0.65 + 0.3 * pick.draw())), int(size_mm)))


def is_whole(size_mm: float) -> bool:
    """Whether a size can be said in whole millimetres."""
    return float(size_mm).is_integer()
