"""Tubes of the chest: pulmonary vessels as trees, airways, great vessels; grown, then painted.

Vessels are what nodules are mistaken for: in a slice most of them are round spots of the same
attenuation. What tells them apart is that they go on into the next slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctscribe.reports.schema import LOBES, Lobe, side_of

if TYPE_CHECKING:
    from ctscribe.phantom.anatomy import Anatomy

Array = NDArray[np.float64]
TARGETS_PER_TREE = 13  # branches of one artery or vein of a lobe
TWIGS_PER_TREE = 34  # that then leave the nearest branch, each by itself
MURRAY = 1 / 2.0  # a branch's radius grows with its number of twigs to this power
DETOUR = 0.45  # how much a long way back to the hilum counts against a branching point
SEGMENT_MM = 13.0  # twigs bend once in this length


@dataclass(frozen=True, eq=False)
class Tubes:
    """Straight tapered tubes: start and end (n, 3) zyx mm, radius at both ends (n,) mm."""

    start: Array
    end: Array
    radius_start: Array
    radius_end: Array

    @classmethod
    def empty(cls) -> Tubes:
        """No tubes."""
        return cls(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))

    @classmethod
    def join(cls, parts: list[Tubes]) -> Tubes:
        """All of them."""
        return cls(
            np.concatenate([p.start for p in parts]),
            np.concatenate([p.end for p in parts]),
            np.concatenate([p.radius_start for p in parts]),
            np.concatenate([p.radius_end for p in parts]),
        )

    @classmethod
    def path(cls, points: Array, radii: Array) -> Tubes:
        """One tube through points (n, 3)."""
        return cls(points[:-1], points[1:], radii[:-1], radii[1:])


def _tree(
    root: Array, targets: Array, late: Array, twig_mm: float, rng: np.random.Generator
) -> Tubes:
    """A tree through `root` (k, 3) to every target: each joins where its way home is short.

    The `late` ones join a branch that is there when all targets are reached.
    """
    nodes = np.zeros((len(root) + 13 * len(targets) + 2 * len(late), 3))
    parent = np.zeros(len(nodes), dtype=np.int64)
    way = np.zeros(len(nodes))
    n = len(root)
    nodes[:n] = root
    parent[1:n] = np.arange(n - 1)
    way[1:n] = np.linalg.norm(np.diff(root, axis=0), axis=1).cumsum()
    ends = []
    first = n - 1  # twigs leave the last point of the root only, or later ones
    for target in targets[np.argsort(np.linalg.norm(targets - root[-1], axis=1))]:
        gap = target - nodes[first:n]
        length = np.sqrt((gap * gap).sum(1))
        at = first + int((length + DETOUR * way[first:n]).argmin())
        distance = length[at - first]
        steps = min(12, max(1, round(distance / SEGMENT_MM)))
        share = np.arange(1, steps + 1)[:, None] / steps
        bend = rng.normal(0, 0.07 * distance, 3) * np.sin(np.pi * share)
        nodes[n : n + steps] = nodes[at] + share * (target - nodes[at]) + bend
        parent[n] = at
        parent[n + 1 : n + steps] = np.arange(n, n + steps - 1)
        way[n : n + steps] = way[at] + share[:, 0] * distance
        n += steps
        ends.append(n - 1)
    gap = late[:, None] - nodes[first:n]
    length = np.sqrt((gap * gap).sum(2))
    join = first + (length + DETOUR * way[first:n]).argmin(1)
    m = len(late)
    half_way = (nodes[join] + late) / 2 + rng.normal(0, 1.0, (m, 3))
    nodes[n : n + 2 * m] = np.concatenate([half_way, late])
    parent[n : n + m], parent[n + m : n + 2 * m] = join, np.arange(n, n + m)
    ends.extend(range(n + m, n + 2 * m))
    n += 2 * m
    twigs = np.zeros(n)
    twigs[ends] = 1
    for i in range(n - 1, 0, -1):
        twigs[parent[i]] += twigs[i]
    radius = twig_mm * np.maximum(twigs, 1) ** MURRAY
    tip = radius.copy()
    tip[ends] *= 0.6
    child = np.arange(1, n)
    return Tubes(nodes[parent[child]], nodes[child], radius[child], tip[child])


def grow_vessels(
    anatomy: Anatomy,
    points: dict[Lobe, Array],
    depths: dict[Lobe, Array],
    lobar: dict[Lobe, Array],
    rng: np.random.Generator,
) -> Tubes:
    """An artery and a vein for each lobe, from the hilum to points spread through the lobe.

    points, depths: as `lobe_points` gives them. lobar: where each lobe's bronchus divides.
    """
    trees = []
    for lobe in LOBES:
        deep = points[lobe][depths[lobe] > 3.0]
        hilum = np.array(anatomy.hilum_zyx_mm(side_of(lobe)))
        for offset in ((3.0, -5.0, 0.0), (-6.0, 7.0, 0.0)):  # artery above and behind, vein below
            targets = deep[
                rng.integers(len(deep), size=TARGETS_PER_TREE + int(rng.integers(-3, 4)))
            ]
            late = deep[rng.integers(len(deep), size=TWIGS_PER_TREE + int(rng.integers(-8, 9)))]
            root = np.stack([hilum + offset, lobar[lobe] + offset + rng.normal(0, 2, 3)])
            trees.append(_tree(root, targets, late, float(rng.uniform(0.65, 0.85)), rng))
    return Tubes.join(trees)


def grow_airways(
    anatomy: Anatomy,
    points: dict[Lobe, Array],
    depths: dict[Lobe, Array],
    rng: np.random.Generator,
) -> tuple[Tubes, dict[Lobe, Array]]:
    """Trachea, main, lobar and segmental bronchi; and where each lobar bronchus divides."""
    carina = np.array([anatomy.hilum_z_mm + rng.uniform(18, 26), -12.0, rng.uniform(1, 4)])
    top = np.array([anatomy.height_mm / 2 + 60, -2.0, 0.0])
    radius = rng.uniform(7.5, 9.5)
    tubes = [Tubes.path(np.stack([top, carina]), np.array([radius, radius]))]
    lobar: dict[Lobe, Array] = {}
    for lobe in LOBES:
        hilum = np.array(anatomy.hilum_zyx_mm(side_of(lobe)))
        own = points[lobe][depths[lobe] > 5.0]
        centre = own.mean(0)
        lobar[lobe] = hilum + 0.36 * (centre - hilum)
        path = np.stack([carina, hilum, lobar[lobe]])
        tubes.append(Tubes.path(path, np.array([6.0, 5.0, 3.0])))
        for target in own[rng.choice(len(own), 4, replace=False)]:
            end = lobar[lobe] + 0.75 * (target - lobar[lobe])
            tubes.append(Tubes.path(np.stack([lobar[lobe], end]), np.array([2.0, 1.0])))
    return Tubes.join(tubes), lobar


def grow_great_vessels(anatomy: Anatomy) -> Tubes:
    """Aorta with its arch, superior vena cava, pulmonary trunk and its main branches."""
    r, hilum = anatomy.aorta_mm, anatomy.hilum_z_mm
    heart_z, heart_y, _ = anatomy.heart.centre_zyx_mm
    back_x, back_y = -(anatomy.vertebra_mm + 8), anatomy.spine_y_mm + 14
    arch = hilum + 34
    low = -anatomy.height_mm / 2 - 60
    aorta = [
        (heart_z + 20, heart_y - 6, -4),
        (hilum + 4, heart_y + 4, 12),
        (arch - 6, heart_y - 4, 11),
        (arch + 3, heart_y - 20, 0),
        (arch - 1, back_y + 14, back_x + 8),
        (arch - 12, back_y, back_x),
        (low, back_y + 2, back_x + 10),
    ]
    cava = [(anatomy.height_mm / 2 + 20, 4, 22), (arch, 10, 24), (heart_z + 18, heart_y - 8, 26)]
    trunk = [(heart_z + 24, heart_y + 8, -18), (hilum + 8, heart_y + 4, -20), (hilum + 10, 0, -22)]
    left = [(hilum + 10, 4, -20), tuple(anatomy.hilum_zyx_mm("left"))]
    right = [(hilum + 8, 2, -16), (hilum + 3, -2, 8), tuple(anatomy.hilum_zyx_mm("right"))]
    gullet = [(anatomy.height_mm / 2 + 40, -24, -3), (hilum, -32, -6), (low, -26, -14)]
    wide = ((aorta, r), (cava, 8.5), (trunk, 12.5), (left, 9.0), (right, 9.0), (gullet, 6.0))
    return Tubes.join(
        [Tubes.path(np.array(p, dtype=float), np.full(len(p), radius)) for p, radius in wide]
    )


def paint_tubes(
    tubes: Tubes,
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: tuple[float, float, float],
    device: torch.device | str,
) -> Tensor:
    """Share of each voxel that lies in a tube, (Z, Y, X) float32.

    tubes: in the grid's own frame, mm from the centre of its voxel (0, 0, 0).
    Each tube is cut into short pieces; a piece looks only at the voxels around its middle.
    """
    spacing = np.array(spacing_zyx_mm)
    voxel = float(spacing.mean())  # width of the soft edge
    step = np.maximum(0.8 * spacing.min(), 0.6 * np.minimum(tubes.radius_start, tubes.radius_end))
    line = tubes.end - tubes.start
    length = np.sqrt((line * line).sum(1))
    pieces = np.maximum(1, np.ceil(length / step)).astype(np.int64)
    which = np.repeat(np.arange(len(pieces)), pieces)
    nth = np.arange(len(which)) - np.repeat(pieces.cumsum() - pieces, pieces)
    share = (nth + 0.5) / pieces[which]
    middle = tubes.start[which] + share[:, None] * line[which]
    half = (length / pieces / 2)[which]
    along = (line / np.maximum(length, 1e-6)[:, None])[which]
    taper = (tubes.radius_end - tubes.radius_start)[which]
    radius = tubes.radius_start[which] + share * taper

    index = np.rint(middle / spacing)
    inside = ((index >= 0) & (index < np.array(shape_zyx))).all(1)
    reach = np.ceil((np.maximum(radius, voxel / 2) + voxel / 2) / spacing.min() - 0.25)
    pad = np.maximum(1, np.ceil(reach.max(initial=1) * spacing.min() / spacing)).astype(int)
    padded = np.array(shape_zyx) + 2 * pad
    out = torch.zeros(int(padded.prod()), device=device)
    strides = np.array([padded[1] * padded[2], padded[2], 1])
    for n in np.unique(reach[inside]):
        chosen = inside & (reach == n)
        width = np.maximum(1, np.ceil(n * spacing.min() / spacing)).astype(int)
        grid = np.stack(
            np.meshgrid(*[np.arange(-w, w + 1) for w in width], indexing="ij"), -1
        ).reshape(-1, 3)
        offset = torch.from_numpy((grid * spacing).astype(np.float32)).to(device)
        columns = (middle - index * spacing, along, radius[:, None], half[:, None])
        piece = torch.from_numpy(
            np.concatenate([c[chosen] for c in columns], 1).astype(np.float32)
        ).to(device)
        lag, axis, r, h = piece[:, :3], piece[:, 3:6], piece[:, 6:7], piece[:, 7:8]
        # v = offset - lag; its squared length and its part along the tube, each (pieces, voxels)
        square = (offset * offset).sum(1) - 2 * (lag @ offset.T) + (lag * lag).sum(1, True)
        forward = axis @ offset.T - (lag * axis).sum(1, True)
        beyond = (forward.abs() - h).clamp_min_(0)
        distance = (square - forward * forward + beyond * beyond).clamp_min_(0).sqrt_()
        # A tube thinner than a voxel fills it only in part.
        filled = (r.clamp_min(voxel / 2) - distance).div_(voxel).add_(0.5).clamp_(0, 1)
        filled *= (2 * r / voxel).clamp_max(1) ** 1.5
        base = torch.from_numpy((index[chosen] + pad).astype(np.int64) @ strides).to(device)
        jump = torch.from_numpy(grid @ strides).to(device)
        at = (base[:, None] + jump).reshape(-1)
        out.scatter_reduce_(0, at, filled.reshape(-1), "amax")
    core = tuple(slice(p, p + s) for p, s in zip(pad, shape_zyx, strict=True))
    return out.view(*padded.tolist())[core]
