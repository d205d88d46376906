"""The bytes of a NIfTI file: its header, its voxels, and every reason not to trust them.

ITK says how the image lies, asked with the header alone; the voxels are read here, because ITK
inflates slowly and makes zeros of what is truncated, corrupt or not a number. What comes out is
what ITK makes of a sound file, to the bit. Every error is one of BROKEN.
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from isal import igzip, igzip_lib
from numpy.typing import NDArray

# The format's own codes.
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
TYPES |= {1024: "i8", 1280: "u8"}
BROKEN = (ValueError, OSError, EOFError, cast(type[Exception], igzip_lib.IsalError))
HEADER_BYTES = 348
CHUNK_BYTES = 1 << 20
MOST_BEYOND_BYTES = 64 << 20  # before and after the voxels; more is a fault or an attack
MOST_EXPANDED = 1100  # times; deflate reaches 1032
COLOUR_OR_COMPLEX = (32, 128, 1792, 2048, 2304)
MOST_SHEAR = 1e-3  # cosine between two axes; files of 32-bit floats stay below 1e-5
MOST_APART_DEG = 3.0  # between qform and sform; below it the nearest axes are the same
MOST_SCALE = 0.01  # relative, between voxel sizes in two places of a header


class NotOneVolumeError(ValueError):
    """The file holds colours or complex numbers: no CT, however it is read."""


class Geometry(NamedTuple):
    """What is wrong with a header's geometry: a code of `problems.KINDS`, the reason, the fix."""

    code: str
    reason: str
    fix: str


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says. alone: a file of the header without voxels, for ITK to read.

    slope, intercept: value = slope * stored + intercept, as ITK takes them.
    pixdim: the eight floats of that field. sform, qform: 4x4 to RAS+ mm, None where the code is 0.
    """

    alone: bytes
    shape_xyz: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    pixdim: tuple[float, ...]
    sform: NDArray[np.float64] | None
    qform: NDArray[np.float64] | None

    @property
    def is_scaled(self) -> bool:
        """ITK's own test."""
        least = sys.float_info.epsilon
        return abs(self.slope - 1) > least or abs(self.intercept) > least


def open_nifti(path: Path) -> BinaryIO:
    """The file's bytes, inflated as they are read where the name ends in .gz."""
    if path.name.lower().endswith(".gz"):
        return cast(BinaryIO, igzip.open(path, "rb"))  # type: ignore[no-untyped-call]
    return path.open("rb")


def read_header(file: BinaryIO) -> NiftiHeader:
    """Read and check the header at the file's start."""
    data = file.read(HEADER_BYTES)
    order = next((o for o in "<>" if data[:4] == struct.pack(f"{o}i", HEADER_BYTES)), None)
    if data[:4] in (struct.pack("<i", 540), struct.pack(">i", 540)):
        raise ValueError("it is NIfTI-2, which is not read: save it as NIfTI-1")
    if order is None or len(data) < HEADER_BYTES:
        raise ValueError("not a NIfTI header")
    dims = struct.unpack_from(f"{order}8h", data, 40)
    (kind,) = struct.unpack_from(f"{order}h", data, 70)
    offset, slope, intercept = struct.unpack_from(f"{order}3f", data, 108)
    if data[344:346] == b"ni":
        raise ValueError("its header says that the voxels lie in another file")
    if kind in COLOUR_OR_COMPLEX:
        raise NotOneVolumeError(f"voxels of NIfTI's type {kind} are colours or complex numbers")
    if kind not in TYPES:
        raise ValueError(f"voxels of NIfTI's type {kind} are not a CT's")
    if not 0 <= offset <= MOST_BEYOND_BYTES:
        raise ValueError(f"its header says that the voxels start at byte {offset:g}")
    slope = slope if math.isfinite(slope) and abs(slope) > sys.float_info.epsilon else 1.0
    return NiftiHeader(
        alone=data + bytes(4),  # no extensions
        shape_xyz=tuple(max(1, n) for n in dims[1 : 1 + max(0, min(7, dims[0]))]),
        dtype=np.dtype(order + TYPES[kind]),
        offset=max(HEADER_BYTES, int(offset)),
        slope=slope,
        intercept=intercept if math.isfinite(intercept) else 0.0,
        pixdim=struct.unpack_from(f"{order}8f", data, 76),
        sform=_sform(data, order),
        qform=_qform(data, order),
    )


def _sform(data: bytes, order: str) -> NDArray[np.float64] | None:
    if struct.unpack_from(f"{order}h", data, 254) == (0,):
        return None
    rows = struct.unpack_from(f"{order}12f", data, 280)
    return np.vstack([np.reshape(rows, (3, 4)), [0, 0, 0, 1]]).astype(np.float64)


def _qform(data: bytes, order: str) -> NDArray[np.float64] | None:
    """The quaternion's affine, by the format's own definition (nifti1.h, method 2)."""
    if struct.unpack_from(f"{order}h", data, 252) == (0,):
        return None
    b, c, d, *offset = struct.unpack_from(f"{order}6f", data, 256)
    factor, *sizes = struct.unpack_from(f"{order}4f", data, 76)
    length = b * b + c * c + d * d
    if length > 1 - 1e-6:  # half a turn: what is left for a is the rounding of 32-bit floats
        b, c, d, length = *(n / math.sqrt(length) for n in (b, c, d)), 1.0
    a = math.sqrt(1 - length)
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * np.abs(sizes) * np.array([1, 1, -1 if factor < 0 else 1])
    affine[:3, 3] = offset
    return affine


def geometry_fault(header: NiftiHeader) -> Geometry | None:
    """Why the header cannot be trusted to say how the image lies, or None.

    ITK would take the qform without a word where the sform is sheared, singular or of another
    scale than pixdim, and MONAI and nibabel the sform: nobody would know which side is right.
    """
    again = "export it again from DICOM with its orientation (qform or sform)"
    forms = {"sform": header.sform, "qform": header.qform}
    known = {name: form for name, form in forms.items() if form is not None}
    if not known:
        return Geometry(
            "no-geometry",
            "the header does not say how the image lies, so right and left cannot be told apart",
            again,
        )
    for name, form in known.items():
        sizes = np.linalg.norm(form[:3, :3], axis=0)
        if not np.isfinite(form).all() or not sizes.all():
            return Geometry("no-geometry", f"the {name} is zero or not a number", again)
        axes = form[:3, :3] / sizes
        if abs(np.linalg.det(axes)) < 0.1:
            return Geometry("no-geometry", f"the {name} is singular: axes coincide", again)
        shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
        if shear > MOST_SHEAR:
            return Geometry(
                "sheared",
                f"the {name}'s axes are not orthonormal, but sheared by {_degrees(shear):.1f} "
                "degrees",
                "resample the image onto a grid with right angles (as for a tilted gantry)",
            )
        pixdim = np.abs(header.pixdim[1:4])
        if not (np.abs(sizes - pixdim) <= MOST_SCALE * sizes).all():
            return Geometry(
                "geometry-conflict",
                f"the {name} has voxels of {_mm(sizes)} mm, pixdim of {_mm(pixdim)} mm",
                again,
            )
    if header.sform is not None and header.qform is not None:
        s, q = (f[:3, :3] / np.linalg.norm(f[:3, :3], axis=0) for f in known.values())
        cosine = float((s * q).sum(0).min())
        if cosine < math.cos(math.radians(MOST_APART_DEG)):
            turn = math.degrees(math.acos(max(-1.0, cosine)))
            return Geometry(
                "geometry-conflict",
                f"qform and sform disagree: an axis of one lies {turn:.0f} degrees from the "
                "other's",
                again,
            )
    return None


def _degrees(cosine: float) -> float:
    return math.degrees(math.asin(min(1.0, cosine)))


def _mm(sizes: Any) -> str:
    return " x ".join(f"{mm:.3g}" for mm in sizes)


def require_bytes(path: Path, header: NiftiHeader) -> None:
    """Raise ValueError if so small a file cannot hold the voxels promised, however well packed."""
    held = path.stat().st_size * (MOST_EXPANDED if path.name.lower().endswith(".gz") else 1)
    needed = header.offset + math.prod(header.shape_xyz) * header.dtype.itemsize
    if held < needed:
        raise ValueError(
            f"it is truncated: {needed} bytes are promised, more than {path.stat().st_size} "
            "can hold"
        )


def read_voxels(file: BinaryIO, header: NiftiHeader) -> NDArray[Any]:
    """The voxels in memory order, in the machine's byte order, scaled to float where ITK does so.

    Reads to the file's end, so that a gzip stream's own length and CRC-32 are checked.
    """
    stored = np.empty(math.prod(header.shape_xyz), header.dtype)
    file.seek(header.offset)
    room = memoryview(stored.data).cast("B")
    done = 0
    while done < len(room):
        read = file.readinto(room[done : done + CHUNK_BYTES])  # type: ignore[attr-defined]
        if not read:
            needed = header.offset + len(room)
            raise ValueError(f"it is truncated: {header.offset + done} of {needed} bytes")
        done += read
    beyond = 0
    while more := file.read(CHUNK_BYTES):
        beyond += len(more)
        if beyond > MOST_BEYOND_BYTES:
            raise ValueError("it goes on far beyond the voxels that its header promises")
    if not stored.dtype.isnative:
        stored = stored.byteswap(inplace=True).view(stored.dtype.newbyteorder())
    return _scaled(stored, header) if header.is_scaled else stored


def _scaled(stored: NDArray[Any], header: NiftiHeader) -> NDArray[Any]:
    """Slope and intercept in double precision, rounded to float32 (float64 where it was stored)."""
    scaled = np.empty(stored.shape, np.float64 if stored.dtype == np.float64 else np.float32)
    for start in range(0, len(stored), CHUNK_BYTES):
        part = slice(start, start + CHUNK_BYTES)
        # ITK rounds to the result's type first.
        values = stored[part].astype(scaled.dtype).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused as infinite
            scaled[part] = values * header.slope + header.intercept
    return scaled
