"""From a volume in HU to what the encoder reads: crop to the lungs, resample, window, scale, pad.

Crop and resampling are one step, straight onto the final grid, and each axis is a small matrix
product, so the same code runs on a CPU and on a GPU. Nothing here ever mirrors an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ctscribe.errors import ImageError
from ctscribe.imaging.lungs import (
    Box,
    Lungs,
    Spacing,
    Triple,
    find_lungs,
    lung_air_mask,
    lung_box,
    lungs_of,
)
from ctscribe.imaging.volume import Volume

__all__ = [
    "PAD_HU",
    "Box",
    "Lungs",
    "Prepared",
    "choose_slice",
    "find_lungs",
    "lung_air_mask",
    "lung_box",
    "prepare",
    "prepare_tensor",
    "resample",
    "slice_of",
    "voxel_at",
]

PAD_HU = -1000.0  # outside the image: air
SLAB_VOXELS = 1 << 21  # resampled at a time


@dataclass(frozen=True)
class Prepared:
    """An image on the encoder's grid, and the way back to the image it came from.

    tensor: (1, Z, Y, X) float32, the HU window scaled to [-1, 1]. origin_zyx: source index (of
    voxel centres, not whole) of the first voxel's centre. step_zyx: source voxels per voxel.
    box: the lungs and their margin, in source voxels. affine: the source's, index (x, y, z, 1) to
    RAS+ mm.
    """

    tensor: Tensor
    spacing_zyx_mm: Spacing
    origin_zyx: tuple[float, float, float]
    step_zyx: tuple[float, float, float]
    box: Box
    source_shape_zyx: Triple
    affine: NDArray[np.float64]

    def to_source(self, index_zyx: ArrayLike) -> NDArray[np.float64]:
        """Indices (..., 3) of this grid as indices of the source, fractions kept."""
        return np.asarray(index_zyx, float) * self.step_zyx + self.origin_zyx

    def from_source(self, index_zyx: ArrayLike) -> NDArray[np.float64]:
        """Indices (..., 3) of the source as indices of this grid, fractions kept."""
        return (np.asarray(index_zyx, float) - self.origin_zyx) / self.step_zyx

    def to_mm(self, index_zyx: ArrayLike) -> NDArray[np.float64]:
        """Indices (z, y, x) of this grid as RAS+ millimetres (x, y, z)."""
        xyz = self.to_source(index_zyx)[..., ::-1]
        return np.asarray(xyz @ self.affine[:3, :3].T + self.affine[:3, 3])

    def from_mm(self, point_xyz_mm: ArrayLike) -> NDArray[np.float64]:
        """RAS+ millimetres (x, y, z) as indices (z, y, x) of this grid."""
        inverse = np.linalg.inv(self.affine)
        xyz = np.asarray(point_xyz_mm, float) @ inverse[:3, :3].T + inverse[:3, 3]
        return self.from_source(xyz[..., ::-1])

    @property
    def grid_affine(self) -> NDArray[np.float64]:
        """4x4 affine of this grid: index (x, y, z, 1) to RAS+ mm."""
        to_source = np.diag([*self.step_zyx[::-1], 1.0])
        to_source[:3, 3] = self.origin_zyx[::-1]
        return np.asarray(self.affine @ to_source)

    def labels(self, label_zyx: Tensor | NDArray[Any]) -> Tensor:
        """Labels or bit masks (Z, Y, X) of the source on this grid: nearest voxel, 0 outside.

        Raises ValueError if they are not on the source's grid.
        """
        label = torch.as_tensor(label_zyx)
        if tuple(label.shape) != self.source_shape_zyx:
            raise ValueError(f"labels are {tuple(label.shape)}, image is {self.source_shape_zyx}")
        for axis, (n, source) in enumerate(
            zip(self.tensor.shape[1:], self.source_shape_zyx, strict=True)
        ):
            centre = np.arange(n) * self.step_zyx[axis] + self.origin_zyx[axis]
            nearest = np.floor(centre + 0.5).astype(np.int64)
            inside = torch.from_numpy((nearest >= 0) & (nearest < source)).to(label.device)
            at = torch.from_numpy(nearest.clip(0, source - 1)).to(label.device)
            view = [1, 1, 1]
            view[axis] = n
            label = label.index_select(axis, at) * inside.view(view)
        return label


def prepare(
    volume: Volume,
    *,
    spacing_zyx_mm: Sequence[float],
    window_hu: tuple[float, float],
    margin_mm: float = 16.0,
    multiple: int | Sequence[int] = 1,
    box: Box | None = None,
) -> Prepared:
    """A volume as the encoder's input; see `prepare_tensor`. On the CPU.

    A volume of one slice is resampled in its plane only.
    """
    array = volume.array_zyx
    if not array.flags.writeable or min(array.strides) < 0:
        array = array.copy()
    prepared = prepare_tensor(
        torch.from_numpy(array),
        volume.spacing_zyx_mm,
        spacing_zyx_mm=spacing_zyx_mm,
        window_hu=window_hu,
        margin_mm=margin_mm,
        multiple=multiple,
        box=box,
    )
    return replace(prepared, affine=volume.affine)


def prepare_tensor(
    hu_zyx: Tensor,
    source_spacing_zyx_mm: Sequence[float],
    *,
    spacing_zyx_mm: Sequence[float],
    window_hu: tuple[float, float],
    margin_mm: float = 16.0,
    multiple: int | Sequence[int] = 1,
    box: Box | None = None,
) -> Prepared:
    """Crop HU (Z, Y, X) to both lungs plus a margin, resample, clip to the window, scale, pad.

    Stays on the tensor's device, but for the lungs, which are found on the CPU in a coarse copy;
    `box` says where they are if that is known. The size becomes a multiple of `multiple` by
    growing evenly at both ends; beyond the image there is air.
    Raises ImageError where no lung is found.
    """
    source = _spacing(source_spacing_zyx_mm)
    target = _spacing(spacing_zyx_mm)
    if hu_zyx.shape[0] == 1:
        target = (source[0], target[1], target[2])
    if box is None:
        box = lung_box(find_lungs(hu_zyx, source), margin_mm)
    multiples = (multiple,) * 3 if isinstance(multiple, int) else tuple(multiple)
    image = hu_zyx
    origin, step = [], []
    weights = []
    for axis in range(3):
        low, high = box.low_zyx[axis], box.high_zyx[axis]
        scale = target[axis] / source[axis]
        size = _round_up((high - low) / scale, multiples[axis])
        # Voxel centres, in source indices; the box's middle stays in the middle.
        first = (low + high - size * scale + scale - 1) / 2
        origin.append(first)
        step.append(scale)
        matrix, start, stop = _axis_weights(hu_zyx.shape[axis], first, scale, size)
        image = image.narrow(axis, start, stop - start)
        weights.append(matrix)
    hu = _apply(image, weights, above=PAD_HU) + PAD_HU
    low_hu, high_hu = window_hu
    tensor = ((hu - low_hu) * (2 / (high_hu - low_hu)) - 1).clamp_(-1, 1)
    return Prepared(
        tensor=tensor[None],
        spacing_zyx_mm=target,
        origin_zyx=(origin[0], origin[1], origin[2]),
        step_zyx=(step[0], step[1], step[2]),
        box=box,
        source_shape_zyx=(hu_zyx.shape[0], hu_zyx.shape[1], hu_zyx.shape[2]),
        affine=np.diag([source[2], source[1], source[0], 1.0]),
    )


def resample(
    array_zyx: Tensor | NDArray[Any], spacing: Sequence[float], new_spacing: Sequence[float]
) -> Tensor:
    """An image (Z, Y, X) at another spacing in mm, float32, outer faces kept in place.

    Finer: trilinear. Coarser: the average over the voxel's own box, so that nothing aliases; at
    equal spacing the two agree. The size is the old extent in new voxels, rounded up.
    """
    image = torch.as_tensor(array_zyx)
    weights = []
    for axis, (old, new) in enumerate(zip(spacing, new_spacing, strict=True)):
        n = image.shape[axis]
        scale = new / old
        size = _round_up(n / scale, 1)
        first = (n - size * scale + scale - 1) / 2
        matrix, _, _ = _axis_weights(n, first, scale, size, whole=True)
        inside = matrix.sum(1, keepdim=True)
        weights.append(matrix / torch.where(inside > 0, inside, 1.0))
    return _apply(image, weights)


def choose_slice(
    volume: Volume,
    mask: NDArray[Any] | None = None,
    roi_mm: Sequence[float] | None = None,
) -> int:
    """The axial slice to look at in 2D.

    That on which `mask` (Z, Y, X) is largest, else that through `roi_mm`, a point in RAS+ mm
    (x, y, z), else that with the most lung.
    Raises ImageError for an empty mask, a mask on another grid, a point outside, or no lung.
    """
    array = volume.array_zyx
    if mask is not None:
        if mask.shape != array.shape:
            raise ImageError(
                f"the mask is {mask.shape} voxels (z, y, x), the image {array.shape}",
                fix="give a mask on the image's own grid",
            )
        area = (mask > 0).sum((1, 2))
        if not area.any():
            raise ImageError("the mask is empty", fix="give a mask that marks something")
        return int(area.argmax())
    if roi_mm is not None:
        return int(np.floor(voxel_at(volume, roi_mm)[0] + 0.5))
    lungs = lungs_of(volume)
    area = lungs.air_zyx.sum((1, 2))
    if not area.any():
        raise ImageError("no air-filled lung was found", fix="give a chest CT in Hounsfield units")
    factor = lungs.factor_zyx[0]
    return min(len(array) - 1, int(area.argmax()) * factor + factor // 2)


def slice_of(volume: Volume, z: int) -> Volume:
    """One axial slice as a volume, in its place."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * z
    return Volume(volume.array_zyx[z : z + 1], volume.spacing_zyx_mm, affine)


def voxel_at(volume: Volume, point_xyz_mm: Sequence[float]) -> NDArray[np.float64]:
    """Voxel (z, y, x), fractions kept, of a point in RAS+ mm (x, y, z).

    Raises ImageError if it lies outside the image, naming both.
    """
    index = (np.linalg.inv(volume.affine) @ [*point_xyz_mm, 1.0])[2::-1]
    shape = np.array(volume.array_zyx.shape)
    if ((index < -0.5) | (index > shape - 0.5)).any():
        corners = [volume.affine @ [*c, 1.0] for c in ((0, 0, 0), tuple(shape[::-1] - 1))]
        low, high = np.min(corners, 0)[:3], np.max(corners, 0)[:3]
        reach = ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high, strict=True))
        point = ", ".join(f"{mm:g}" for mm in point_xyz_mm)
        raise ImageError(
            f"the point ({point}) mm lies outside the image, which reaches from {reach} mm",
            fix="give it in the image's own RAS+ millimetres (x, y, z)",
        )
    return np.asarray(index)


def _round_up(size: float, multiple: int) -> int:
    """Voxels for a length, a multiple of `multiple`; rounding noise adds none."""
    return max(1, int(np.ceil(size / multiple - 1e-6))) * multiple


def _axis_weights(
    n: int, first: float, scale: float, size: int, *, whole: bool = False
) -> tuple[Tensor, int, int]:
    """Weights (size, stop - start) that sample an axis of n voxels, and the part of it they need.

    Output voxel i has its centre at first + i * scale. A voxel is weighted by its overlap with a
    box as wide as the output voxel, at least 1 wide: that is linear interpolation for scale <= 1.
    Weights of voxels beyond the image are left out, so rows near the border sum to less than 1.
    """
    centre = first + scale * np.arange(size)
    half = max(scale, 1.0) / 2
    start = 0 if whole else int(np.clip(np.floor(centre[0] - half), 0, n - 1))
    stop = n if whole else int(np.clip(np.ceil(centre[-1] + half) + 1, start + 1, n))
    at = np.arange(start, stop)
    low = np.maximum(centre[:, None] - half, at - 0.5)
    high = np.minimum(centre[:, None] + half, at + 0.5)
    weights = np.maximum(high - low, 0.0) / (2 * half)
    return torch.from_numpy(weights.astype(np.float32)), start, stop


def _apply(image: Tensor, weights: Sequence[Tensor], above: float = 0.0) -> Tensor:
    """Sample every axis of `image - above` in float32, that which shrinks most first.

    Slab by slab across the last of them, so that no float copy of the whole image is made.
    """
    *first, last = sorted(range(3), key=lambda a: weights[a].shape[0] / max(1, weights[a].shape[1]))
    weights = [weight.to(image.device) for weight in weights]
    depth = max(1, SLAB_VOXELS * image.shape[last] // image.numel())
    slabs = []
    for slab in torch.split(image, depth, last):
        slab = slab.to(torch.float32, copy=True).sub_(above)
        for axis in first:
            slab = sample_axis(slab, axis, weights[axis])
        slabs.append(slab)
    return sample_axis(torch.cat(slabs, last), last, weights[last])


def sample_axis(image: Tensor, axis: int, weight: Tensor) -> Tensor:
    """A matrix (new, old) applied along one axis of an image (Z, Y, X)."""
    z, y, x = image.shape
    if axis == 0:
        return (weight @ image.reshape(z, y * x)).view(-1, y, x)
    if axis == 1:
        return torch.matmul(weight, image)
    return (image.reshape(z * y, x) @ weight.T).view(z, y, -1)


def _spacing(values: Sequence[float]) -> Spacing:
    z, y, x = (float(v) for v in values)
    return z, y, x
