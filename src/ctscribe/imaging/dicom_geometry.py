"""Where the slices of a series lie: one regular grid, or the reason why they are none.

Positions and orientations alone decide (PS3.3 C.7.6.2), never InstanceNumber, file names,
SliceThickness or SpacingBetweenSlices.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctscribe.imaging.dicom_series import Instance, Series, refused

SAME_MM = 0.01  # two slices nearer than this lie at one position
COSINE_TOLERANCE = 2e-3  # of orientations within a series, and of their lengths and angles
MOST_TILT_DEG = 0.5
LEAST_DRIFT_MM = 0.2  # sideways from first to last slice; less is rounding
MOST_OFF_MM, MOST_OFF_SHARE = 0.1, 0.1  # of a slice from its place; positions are often rounded
WHOLE_SHARE = 0.2  # a gap is missing slices if it is a whole number of steps within this
NAMED = 3  # gaps or files that a message lists


@dataclass(frozen=True)
class Grid:
    """Slices in order along the normal, each with those that lie at the same position.

    spacing_xyz: mm. direction: columns are the axes of rows, columns and slices, LPS. origin_xyz:
    of the first voxel, LPS.
    """

    slices: tuple[tuple[Instance, ...], ...]
    spacing_xyz: NDArray[np.float64]
    direction: NDArray[np.float64]
    origin_xyz: NDArray[np.float64]


def normal_of(instance: Instance) -> NDArray[np.float64] | None:
    """The slice's normal (LPS), None where its orientation is missing or no pair of axes."""
    if instance.orientation is None:
        return None
    row, column = np.array(instance.orientation).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > 0.01 or abs(row @ column) > 0.01:
        return None
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def extent_mm(series: Series) -> float | None:
    """From the middle of the first slice to that of the last, None where positions are missing."""
    normal = normal_of(series.instances[0])
    if normal is None or any(one.position_mm is None for one in series.instances):
        return None
    along = [float(normal @ np.array(one.position_mm)) for one in series.instances]
    return max(along) - min(along)


def arrange(series: Series, *, case: str | None = None) -> Grid:
    """Put the slices in order.

    Raises ImageError: broken files, position, orientation or spacing missing or not one for all,
    one slice alone, slices missing, uneven, or sheared by a tilted gantry.
    """
    if series.broken:
        first = series.broken[0]
        more = f", as are {len(series.broken) - 1} others" if len(series.broken) > 1 else ""
        raise refused(
            first.code,
            f"a file of the series cannot be used{more}: {first.detail}",
            file=Path(first.file),
            case=case,
        )
    spacing_xy = _one_plane(series, case)
    instances = series.instances
    axes = np.array(instances[0].orientation).reshape(2, 3)
    row = axes[0] / np.linalg.norm(axes[0])
    normal = normal_of(instances[0])
    assert normal is not None
    positions = np.array([one.position_mm for one in instances])
    order = np.argsort(positions @ normal, kind="stable")
    slices: list[list[int]] = []
    for index in order:
        if slices and abs((positions[index] - positions[slices[-1][0]]) @ normal) < SAME_MM:
            slices[-1].append(int(index))
        else:
            slices.append([int(index)])
    groups = tuple(tuple(instances[index] for index in group) for group in slices)
    firsts = positions[[group[0] for group in slices]]
    if len(groups) == 1:
        raise refused("not-3d", "it is one slice, not a volume", file=instances[0].file, case=case)
    step = _step(firsts @ normal, groups, case)
    _refuse_shear(positions[order], normal, groups, case)
    return Grid(
        groups,
        np.array([*spacing_xy, step]),
        np.stack([row, np.cross(normal, row), normal], axis=1),
        firsts[0],
    )


def _one_plane(series: Series, case: str | None) -> tuple[float, float]:
    """Spacing along x and y, once size, orientation and spacing were found equal everywhere."""
    first = series.instances[0]
    sound = {one.orientation: normal_of(one) is not None for one in _differing(series)}
    for what, lacking in (
        ("position (ImagePositionPatient)", [o for o in series.instances if not o.position_mm]),
        (
            "sound orientation (ImageOrientationPatient)",
            [o for o in series.instances if not sound[o.orientation]],
        ),
    ):
        if lacking:
            raise refused(
                "no-geometry",
                f"{len(lacking)} of {series.n_slices} slices have no {what}, which is not guessed",
                file=lacking[0].file,
                case=case,
            )
    unscaled = [o for o in series.instances if not o.spacing_yx_mm or min(o.spacing_yx_mm) <= 0]
    if unscaled:
        raise refused(
            "spacing",
            f"{len(unscaled)} of {series.n_slices} slices have no sound PixelSpacing",
            file=unscaled[0].file,
            case=case,
        )
    sizes = Counter((one.pixels.columns, one.pixels.rows) for one in series.instances)
    if len(sizes) > 1:
        listed = ", ".join(f"{n} of {x} x {y}" for (x, y), n in sizes.most_common(NAMED))
        (rarest, _) = sizes.most_common()[-1]
        odd = next(o for o in series.instances if (o.pixels.columns, o.pixels.rows) == rarest)
        raise refused("not-3d", f"its slices differ in size: {listed}", file=odd.file, case=case)
    for one in _differing(series):
        turned = np.abs(np.subtract(one.orientation, first.orientation)).max()  # type: ignore[arg-type]
        if turned > COSINE_TOLERANCE:
            raise refused(
                "not-3d",
                "its slices lie in different orientations, such as axial and coronal",
                file=one.file,
                case=case,
            )
        if not np.allclose(one.spacing_yx_mm, first.spacing_yx_mm, rtol=1e-3):  # type: ignore[arg-type]
            raise refused(
                "spacing", "its slices have different pixel spacings", file=one.file, case=case
            )
    assert first.spacing_yx_mm is not None
    y, x = first.spacing_yx_mm
    return x, y


def _differing(series: Series) -> list[Instance]:
    """One instance for each orientation and spacing, in the series' order."""
    found: dict[object, Instance] = {}
    for one in series.instances:
        found.setdefault((one.orientation, one.spacing_yx_mm), one)
    return list(found.values())


def _step(
    along: NDArray[np.float64], groups: tuple[tuple[Instance, ...], ...], case: str | None
) -> float:
    """The step between slices at `along` the normal; raises for gaps and uneven steps."""
    steps = np.diff(along)
    for base in (float(np.median(steps)), float(steps.min())):
        ratios = steps / base
        counts = np.rint(ratios)
        near = np.abs(ratios - counts) <= WHOLE_SHARE
        if counts.min() >= 1 and near.all() and counts.max() > 1:
            raise _missing(along, counts.astype(int) - 1, groups, case)
    step = float(along[-1] - along[0]) / len(steps)
    off = np.abs(along - (along[0] + step * np.arange(len(along))))
    if off.max() > max(MOST_OFF_MM, MOST_OFF_SHARE * step):
        widest = int(steps.argmax())
        raise refused(
            "uneven-slices",
            f"steps between its slices are {steps.min():.2f} to {steps.max():.2f} mm, the widest "
            f"between {groups[widest][0].file.name} and {groups[widest + 1][0].file.name}; a slice "
            f"lies {off.max():.2f} mm off an even grid",
            file=groups[widest][0].file,
            case=case,
        )
    return step


def _missing(
    along: NDArray[np.float64],
    missing: NDArray[np.int_],
    groups: tuple[tuple[Instance, ...], ...],
    case: str | None,
) -> Exception:
    gaps = np.flatnonzero(missing)
    where = [
        f"{missing[at]} between {along[at]:.1f} and {along[at + 1]:.1f} mm "
        f"({groups[at][0].file.name} and {groups[at + 1][0].file.name})"
        for at in gaps[:NAMED]
    ]
    more = f" and {len(gaps) - NAMED} more gaps" if len(gaps) > NAMED else ""
    total = int(missing.sum())
    return refused(
        "slices-missing",
        f"{total} slice{'s are' if total > 1 else ' is'} missing of {len(along) + total}: "
        f"{', '.join(where)}{more}",
        file=groups[gaps[0]][0].file,
        case=case,
    )


def _refuse_shear(
    positions: NDArray[np.float64],
    normal: NDArray[np.float64],
    groups: tuple[tuple[Instance, ...], ...],
    case: str | None,
) -> None:
    """Raise where slices are shifted within their plane: all by a tilt, or some of them."""
    across = positions - positions[0]
    along = across @ normal
    sideways = across - np.outer(along, normal)
    per_mm = sideways.T @ along / (along @ along)  # the line through the first slice
    tilt = math.degrees(math.atan(float(np.linalg.norm(per_mm))))
    off = float(np.linalg.norm(sideways - np.outer(along, per_mm), axis=1).max())
    reason = ""
    if off > 5 * MOST_OFF_MM:
        code, reason = "uneven-slices", f"its slices are shifted sideways by up to {off:.1f} mm"
    elif tilt > MOST_TILT_DEG and float(np.linalg.norm(sideways[-1])) > LEAST_DRIFT_MM:
        code, reason = "gantry-tilt", f"slices are stacked at {tilt:.1f} degrees to their normal"
    if reason:
        raise refused(code, reason, file=groups[0][0].file, case=case)
