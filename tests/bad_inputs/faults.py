"""What a bad input is, the list of all 25, and the CT that they are made from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ctscribe.imaging.volume import Volume
from ctscribe.phantom.render import render_study, sample_study

FAULTS = {
    1: "truncated .nii.gz",
    2: "zero bytes or text named .nii.gz",
    3: "gzip bomb or absurd header dimensions",
    4: "4D",
    5: "single slice or RGB",
    6: "NaN or infinite voxels",
    7: "zero, singular or identity affine",
    8: "affine that is not orthonormal",
    9: "LPS data labelled RAS",
    10: "implausible HU",
    11: "slope differing per slice",
    12: "missing slices",
    13: "uneven spacing",
    14: "gantry tilt",
    15: "duplicate slices",
    16: "localizer and secondary capture mixed in",
    17: "several series or patients in a folder",
    18: "unsupported or lossy transfer syntax",
    19: "decodes to zeros",
    20: "executable preamble, DICOMDIR that leads outside",
    21: "zip slip, zip bomb, reserved names",
    22: "CSV encodings",
    23: "Excel's own damage",
    24: "Chinese, space and over-long paths",
    25: "reports empty, duplicated, conflicting or personal",
}
Build = Callable[[Path, Volume], object]


@dataclass(frozen=True)
class Variant:
    """One way in which a fault comes.

    code: of `problems.KINDS`, which a check must name for it; says: a regular expression that its
    detail must match. loads: whether the case is accepted all the same, with a note or warning.
    build: writes it into an empty folder, from a CT of its own; what it returns, if it is a Volume,
    must be read from there voxel by voxel.
    """

    fault: int
    name: str
    code: str
    says: str
    loads: bool
    build: Build

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return f"{self.fault:02}-{self.name}"


VARIANTS: list[Variant] = []


def variant(
    fault: int, name: str, code: str, says: str, *, loads: bool = False
) -> Callable[[Build], Build]:
    """Add a builder to `VARIANTS`."""

    def add(build: Build) -> Build:
        VARIANTS.append(Variant(fault, name, code, says, loads, build))
        return build

    return add


@functools.cache
def _rendered(seed: int) -> Volume:
    study = sample_study((20_25, seed), (20_26, seed))
    hu = np.rint(render_study(study).hu_zyx.numpy()).astype(np.int16)
    z, y, x = study.spacing_zyx_mm
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = (-150.0, -120.0, 300.0)
    return Volume(hu, (z, y, x), affine)


def ct(number: int) -> Volume:
    """A phantom CT that no other number has: few anatomies, each with noise of its own."""
    volume = _rendered(number % 3)
    noise = np.random.default_rng(number).integers(-4, 5, volume.array_zyx.shape)
    return replace(volume, array_zyx=(volume.array_zyx + noise).astype(np.int16))
