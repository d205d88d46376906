"""What is wrong with a phantom patient: which findings, and the exact shape and place of each.

`draw_findings` decides what a report would say; `sample_findings` gives every finding a body in a
patient's lungs and keeps only what fits there, so that the truth and the image cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ctscribe.phantom.anatomy import SIGN, Anatomy, Collapse, lobe_points, lung_field
from ctscribe.reports.schema import (
    AMOUNTS,
    DENSITIES,
    LOBES,
    PLEURAL,
    SIDES,
    Amount,
    Density,
    Finding,
    Lobe,
    Side,
    side_of,
)

# Bit i of a lesion mask; densities of nodules first, then the other findings.
LESIONS: tuple[str, ...] = (
    "solid",
    "part-solid",
    "ground-glass",
    "calcified",
    "consolidation",
    "emphysema",
    "effusion",
    "pneumothorax",
)
ProfileName = Literal["demo", "fine", "thin", "thin crowded", "crowded"]
Array = NDArray[np.float64]

# Greatest thickness in mm and reach as a share of the lung's height. The gaps between the amounts
# are wider than a voxel, so that small, moderate and large never meet.
EFFUSION_AMOUNT: dict[Amount, tuple[tuple[float, float], tuple[float, float]]] = {
    "small": ((14, 21), (0.40, 0.52)),
    "moderate": ((33, 44), (0.62, 0.76)),
    "large": ((60, 74), (0.88, 1.00)),
}
PNEUMOTHORAX_AMOUNT: dict[Amount, tuple[tuple[float, float], tuple[float, float]]] = {
    "small": ((13, 18), (0.52, 0.64)),
    "moderate": ((28, 36), (0.76, 0.88)),
    "large": ((50, 64), (1.00, 1.00)),
}
NODULE_HU: dict[Density, tuple[float, float]] = {
    "solid": (-20, 60),
    "part-solid": (-650, -520),  # of the ground glass around the core
    "ground-glass": (-650, -500),
    "calcified": (320, 900),
}
CORE_SHARE = (0.40, 0.60)  # diameter of a part-solid nodule's core
HILUM_FREE_MM = 24.0  # no nodule's centre comes nearer to a hilum: there even a reader cannot tell
WHOLE_NODULES = 0.75  # share of nodules that do not touch their lobe's border
DIRECTIONS = 240  # in which a nodule's surface is looked at to measure it


@dataclass(frozen=True)
class Profile:
    """How fine the voxels are, how small nodules get (uniform ranges, mm), and what is how rare.

    Shares are of studies; those of findings, of studies that have any. nodules: chances of 1, 2, …
    in a study that has them.
    """

    name: ProfileName
    spacing_z_mm: tuple[float, float]
    spacing_xy_mm: tuple[float, float]
    nodule_mm: tuple[float, float]
    without: float = 0.19
    consolidation: float = 0.24
    nodule: float = 0.74
    nodules: tuple[float, ...] = (0.55, 0.3, 0.15)
    emphysema: float = 0.28
    effusion: float = 0.30
    pneumothorax: float = 0.24


PROFILES: dict[str, Profile] = {
    "demo": Profile("demo", (3.5, 5.0), (2.6, 3.4), (8.0, 30.0)),
    "fine": Profile("fine", (1.0, 2.5), (0.6, 0.9), (4.0, 30.0)),
    # Fine enough for small nodules, and a fifth of the voxels of `fine`.
    "thin": Profile("thin", (1.5, 2.5), (1.1, 1.5), (6.0, 30.0)),
    "thin crowded": Profile(
        "thin crowded",
        (1.5, 2.5),
        (1.1, 1.5),
        (5.0, 24.0),
        without=0.05,
        nodule=0.95,
        nodules=(0.1, 0.2, 0.3, 0.25, 0.15),
        emphysema=0.4,
    ),
    # For pretraining where time is short: several times the lesions in each image.
    "crowded": Profile(
        "crowded",
        (3.5, 5.0),
        (2.6, 3.4),
        (8.0, 30.0),
        without=0.05,
        nodule=0.95,
        nodules=(0.1, 0.2, 0.3, 0.25, 0.15),
        emphysema=0.45,
    ),
}


@dataclass(frozen=True)
class Lesion:
    """A finding with a shape. Millimetres are in the body frame of `anatomy.py`, order zyx.

    size_mm: longest diameter of the drawn shape (nodules), radius (consolidation), greatest
    thickness (effusion, pneumothorax). share: of its lobe (consolidation, emphysema), of the
    lung's height (effusion, pneumothorax), of the diameter that is solid (part-solid nodules).
    axes_mm, lobulation: of a nodule's surface, see `NoduleShape`. seed: of what is random in it.
    """

    finding: Finding
    side: Side
    centre_zyx_mm: tuple[float, float, float]
    size_mm: float
    hu: float
    seed: int
    share: float = 0.0
    axes_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lobulation: float = 0.0

    @property
    def bit(self) -> int:
        """Index into LESIONS."""
        return LESIONS.index(self.finding.density or self.finding.name)

    @property
    def density(self) -> Density | None:
        """Of a nodule."""
        return self.finding.density

    @property
    def amount(self) -> Amount | None:
        """Of an effusion or a pneumothorax."""
        return self.finding.amount

    @property
    def collapse(self) -> Collapse:
        """What an effusion or pneumothorax does to its lung."""
        return Collapse(self.finding.name, self.size_mm, self.share)


class NoduleShape:
    """A nodule's surface: an ellipsoid, turned, its radius modulated by `lobulation`."""

    def __init__(self, lesion: Lesion) -> None:
        rng = np.random.default_rng(lesion.seed)
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        axes = np.array(lesion.axes_mm)
        self.inverse = torch.from_numpy((q / axes).astype(np.float32))  # u @ inverse: unit sphere
        waves = rng.normal(size=(3, 3))
        waves *= rng.uniform(2.0, 3.6, (3, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
        self.waves = torch.from_numpy(waves.T.astype(np.float32))
        self.phases = torch.from_numpy(rng.uniform(0, 2 * np.pi, 3).astype(np.float32))
        self.lobulation = lesion.lobulation

    def radius(self, direction: torch.Tensor) -> torch.Tensor:
        """Radius in mm along unit vectors (..., 3) zyx."""
        inverse, waves = self.inverse.to(direction.device), self.waves.to(direction.device)
        even = 1 / (direction @ inverse).square().sum(-1).sqrt()
        if not self.lobulation:
            return even
        bumps = (direction @ waves + self.phases.to(direction.device)).sin().mean(-1)
        return even * (1 + self.lobulation * bumps)


def draw_findings(rng: np.random.Generator, profile: str = "demo") -> tuple[Finding, ...]:
    """Findings of one study, as a report would list them, without a patient to put them in.

    By default a fifth of the studies has none; more than half have nodules, which are what is hard.
    """
    chosen = PROFILES[profile]
    low, high = chosen.nodule_mm
    if rng.random() < chosen.without:
        return ()
    while True:
        found: list[Finding] = []
        taken: set[str] = set()
        if rng.random() < chosen.consolidation:
            for lobe in _lobes(rng, (0.8, 0.2), (0.2, 0.15, 0.25, 0.15, 0.25)):
                found.append(Finding("consolidation", side_of(lobe), lobe))
                taken.add(lobe)
        if rng.random() < chosen.nodule:
            for lobe in _lobes(rng, chosen.nodules, (0.2,) * 5, taken):
                size = float(round(rng.uniform(low, high)))
                density = DENSITIES[rng.integers(len(DENSITIES))]
                found.append(Finding("nodule", side_of(lobe), lobe, size, density))
        if rng.random() < chosen.emphysema:
            for lobe in _lobes(rng, (0.5, 0.35, 0.15), (0.28, 0.14, 0.15, 0.28, 0.15), taken):
                found.append(Finding("emphysema", side_of(lobe), lobe))
        free = list(SIDES)
        if rng.random() < chosen.effusion:
            sides = SIDES if rng.random() < 0.25 else (SIDES[rng.integers(2)],)
            for side in sides:
                found.append(Finding("effusion", side, amount=AMOUNTS[rng.integers(3)]))
                free.remove(side)
        if free and rng.random() < chosen.pneumothorax:
            side = free[rng.integers(len(free))]
            found.append(Finding("pneumothorax", side, amount=AMOUNTS[rng.integers(3)]))
        if found:
            return tuple(found)


def _lobes(
    rng: np.random.Generator,
    counts: Sequence[float],
    weights: Sequence[float],
    taken: set[str] | None = None,
) -> list[Lobe]:
    """Different lobes; counts: chances of 1, 2, …; weights: of each lobe."""
    p = np.array(
        [0.0 if lobe in (taken or ()) else w for lobe, w in zip(LOBES, weights, strict=True)]
    )
    n = min(int((p > 0).sum()), 1 + int(rng.choice(len(counts), p=counts)))
    return [LOBES[i] for i in rng.choice(len(LOBES), n, replace=False, p=p / p.sum())]


def sample_findings(
    rng: np.random.Generator, anatomy: Anatomy, profile: str = "demo"
) -> tuple[Lesion, ...]:
    """Draw findings and give each its shape in this patient.

    Lobar findings for which a lobe has no room move to another lobe, or are left out.
    """
    found = draw_findings(rng, profile)
    pleural = [_pleural(f, anatomy, rng) for f in found if f.name in PLEURAL]
    collapse = {lesion.side: lesion.collapse for lesion in pleural}
    points, depths = lobe_points(anatomy, 5000, rng, collapse)
    whole = sum(map(len, points.values()))
    roomy = [k for k in LOBES if len(points[k]) > 0.03 * whole and depths[k].max() > 9]
    solid = {f.lobe for f in found if f.name == "consolidation"}
    used = {(f.name, f.lobe) for f in found}
    lesions: list[Lesion] = []
    for finding in found:
        if finding.name in PLEURAL:
            continue
        assert finding.lobe is not None
        spare = [k for k in LOBES if k not in solid and (finding.name, k) not in used]
        if finding.name == "consolidation":
            spare = [k for k in spare if all(f.lobe != k for f in found)]
        spare = [spare[i] for i in rng.permutation(len(spare))]
        for lobe in [finding.lobe, *spare]:
            if lobe not in roomy:
                continue
            moved = replace(finding, lobe=lobe, side=side_of(lobe))
            lesion = _lobar(moved, anatomy, collapse, points[lobe], depths[lobe], profile, rng)
            if lesion is not None:
                lesions.append(lesion)
                used.add((finding.name, lobe))
                if finding.name == "consolidation":
                    solid.add(lobe)
                break
    return (*lesions, *pleural)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _pleural(finding: Finding, anatomy: Anatomy, rng: np.random.Generator) -> Lesion:
    assert finding.side is not None
    assert finding.amount is not None
    fluid = finding.name == "effusion"
    thick, reach = (EFFUSION_AMOUNT if fluid else PNEUMOTHORAX_AMOUNT)[finding.amount]
    # Only for the page that circles it: the middle of the back, or of the front.
    t = 0.25 if fluid else 0.65
    y = (-0.8 if fluid else 0.8) * anatomy.depth_mm
    centre = ((t - 0.5) * anatomy.height_mm, y, SIGN[finding.side] * 0.4 * anatomy.width_mm)
    return Lesion(
        finding,
        finding.side,
        centre,
        size_mm=float(rng.uniform(*thick)),
        hu=float(rng.uniform(0, 20)) if fluid else -1000.0,
        seed=_seed(rng),
        share=float(rng.uniform(*reach)),
    )


def _lobar(
    finding: Finding,
    anatomy: Anatomy,
    collapse: dict[Side, Collapse],
    points: Array,
    depths: Array,
    profile: str,
    rng: np.random.Generator,
) -> Lesion | None:
    """A lesion in the lobe that `points` (k, 3) fill at `depths` (k,), or None if none fits."""
    if finding.name == "nodule":
        return _nodule(finding, anatomy, collapse, points, depths, profile, rng)
    assert finding.side is not None
    if finding.name == "emphysema":
        z, y, x = points.mean(0)
        share = float(rng.uniform(0.5, 0.8))
        hu = float(rng.uniform(-980, -940))
        return Lesion(finding, finding.side, (z, y, x), 0.0, hu, _seed(rng), share)
    rim = points[depths < 14]
    share = float(rng.uniform(0.35, 0.75))
    centre = rim[rng.integers(len(rim))]
    radius = float(np.quantile(np.linalg.norm(points - centre, axis=1), share))
    z, y, x = centre
    hu = float(rng.uniform(25, 60))
    return Lesion(finding, finding.side, (z, y, x), radius, hu, _seed(rng), share)


def _nodule(
    finding: Finding,
    anatomy: Anatomy,
    collapse: dict[Side, Collapse],
    points: Array,
    depths: Array,
    profile: str,
    rng: np.random.Generator,
) -> Lesion | None:
    assert finding.side is not None
    assert finding.size_mm is not None
    assert finding.density is not None
    low, high = PROFILES[profile].nodule_mm
    hilum = np.array(anatomy.hilum_zyx_mm(finding.side))
    free = np.linalg.norm(points - hilum, axis=1) > HILUM_FREE_MM + finding.size_mm / 2
    radius = finding.size_mm / 2
    fits = np.flatnonzero(free & (depths > 0.62 * radius + 0.5))
    inside = np.flatnonzero(free & (depths > radius + 1.0))
    if rng.random() < WHOLE_NODULES and len(inside):
        fits = inside
    axes = np.array([1.0, rng.uniform(0.82, 1.0), rng.uniform(0.75, 1.0)]) * radius
    share = float(rng.uniform(*CORE_SHARE)) if finding.density == "part-solid" else 0.0
    draft = Lesion(
        finding,
        finding.side,
        (0.0, 0.0, 0.0),
        size_mm=finding.size_mm,
        hu=float(rng.uniform(*NODULE_HU[finding.density])),
        seed=_seed(rng),
        share=share,
        axes_mm=(axes[0], axes[1], axes[2]),
        lobulation=float(rng.uniform(0.0, 0.14)) if rng.random() < 0.6 else 0.0,
    )
    # Lobulation makes it longer or shorter: scale it back to the size that was drawn.
    scale = finding.size_mm / _diameter(_surface(draft, None, None))
    draft = replace(draft, axes_mm=(axes[0] * scale, axes[1] * scale, axes[2] * scale))
    for i in fits[rng.permutation(len(fits))[:6]]:
        z, y, x = points[i]
        lesion = replace(draft, centre_zyx_mm=(float(z), float(y), float(x)))
        size = _diameter(_surface(lesion, anatomy, collapse.get(finding.side)))
        if size > 0.93 * finding.size_mm and low - 0.5 <= size:
            exact = replace(finding, size_mm=float(round(size)))
            return replace(lesion, finding=exact, size_mm=min(size, high + 0.49))
    return None


def _sphere(n: int) -> torch.Tensor:
    """n unit vectors spread evenly (Fibonacci's lattice), (n, 3)."""
    k = np.arange(n) + 0.5
    height = 1 - 2 * k / n
    angle = np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    xyz = np.stack([height, ring * np.cos(angle), ring * np.sin(angle)], 1)
    return torch.from_numpy(xyz.astype(np.float32))


def _surface(lesion: Lesion, anatomy: Anatomy | None, collapse: Collapse | None) -> torch.Tensor:
    """Points (n, 3) of a nodule's surface around its centre, cut at its lobe's border."""
    direction = _sphere(DIRECTIONS)
    surface = NoduleShape(lesion).radius(direction)[:, None] * direction
    if anatomy is None:
        return surface
    assert lesion.finding.lobe is not None
    share = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])[:, None, None]
    z, y, x = (torch.tensor(lesion.centre_zyx_mm) + share * surface).unbind(-1)
    field = lung_field(anatomy, lesion.side, x, y, z, collapse)
    depth = field.lobe_depth(lesion.finding.lobe)
    before, after = depth[:-1], depth[1:]
    step = torch.where(after >= 0, 1.0, (before / (before - after).clamp_min(1e-3)).clamp(0, 1))
    reached = (step * (before >= 0).cumprod(0)).sum(0) / (len(share) - 1)
    return surface * reached[:, None]


def _diameter(surface: torch.Tensor) -> float:
    """Longest distance between two points, mm."""
    return float(torch.cdist(surface, surface).max())
