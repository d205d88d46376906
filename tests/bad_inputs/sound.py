"""25 sound inputs, each what one of the bad ones must not be mistaken for."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from ctscribe.imaging.nifti import write_volume
from ctscribe.imaging.volume import Volume
from ctscribe.phantom.dicom import IMPLICIT, JPEG_2000, write_dicomdir, write_enhanced
from tests.bad_inputs import series, tables
from tests.bad_inputs.faults import Build
from tests.bad_inputs.volumes import nifti_bytes, packed, put_sform


@dataclass(frozen=True)
class Sound:
    """A sound input that looks like fault `like`. notes: codes that a check may name for it."""

    like: int
    name: str
    build: Build
    notes: frozenset[str]

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return f"{self.like:02}-{self.name}"


SOUND: list[Sound] = []


def sound(like: int, name: str, *notes: str) -> Callable[[Build], Build]:
    """Add a builder to `SOUND`."""

    def add(build: Build) -> Build:
        SOUND.append(Sound(like, name, build, frozenset(notes)))
        return build

    return add


def image_of(ct: Volume) -> sitk.Image:
    """The volume as ITK holds it, in the house's order of axes."""
    image = sitk.GetImageFromArray(ct.array_zyx)
    image.SetSpacing(ct.spacing_zyx_mm[::-1])
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    image.SetOrigin((-ct.affine[0, 3], -ct.affine[1, 3], ct.affine[2, 3]))
    return image


def _outside_circle(array: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where a slice lies outside the scanner's circle."""
    rows, columns = array.shape[1:]
    y, x = np.ogrid[:rows, :columns]
    outside: NDArray[np.bool_] = np.hypot(y - rows / 2, x - columns / 2) > max(rows, columns) / 2
    return outside


@sound(1, "several-gzip-members")
def _members(folder: Path, ct: Volume) -> Volume:
    data = bytes(nifti_bytes(ct, folder))
    parts = [packed(data[at : at + 100_000]) for at in range(0, len(data), 100_000)]
    (folder / "ct.nii.gz").write_bytes(b"".join(parts))
    return ct


@sound(2, "ending-in-capitals")
def _capitals(folder: Path, ct: Volume) -> Volume:
    (folder / "CT.NII.GZ").write_bytes(packed(nifti_bytes(ct, folder)))
    return ct


@sound(3, "mostly-air")
def _mostly_air(folder: Path, ct: Volume) -> None:
    """Packs far better than a CT does, since two thirds of it are the same air."""
    clean = np.where(ct.array_zyx < -960, -1000, ct.array_zyx // 20 * 20).astype(np.int16)
    wide = np.pad(clean, ((0, 0), (40, 40), (50, 50)), constant_values=-1000)
    data = nifti_bytes(replace(ct, array_zyx=wide), folder)
    (folder / "ct.nii.gz").write_bytes(gzip.compress(bytes(data), 9, mtime=0))


@sound(4, "fourth-axis-of-one")
def _one_time(folder: Path, ct: Volume) -> Volume:
    sitk.WriteImage(sitk.JoinSeries([image_of(ct)]), str(folder / "ct.nii.gz"))
    return ct


@sound(5, "thick-slices")
def _thick(folder: Path, ct: Volume) -> None:
    step = max(1, round(10 / ct.spacing_zyx_mm[0]))
    _, y, x = ct.spacing_zyx_mm
    affine = ct.affine.copy()
    affine[2, 2] *= step
    thick = np.ascontiguousarray(ct.array_zyx[::step])
    write_volume(Volume(thick, (affine[2, 2], y, x), affine), folder / "ct.nii.gz")


@sound(6, "fractions-of-hu")
def _fractions(folder: Path, ct: Volume) -> None:
    fine = ct.array_zyx.astype(np.float32) + np.float32(0.25)
    write_volume(replace(ct, array_zyx=fine), folder / "ct.mha")


@sound(7, "one-millimetre")
def _one_millimetre(folder: Path, ct: Volume) -> None:
    """An affine of ones, but for the origin: resampled, not lost."""
    array = ndimage.zoom(ct.array_zyx, ct.spacing_zyx_mm, order=0)
    affine = np.eye(4)
    affine[:3, 3] = ct.affine[:3, 3]
    write_volume(Volume(array, (1.0, 1.0, 1.0), affine), folder / "ct.nii.gz")


@sound(8, "oblique")
def _oblique(folder: Path, ct: Volume) -> None:
    angle = np.radians(9)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    data = nifti_bytes(ct, folder)
    put_sform(data, turn @ ct.affine)
    (folder / "ct.nii.gz").write_bytes(packed(data))


@sound(9, "stored-lps")
def _stored_lps(folder: Path, ct: Volume) -> Volume:
    sitk.WriteImage(sitk.DICOMOrient(image_of(ct), "LPS"), str(folder / "ct.nrrd"))
    return ct


@sound(10, "padded-and-metal")
def _padded(folder: Path, ct: Volume) -> None:
    """A reconstruction circle around which the scanner wrote -3024, and a metal implant."""
    array = ct.array_zyx.copy()
    array[:, _outside_circle(array)] = -3024
    array[20:22, 40:42, 50:52] = 14_000
    write_volume(replace(ct, array_zyx=array), folder / "ct.nii.gz")


@sound(22, "utf-8-with-mark")
def _utf8(folder: Path, ct: Volume) -> None:
    write_volume(ct, folder / "ct.nii.gz")
    tables.write_csv(folder, [tables.row("A1", tables.NODULE)])


@sound(23, "workbook")
def _workbook(folder: Path, ct: Volume) -> None:
    tables.workbook(folder, tables.TWO).save(folder / "reports.xlsx")


@sound(24, "odd-characters")
def _odd(folder: Path, ct: Volume) -> Volume:
    inside = folder / "[胸部] #1 100% 'a' & (b)"
    inside.mkdir()
    write_volume(ct, inside / "it's ~ CT +.nii.gz")
    return ct


@sound(25, "same-normal-report")
def _same_normal(folder: Path, ct: Volume) -> None:
    """Two healthy patients of whom the same was said."""
    tables.two_images(folder, ct)
    rows = [tables.row("A1", tables.NORMAL), tables.row("A2", tables.NORMAL, "ct2.nii.gz")]
    tables.write_csv(folder, rows)


@sound(11, "one-slope")
def _one_slope(folder: Path, ct: Volume) -> None:
    positive = np.maximum(ct.array_zyx, np.int16(-1024))
    series.write(folder, replace(ct, array_zyx=positive), signed=False, syntax=IMPLICIT)


@sound(12, "order-of-names")
def _order(folder: Path, ct: Volume) -> Volume:
    """File names and instance numbers say nothing of where a slice lies."""
    order = np.random.default_rng(12).permutation(len(ct.array_zyx)).tolist()
    series.write(folder, ct, order=order)
    return ct


@sound(13, "rounded-positions")
def _rounded(folder: Path, ct: Volume) -> Volume:
    shift = {at: 0.04 * (-1) ** at for at in range(len(ct.array_zyx))}
    series.write(folder, ct, shift_mm=shift)
    return ct


@sound(14, "oblique-series")
def _oblique_series(folder: Path, ct: Volume) -> Volume:
    """Turned about the patient's long axis: slices still stand at right angles to it."""
    angle = np.radians(6)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    series.write(folder, replace(ct, affine=turn @ ct.affine))
    return ct


@sound(15, "multi-frame")
def _multi_frame(folder: Path, ct: Volume) -> Volume:
    write_enhanced(ct, folder / "enhanced.dcm", study=series.study_of(folder))
    return ct


@sound(16, "named-by-topogram")
def _named(folder: Path, ct: Volume) -> Volume:
    series.write(folder, ct, description="Chest, planned on topogram")
    return ct


@sound(17, "two-folders")
def _two_folders(folder: Path, ct: Volume) -> Volume:
    """One series whose files lie in two folders, in no order."""
    files = series.write(folder, ct)
    for part in ("A", "B"):
        (folder / part).mkdir()
    for number, file in enumerate(files):
        file.rename(folder / "AB"[number % 2] / file.name)
    return ct


@sound(18, "without-loss")
def _without_loss(folder: Path, ct: Volume) -> Volume:
    series.write(folder, ct, syntax=JPEG_2000)
    return ct


@sound(19, "circle")
def _circle(folder: Path, ct: Volume) -> None:
    """Zeros around the reconstruction's circle, which is padding and not a failed decoder."""
    array = np.maximum(ct.array_zyx, np.int16(-1024))
    array[:, _outside_circle(array)] = -1024
    series.write(folder, replace(ct, array_zyx=array), signed=False)


@sound(20, "tiff-preamble")
def _tiff(folder: Path, ct: Volume) -> Volume:
    """A preamble that makes the file a TIFF as well is what the standard made it for."""
    files = series.write(folder, ct, preamble=b"II*\0" + bytes(124))
    write_dicomdir(folder, [(file.name,) for file in files])
    return ct


@sound(21, "zip")
def _sound_zip(folder: Path, ct: Volume) -> Volume:
    series.zipped(folder, ct)
    return ct
