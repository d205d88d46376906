"""A CT volume with one axis convention, fixed here and nowhere else.

`array_zyx[z, y, x]` in HU. Index z grows toward the head (superior), y toward the front
(anterior), x toward the patient's RIGHT: RAS+ in nibabel's words, array axes reversed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """HU on a regular grid.

    array_zyx: float32 or int16, HU. spacing_zyx_mm: voxel step in mm.
    affine: 4x4, maps index (x, y, z, 1) to RAS+ millimetres, as nibabel writes it.
    """

    array_zyx: NDArray[np.float32] | NDArray[np.int16]
    spacing_zyx_mm: tuple[float, float, float]
    affine: NDArray[np.float64]

    @property
    def extent_zyx_mm(self) -> tuple[float, float, float]:
        """Physical size of the grid."""
        z, y, x = self.array_zyx.shape
        sz, sy, sx = self.spacing_zyx_mm
        return z * sz, y * sy, x * sx


def voxels_sha256(volume: Volume) -> str:
    """SHA-256 of the voxels in the house's axes: the same however they were stored or packed."""
    array = volume.array_zyx
    digest = hashlib.sha256(f"{array.dtype.kind} {array.shape}".encode())
    for plane in array:
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()
