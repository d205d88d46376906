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
from typing import Any, BinaryIO, cast

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


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says. alone: a file of the header without voxels, for ITK to read.

    slope, intercept: value = slope * stored + intercept, as ITK takes them.
    """

    alone: bytes
    shape_xyz: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

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
        scaled[part] = values * header.slope + header.intercept
    return scaled
