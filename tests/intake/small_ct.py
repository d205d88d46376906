"""Small sound CTs on disk, each with voxels of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from ctscribe.imaging.nifti import write_volume
from ctscribe.imaging.volume import Volume
from ctscribe.phantom.render import render_study, sample_study


@cache
def small_ct(seed: int) -> Volume:
    """A phantom without disease that hides anything, at 4 mm."""
    study = sample_study(930_000 + seed, 930_000 + seed, "demo")
    hu = render_study(study, "cpu").hu_zyx.round().short().numpy()
    affine = np.diag([*study.spacing_zyx_mm[::-1], 1.0])
    affine[:3, 3] = (-150.0, -120.0, -300.0)
    return Volume(hu, study.spacing_zyx_mm, affine)


def save(volume: Volume, path: Path) -> Path:
    """Write it, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(volume, path)
    return path


def turned(volume: Volume, *axes: int) -> Volume:
    """The voxels flipped, the header as it was: what a wrong export makes."""
    array = np.ascontiguousarray(np.flip(volume.array_zyx, axes))
    return Volume(array, volume.spacing_zyx_mm, volume.affine)


def rescaled(volume: Volume, slope: float, intercept: float) -> Volume:
    """Other values in the same place."""
    array = np.rint(volume.array_zyx * slope + intercept).clip(-32768, 32767).astype(np.int16)
    return Volume(array, volume.spacing_zyx_mm, volume.affine)
