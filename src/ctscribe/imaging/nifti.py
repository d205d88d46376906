"""Read and write volumes (NIfTI, NRRD, MetaImage), and turn every one to the house's axes.

SimpleITK decodes, as in nnU-Net. But of a NIfTI file that is truncated or corrupt, or that holds
NaN, it makes zeros and says nothing, so those files are unpacked and checked here first.
"""

from __future__ import annotations

import gzip
import importlib
import locale
import logging
import math
import struct
import sys
import tempfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctscribe.errors import ImageError
from ctscribe.files import replacing
from ctscribe.imaging.volume import Volume

log = logging.getLogger(__name__)

FORMATS = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
NIFTI_FLOAT32, NIFTI_FLOAT64 = 16, 64  # the format's own codes
OBLIQUE_WARN_DEG = 3.0
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_volume(path: str | Path, *, case: str | None = None) -> Volume:
    """A volume in HU, turned so that z grows to the head, y to the front, x to the right.

    The same voxels give the same Volume whatever program wrote them in whatever orientation.
    Oblique axes are taken for the nearest anatomical ones, with a warning; voxels stay as they are.
    Raises ImageError: missing, unreadable, truncated, not 3D, without orientation, NaN, not in HU.
    """
    path = Path(path)
    image = _decode(path, case)
    array, spacing, affine = _oriented(image, path, case)
    return Volume(_as_hu(array, path, case), spacing, affine)


def read_mask(path: str | Path, *, like: Volume, case: str | None = None) -> NDArray[np.uint8]:
    """Labels (Z, Y, X) on the grid of `like`, in whatever orientation they were stored.

    Raises ImageError: unreadable, other grid, labels that are not whole numbers from 0 to 255.
    """
    path = Path(path)
    array, spacing, affine = _oriented(_decode(path, case), path, case)
    corner = np.array([*(n - 1 for n in reversed(like.array_zyx.shape)), 1.0])
    apart_mm = max(
        float(np.abs((affine - like.affine) @ at).max()) for at in (corner, np.array([0, 0, 0, 1]))
    )
    if array.shape != like.array_zyx.shape or apart_mm > 0.5 * min(spacing):
        raise ImageError(
            f"the mask has {array.shape} voxels (z, y, x) of {_mm(spacing)} mm, its image "
            f"{like.array_zyx.shape} of {_mm(like.spacing_zyx_mm)} mm; they lie up to "
            f"{apart_mm:.1f} mm apart",
            case=case,
            file=path,
            fix="resample the mask onto the image's grid",
        )
    labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        raise ImageError(
            f"the mask holds values from {array.min()} to {array.max()}, not labels",
            case=case,
            file=path,
            fix="give whole numbers from 0 to 255",
        )
    return labels


def write_volume(volume: Volume, path: str | Path) -> None:
    """Write a volume; the name's ending chooses the format. Nothing half-written is left."""
    path = Path(path)
    suffix = _suffix(path, None)
    sitk = _simpleitk()
    image = sitk.GetImageFromArray(volume.array_zyx)
    spacing_xyz = volume.spacing_zyx_mm[::-1]
    image.SetSpacing(spacing_xyz)
    direction = LPS_TO_RAS @ volume.affine[:3, :3] / np.array(spacing_xyz)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((LPS_TO_RAS @ volume.affine[:3, 3]).tolist())
    try:
        with replacing(path) as part:
            sitk.WriteImage(image, str(part), useCompression=suffix != ".nii", compressionLevel=1)
    except (RuntimeError, OSError) as error:
        raise ImageError(
            f"the image cannot be written ({_last_line(error)})",
            file=path,
            fix="check that the folder exists, is writable and has room",
        ) from error


@lru_cache(maxsize=1)
def _simpleitk() -> Any:
    if sys.platform == "win32":
        # SimpleITK hands UTF-8 names to the C library, which on Windows reads them in the code
        # page of the locale: without this, no path with a Chinese character opens.
        locale.setlocale(locale.LC_CTYPE, ".UTF8")
    sitk: Any = importlib.import_module("SimpleITK")
    # What ITK would print as a warning becomes an error here or does not matter.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _decode(path: Path, case: str | None) -> Any:
    """A SimpleITK image of three dimensions and one value a voxel."""
    if path.is_dir() or not path.exists():
        raise ImageError(
            "this is a folder, not an image" if path.is_dir() else "there is no such file",
            case=case,
            file=path,
            fix="correct the path, or restore the file",
        )
    suffix = _suffix(path, case)
    sitk = _simpleitk()
    try:
        if suffix.startswith(".nii"):
            data = path.read_bytes()
            if suffix == ".nii.gz":
                data = gzip.decompress(data)
            _check_nifti(data)
            with tempfile.TemporaryDirectory(prefix="ctscribe-") as folder:
                plain = Path(folder) / "image.nii"
                plain.write_bytes(data)
                image = sitk.ReadImage(str(plain), imageIO=FORMATS[suffix])
        else:
            # Named, because ITK's own choice does not know endings in capitals.
            image = sitk.ReadImage(str(path), imageIO=FORMATS[suffix])
    except (RuntimeError, OSError, EOFError, zlib.error, ValueError) as error:
        raise ImageError(
            f"the image cannot be read ({_last_line(error)})",
            case=case,
            file=path,
            fix="copy or export the file again, complete",
        ) from error
    size = image.GetSize()
    if len(size) == 4 and size[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        values = image.GetNumberOfComponentsPerPixel()
        many = f" with {values} values each" if values > 1 else ""
        raise ImageError(
            f"the image has {' x '.join(map(str, size))} voxels{many}, not one 3D volume",
            case=case,
            file=path,
            fix="save the CT as one 3D volume",
        )
    if suffix.startswith(".nii") and _meta(image, "qform_code") + _meta(image, "sform_code") == 0:
        raise ImageError(
            "the header does not say how the image lies, so right and left cannot be told apart",
            case=case,
            file=path,
            fix="export it again from DICOM with its orientation (qform or sform)",
        )
    return image


def _suffix(path: Path, case: str | None) -> str:
    for suffix in FORMATS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ImageError(
        f"images of this kind ({path.suffix or 'no ending'}) are not read",
        case=case,
        file=path,
        fix=f"convert it to one of {' '.join(FORMATS)} (DICOM: dcm2niix)",
    )


def _check_nifti(data: bytes) -> None:
    """Raise ValueError for what ITK would turn into zeros: voxels missing, or NaN and infinite."""
    for order in "<>":
        if len(data) >= 348 and struct.unpack_from(f"{order}i", data)[0] == 348:
            dims = struct.unpack_from(f"{order}8h", data, 40)
            kind, bits = struct.unpack_from(f"{order}2h", data, 70)
            offset = int(struct.unpack_from(f"{order}f", data, 108)[0])
            break
        if len(data) >= 540 and struct.unpack_from(f"{order}i", data)[0] == 540:
            dims = struct.unpack_from(f"{order}8q", data, 16)
            kind, bits = struct.unpack_from(f"{order}2h", data, 12)
            offset = struct.unpack_from(f"{order}q", data, 168)[0]
            break
    else:
        raise ValueError("not a NIfTI header")
    voxels = math.prod(max(1, n) for n in dims[1 : 1 + max(0, min(7, dims[0]))])
    needed = offset + voxels * bits // 8
    if len(data) < needed:
        raise ValueError(f"it is truncated: {len(data)} of {needed} bytes")
    if kind in (NIFTI_FLOAT32, NIFTI_FLOAT64):
        values = np.frombuffer(data, f"{order}f{bits // 8}", voxels, offset)
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise ValueError(f"{wrong} voxels are not numbers, but NaN or infinite")


def _oriented(
    image: Any, path: Path, case: str | None
) -> tuple[NDArray[Any], tuple[float, float, float], NDArray[np.float64]]:
    """Array, spacing and affine after axes were swapped and flipped to the house's order."""
    sitk = _simpleitk()
    image = sitk.DICOMOrient(image, "RAS")
    # Headers hold 32-bit floats: rounding makes writers agree that differ in the last bit.
    spacing_xyz = [round(float(mm), 6) for mm in image.GetSpacing()]
    if not all(0.01 <= mm <= 50 for mm in spacing_xyz):
        raise ImageError(
            f"voxels of {_mm(spacing_xyz)} mm (x, y, z) are not a CT's",
            case=case,
            file=path,
            fix="export the image again with its spacing in mm",
        )
    direction = LPS_TO_RAS @ np.array(image.GetDirection()).reshape(3, 3)
    tilt = math.degrees(math.acos(min(1.0, float(np.diag(direction).min()))))
    if tilt > OBLIQUE_WARN_DEG:
        log.warning("%s: axes are oblique by %.0f degrees; the nearest ones are used", path, tilt)
    affine = np.eye(4)
    affine[:3, :3] = np.round(direction, 6) * spacing_xyz
    affine[:3, 3] = np.round(LPS_TO_RAS @ np.array(image.GetOrigin()), 3)
    x, y, z = spacing_xyz
    return sitk.GetArrayFromImage(image), (z, y, x), affine + 0.0


def _as_hu(
    array: NDArray[Any], path: Path, case: str | None
) -> NDArray[np.int16] | NDArray[np.float32]:
    """HU as int16 where they are whole numbers that fit, else float32; raises if they cannot be."""

    def fail(reason: str, fix: str) -> ImageError:
        return ImageError(reason, case=case, file=path, fix=fix)

    if array.dtype.itemsize == 1:
        raise fail(
            "voxels of 8 bits cannot hold Hounsfield units",
            "give the CT itself, not a mask, a label map or a picture of it",
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise fail(f"{count} voxels are not numbers (NaN or infinite)", "export the image again")
    low, high = array.min(), array.max()
    if low > -500:
        fix = "give Hounsfield units"
        if low >= 0 and high > 1000:
            fix += ": apply the rescale slope and intercept of the DICOM files"
        raise fail(
            f"values from {low:g} to {high:g} are not Hounsfield units, air would be about -1000",
            fix,
        )
    if low >= -32768 and high <= 32767:
        whole = array.astype(np.int16)
        if array.dtype == np.int16 or np.array_equal(whole, array):
            return whole
    return array.astype(np.float32)


def _meta(image: Any, key: str) -> int:
    return int(image.GetMetaData(key)) if image.HasMetaDataKey(key) else 0


def _mm(spacing: Any) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Reason:")]
    return (lines[-1] if lines else type(error).__name__).removeprefix("ITK ERROR: ").rstrip(".")
