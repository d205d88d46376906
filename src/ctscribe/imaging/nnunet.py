"""nnU-Net's own preprocessing, voxel for voxel, of the part of a CT that is needed.

`DefaultPreprocessor.run_case_npy` of nnU-Net v2.8: turn to the orientation and axes it was trained
in, crop to what is not zero, normalise, resample as the plans say. There every axis is resampled
in turn by a linear map (a cubic spline, or the nearest slice along a thick axis), so here each is
a matrix, of which only the rows of the lungs are computed. The result stands in the house's axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ctscribe.errors import ConfigError, ImageError
from ctscribe.imaging.lungs import Box
from ctscribe.imaging.transforms import Prepared, sample_axis
from ctscribe.imaging.volume import Volume

ANISOTROPIC = 3.0  # nnU-Net's ANISO_THRESHOLD: thicker than this, an axis is resampled by itself
HOUSE_AXES = {"S": 0, "I": 0, "A": 1, "P": 1, "R": 2, "L": 2}  # in (z, y, x)
AGAINST = "IPL"  # letters that point against the house's axes, which grow to S, A and R
NEGLIGIBLE = 1e-8  # weights of a spline below this are left out
SCHEMES = ("CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization")


@dataclass(frozen=True)
class Recipe:
    """What nnU-Net's plans say of an image before the network sees it.

    orientation: which way the stored axes x, y, z grow, such as LPS (not in the plans; see
    docs/ENCODER.md). transpose: the stored array axes (of z, y, x) in the network's order.
    spacing_mm: of the network's axes, 2 or 3. intensity: mean, std, low, high of CTNormalization.
    order: of the spline; order_thick: along a thick axis; separate: None leaves it to the spacing.
    """

    orientation: str
    transpose: tuple[int, int, int]
    spacing_mm: tuple[float, ...]
    normalization: str = "CTNormalization"
    intensity: tuple[float, float, float, float] = (0.0, 1.0, -1024.0, 3071.0)
    order: int = 3
    order_thick: int = 0
    separate: bool | None = None

    def __post_init__(self) -> None:
        if sorted(HOUSE_AXES.get(letter, -1) for letter in self.orientation) != [0, 1, 2]:
            raise ConfigError(
                f"orientation is {self.orientation!r}",
                fix="give three letters, one of R/L, one of A/P, one of S/I, such as LPS",
            )
        if self.normalization not in SCHEMES:
            raise ConfigError(
                f"the plans normalise by {self.normalization}, which is not known here",
                fix=f"use an encoder that was trained with one of {', '.join(SCHEMES)}",
            )

    @property
    def axes(self) -> tuple[int, int, int]:
        """The house's axis (of z, y, x) of each axis of the network."""
        stored = [HOUSE_AXES[letter] for letter in reversed(self.orientation)]
        a, b, c = (stored[i] for i in self.transpose)
        return a, b, c

    @property
    def flipped(self) -> tuple[int, ...]:
        """The house's axes that grow the other way in the network's image."""
        return tuple(HOUSE_AXES[letter] for letter in self.orientation if letter in AGAINST)

    @property
    def spacing_zyx_mm(self) -> tuple[float | None, ...]:
        """Target spacing of each of the house's axes; None keeps the image's own (2D)."""
        own: list[float | None] = [None] * 3
        for axis, mm in zip(self.axes[3 - len(self.spacing_mm) :], self.spacing_mm, strict=True):
            own[axis] = mm
        return tuple(own)


class _Resampling(NamedTuple):
    """How each of the house's axes is resampled: voxels before and after, order, and the rest."""

    old: tuple[int, ...]
    new: tuple[int, ...]
    orders: tuple[int, ...]
    thick: int | None  # the axis that is resampled by itself
    spacing: tuple[float, ...]


def prepare_nnunet(
    volume: Volume,
    recipe: Recipe,
    *,
    box: Box,
    multiple: Sequence[int] = (1, 1, 1),
    least: Sequence[int] = (1, 1, 1),
) -> Prepared:
    """nnU-Net's preprocessed image, cut to the part of `box` (voxels of the volume) that is not 0.

    The size becomes at least `least` and a multiple of `multiple` by growing at both ends: with
    what lies there, and zeros beyond the image, as nnU-Net pads. Equal to nnU-Net's own output
    within 1e-4. Raises ImageError if every voxel is 0.
    """
    hu = volume.array_zyx
    inside = _not_zero(hu)
    crop = hu[inside.slices]
    # NIfTI's headers hold 32-bit floats. Read as such, 6 voxels of 0.6 mm become 5 of 0.8 mm, as in
    # nnU-Net; as decimals they would become 4.
    spacing = [float(np.float32(mm)) for mm in volume.spacing_zyx_mm]
    plan = _resampling(crop.shape, spacing, recipe)
    shift, scale, low, high = _intensity(crop, recipe)
    ranges = [
        _output_range(box.low_zyx[a] - o, box.high_zyx[a] - o, plan.old[a], plan.new[a], m, n)
        for a, (o, m, n) in enumerate(zip(inside.low_zyx, multiple, least, strict=True))
    ]
    operators = [
        _operator(plan.old[a], plan.new[a], plan.orders[a], a in recipe.flipped) for a in range(3)
    ]
    within = [(max(0, first), min(plan.new[a], stop)) for a, (first, stop) in enumerate(ranges)]
    rows = [w[a:b] for w, (a, b) in zip(operators, within, strict=True)]
    needed = [_band(w) for w in rows]
    part = torch.from_numpy(np.ascontiguousarray(crop[tuple(slice(*n) for n in needed)]))
    image = (part.to(torch.float32, copy=True).clamp_(low, high) - shift) / scale
    if plan.old != plan.new:
        bounds = _bounds(crop, plan.thick, needed, (low, high))
        bounds = [(b - shift) / scale for b in bounds]
        weights = [
            torch.from_numpy(np.ascontiguousarray(w[:, slice(*n)]))
            for w, n in zip(rows, needed, strict=True)
        ]
        for axis in range(3):
            if axis != plan.thick:
                image = sample_axis(image, axis, weights[axis])
        # Splines overshoot at edges; nnU-Net clips to what the image (or the slice) held.
        image = torch.minimum(torch.maximum(image, bounds[0]), bounds[1])
        if plan.thick is not None:
            image = sample_axis(image, plan.thick, weights[plan.thick])
    beyond = [(a - first, stop - b) for (first, stop), (a, b) in zip(ranges, within, strict=True)]
    if any(map(any, beyond)):
        image = torch.nn.functional.pad(image, [n for pair in reversed(beyond) for n in pair])
    step = [plan.old[a] / plan.new[a] for a in range(3)]
    origin = [inside.low_zyx[a] + (ranges[a][0] + 0.5) * step[a] - 0.5 for a in range(3)]
    return Prepared(
        tensor=image[None],
        spacing_zyx_mm=(plan.spacing[0], plan.spacing[1], plan.spacing[2]),
        origin_zyx=(origin[0], origin[1], origin[2]),
        step_zyx=(step[0], step[1], step[2]),
        box=box,
        source_shape_zyx=(hu.shape[0], hu.shape[1], hu.shape[2]),
        affine=volume.affine,
    )


def _not_zero(hu: NDArray[Any]) -> Box:
    """The box of all voxels that are not 0."""
    low, high = [], []
    for axis, n in enumerate(hu.shape):
        # The outermost planes almost always hold something, so look from the ends inward.
        first, last = (
            next((i for i in order if hu.take(i, axis).any()), None)
            for order in (range(n), reversed(range(n)))
        )
        if first is None or last is None:
            raise ImageError("every voxel is 0", fix="give a CT in Hounsfield units")
        low.append(first)
        high.append(last + 1)
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _resampling(shape: Sequence[int], spacing: Sequence[float], recipe: Recipe) -> _Resampling:
    """nnU-Net's `compute_new_shape` and `determine_do_sep_z_and_axis`."""
    target = [
        s if own is None else own for s, own in zip(spacing, recipe.spacing_zyx_mm, strict=True)
    ]
    # In nnU-Net's order of operations, for the same rounding.
    new = tuple(round(s / t * n) for s, t, n in zip(spacing, target, shape, strict=True))
    thick = None
    if recipe.separate is None:
        for mm in (spacing, target):
            if max(mm) / min(mm) > ANISOTROPIC:
                thick = _lowest_resolution(mm)
                break
    elif recipe.separate:
        thick = _lowest_resolution(spacing)
    orders = tuple(recipe.order_thick if a == thick else recipe.order for a in range(3))
    return _Resampling(tuple(shape), new, orders, thick, tuple(target))


def _lowest_resolution(mm: Sequence[float]) -> int | None:
    thickest = [a for a in range(3) if max(mm) / mm[a] == 1]
    return thickest[0] if len(thickest) == 1 else None


def _intensity(crop: NDArray[Any], recipe: Recipe) -> tuple[float, float, float, float]:
    """Shift, scale, and the clip before them: (clip(hu) - shift) / scale."""
    if recipe.normalization == "CTNormalization":
        mean, std, low, high = recipe.intensity
        return mean, max(std, 1e-8), low, high
    if recipe.normalization == "ZScoreNormalization":
        values = crop.astype(np.float32)
        return float(values.mean()), max(float(values.std()), 1e-8), -np.inf, np.inf
    if recipe.normalization == "RescaleTo01Normalization":
        low = float(crop.min())
        return low, max(float(crop.max()) - low, 1e-8), -np.inf, np.inf
    return 0.0, 1.0, -np.inf, np.inf


def _output_range(
    low: int, high: int, old: int, new: int, multiple: int, least: int
) -> tuple[int, int]:
    """First and past-last output voxel that cover input voxels low .. high, grown as asked."""
    low = min(max(low, 0), old - 1)
    high = min(max(high, low + 1), old)
    first = int(np.floor(low * new / old + 1e-6))
    stop = max(first + 1, int(np.ceil(high * new / old - 1e-6)))
    size = max(stop - first, least)
    missing = size + -size % multiple - (stop - first)
    first -= missing // 2
    stop += missing - missing // 2
    # Grow into the image rather than beyond it.
    if first < 0:
        shift = min(-first, max(0, new - stop))
        first, stop = first + shift, stop + shift
    elif stop > new:
        shift = min(stop - new, first)
        first, stop = first - shift, stop - shift
    return first, stop


@lru_cache(maxsize=16)
def _operator(old: int, new: int, order: int, flipped: bool) -> NDArray[np.float32]:
    """The matrix (new, old) that nnU-Net's resampling applies along one axis.

    Splines as `skimage.transform.resize` calls scipy's zoom; order 0 as its map_coordinates.
    """
    if old == new:
        return np.eye(old, dtype=np.float32)
    if order == 0:
        at = (old / new) * (np.arange(new) + 0.5) - 0.5
        matrix = np.eye(old)[
            ndimage.map_coordinates(np.arange(old), at[None], order=0, mode="nearest")
        ]
    else:
        factors: Any = (1 / (old / new), 1.0)
        spline: Any = ndimage.zoom
        matrix = spline(np.eye(old), factors, order=order, mode="nearest", grid_mode=True)
    if flipped:
        matrix = matrix[::-1, ::-1]
    return np.ascontiguousarray(matrix, dtype=np.float32)


def _band(rows: NDArray[np.float32]) -> tuple[int, int]:
    """First and past-last input voxel that these rows need."""
    used = np.flatnonzero((np.abs(rows) > NEGLIGIBLE).any(0))
    return int(used[0]), int(used[-1]) + 1


def _bounds(
    crop: NDArray[Any],
    thick: int | None,
    needed: Sequence[tuple[int, int]],
    clip: tuple[float, float],
) -> list[Tensor]:
    """Least and greatest HU of the image, or of each slice across a thick axis."""
    if thick is None:
        found = [np.asarray(f(crop)).reshape(1, 1, 1) for f in (np.min, np.max)]
    else:
        others = tuple(a for a in range(3) if a != thick)
        slabs = crop[tuple(slice(*needed[a]) if a == thick else slice(None) for a in range(3))]
        found = [f(slabs, axis=others, keepdims=True) for f in (np.min, np.max)]
    return [torch.from_numpy(f.astype(np.float32)).clamp(*clip) for f in found]
