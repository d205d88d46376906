"""Read and write volumes (NIfTI, NRRD, MetaImage), and turn every one to the house's axes.

SimpleITK decodes, as in nnU-Net, but for the voxels of NIfTI files: see `nifti_file.py`.
"""

from __future__ import annotations

import importlib
import locale
import logging
import math
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ctscribe.errors import ImageError
from ctscribe.files import replacing
from ctscribe.imaging.detached import detached_fault
from ctscribe.imaging.nifti_file import (
    BROKEN,
    MOST_SHEAR,
    NiftiHeader,
    NotOneVolumeError,
    geometry_fault,
    open_nifti,
    read_header,
    read_voxels,
    require_bytes,
)
from ctscribe.imaging.volume import Volume

log = logging.getLogger(__name__)

FORMATS = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
MOST_VOXELS = 1 << 31  # eight times 512 x 512 x 1000
MOST_LABELS = 64  # of a mask; a CT squeezed into 8 bits has more values
OBLIQUE_WARN_DEG = 3.0
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Stored:
    """An image as its file holds it.

    array_zyx: of its own memory, the file's axes. spacing_xyz, direction (columns are the axes) and
    origin_xyz: ITK's, of the file's axes, in LPS.
    """

    array_zyx: NDArray[Any]
    spacing_xyz: NDArray[np.float64]
    direction: NDArray[np.float64]
    origin_xyz: NDArray[np.float64]


def read_volume(path: str | Path, *, case: str | None = None) -> Volume:
    """A volume in HU, turned so that z grows to the head, y to the front, x to the right.

    The same voxels give the same Volume whatever program wrote them in whatever orientation.
    Oblique axes are taken for the nearest anatomical ones, with a warning; voxels stay as they are.
    Raises ImageError, its code one of `problems.KINDS`: missing, unreadable, truncated, too large,
    not 3D, without a geometry of its own, sheared, NaN, blank, not in HU.
    """
    path = Path(path)
    return volume_of(_decode(path, case), path, case)


def volume_of(image: Stored, path: Path, case: str | None) -> Volume:
    """A stored image in HU and the house's axes: see `read_volume`. path, case: for errors."""
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
            code="bad-mask",
            fix="resample the mask onto the image's grid",
        )
    labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        raise ImageError(
            f"the mask holds values from {array.min()} to {array.max()}, not labels",
            case=case,
            file=path,
            code="bad-mask",
            fix="give whole numbers from 0 to 255",
        )
    return labels


def count_labels(path: Path) -> int | None:
    """How many labels a mask has beside 0; None for what is no mask: not 8 bits, or grey levels.

    Raises ImageError as `read_volume` does.
    """
    array = _decode(path, None).array_zyx
    if array.dtype.itemsize != 1:
        return None
    labels = np.flatnonzero(np.bincount(array.view(np.uint8).ravel(), minlength=256))
    return int((labels > 0).sum()) if len(labels) <= MOST_LABELS else None


def write_volume(volume: Volume, path: str | Path) -> None:
    """Write a volume; the name's ending chooses the format. Nothing half-written is left."""
    spacing_xyz = np.array(volume.spacing_zyx_mm[::-1])
    direction = LPS_TO_RAS @ volume.affine[:3, :3] / spacing_xyz
    origin = LPS_TO_RAS @ volume.affine[:3, 3]
    _write(Stored(volume.array_zyx, spacing_xyz, direction, origin), Path(path))


def stored_as(path: Path, ending: str, folder: Path) -> Path:
    """`path` if its name has that ending and it has three axes, else such a copy in `folder`.

    The copy's voxels are in the order in which they are stored, not in the house's: for programs
    that were made for files as they come. Raises ImageError as `read_volume` does.
    """
    if path.name.endswith(ending):
        if not ending.startswith(".nii"):
            _require_beside(path, None)
        reader = simpleitk().ImageFileReader()
        reader.SetImageIO(FORMATS[_suffix(path, None)])
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if reader.GetDimension() == 3:
            return path
    copy = folder / f"image{ending}"
    _write(_decode(path, None), copy)
    return copy


def stored_size(path: Path, *, case: str | None = None) -> tuple[int, ...]:
    """Voxels along the axes of an image as it is stored, by its header alone; axes of 1 left out.

    Raises ImageError for a file without such a header.
    """
    suffix = _suffix(path, case)
    try:
        if suffix.startswith(".nii"):
            with open_nifti(path) as file:
                size = read_header(file).shape_xyz
        else:
            reader = simpleitk().ImageFileReader()
            reader.SetImageIO(FORMATS[suffix])
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            size = reader.GetSize()
    except (RuntimeError, *BROKEN) as error:
        raise ImageError(
            f"the image cannot be read ({_last_line(error)})",
            case=case,
            file=path,
            fix="copy or export the file again, complete",
            code="unreadable",
        ) from error
    return tuple(int(n) for n in size if n != 1)


def _write(image: Stored, path: Path) -> None:
    suffix = _suffix(path, None)
    sitk = simpleitk()
    written = sitk.GetImageFromArray(image.array_zyx)
    written.SetSpacing(image.spacing_xyz.tolist())
    written.SetDirection(image.direction.ravel().tolist())
    written.SetOrigin(image.origin_xyz.tolist())
    try:
        with replacing(path) as part:
            sitk.WriteImage(written, str(part), useCompression=suffix != ".nii", compressionLevel=1)
    except (RuntimeError, OSError) as error:
        raise ImageError(
            f"the image cannot be written ({_last_line(error)})",
            file=path,
            fix="check that the folder exists, is writable and has room",
        ) from error


@lru_cache(maxsize=1)
def simpleitk() -> Any:
    """The module, loaded when it is first needed and quiet."""
    if sys.platform == "win32":
        # SimpleITK hands UTF-8 names to the C library, which on Windows reads them in the code
        # page of the locale: without this, no path with a Chinese character opens.
        locale.setlocale(locale.LC_CTYPE, ".UTF8")
    sitk: Any = importlib.import_module("SimpleITK")
    # What ITK would print as a warning becomes an error here or does not matter.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _decode(path: Path, case: str | None) -> Stored:
    """An image of three dimensions and one finite value a voxel."""
    if path.is_dir() or not path.exists():
        raise ImageError(
            "this is a folder, not an image" if path.is_dir() else "there is no such file",
            case=case,
            file=path,
            code="missing",
            fix="correct the path, or restore the file",
        )
    suffix = _suffix(path, case)
    reader = simpleitk().ImageFileReader()
    # Named, because ITK's own choice does not know endings in capitals.
    reader.SetImageIO(FORMATS[suffix])
    try:
        if suffix.startswith(".nii"):
            with open_nifti(path) as file:
                header = read_header(file)
                _require_geometry(header, path, case)
                with tempfile.TemporaryDirectory(prefix="ctscribe-") as folder:
                    alone = Path(folder) / "header.nii"
                    alone.write_bytes(header.alone)
                    reader.SetFileName(str(alone))
                    reader.ReadImageInformation()
                _require_one_volume(reader, header.dtype.itemsize, path, case)
                require_bytes(path, header)
                array = read_voxels(file, header).reshape(header.shape_xyz[2::-1])
        else:
            _require_beside(path, case)
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            _require_one_volume(reader, 4, path, case)
            array = _array(reader.Execute())
    except (RuntimeError, *BROKEN) as error:
        raise ImageError(
            f"the image cannot be read ({_last_line(error)})",
            case=case,
            file=path,
            code="not-3d" if isinstance(error, NotOneVolumeError) else "unreadable",
            fix="copy or export the file again, complete",
        ) from error
    if np.issubdtype(array.dtype, np.floating):
        wrong = sum(int((~np.isfinite(plane)).sum()) for plane in array)
        if wrong:
            raise ImageError(
                f"{wrong} voxels are not numbers, but NaN or infinite",
                case=case,
                file=path,
                code="not-finite",
                fix="export the image again",
            )
    dims = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(dims, dims)[:3, :3]
    spacing, origin = np.array(reader.GetSpacing()[:3]), np.array(reader.GetOrigin()[:3])
    stored = Stored(array, spacing, direction, origin)
    _require_own_geometry(stored, path, case)
    return stored


def _array(image: Any) -> NDArray[Any]:
    """Voxels (Z, Y, X) of a SimpleITK image, a fourth axis of one left out."""
    array: NDArray[Any] = simpleitk().GetArrayFromImage(image)
    return array.reshape(array.shape[-3:])


def _require_one_volume(reader: Any, voxel_bytes: int, path: Path, case: str | None) -> None:
    """Raise ImageError for what is not one 3D volume of a believable size; nothing is read yet."""
    size, values = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) not in (3, 4) or size[3:] not in ((), (1,)) or values != 1 or 1 in size[:3]:
        many = f" with {values} values each" if values > 1 else ""
        raise ImageError(
            f"the image has {' x '.join(map(str, size))} voxels{many}, not one 3D volume",
            case=case,
            file=path,
            code="not-3d",
            fix="save the CT as one 3D volume",
        )
    voxels = math.prod(size)
    if voxels > MOST_VOXELS or voxels * voxel_bytes > psutil.virtual_memory().total:
        raise ImageError(
            f"the header promises {' x '.join(map(str, size))} voxels, more than a CT has or this "
            "machine can hold",
            case=case,
            file=path,
            code="too-large",
            fix="export the image again; if it is sound, crop it or use a machine with more memory",
        )


def _require_beside(path: Path, case: str | None) -> None:
    """Raise ImageError where a header names voxels in another folder."""
    fault = detached_fault(path)
    if fault is not None:
        raise ImageError(
            fault,
            case=case,
            file=path,
            code="unreadable",
            fix="save the image and its voxels as one file (.nrrd, .mha or .nii.gz)",
        )


def _require_geometry(header: NiftiHeader, path: Path, case: str | None) -> None:
    fault = geometry_fault(header)
    if fault is not None:
        raise ImageError(fault.reason, case=case, file=path, code=fault.code, fix=fault.fix)


def _require_own_geometry(image: Stored, path: Path, case: str | None) -> None:
    """Raise ImageError for sheared axes, and for the geometry of an array that had none.

    np.eye(4), and what SimpleITK gives an array: steps of exactly 1 mm from a corner at exactly 0.
    An image that was truly resampled to 1 mm keeps its corner in the scanner's own coordinates.
    """
    shear = float(np.abs(image.direction.T @ image.direction - np.eye(3)).max())
    if not shear <= MOST_SHEAR:
        raise ImageError(
            "the axes are not orthonormal, but sheared",
            case=case,
            file=path,
            code="sheared",
            fix="resample the image onto a grid with right angles (as for a tilted gantry)",
        )
    turned = np.abs(image.direction)
    bare = not image.origin_xyz.any() and bool((image.spacing_xyz == 1).all())
    if bare and np.array_equal(turned, np.round(turned)):
        raise ImageError(
            "its affine is a bare identity (1 mm from a corner at 0), which a program writes that "
            "has lost the geometry: size, right and left cannot be known",
            case=case,
            file=path,
            code="no-geometry",
            fix="export it again from DICOM, or copy the affine of the image that it was made "
            "from; if it truly is 1 mm, write it with its corner's position in the scanner",
        )


def _suffix(path: Path, case: str | None) -> str:
    for suffix in FORMATS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ImageError(
        f"images of this kind ({path.suffix or 'no ending'}) are not read",
        case=case,
        file=path,
        code="unreadable",
        fix=f"convert it to one of {' '.join(FORMATS)} (DICOM: dcm2niix)",
    )


def _oriented(
    image: Stored, path: Path, case: str | None
) -> tuple[NDArray[Any], tuple[float, float, float], NDArray[np.float64]]:
    """Array, spacing and affine after axes were swapped and flipped to the house's order.

    The array is the image's own memory wherever flips are enough.
    """
    code = simpleitk().DICOMOrientImageFilter.GetOrientationFromDirectionCosines(
        image.direction.ravel().tolist()
    )
    axes = [next(i for i in range(3) if code[i] in pair) for pair in ("RL", "AP", "SI")]
    flips = [code[i] != own for i, own in zip(axes, "RAS", strict=True)]
    # Headers hold 32-bit floats: rounding makes writers agree that differ in the last bit.
    spacing_xyz = [round(float(image.spacing_xyz[i]), 6) for i in axes]
    if not all(0.01 <= mm <= 50 for mm in spacing_xyz):
        raise ImageError(
            f"voxels of {_mm(spacing_xyz)} mm (x, y, z) are not a CT's",
            case=case,
            file=path,
            code="spacing",
            fix="export the image again with its spacing in mm",
        )
    last = np.array(image.array_zyx.shape[::-1]) - 1
    turned = [flip * n for flip, n in zip(flips, last[axes], strict=True)]
    origin = image.origin_xyz + image.direction[:, axes] @ (turned * image.spacing_xyz[axes])
    direction = LPS_TO_RAS @ image.direction[:, axes] * np.where(flips, -1.0, 1.0)
    tilt = math.degrees(math.acos(min(1.0, float(np.diag(direction).min()))))
    if tilt > OBLIQUE_WARN_DEG:
        log.warning("%s: axes are oblique by %.0f degrees; the nearest ones are used", path, tilt)
    affine = np.eye(4)
    affine[:3, :3] = np.round(direction, 6) * spacing_xyz
    affine[:3, 3] = np.round(LPS_TO_RAS @ origin, 3)
    x, y, z = spacing_xyz
    array = _turned(image.array_zyx, [2 - i for i in axes[::-1]], flips[::-1])
    return array, (z, y, x), affine + 0.0


def _turned(array_zyx: NDArray[Any], axes_zyx: list[int], flips_zyx: list[bool]) -> NDArray[Any]:
    """Axes in another order, then some of them flipped; in place if the order stays."""
    z, y, x = (slice(None, None, -1) if flip else slice(None) for flip in flips_zyx)
    if axes_zyx != [0, 1, 2]:
        return np.ascontiguousarray(array_zyx.transpose(axes_zyx)[z, y, x])
    if flips_zyx[0]:
        for low in range(len(array_zyx) // 2):
            array_zyx[[low, -1 - low]] = array_zyx[[-1 - low, low]]
    if flips_zyx[1] or flips_zyx[2]:
        for plane in array_zyx:
            plane[:] = plane[y, x]
    return array_zyx


def _as_hu(
    array: NDArray[Any], path: Path, case: str | None
) -> NDArray[np.int16] | NDArray[np.float32]:
    """HU as int16 where they are whole numbers that fit, else float32; raises if they cannot be."""

    def fail(reason: str, fix: str, code: str = "not-hu") -> ImageError:
        return ImageError(reason, case=case, file=path, code=code, fix=fix)

    if array.dtype.itemsize == 1:
        raise fail(
            "voxels of 8 bits cannot hold Hounsfield units",
            "give the CT itself, not a mask, a label map or a picture of it",
        )
    low, high = array.min(), array.max()
    if low == high:
        raise fail(
            f"every voxel is {low:g}: it is blank, or its pixels were not decoded",
            "export it again; check the decoder of the archive",
            "blank",
        )
    if low > -500:
        fix = "give Hounsfield units"
        if low >= 0 and high > 1000:
            fix += ": apply the rescale slope and intercept of the DICOM files"
        raise fail(
            f"values from {low:g} to {high:g} are not Hounsfield units, air would be about -1000",
            fix,
        )
    if array.dtype == np.int16:
        return array
    if low >= -32768 and high <= 32767:
        whole = array.astype(np.int16)
        if all(np.array_equal(a, b) for a, b in zip(whole, array, strict=True)):
            return whole
    return array.astype(np.float32, copy=False)


def _mm(spacing: Any) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Reason:")]
    return (lines[-1] if lines else type(error).__name__).removeprefix("ITK ERROR: ").rstrip(".")
