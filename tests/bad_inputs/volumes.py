"""Bad inputs 1 to 10: NIfTI files."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ctscribe.imaging.nifti import write_volume
from ctscribe.imaging.volume import Volume
from tests.bad_inputs.faults import variant

# Where fields of a NIfTI-1 header stand (nifti1.h).
DIM, BITPIX, PIXDIM, OFFSET, SLOPE = 40, 72, 76, 108, 112
QFORM_CODE, SFORM_CODE, SROW = 252, 254, 280
FIXED_MTIME = 0


def nifti_bytes(volume: Volume, folder: Path) -> bytearray:
    """The bytes of a sound .nii of the volume."""
    file = folder / "whole.nii"
    write_volume(volume, file)
    data = bytearray(file.read_bytes())
    file.unlink()
    return data


def put(data: bytearray, at: int, form: str, *values: float) -> None:
    struct.pack_into("<" + form, data, at, *values)


def packed(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=FIXED_MTIME)


def put_sform(data: bytearray, affine: NDArray[np.float64]) -> None:
    """The affine as the header's only orientation."""
    put(data, QFORM_CODE, "hh", 0, 1)
    put(data, SROW, "12f", *affine[:3].ravel())


def write_image(image: sitk.Image, folder: Path) -> None:
    sitk.WriteImage(image, str(folder / "ct.nii.gz"))


@variant(1, "half", "unreadable", "trunc|end|cut|complete")
def _half(folder: Path, ct: Volume) -> None:
    whole = packed(nifti_bytes(ct, folder))
    (folder / "ct.nii.gz").write_bytes(whole[: len(whole) // 2])


@variant(1, "last-byte", "unreadable", "trunc|end|cut|complete")
def _last_bytes(folder: Path, ct: Volume) -> None:
    # All voxels are there; only the checksum is not.
    (folder / "ct.nii.gz").write_bytes(packed(nifti_bytes(ct, folder))[:-6])


@variant(1, "uncompressed", "unreadable", "trunc|end|cut|complete")
def _short_nii(folder: Path, ct: Volume) -> None:
    (folder / "ct.nii").write_bytes(nifti_bytes(ct, folder)[:-1000])


@variant(1, "filled-up", "blank", "whole rows of slices")
def _filled_up(folder: Path, ct: Volume) -> None:
    """A copy that broke off in a file made to its full size beforehand."""
    data = nifti_bytes(ct, folder)
    rest = len(data) // 5
    (folder / "ct.nii").write_bytes(data[:-rest] + bytes(rest))


@variant(2, "empty", "unreadable", "empty|read")
def _empty(folder: Path, ct: Volume) -> None:
    (folder / "ct.nii.gz").write_bytes(b"")


@variant(2, "text", "unreadable", "read")
def _text(folder: Path, ct: Volume) -> None:
    (folder / "ct.nii.gz").write_text("<html>404 Not Found</html>\n" * 100, encoding="utf-8")


@variant(3, "bomb", "unreadable", "beyond|more than")
def _bomb(folder: Path, ct: Volume) -> None:
    """Behind the voxels come 2 GiB of zeros, in 2 MiB of file."""
    zeros = gzip.compress(bytes(1 << 24), 9, mtime=FIXED_MTIME)
    with (folder / "ct.nii.gz").open("wb") as file:
        file.write(packed(nifti_bytes(ct, folder)))
        for _ in range(128):
            file.write(zeros)


@variant(3, "dimensions", "too-large", "promises")
def _dimensions(folder: Path, ct: Volume) -> None:
    data = nifti_bytes(ct, folder)
    put(data, DIM, "4h", 3, 32767, 32767, 32767)
    (folder / "ct.nii.gz").write_bytes(packed(data))


@variant(4, "time", "not-3d", r" x 2 voxels")
def _4d(folder: Path, ct: Volume) -> None:
    image = sitk.GetImageFromArray(ct.array_zyx)
    write_image(sitk.JoinSeries([image, image]), folder)


@variant(5, "slice", "not-3d", "slice|3D")
def _slice(folder: Path, ct: Volume) -> None:
    one = replace(ct, array_zyx=np.ascontiguousarray(ct.array_zyx[30:31]))
    write_volume(one, folder / "ct.nii.gz")


@variant(5, "flat", "not-3d", "3D")
def _flat(folder: Path, ct: Volume) -> None:
    write_image(sitk.GetImageFromArray(ct.array_zyx[30]), folder)


@variant(5, "rgb", "not-3d", "3 values")
def _rgb(folder: Path, ct: Volume) -> None:
    grey = np.clip((ct.array_zyx + 1000) / 8, 0, 255).astype(np.uint8)
    write_image(sitk.GetImageFromArray(np.stack([grey] * 3, axis=-1), isVector=True), folder)


@variant(6, "nan", "not-finite", "NaN")
def _nan(folder: Path, ct: Volume) -> None:
    array = ct.array_zyx.astype(np.float32)
    array[10, 20, 30] = np.nan
    write_volume(replace(ct, array_zyx=array), folder / "ct.nii.gz")


@variant(6, "infinite", "not-finite", "infinite")
def _infinite(folder: Path, ct: Volume) -> None:
    array = ct.array_zyx.astype(np.float32)
    array[-1] = np.inf
    write_volume(replace(ct, array_zyx=array), folder / "ct.nii.gz")


def _with_affine(folder: Path, ct: Volume, affine: NDArray[np.float64]) -> None:
    data = nifti_bytes(ct, folder)
    put_sform(data, affine)
    put(data, PIXDIM + 4, "3f", 1.0, 1.0, 1.0)
    (folder / "ct.nii.gz").write_bytes(packed(data))


@variant(7, "zero", "no-geometry", "")
def _zero(folder: Path, ct: Volume) -> None:
    _with_affine(folder, ct, np.zeros((4, 4)))


@variant(7, "singular", "no-geometry", "")
def _singular(folder: Path, ct: Volume) -> None:
    affine = ct.affine.copy()
    affine[:, 1] = affine[:, 0]
    _with_affine(folder, ct, affine)


@variant(7, "identity", "no-geometry", "identity")
def _identity(folder: Path, ct: Volume) -> None:
    _with_affine(folder, ct, np.eye(4))


@variant(7, "no-codes", "no-geometry", "")
def _no_codes(folder: Path, ct: Volume) -> None:
    data = nifti_bytes(ct, folder)
    put(data, QFORM_CODE, "hh", 0, 0)
    (folder / "ct.nii.gz").write_bytes(packed(data))


@variant(8, "shear", "sheared", "")
def _shear(folder: Path, ct: Volume) -> None:
    affine = ct.affine.copy()
    affine[1, 2] = affine[2, 2] * np.tan(np.radians(12))  # slices pushed forward, as by a tilt
    data = nifti_bytes(ct, folder)
    put_sform(data, affine)
    (folder / "ct.nii.gz").write_bytes(packed(data))


@variant(9, "lps-as-ras", "mirrored|back-to-front", "")
def _lps_as_ras(folder: Path, ct: Volume) -> None:
    """Voxels in LPS order under a header that says RAS: x and y both run the wrong way."""
    turned = np.ascontiguousarray(ct.array_zyx[:, ::-1, ::-1])
    write_volume(replace(ct, array_zyx=turned), folder / "ct.nii.gz")


@variant(9, "mirrored", "mirrored", "")
def _mirrored(folder: Path, ct: Volume) -> None:
    write_volume(
        replace(ct, array_zyx=np.ascontiguousarray(ct.array_zyx[:, :, ::-1])),
        folder / "ct.nii.gz",
    )


@variant(9, "upside-down", "upside-down", "")
def _upside_down(folder: Path, ct: Volume) -> None:
    write_volume(
        replace(ct, array_zyx=np.ascontiguousarray(ct.array_zyx[::-1])), folder / "ct.nii.gz"
    )


@variant(9, "turned", "turned", "deep as wide")
def _turned(folder: Path, ct: Volume) -> None:
    """As a stack of pictures comes that was turned by 90 degrees for the eye."""
    z, y, x = ct.spacing_zyx_mm
    turned = np.ascontiguousarray(np.rot90(ct.array_zyx, axes=(1, 2)))
    affine = ct.affine @ np.diag([y / x, x / y, 1.0, 1.0])
    write_volume(Volume(turned, (z, x, y), affine), folder / "ct.nii.gz")


@variant(10, "slope-lost", "not-hu", "")
def _slope_lost(folder: Path, ct: Volume) -> None:
    stored = np.clip(ct.array_zyx, -1024, 3071) + 1024
    write_volume(replace(ct, array_zyx=stored.astype(np.int16)), folder / "ct.nii.gz")


@variant(10, "intercept-twice", "not-hu", "")
def _twice(folder: Path, ct: Volume) -> None:
    write_volume(
        replace(ct, array_zyx=(ct.array_zyx - 1024).astype(np.int16)), folder / "ct.nii.gz"
    )


@variant(10, "slope-twice", "not-hu", "")
def _slope_twice(folder: Path, ct: Volume) -> None:
    doubled = np.clip(ct.array_zyx.astype(np.int32) * 2, -32000, 32000)
    write_volume(replace(ct, array_zyx=doubled.astype(np.int16)), folder / "ct.nii.gz")


@variant(10, "bytes", "not-hu", "")
def _bytes(folder: Path, ct: Volume) -> None:
    grey = np.clip((ct.array_zyx + 1000) / 8, 0, 255).astype(np.int16)
    write_volume(replace(ct, array_zyx=grey), folder / "ct.nii.gz")


@variant(10, "unit", "not-hu", "")
def _unit(folder: Path, ct: Volume) -> None:
    unit = np.clip((ct.array_zyx.astype(np.float32) + 1000) / 2000, 0, 1)
    write_volume(replace(ct, array_zyx=unit), folder / "ct.nii.gz")
