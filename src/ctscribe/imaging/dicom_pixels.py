"""The pixels of one slice, decoded and in HU.

numpy reads what is not compressed. What is, SimpleITK's GDCM decodes from a file that holds that
frame alone under a header made here, so no header of unknown origin reaches it.
"""

from __future__ import annotations

import io
import tempfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from scipy import ndimage

from ctscribe.imaging.dicom_header import (
    DEFLATED,
    NATIVE,
    class_name,
)
from ctscribe.imaging.dicom_series import Instance, PixelFormat, Series, refused
from ctscribe.imaging.nifti import simpleitk

_JPEG = "1.2.840.10008.1.2.4."
COMPRESSED = {f"{_JPEG}{n}" for n in (50, 51, 53, 55, 57, 70, 80, 81, 90, 91)}
COMPRESSED |= {"1.2.840.10008.1.2.5"}  # RLE
AIR_HU = -1024  # what padding becomes: the lowest that 12 bits hold
SOUND_HU = -900  # padding above this looks like tissue, so it must be connected to the corners
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def require_decodable(series: Series, case: str | None) -> None:
    """Raise ImageError for pixels that are no CT's or that nothing here decodes; none is read."""
    for one in series.instances:
        pixels = one.pixels
        syntax = pixels.syntax
        if syntax not in NATIVE | COMPRESSED:
            reason = f"its pixels are stored as {class_name(syntax)}"
        elif pixels.bits_allocated not in (8, 16, 32):
            reason = f"its pixels are stored in {pixels.bits_allocated} bits each"
        elif syntax in NATIVE and pixels.bits_allocated == 8 and not pixels.little_endian:
            reason = "its pixels are stored in 8 bits of a big-endian word"
        else:
            reason = ""
        if reason:
            raise refused("syntax-unsupported", reason, file=one.file, case=case)
        if pixels.samples != 1 or pixels.photometric not in ("MONOCHROME1", "MONOCHROME2", ""):
            raise refused(
                "not-3d",
                f"its pixels are colours ({pixels.photometric or 'of several samples'}), not HU",
                file=one.file,
                case=case,
            )


def hu_of(
    instance: Instance, room: NDArray[np.int16], *, case: str | None = None
) -> NDArray[np.float32] | None:
    """Decode a slice (rows, columns) into `room`, or return it as float32 where it does not fit.

    Raises ImageError: cut off, damaged, or blank (every pixel of one value).
    """
    stored = _decoded(instance, case)
    padded = _padded(stored, instance)
    if padded is not None:
        sound = stored[~padded]
        stored = np.where(padded, sound[0] if sound.size else stored[0, 0], stored)
    stored = _within_bits(stored, instance.pixels)
    low, high = int(stored.min()), int(stored.max())
    if low == high:
        raise refused("blank", f"every pixel of it is {low}", file=instance.file, case=case)
    slope, intercept = instance.slope, instance.intercept
    ends = (low * slope + intercept, high * slope + intercept)
    whole = slope.is_integer() and intercept.is_integer()
    hu: NDArray[np.float32] | None = None
    if not whole or min(ends) < -32768 or max(ends) > 32767:
        hu = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    elif slope == 1 and stored.itemsize == 2 and abs(intercept) <= 32767:
        # 16 bits wrap around, so the sum is right whatever was on the way; one pass, no copy.
        np.add(stored.view(np.int16), np.int16(intercept), out=room)
    else:
        room[:] = stored.astype(np.int64) * int(slope) + int(intercept)
    if padded is not None:
        (room if hu is None else hu)[padded] = AIR_HU
    return hu


def _padded(stored: NDArray[Any], instance: Instance) -> NDArray[np.bool_] | None:
    """Where pixels lie outside the field of view and would not be air as they are.

    The declared value must be what the pixels hold. Where it would look like tissue, only what is
    connected to the image's four corners counts.
    """
    if instance.padding is None:
        return None
    first, last = instance.padding
    found = (stored >= first) & (stored <= last)
    hu = max(end * instance.slope + instance.intercept for end in (first, last))
    if AIR_HU <= hu <= SOUND_HU or not found.any():
        return None
    if hu > SOUND_HU:
        labels, _ = ndimage.label(found)
        corners = labels[[0, 0, -1, -1], [0, -1, 0, -1]]
        if not corners.all():
            return None
        found = np.isin(labels, corners)
    return np.asarray(found, np.bool_)


def _within_bits(stored: NDArray[Any], pixels: PixelFormat) -> NDArray[Any]:
    """The stored bits alone, sign and all; what lies above them (overlays, rubbish) is dropped."""
    kind = "i" if pixels.signed else "u"
    stored = stored.view(f"{kind}{stored.itemsize}")
    width, bits, high = 8 * stored.itemsize, pixels.bits_stored, pixels.high_bit
    if high >= width:  # the decoder gave fewer bits than the header allots
        bits, high = min(bits, width), min(bits, width) - 1
    low_end, high_end = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i" else (0, (1 << bits) - 1)
    )
    if high == bits - 1 and low_end <= int(stored.min()) and int(stored.max()) <= high_end:
        return stored
    return (stored << (width - 1 - high)) >> (width - bits)


def _decoded(instance: Instance, case: str | None) -> NDArray[Any]:
    """Stored values (rows, columns) in the machine's byte order."""
    pixels = instance.pixels
    try:
        if pixels.syntax in NATIVE:
            return _native(instance)
        return _decompressed(_frame_bytes(instance), pixels)
    except (_PixelsError, OSError) as error:
        reason = str(error) if isinstance(error, _PixelsError) else "it cannot be read"
        raise refused("unreadable", reason, file=instance.file, case=case) from error


class _PixelsError(Exception):
    """Pixels that cannot be had; its text is the reason."""


def _native(instance: Instance) -> NDArray[Any]:
    pixels = instance.pixels
    order = "<" if pixels.little_endian else ">"
    dtype = np.dtype(f"{order}{'i' if pixels.signed else 'u'}{pixels.bits_allocated // 8}")
    count = pixels.rows * pixels.columns
    start = pixels.offset + instance.frame * count * dtype.itemsize
    if pixels.length < 0:
        raise _PixelsError("its pixel data has no length, though it is not compressed")
    if pixels.syntax == DEFLATED:
        stored = np.frombuffer(_inflated(instance.file, start + count * dtype.itemsize), np.uint8)
        stored = stored[start : start + count * dtype.itemsize]
        stored = stored[: stored.size // dtype.itemsize * dtype.itemsize].view(dtype)
    else:
        with instance.file.open("rb") as handle:
            handle.seek(start)
            stored = np.fromfile(handle, dtype, count)
    if stored.size < count:
        raise _PixelsError(f"it is truncated: {stored.size} of {count} pixels")
    return stored.reshape(pixels.rows, pixels.columns).astype(dtype.newbyteorder("="), copy=False)


def _inflated(file: Path, size: int) -> bytes:
    """The first `size` bytes of a deflated data set."""
    with file.open("rb") as handle:
        handle.seek(132)
        read_dataset(handle, False, True, stop_when=lambda tag, _vr, _n: tag >> 16 != 2)
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(handle.read(), size)


def _frame_bytes(instance: Instance) -> bytes:
    """One compressed frame out of its file's items."""
    pixels = instance.pixels
    with instance.file.open("rb") as handle:
        if instance.frame == 0:
            _require_all_items(handle, pixels.offset)
        handle.seek(pixels.offset)
        try:
            return get_frame(handle, instance.frame, number_of_frames=pixels.frames)
        except Exception as error:  # pydicom raises whatever a damaged file makes it raise
            raise _PixelsError(f"its compressed pixels are cut off or damaged ({error})") from error


def _require_all_items(handle: BinaryIO, offset: int) -> None:
    """Raise where the items do not go on to their end: pydicom would return what is there."""
    size = handle.seek(0, io.SEEK_END)
    at = offset
    while True:
        handle.seek(at)
        head = handle.read(8)
        if head[:4] == _END[:4]:
            return
        at += 8 + int.from_bytes(head[4:], "little")
        if head[:4] != _ITEM or at > size:
            raise _PixelsError("it is truncated: its compressed pixels have no end")


def _decompressed(frame: bytes, pixels: PixelFormat) -> NDArray[Any]:
    sitk = simpleitk()
    with tempfile.TemporaryDirectory(prefix="ctscribe-") as folder:
        alone = Path(folder) / "frame.dcm"
        padded = frame + bytes(len(frame) % 2)
        item = _ITEM + len(padded).to_bytes(4, "little") + padded
        alone.write_bytes(_head(pixels) + item + _END)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(alone))
        try:
            stored: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise _PixelsError(f"its {class_name(pixels.syntax)} data cannot be decoded") from error
    if stored.size != pixels.rows * pixels.columns or stored.dtype.kind not in "iu":
        raise _PixelsError("its compressed pixels are not what its header promises")
    return stored.reshape(pixels.rows, pixels.columns)


@lru_cache(maxsize=64)
def _head(pixels: PixelFormat) -> bytes:
    """A file of one frame with these pixels, up to where the frame's item begins."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(pixels.syntax)
    meta.MediaStorageSOPClassUID = UID(_SECONDARY_CAPTURE)
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    header = Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = UID(_SECONDARY_CAPTURE), UID("2.25.1")
    header.Modality = "OT"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = pixels.rows, pixels.columns
    header.BitsAllocated, header.BitsStored = pixels.bits_allocated, pixels.bits_stored
    header.HighBit, header.PixelRepresentation = pixels.high_bit, int(pixels.signed)
    buffer = io.BytesIO()
    dcmwrite(buffer, header, enforce_file_format=True)
    # Pixel data of undefined length, and an empty table of offsets.
    return buffer.getvalue() + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + _ITEM + bytes(4)
