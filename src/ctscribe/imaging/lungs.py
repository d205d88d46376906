"""Where the lungs are: the air inside the body, on a coarse copy, in about 20 ms on one core.

Plain thresholds and connected components, because the answer must be the same on a phantom, a
thick-slice CT and a thin-slice CT, before any network has seen the image. Right is high x and
left is low x, as `volume.py` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctscribe.errors import ImageError
from ctscribe.imaging.volume import Volume

if TYPE_CHECKING:  # arrays do without PyTorch, which takes seconds to import
    from torch import Tensor

AIR_HU = -400.0  # below: air or lung; above: tissue
GAS_HU = -920.0  # below, averaged over 3x3 voxels: air outside, gas; a healthy lung stays above
BONE_HU = 180.0
COARSE_MM = 4.2  # the coarse copy's voxels are the largest multiples of the image's below this
FINE_MM = 1.5  # finer voxels than this are skipped, not averaged: speed, and nothing lost
WHOLE_SIDE_MM = 150.0  # gas this tall is a pneumothorax even without lung beside it
MIN_LUNG_ML = 20.0  # smaller pockets of air beside the lungs are not lungs

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """Voxels low <= index < high of the image it was found in, each axis (z, y, x)."""

    low_zyx: Triple
    high_zyx: Triple

    @property
    def shape_zyx(self) -> Triple:
        """Voxels along each axis."""
        z, y, x = (b - a for a, b in zip(self.low_zyx, self.high_zyx, strict=True))
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing an array."""
        z, y, x = (slice(a, b) for a, b in zip(self.low_zyx, self.high_zyx, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Lungs:
    """Both lungs' air on a coarse copy of an image.

    air_zyx: lungs (and the trachea and main bronchi, where they connect). hu_zyx: the coarse copy.
    factor_zyx: image voxels per coarse voxel. spacing_zyx_mm: of a coarse voxel.
    midline_x: coarse index of the patient's midline, from the spine where bone is seen.
    spine_y: coarse index of the middle of the spine's bone, None where too little bone is seen.
    """

    air_zyx: Bools
    hu_zyx: NDArray[np.float32]
    factor_zyx: Triple
    spacing_zyx_mm: Spacing
    shape_zyx: Triple
    midline_x: float
    spine_y: float | None

    @property
    def voxel_ml(self) -> float:
        """Volume of a coarse voxel."""
        return float(np.prod(self.spacing_zyx_mm)) / 1000

    @cached_property
    def litres(self) -> tuple[float, float]:
        """Air in the right and in the left lung."""
        per_x = self.air_zyx.sum((0, 1)) * self.voxel_ml / 1000
        x = np.arange(len(per_x))
        return float(per_x[x >= self.midline_x].sum()), float(per_x[x < self.midline_x].sum())


def find_lungs(hu_zyx: NDArray[Any] | Tensor, spacing_zyx_mm: Spacing) -> Lungs:
    """Find the lungs' air in a volume or slice (1, Y, X) of HU.

    Air outside the body, in table and clothes, and gas in bowel and stomach are left out; a
    pneumothorax counts as lung. `air_zyx` is empty where there is no such air.
    """
    coarse, factor, spacing = _coarse(hu_zyx, spacing_zyx_mm)
    voxel_ml = float(np.prod(spacing)) / 1000
    air = coarse < AIR_HU
    outside = _outside(coarse, air)
    label, count = ndimage.label(air & ~outside)
    found = np.zeros_like(air)
    if count:
        sizes = np.bincount(label.ravel(), minlength=count + 1)
        contact = np.bincount(label[_grown(outside)], minlength=count + 1)
        # A pocket between arm and chest, or under a blanket, lies open to the air outside; the
        # lungs do so at most through the mouth.
        enclosed = contact < 0.25 * sizes ** (2 / 3)
        enclosed[0] = False
        least = 0.0 if coarse.shape[0] == 1 else MIN_LUNG_ML
        candidates = np.flatnonzero(enclosed & (sizes * voxel_ml >= least))
        candidates = candidates[np.argsort(-sizes[candidates], kind="stable")][:12]
        for k in _choose(coarse, label, candidates, sizes, spacing[0]):
            found |= label == k
    midline, spine_y = _spine(coarse, found, spacing)
    return Lungs(found, coarse, factor, spacing, _triple(hu_zyx.shape), midline, spine_y)


def lungs_of(volume: Volume) -> Lungs:
    """`find_lungs` of a volume, on the CPU."""
    return find_lungs(volume.array_zyx, volume.spacing_zyx_mm)


def lung_air_mask(hu_zyx: NDArray[Any] | Tensor, spacing_zyx_mm: Spacing) -> Bools:
    """Voxels (Z, Y, X) of the lungs' air at the image's own resolution, trachea included."""
    lungs = find_lungs(hu_zyx, spacing_zyx_mm)
    near = ndimage.binary_dilation(lungs.air_zyx, np.ones((3, 3, 3), bool))
    for axis, (n, k) in enumerate(zip(lungs.shape_zyx, lungs.factor_zyx, strict=True)):
        if k > 1:
            near = near.take(np.minimum(np.arange(n) // k, near.shape[axis] - 1), axis)
    air = hu_zyx < AIR_HU
    mask: Bools = near & (air if isinstance(air, np.ndarray) else air.cpu().numpy())
    return mask


def lung_box(lungs: Lungs, margin_mm: float = 16.0) -> Box:
    """Bounding box of both lungs plus a margin, within the image.

    A lung that fluid has filled is not air: where one side reaches less far from the midline than
    the other, the box does so all the same, and it always reaches the spine.
    Raises ImageError where no lung was found.
    """
    air = lungs.air_zyx
    if not air.any():
        raise ImageError("no air-filled lung was found", fix="give a chest CT in Hounsfield units")
    ranges = []
    for axis in range(3):
        along = np.flatnonzero(_filled(air, axis, lungs.spacing_zyx_mm))
        ranges.append([float(along[0]), float(along[-1] + 1)])
    mid = lungs.midline_x + 0.5
    half = max(mid - ranges[2][0], ranges[2][1] - mid)
    ranges[2] = [min(ranges[2][0], mid - 0.9 * half), max(ranges[2][1], mid + 0.9 * half)]
    if lungs.spine_y is not None:
        ranges[1][0] = min(ranges[1][0], lungs.spine_y)
    low, high = [], []
    for (a, b), n, k, mm in zip(
        ranges, lungs.shape_zyx, lungs.factor_zyx, lungs.spacing_zyx_mm, strict=True
    ):
        margin = 0.0 if n == 1 else margin_mm / mm
        low.append(max(0, int(np.floor((a - margin) * k))))
        high.append(min(n, int(np.ceil((b + margin) * k))))
    return Box(_triple(low), _triple(high))


def _filled(air: Bools, axis: int, spacing: Spacing) -> Bools:
    """Planes across `axis` that hold lung: more than a trachea or a stray voxel."""
    across = [n for i, n in enumerate(spacing) if i != axis]
    area = air.sum(tuple(i for i in range(3) if i != axis)) * np.prod(across)
    return np.asarray(area > min(600.0, 0.05 * float(area.max())))


def _coarse(
    hu_zyx: NDArray[Any] | Tensor, spacing: Spacing
) -> tuple[NDArray[np.float32], Triple, Spacing]:
    """A copy of about COARSE_MM by skipping and box averaging, on the CPU."""
    skip = [max(1, int(FINE_MM / mm)) for mm in spacing]
    skipped = hu_zyx[:: skip[0], :: skip[1], :: skip[2]]
    rest = [
        min(n, max(1, int(COARSE_MM / (k * mm))))
        for n, k, mm in zip(skipped.shape, skip, spacing, strict=True)
    ]
    actual = _triple(s * r for s, r in zip(skip, rest, strict=True))
    z, y, x = (k * mm for k, mm in zip(actual, spacing, strict=True))
    return _pooled(skipped, rest), actual, (z, y, x)


def _pooled(values: NDArray[Any] | Tensor, sizes: Sequence[int]) -> NDArray[np.float32]:
    """Means over boxes; those at the end are of what is left. A tensor is averaged where it lies.

    Both ways give the same bits for whole HU, whose sums float32 holds exactly.
    """
    if not isinstance(values, np.ndarray):
        from torch.nn.functional import avg_pool3d

        pooled = avg_pool3d(values.float()[None, None], list(sizes), ceil_mode=True)[0, 0]
        on_cpu: NDArray[np.float32] = pooled.cpu().numpy()
        return on_cpu
    total = values.astype(np.float32)
    count = np.ones((1, 1, 1), np.float32)
    for axis, size in enumerate(sizes):
        if size == 1:
            continue
        moved = np.moveaxis(total, axis, 0)
        summed = moved[::size].copy()
        for step in range(1, size):
            part = moved[step::size]
            summed[: len(part)] += part
        held = np.minimum(size, len(moved) - size * np.arange(len(summed)))
        shape = [-1 if other == axis else 1 for other in range(3)]
        count = count * held.astype(np.float32).reshape(shape)
        total = np.moveaxis(summed, 0, axis)
    return np.ascontiguousarray(total / count)


def _outside(coarse: NDArray[np.float32], air: Bools) -> Bools:
    """Air that a straight ray within its slice reaches from a border where there is gas.

    Rays from front and back pass shells one voxel thin on either side: the table's.
    """
    thin = air.copy()
    thin[:, 1:] |= air[:, :-1]
    thin[:, :-1] |= air[:, 1:]
    outside = np.zeros_like(air)
    _, height, width = air.shape
    for end in (0, -1):
        seed = _is_gas(coarse[:, end])
        open_zx = seed.copy()
        for y in range(height) if end == 0 else range(height - 1, -1, -1):
            open_zx &= thin[:, y]
            outside[:, y] |= open_zx
        seed = _is_gas(coarse[:, :, end])
        tissue = ~(air if end == 0 else air[:, :, ::-1])
        reach = np.where(tissue.any(2), tissue.argmax(2), width) * seed
        ray = np.arange(width) < reach[:, :, None]
        outside |= ray if end == 0 else ray[:, :, ::-1]
    return outside


def _is_gas(face: NDArray[np.float32]) -> Bools:
    """Where a border face (Z, Y or X) shows gas rather than lung, noise averaged away."""
    smooth: NDArray[np.float32] = ndimage.uniform_filter(face, 3, mode="nearest")
    return smooth < GAS_HU


def _grown(mask: Bools) -> Bools:
    """The mask and every voxel that shares a face with it."""
    grown = mask.copy()
    for axis in range(3):
        before = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        after = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        grown[after] |= mask[before]
        grown[before] |= mask[after]
    return grown


def _choose(
    coarse: NDArray[np.float32],
    label: NDArray[Any],
    candidates: NDArray[np.intp],
    sizes: NDArray[np.intp],
    step_mm: float,
) -> list[int]:
    """Labels of the lungs among enclosed pockets of air, largest first.

    The largest that is lung, or gas as tall as a whole side, leads; others belong if they lie at
    its height. Pure gas there is a pneumothorax if it is tall, otherwise stomach or bowel.
    """
    known = []
    for k in candidates:
        own = label == k
        rows = np.flatnonzero(own.any((1, 2)))
        values = coarse[own]
        lung = float(((values > -950) & (values < -500)).mean()) > 0.3
        known.append((int(k), slice(int(rows[0]), int(rows[-1]) + 1), lung))
    if not known:
        return []
    leading = (k for k in known if k[2] or (k[1].stop - k[1].start) * step_mm >= WHOLE_SIDE_MM)
    main = next(leading, known[0])
    height = main[1].stop - main[1].start
    chosen = [main[0]]
    for k, z, lung in known:
        overlap = min(z.stop, main[1].stop) - max(z.start, main[1].start)
        height_k = z.stop - z.start
        tall = height_k >= (0.1 if lung else 0.45) * height
        if (
            k != main[0]
            and overlap >= 0.6 * height_k
            and tall
            and sizes[k] >= 0.01 * sizes[main[0]]
        ):
            chosen.append(k)
    return chosen


def _spine(
    coarse: NDArray[np.float32], lungs: Bools, spacing: Spacing
) -> tuple[float, float | None]:
    """Midline (x) and middle (y) of the spine at the lungs' height; midline of the body if unseen.

    The spine is the bone at the back, near the body's middle; medians ignore ribs and aorta.
    """
    width = coarse.shape[2]
    if not lungs.any():
        return width / 2 - 0.5, None
    rows = np.flatnonzero(lungs.any((1, 2)))
    band = slice(rows[0], rows[-1] + 1)
    tissue = coarse[band] > -300
    across = tissue.sum((0, 1)).astype(float)
    midline = float((across * np.arange(width)).sum() / max(across.sum(), 1.0))
    depth = np.flatnonzero(lungs.any((0, 2)))
    top = int(depth[0] + 0.45 * (depth[-1] - depth[0]))
    # Lungs that float on fluid end far in front of the spine.
    bottom = max(0, int(depth[0] - 140 / spacing[1]))
    spine_y = None
    for reach_mm in (70.0, 35.0, 35.0):
        reach = reach_mm / spacing[2]
        left, right = max(0, int(midline - reach)), min(width, int(midline + reach) + 1)
        bone = coarse[band, bottom:top, left:right] > BONE_HU
        if bone.sum() * np.prod(spacing) < 5000:
            break
        per_x, per_y = bone.sum((0, 1)), bone.sum((0, 2))
        midline = left + _median(per_x)
        spine_y = bottom + _median(per_y)
    return midline, spine_y


def _median(counts: NDArray[np.intp]) -> float:
    """Median index of a histogram."""
    total = np.cumsum(counts)
    return float(np.searchsorted(total, total[-1] / 2))


def _triple(values: Any) -> Triple:
    z, y, x = (int(v) for v in values)
    return z, y, x
