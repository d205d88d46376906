"""What a mask marks, measured in millimetres on the image's own grid.

A nodule is a connected component of one label: voxels that share a face, an edge or a corner (26
neighbours) belong together. Lengths are between the outer corners of its voxels, as boxes of their
true size in mm: exact for what the mask marks, so a single voxel has a length too. A true surface
lies within half a voxel of the mask's, and its lengths within one voxel's diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from ctscribe.errors import ImageError
from ctscribe.imaging.lungs import lungs_of
from ctscribe.imaging.volume import Volume

Side = Literal["right", "left"]
Point = tuple[float, float, float]
Line = tuple[Point, Point]
Triple = tuple[int, int, int]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

CONNECTED = np.ones((3, 3, 3), bool)
_CHUNK = 256  # hull vertices whose distances to all others exist together


@dataclass(frozen=True)
class Diameter:
    """A length in mm and the line that has it: two points as voxel index (z, y, x).

    A voxel's centre has whole numbers, its faces lie 0.5 away.
    """

    mm: float
    ends_zyx: Line


@dataclass(frozen=True)
class Nodule:
    """One connected component of a label.

    component: 1 is the label's largest. longest: the greatest distance between two of its points.
    axial: the greatest within one slice, of all slices; perpendicular: the longest chord at a right
    angle to it in that slice (of the outline's convex hull, as a caliper would).
    centroid_xyz_mm: RAS+. centroid_zyx: voxel index in the house's axes (`volume.py`).
    slice_z: of `axial`. side: None where no lung shows where the patient's middle is.
    touches_border: it reaches the image's edge and may go on beyond: its figures are lower bounds.
    start_zyx, mask_zyx: the component itself, cropped, and where the crop begins.
    """

    label: int
    name: str
    component: int
    voxels: int
    volume_mm3: float
    longest: Diameter
    axial: Diameter
    perpendicular: Diameter
    centroid_xyz_mm: Point
    centroid_zyx: Point
    slice_z: int
    side: Side | None
    hu_mean: float
    hu_min: float
    hu_max: float
    hu_sd: float
    touches_border: bool
    start_zyx: Triple
    mask_zyx: Bools

    @property
    def volume_ml(self) -> float:
        """Volume in millilitres."""
        return self.volume_mm3 / 1000


def find_nodules(
    volume: Volume,
    labels_zyx: NDArray[np.uint8],
    *,
    names: Mapping[int, str] | None = None,
    min_mm3: float = 0.0,
) -> tuple[list[Nodule], int]:
    """Every component of every label, by label and then by size, and how many were too small.

    labels_zyx: on the volume's grid, 0 is nothing. names: of labels; one without a name has its
    number. min_mm3: smaller components are left out and counted.
    Raises ImageError for a mask of another shape.
    """
    if labels_zyx.shape != volume.array_zyx.shape:
        raise ImageError(
            f"the mask is {labels_zyx.shape} voxels (z, y, x), the image {volume.array_zyx.shape}",
            fix="give a mask on the image's own grid",
        )
    voxel_mm3 = float(np.prod(volume.spacing_zyx_mm))
    middle = midline_x(volume) if labels_zyx.any() else None
    found, too_small = [], 0
    for label, box in enumerate(ndimage.find_objects(labels_zyx), 1):
        if box is None:
            continue
        parts, count = ndimage.label(labels_zyx[box] == label, CONNECTED)
        voxels = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        boxes = ndimage.find_objects(parts)
        component = 0
        for k in np.argsort(-voxels, kind="stable"):
            if voxels[k] * voxel_mm3 < min_mm3:
                too_small += 1
                continue
            component += 1
            own = parts[boxes[k]] == k + 1
            z, y, x = (a.start + b.start for a, b in zip(box, boxes[k], strict=True))
            name = (names or {}).get(label, str(label))
            found.append(_measure(volume, own, (z, y, x), label, name, component, middle))
    return found, too_small


def midline_x(volume: Volume) -> float | None:
    """Voxel index x of the patient's middle; None where no lung shows it."""
    lungs = lungs_of(volume)
    if not lungs.air_zyx.any():
        return None
    return (lungs.midline_x + 0.5) * lungs.factor_zyx[2] - 0.5


def _measure(
    volume: Volume,
    own: Bools,
    start: Triple,
    label: int,
    name: str,
    component: int,
    middle: float | None,
) -> Nodule:
    spacing = np.array(volume.spacing_zyx_mm)
    at = np.argwhere(own)
    z, y, x = (float(c) for c in at.mean(0) + start)
    stop = np.add(start, own.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    hu = volume.array_zyx[box][own].astype(np.float64)
    right_mm, front_mm, up_mm = (volume.affine @ [x, y, z, 1.0])[:3]
    mm, ends = _farthest(_corners(own) + start, spacing)
    axial, perpendicular = _in_plane(own, start, spacing)
    side: Side | None = None if middle is None else ("right" if x >= middle else "left")
    return Nodule(
        label=label,
        name=name,
        component=component,
        voxels=len(at),
        volume_mm3=len(at) * float(spacing.prod()),
        longest=Diameter(mm, _line(ends)),
        axial=axial,
        perpendicular=perpendicular,
        centroid_xyz_mm=(float(right_mm), float(front_mm), float(up_mm)),
        centroid_zyx=(z, y, x),
        slice_z=int(axial.ends_zyx[0][0]),
        side=side,
        hu_mean=float(hu.mean()),
        hu_min=float(hu.min()),
        hu_max=float(hu.max()),
        hu_sd=float(hu.std()),
        touches_border=0 in start or bool((stop == volume.array_zyx.shape).any()),
        start_zyx=start,
        mask_zyx=own,
    )


def _corners(own: Bools) -> Floats:
    """Corners (n, axes) of the voxels that end a row along the last axis, as voxel index.

    The other voxels lie between two of them, so all corners have the same convex hull.
    """
    rows = np.argwhere(own.any(-1))
    lines = own[tuple(rows.T)]
    first, last = lines.argmax(1), lines.shape[1] - lines[:, ::-1].argmax(1)
    ends = np.concatenate([np.c_[rows, first], np.c_[rows, last]])
    for axis in range(rows.shape[1]):
        step = np.zeros(ends.shape[1], int)
        step[axis] = 1
        ends = np.concatenate([ends, ends + step])
    corners: Floats = np.unique(ends, axis=0) - 0.5
    return corners


def _farthest(corners: Floats, spacing: Floats) -> tuple[float, Floats]:
    """The greatest distance in mm between two corners, and the two (2, axes) as voxel index.

    Both are vertices of the convex hull.
    """
    vertices: Floats = corners[ConvexHull(corners * spacing).vertices]
    mm = vertices * spacing
    best, ends = -1.0, (0, 0)
    for start in range(0, len(mm), _CHUNK):
        apart = cdist(mm[start : start + _CHUNK], mm)
        i, j = divmod(int(apart.argmax()), len(mm))
        if apart[i, j] > best:
            best, ends = float(apart[i, j]), (start + i, j)
    return best, vertices[list(ends)]


def _in_plane(own: Bools, start_zyx: Triple, spacing: Floats) -> tuple[Diameter, Diameter]:
    """The longest axial diameter (of equal ones, in the largest slice) and its perpendicular."""
    corners = {z: _corners(own[z]) + start_zyx[1:] for z in np.flatnonzero(own.any((1, 2)))}
    lines = {z: _farthest(c, spacing[1:]) for z, c in corners.items()}
    z = max(lines, key=lambda z: (round(lines[z][0], 6), own[z].sum()))
    mm, ends_yx = lines[z]
    across = _perpendicular(corners[z] * spacing[1:], ends_yx * spacing[1:])
    height = int(z) + start_zyx[0]
    return (
        Diameter(mm, _line(np.insert(ends_yx, 0, height, 1))),
        Diameter(
            float(np.linalg.norm(across[1] - across[0])),
            _line(np.insert(across / spacing[1:], 0, height, 1)),
        ),
    )


def _perpendicular(corners_mm: Floats, line_mm: Floats) -> Floats:
    """Ends (2, 2) of the longest chord of the hull of `corners_mm` at a right angle to `line_mm`.

    The line is the hull's diameter and divides its vertices into two chains from end to end. A
    chord's length is concave and piecewise linear along it, so it is greatest at a vertex.
    """
    origin = line_mm[0]
    along = (line_mm[1] - origin) / np.linalg.norm(line_mm[1] - origin)
    across = np.array([-along[1], along[0]])
    hull = corners_mm[ConvexHull(corners_mm).vertices] - origin
    hull = hull[np.argsort(hull @ along, kind="stable")]
    t, s = hull @ along, hull @ across
    upper, lower = (np.interp(t, t[own], s[own]) for own in (s > -1e-9, s < 1e-9))
    k = int((upper - lower).argmax())
    ends: Floats = origin + t[k] * along + np.outer([upper[k], lower[k]], across)
    return ends


def _line(ends: Floats) -> Line:
    one, other = ((float(z), float(y), float(x)) for z, y, x in ends)
    return one, other
