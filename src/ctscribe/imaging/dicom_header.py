"""One file's DICOM header: what it is, how its pixels are stored, how each slice lies.

pydicom parses; nothing here raises for what a file holds. Patient names are hashed unread, and no
message quotes a value, since a damaged header may hold a name anywhere.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from ctscribe.imaging.dicom_series import Instance, PixelFormat

# It would log values that it cannot parse, which may be names.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
NATIVE = {IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN}
_JPEG = "1.2.840.10008.1.2.4."
LOSSY = {f"{_JPEG}{n}" for n in (50, 51, 53, 55)}
MAYBE_LOSSY = {f"{_JPEG}{n}" for n in (81, 91, 93, 112, 203)}  # LossyImageCompression decides
CT_CLASSES = {f"1.2.840.10008.5.1.4.1.1.2{n}" for n in ("", ".1", ".2")}  # CT, enhanced, legacy
DICOMDIR = "1.2.840.10008.1.3.10"
NO_IMAGES = {"SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "DOC", "AU", "ECG"}
PROGRAMS = (b"MZ", b"\x7fELF")
MOST_PIXELS = 1 << 26  # of a slice; digital radiographs have the most
MOST_FRAMES = 1 << 16
MOST_VOXELS = 1 << 31  # as for the other formats
MOST_SLOPE, MOST_INTERCEPT, MOST_POSITION_MM = 1e4, 1e6, 1e6
MOST_INFLATED_BYTES = 1 << 30
_PIXEL_DATA = 0x7FE00010
_KEYWORDS = (
    "AccessionNumber",
    "BitsAllocated",
    "BitsStored",
    "BodyPartExamined",
    "Columns",
    "ConvolutionKernel",
    "DirectoryRecordSequence",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InstanceNumber",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "Manufacturer",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "ProtocolName",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "StudyDate",
    "StudyDescription",
    "StudyInstanceUID",
)
_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _KEYWORDS]


@dataclass
class Found:
    """What a file is: instances, or a problem (code, detail), or why it is left out.

    header: None where nothing could be parsed.
    """

    header: Dataset | None = None
    instances: tuple[Instance, ...] = ()
    problem: tuple[str, str] | None = None
    left_out: str = ""


class BadHeaderError(Exception):
    """A header that cannot be used; its text becomes a problem's detail."""

    def __init__(self, detail: str, code: str = "unreadable") -> None:
        super().__init__(detail)
        self.code = code


def look_at(file: Path) -> Found:
    """Parse a file's header; never raises for what the file is or holds."""
    found = Found()
    try:
        with file.open("rb") as handle:
            _look(file, handle, found)
    except BadHeaderError as bad:
        found.problem = (bad.code, str(bad))
    except FileNotFoundError:
        found.problem = ("missing", "there is no such file")
    except OSError as error:
        found.problem = ("unreadable", f"it cannot be opened ({error.strerror or 'input error'})")
    except Exception as error:  # pydicom raises whatever a damaged header makes it raise
        found.problem = ("unreadable", f"its header is damaged ({type(error).__name__})")
    return found


def _look(file: Path, handle: BinaryIO, found: Found) -> None:
    size = os.fstat(handle.fileno()).st_size
    start = handle.read(132)
    is_part_10 = start[128:] == b"DICM"
    if not start:
        raise BadHeaderError("the file is empty")
    if not is_part_10 and not _begins_like_dicom(start):
        found.left_out = "not DICOM"
        return
    header, stream, syntax = _parse(handle, is_part_10)
    found.header = header
    _require_whole_values(header)
    if is_part_10 and start.startswith(PROGRAMS):
        kind = "MZ" if start.startswith(b"MZ") else "ELF"
        raise BadHeaderError(f"its preamble is that of a program ({kind})", "executable-preamble")
    kind, modality = text(header, "SOPClassUID"), text(header, "Modality")
    if kind == DICOMDIR or "DirectoryRecordSequence" in header:
        _check_directory(header)
        found.left_out = "a DICOMDIR, which only lists other files"
        return
    offset, length = _pixel_data(stream, header)
    if offset < 0:
        if not kind and not modality:
            raise BadHeaderError("its header does not say what it is; it may be cut off")
        if kind in CT_CLASSES or (modality == "CT" and not kind):
            raise BadHeaderError("it holds no pixel data; it may be cut off")
        found.left_out = f"no image but {class_name(kind) or modality}"
        return
    if stream is not handle:
        size = stream.seek(0, io.SEEK_END)
    if "ModalityLUTSequence" in header:
        raise BadHeaderError("its values are HU by a look-up table (Modality LUT), not a slope")
    pixels = _pixel_format(header, syntax, offset, length, size)
    found.instances = _instances(file, header, pixels)


def _begins_like_dicom(start: bytes) -> bool:
    """Old archives leave the preamble out: the first element is then of group 2 or 8."""
    little = start[:2] in (b"\x02\0", b"\x08\0") and start[3:4] == b"\0" and start[2] < 0x20
    return little or (start[:3] == b"\0\x08\0" and len(start) > 3 and start[3] < 0x20)


def _parse(handle: BinaryIO, is_part_10: bool) -> tuple[Dataset, BinaryIO, str]:
    """The header up to the pixels, the stream that stands there, and the transfer syntax."""
    syntax = ""
    if is_part_10:
        meta = read_dataset(handle, False, True, stop_when=lambda tag, _vr, _n: tag >> 16 != 2)
        syntax = text(meta, "TransferSyntaxUID")
    if not syntax:  # pydicom's guesses
        handle.seek(0)
        guessed = dcmread(handle, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        implicit, little = guessed.original_encoding
        return guessed, handle, BIG_ENDIAN if not little else IMPLICIT if implicit else EXPLICIT
    stream = handle
    if syntax == DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(handle.read(), MOST_INFLATED_BYTES)
        if inflater.unconsumed_tail:
            raise BadHeaderError("it inflates to more than a CT holds", "too-large")
        stream = io.BytesIO(inflated)
    header = read_dataset(
        stream,
        syntax == IMPLICIT,
        syntax != BIG_ENDIAN,
        stop_when=_at_pixels,
        specific_tags=_TAGS,
    )
    return header, stream, syntax


def _at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return int.__ge__(tag, _PIXEL_DATA)  # pydicom's own comparison of tags takes half the time


def _require_whole_values(header: Dataset) -> None:
    """Raise where the file ends within an element: pydicom would take half a value for it."""
    if not len(header):
        return
    last = header.get_item(list(header.keys())[-1])
    held = last.value if isinstance(last, RawDataElement) else None
    if held is not None and len(held) < last.length != 0xFFFFFFFF:
        raise BadHeaderError("it is truncated: it ends within its header")


def _pixel_data(stream: BinaryIO, header: Dataset) -> tuple[int, int]:
    """Where the pixel data's value begins, and its length (-1 where it is encapsulated)."""
    implicit, little = header.original_encoding
    head = stream.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12):
        return -1, 0
    order = "<" if little else ">"
    group, element = struct.unpack(f"{order}HH", head[:4])
    if group << 16 | element != _PIXEL_DATA:
        return -1, 0
    if not implicit and head[4:6] not in (b"OB", b"OW", b"UN"):
        raise BadHeaderError("its pixel data is of no known kind")
    (length,) = struct.unpack(f"{order}L", head[-4:])
    return stream.tell(), -1 if length == 0xFFFFFFFF else length


def _check_directory(header: Dataset) -> None:
    outside = 0
    for record in header.get("DirectoryRecordSequence") or ():
        value = record.get("ReferencedFileID") or ()
        named = [value] if isinstance(value, str) else list(value)
        parts = [part for name in named for part in str(name).split("/")]
        outside += bool(parts) and (".." in parts or parts[0] == "" or ":" in parts[0])
    if outside:
        raise BadHeaderError(f"{outside} of its entries lead outside", "dicomdir-outside")


def _pixel_format(header: Dataset, syntax: str, offset: int, length: int, size: int) -> PixelFormat:
    rows, columns = whole(header, "Rows", 0), whole(header, "Columns", 0)
    frames, samples = whole(header, "NumberOfFrames", 1), whole(header, "SamplesPerPixel", 1)
    allocated = whole(header, "BitsAllocated", 16)
    stored = whole(header, "BitsStored", allocated)
    high = whole(header, "HighBit", stored - 1)
    if min(rows, columns, frames, samples) < 1:
        raise BadHeaderError(f"its header promises {frames} frames of {columns} x {rows} pixels")
    if (
        rows * columns > MOST_PIXELS
        or frames > MOST_FRAMES
        or rows * columns * frames > MOST_VOXELS
        or samples > 4
    ):
        raise BadHeaderError(
            f"its header promises {frames} x {rows} x {columns} pixels", "too-large"
        )
    if not 0 < stored <= allocated <= 64 or not stored <= high + 1 <= allocated:
        raise BadHeaderError(
            f"its header promises {stored} bits in {allocated}, the highest {high}"
        )
    needed = (rows * columns * frames * allocated + 7) // 8
    there = min(length, size - offset) if length >= 0 else size - offset
    if length >= 0 and samples == 1 and syntax in NATIVE and there < needed:
        raise BadHeaderError(f"it is truncated: {max(0, there)} of {needed} bytes of pixels")
    if there <= 0:
        raise BadHeaderError("it is truncated: its pixel data is empty")
    was_lossy = text(header, "LossyImageCompression")
    return PixelFormat(
        rows,
        columns,
        samples,
        frames,
        allocated,
        stored,
        high,
        whole(header, "PixelRepresentation", 0) == 1,
        header.original_encoding[1] is not False,
        text(header, "PhotometricInterpretation").upper(),
        syntax,
        was_lossy == "01"
        or syntax in LOSSY
        # Anonymisers drop the flag and leave the ratio beside it.
        or (was_lossy != "00" and (syntax in MAYBE_LOSSY or _ratio(header) > 1)),
        offset,
        length,
    )


def _ratio(header: Dataset) -> float:
    """The last LossyImageCompressionRatio, 1 where there is none that is a number."""
    try:
        return float(text(header, "LossyImageCompressionRatio").strip("[]'").split(",")[-1])
    except ValueError:
        return 1.0


def _instances(file: Path, header: Dataset, pixels: PixelFormat) -> tuple[Instance, ...]:
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    if per_frame and len(per_frame) != pixels.frames:
        raise BadHeaderError(
            f"it has {pixels.frames} frames, but its header tells of {len(per_frame)}"
        )
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    uid, number = text(header, "SOPInstanceUID"), _number(header)
    padding = _padding(header, pixels)
    return tuple(
        _instance(
            file, frame, uid, number, padding, pixels, (*per_frame[frame : frame + 1], *shared[:1])
        )
        if per_frame or shared
        else _instance(file, frame, uid, number, padding, pixels, (), header)
        for frame in range(pixels.frames)
    )


def _instance(
    file: Path,
    frame: int,
    uid: str,
    number: int | None,
    padding: tuple[int, int] | None,
    pixels: PixelFormat,
    groups: tuple[Dataset, ...],
    header: Dataset | None = None,
) -> Instance:
    """A frame as its own functional group says, or the shared one, or (in plain CT) the header."""

    def holder(macro: str) -> Dataset:
        for group in groups:
            if inner := group.get(macro):
                found: Dataset = inner[0]
                return found
        return header if header is not None else Dataset()

    scale = holder("PixelValueTransformationSequence")
    slope = numbers(scale, "RescaleSlope", 1, most=MOST_SLOPE)
    intercept = numbers(scale, "RescaleIntercept", 1, most=MOST_INTERCEPT)
    if slope and slope[0] == 0:
        raise BadHeaderError("its RescaleSlope is 0")
    at = holder("PlanePositionSequence")
    position = numbers(at, "ImagePositionPatient", 3, most=MOST_POSITION_MM)
    orientation = numbers(holder("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = numbers(holder("PixelMeasuresSequence"), "PixelSpacing", 2)
    return Instance(
        file,
        frame,
        uid,
        number,
        None if position is None else (position[0], position[1], position[2]),
        orientation,  # type: ignore[arg-type]  # six of them
        None if spacing is None else (spacing[0], spacing[1]),
        1.0 if slope is None else slope[0],
        0.0 if intercept is None else intercept[0],
        padding,
        pixels,
    )


def _padding(header: Dataset, pixels: PixelFormat) -> tuple[int, int] | None:
    """PixelPaddingValue to its range limit in the pixels' own type, whatever type they came as."""
    bits = 16 if pixels.bits_allocated <= 16 else pixels.bits_allocated
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        try:
            value = whole(header, keyword, None)
        except BadHeaderError:  # of no use, and no harm
            value = None
        if value is not None:
            value &= (1 << bits) - 1
            ends.append(value - (1 << bits) if pixels.signed and value >> (bits - 1) else value)
    return (min(ends), max(ends)) if ends else None


def _number(header: Dataset) -> int | None:
    try:
        number: int | None = whole(header, "InstanceNumber", None)
    except BadHeaderError:
        return None
    return number


def value_of(header: Dataset, keyword: str) -> Any:
    """An element's value, None where it is absent or empty; raises BadHeaderError."""
    try:
        value = header.get(keyword)
    except Exception as error:
        raise BadHeaderError(f"its {keyword} cannot be read ({type(error).__name__})") from error
    return None if value is None or value == "" or value == [] else value


def numbers(
    header: Dataset, keyword: str, count: int, *, most: float = math.inf
) -> tuple[float, ...] | None:
    """Finite numbers of an element, None without; raises BadHeaderError if they are others."""
    value = value_of(header, keyword)
    if value is None:
        return None
    try:
        values = tuple(
            float(v) for v in (value if isinstance(value, MultiValue | list) else [value])
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BadHeaderError(f"its {keyword} is no number") from error
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise BadHeaderError(f"its {keyword} is not {count} finite number{'s' * (count > 1)}")
    if max(map(abs, values)) > most:
        raise BadHeaderError(f"its {keyword} is beyond {most:g}")
    return values


def whole(header: Dataset, keyword: str, default: Any) -> Any:
    """A whole number, or the default where it is absent."""
    values = numbers(header, keyword, 1)
    if values is None:
        return default
    if values[0] != int(values[0]):
        raise BadHeaderError(f"its {keyword} is no whole number")
    return int(values[0])


def text(header: Dataset, keyword: str) -> str:
    """An element in words, several joined by a backslash; empty where it cannot be read."""
    try:
        value = header.get(keyword)
        if isinstance(value, MultiValue | list):
            value = "\\".join(str(v) for v in value)
        return "" if value is None else " ".join(str(value).replace("\0", " ").split())
    except Exception:  # a broken description is no reason against an image
        return ""


def patient_key(header: Dataset) -> str:
    """A hash of the patient's id, or of name and birth date where it is empty; "" without any."""

    def raw(keyword: str) -> bytes:
        try:
            value = header.get_item(keyword)
            held = getattr(value, "value", None)
        except Exception:
            return b""
        return (held if isinstance(held, bytes) else str(held or "").encode()).strip(b" \0")

    own = raw("PatientID")
    known = own or b"\0".join(filter(None, (raw("PatientName"), raw("PatientBirthDate"))))
    return hashlib.blake2b(known, digest_size=16).hexdigest() if known else ""


def class_name(uid: str) -> str:
    """The DICOM standard's own name of a UID, the UID where it has none."""
    return UID(uid, IGNORE).name
