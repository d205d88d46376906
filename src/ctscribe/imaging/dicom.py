"""DICOM in: files to series, the chest CT among them, and its volume in the house's axes.

Three steps: `scan_files` (headers alone), `choose_series` of each of `studies`, `read_series`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from ctscribe.errors import ImageError
from ctscribe.imaging.dicom_choice import choose_series, studies
from ctscribe.imaging.dicom_geometry import SAME_MM, Grid, arrange
from ctscribe.imaging.dicom_header import MOST_VOXELS, class_name
from ctscribe.imaging.dicom_pixels import hu_of, require_decodable
from ctscribe.imaging.dicom_scan import scan_files
from ctscribe.imaging.dicom_series import (
    Choice,
    Instance,
    LeftOut,
    PixelFormat,
    Scan,
    Series,
    SeriesVolume,
    refused,
)
from ctscribe.imaging.nifti import Stored, volume_of
from ctscribe.problems import Problem

__all__ = [
    "Choice",
    "Instance",
    "LeftOut",
    "PixelFormat",
    "Scan",
    "Series",
    "SeriesVolume",
    "choose_series",
    "read_series",
    "scan_files",
    "studies",
]

THREADS = min(4, os.cpu_count() or 1)  # decoding and disks; a volume needs no more
NAMED = 5  # files that a message lists


def read_series(series: Series, *, case: str | None = None) -> SeriesVolume:
    """The series' volume: sorted by position, in HU, z to the head, y to the front, x to the right.

    Each slice's own slope and intercept are applied. Padding outside the field of view becomes
    -1024 HU. Raises ImageError with a code of `problems.KINDS`: see `arrange` and `hu_of`.
    """
    grid = arrange(series, case=case)
    require_decodable(series, case)
    _require_room(series, case)
    array, notes = _voxels(grid, series, case)
    image = Stored(array, grid.spacing_xyz, grid.direction, grid.origin_xyz)
    volume = volume_of(image, series.folder, case)
    return SeriesVolume(volume, (*notes, *_notes(series, case)))


def _require_room(series: Series, case: str | None) -> None:
    first = series.instances[0]
    rows, columns = first.pixels.rows, first.pixels.columns
    voxels = series.n_slices * rows * columns
    if voxels > MOST_VOXELS or 2 * voxels > psutil.virtual_memory().total:
        raise refused(
            "too-large",
            f"its headers promise {columns} x {rows} x {series.n_slices} voxels",
            file=first.file,
            case=case,
        )


def _voxels(
    grid: Grid, series: Series, case: str | None
) -> tuple[NDArray[np.int16] | NDArray[np.float32], list[Problem]]:
    """Slices (Z, rows, columns) of the grid in HU, and notes of what lay there twice."""
    pixels = series.instances[0].pixels
    whole = np.empty((len(grid.slices), pixels.rows, pixels.columns), np.int16)
    blank: list[Path] = []

    fractions: dict[int, NDArray[np.float32]] = {}

    def read(start: int) -> None:
        for at in range(start, len(whole), THREADS):
            first = grid.slices[at][0]
            try:
                hu = hu_of(first, whole[at], case=case)
            except ImageError as error:
                if error.code != "blank":
                    raise
                blank.append(first.file)
            else:
                if hu is not None:
                    fractions[at] = hu

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, range(THREADS)))
    if blank:
        raise refused(
            "blank",
            f"{len(blank)} of {len(whole)} slices are of one value throughout: {_named(blank)}",
            file=min(blank),
            case=case,
        )
    array: NDArray[np.int16] | NDArray[np.float32] = whole
    if fractions:
        array = whole.astype(np.float32)
        for at, hu in fractions.items():
            array[at] = hu
    return array, _duplicates(grid, array, case)


def _duplicates(
    grid: Grid, array: NDArray[np.int16] | NDArray[np.float32], case: str | None
) -> list[Problem]:
    """A note of slices that came twice; raises ImageError where their pixels differ."""
    twice: list[Path] = []
    room = np.empty(array.shape[1:], np.int16)
    for at, (first, *others) in enumerate(grid.slices):
        for other in others:
            hu = hu_of(other, room, case=case)
            differ = int((array[at] != (room if hu is None else hu)).sum())
            moved = np.abs(np.subtract(other.position_mm, first.position_mm)).max()  # type: ignore[arg-type]
            if differ or moved > SAME_MM:
                raise refused(
                    "slices-conflict",
                    f"{first.file.name} and {other.file.name} lie at one position but differ in "
                    f"{differ} pixel{'s' * (differ != 1)}"
                    + f" and by {moved:.2f} mm in plane"
                    * bool(moved > SAME_MM),
                    file=other.file,
                    case=case,
                )
            twice.append(other.file)
    if not twice:
        return []
    detail = f"{len(twice)} slice{'s' * (len(twice) > 1)} came once more: {_named(twice)}"
    return [Problem(case or "", str(min(twice)), "slices-duplicate", detail)]


def _notes(series: Series, case: str | None) -> list[Problem]:
    found = []
    slopes = {one.slope for one in series.instances}
    intercepts = {one.intercept for one in series.instances}
    if len(slopes) > 1 or len(intercepts) > 1:
        detail = (
            f"slopes from {min(slopes):g} to {max(slopes):g}, intercepts from "
            f"{min(intercepts):g} to {max(intercepts):g}"
        )
        found.append(Problem(case or "", str(series.folder), "slope-varies", detail))
    lossy = [one for one in series.instances if one.pixels.lossy]
    if lossy:
        kinds = ", ".join(sorted({class_name(one.pixels.syntax) for one in lossy}))
        detail = f"{len(lossy)} of {series.n_slices} slices were compressed with loss ({kinds})"
        found.append(Problem(case or "", str(lossy[0].file), "syntax-lossy", detail))
    return found


def _named(files: list[Path]) -> str:
    names = [file.name for file in sorted(set(files))]
    return ", ".join(names[:NAMED]) + ", ..." * (len(names) > NAMED)
