"""Phantoms as DICOM: any Volume as a CT series, and every fault that a hospital's share may hold.

Valid part-10 files with UIDs from a seed. A fault is one argument; `tags` overrides any element.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, RLELossless

from ctscribe.imaging.volume import Volume

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
RLE, JPEG_LOSSLESS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
_COMPRESSORS = {JPEG_2000: "JPEG2000", JPEG_LOSSLESS: "JPEG"}  # SimpleITK's words
CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
DIRECTORY = "1.2.840.10008.1.3.10"
_LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_LPS = np.array([-1.0, -1.0, 1.0])
_PIXEL_KEYWORDS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


P = ParamSpec("P")
R = TypeVar("R")


def _unchecked(function: Callable[P, R]) -> Callable[P, R]:
    """pydicom takes any value, since faults are what is written here."""

    @wraps(function)
    def write(*args: P.args, **kwargs: P.kwargs) -> R:
        with disable_value_validation():
            return function(*args, **kwargs)

    return write


@dataclass(frozen=True)
class Study:
    """Who and when. seed: makes the UIDs. tags: elements of every file, keyword to value."""

    seed: int = 0
    patient_id: str = "P0001"
    patient_name: str = "Phantom^One"
    accession: str = "A0001"
    date: str = "20240131"
    tags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """StudyInstanceUID."""
        return uid_of("study", self.seed, self.patient_id)


def uid_of(*parts: object) -> str:
    """A valid UID (2.25. and 128 bits) that is the same for the same parts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=15).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


@_unchecked
def write_series(
    volume: Volume,
    folder: Path,
    *,
    study: Study | None = None,
    number: int = 1,
    description: str = "Chest 1.0 B31f",
    kernel: str = "B31f",
    axes: str = "LPS",
    syntax: str = EXPLICIT,
    slopes: Sequence[tuple[float, float]] = ((1.0, -1024.0),),
    bits_allocated: int = 16,
    bits_stored: int | None = None,
    signed: bool = True,
    tilt_deg: float = 0.0,
    shift_mm: Mapping[int, float] | None = None,
    skip: Collection[int] = (),
    order: Sequence[int] | None = None,
    name: str = "CT{:04d}.dcm",
    preamble: bytes = bytes(128),
    change: Callable[[Dataset, int], None] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a volume (HU) as single-frame CT, a file a slice; its paths in the order of slices.

    number: SeriesNumber, and with the study's seed it makes the UIDs. axes: which way columns, rows
    and slices grow, three letters such as LPS. slopes: (slope, intercept) of slice i modulo their
    count; HU must be reached exactly. tilt_deg: shears positions along y as a tilted gantry does.
    shift_mm: moves slices along their axis. skip: slices not written. order: file and instance
    numbers, slice i gets order[i]. change: called with each data set and the slice's index before
    it is written; pixels are in `PixelData`, uncompressed. tags: keyword to value for every slice.
    Raises ValueError if HU do not fit the pixels asked for.
    """
    study = study or Study()
    folder.mkdir(parents=True, exist_ok=True)
    hu, axis_lps, origin_lps, spacing = _stored(volume, axes)
    series_uid = uid_of("series", study.seed, study.patient_id, number)
    row, column, along = axis_lps
    paths = []
    for at in range(len(hu)):
        if at in skip:
            continue
        slope, intercept = slopes[at % len(slopes)]
        count = at if order is None else order[at]
        position = origin_lps + along * (at * spacing[2] + (shift_mm or {}).get(at, 0.0))
        position = position + column * np.tan(np.radians(tilt_deg)) * at * spacing[2]
        data = _identity(study, CT, series_uid, number, count, description)
        data.ConvolutionKernel, data.BodyPartExamined = kernel, "CHEST"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImagePositionPatient = _decimal(position)
        data.ImageOrientationPatient = _decimal([*row, *column])
        data.FrameOfReferenceUID = uid_of("frame", study.seed, study.patient_id)
        data.PixelSpacing = _decimal([spacing[1], spacing[0]])
        data.SliceThickness = _decimal([spacing[2]])[0]
        data.RescaleSlope, data.RescaleIntercept = _decimal([slope, intercept])
        data.RescaleType = "HU"
        stored = (hu[at] - intercept) / slope
        set_pixels(
            data, _as_stored(stored, bits_allocated, signed), bits_stored or bits_allocated, syntax
        )
        for keyword, value in {**study.tags, **(tags or {})}.items():
            setattr(data, keyword, value)
        if change is not None:
            change(data, at)
        path = folder / name.format(count)
        write_file(data, path, syntax=syntax, preamble=preamble)
        paths.append(path)
    return paths


@_unchecked
def write_enhanced(
    volume: Volume,
    path: Path,
    *,
    study: Study | None = None,
    number: int = 1,
    axes: str = "LPS",
    syntax: str = EXPLICIT,
    slopes: Sequence[tuple[float, float]] = ((1.0, -1024.0),),
    order: Sequence[int] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Path:
    """Write a volume as one multi-frame enhanced CT, like `write_series`; slice i is order[i]."""
    study = study or Study()
    hu, (row, column, along), origin_lps, spacing = _stored(volume, axes)
    series_uid = uid_of("series", study.seed, study.patient_id, number)
    data = _identity(study, ENHANCED_CT, series_uid, number, 0, "Chest enhanced")
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared = Dataset()
    shared.PlaneOrientationSequence = Items(
        [_item(ImageOrientationPatient=_decimal([*row, *column]))]
    )
    shared.PixelMeasuresSequence = Items([_item(PixelSpacing=_decimal([spacing[1], spacing[0]]))])
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames: list[Dataset] = []
    pixels = []
    slices = list(range(len(hu))) if order is None else list(np.argsort(order))
    for at in slices:
        slope, intercept = slopes[at % len(slopes)]
        scale = _decimal([slope, intercept])
        frame = Dataset()
        position = _decimal(origin_lps + along * at * spacing[2])
        frame.PlanePositionSequence = Items([_item(ImagePositionPatient=position)])
        frame.PixelValueTransformationSequence = Items(
            [_item(RescaleSlope=scale[0], RescaleIntercept=scale[1], RescaleType="HU")]
        )
        frames.append(frame)
        pixels.append(_as_stored((hu[at] - intercept) / slope, 16, True))
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    set_pixels(data, np.stack(pixels), 16, syntax)
    for keyword, value in {**study.tags, **(tags or {})}.items():
        setattr(data, keyword, value)
    write_file(data, path, syntax=syntax)
    return path


@_unchecked
def write_localizer(folder: Path, *, study: Study | None = None, number: int = 90) -> Path:
    """A scout view: one coronal CT image."""
    rng = np.random.default_rng(number)
    hu = rng.integers(-1000, 400, (1, 64, 64)).astype(np.int16)
    volume = Volume(hu, (5.0, 4.0, 4.0), np.diag([4.0, 4.0, 5.0, 1.0]))
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    (path,) = write_series(
        replace(volume, array_zyx=hu.transpose(1, 0, 2), spacing_zyx_mm=(4.0, 5.0, 4.0)),
        folder,
        study=study,
        number=number,
        description="Topogram 0.6 T20f",
        kernel="T20f",
        axes="LIP",
        name=f"localizer{number}_{{:04d}}.dcm",
        tags=tags,
    )
    return path


@_unchecked
def write_secondary_capture(
    folder: Path, *, study: Study | None = None, number: int = 91, colour: bool = True
) -> Path:
    """A screenshot of a protocol page."""
    study = study or Study()
    uid = uid_of("series", study.seed, study.patient_id, number)
    data = _identity(study, SECONDARY_CAPTURE, uid, number, 0, "Patient Protocol")
    data.Modality, data.ConversionType = "CT", "WSD"
    data.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    picture = np.random.default_rng(number).integers(0, 255, (32, 48, 3 if colour else 1))
    set_pixels(data, picture[..., 0].astype(np.uint8), 8, EXPLICIT)
    if colour:
        data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
        data.PlanarConfiguration = 0
        data.PixelData = picture.astype(np.uint8).tobytes()
    path = folder / f"capture{number}.dcm"
    write_file(data, path)
    return path


@_unchecked
def write_dose_report(folder: Path, *, study: Study | None = None, number: int = 92) -> Path:
    """A structured report of dose: DICOM without pixels."""
    study = study or Study()
    uid = uid_of("series", study.seed, study.patient_id, number)
    data = _identity(study, DOSE_REPORT, uid, number, 0, "Dose Report")
    data.Modality, data.ValueType, data.CompletionFlag = "SR", "CONTAINER", "COMPLETE"
    path = folder / f"dose{number}.dcm"
    write_file(data, path)
    return path


@_unchecked
def write_dicomdir(folder: Path, references: Sequence[Sequence[str]]) -> Path:
    """A DICOMDIR whose records name files by their parts, such as ("..", "..", "SECRET")."""
    data = Dataset()
    records = [_item(DirectoryRecordType="IMAGE", ReferencedFileID=list(r)) for r in references]
    data.FileSetID = "PHANTOM"
    data.DirectoryRecordSequence = Items(records)
    path = folder / "DICOMDIR"
    write_file(data, path, sop_class=DIRECTORY)
    return path


@_unchecked
def write_file(
    data: Dataset,
    path: Path,
    *,
    syntax: str = EXPLICIT,
    preamble: bytes = bytes(128),
    sop_class: str = "",
) -> None:
    """Write a data set as a part-10 file. preamble: 128 bytes; b"MZ..." makes it a program too."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID(sop_class or data.get("SOPClassUID") or CT)
    uid = data.get("SOPInstanceUID") or uid_of(str(path))
    meta.MediaStorageSOPInstanceUID = UID(uid)
    buffer = io.BytesIO()
    written = Dataset()
    written.update(data)
    written.file_meta = meta
    dcmwrite(
        buffer,
        written,
        implicit_vr=syntax == IMPLICIT,
        little_endian=syntax != BIG_ENDIAN,
        enforce_file_format=True,
    )
    path.write_bytes(preamble.ljust(128, b"\0")[:128] + buffer.getvalue()[128:])


def set_pixels(data: Dataset, stored: NDArray[Any], bits_stored: int, syntax: str) -> None:
    """Put stored values (rows, columns) or (frames, rows, columns) into a data set."""
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    if stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.Rows, data.Columns = stored.shape[-2:]
    data.BitsAllocated, data.BitsStored = 8 * stored.itemsize, bits_stored
    data.HighBit, data.PixelRepresentation = bits_stored - 1, int(stored.dtype.kind == "i")
    frames = stored if stored.ndim == 3 else stored[None]
    if syntax == RLE:
        data.PixelData = encapsulate([_rle(data, frame) for frame in frames])
    elif syntax in _COMPRESSORS:
        data.PixelData = encapsulate([_by_simpleitk(frame, syntax) for frame in frames])
    else:
        order = stored.dtype.newbyteorder(">" if syntax == BIG_ENDIAN else "<")
        data.PixelData = stored.astype(order).tobytes()
    data["PixelData"].VR = "OW" if stored.itemsize > 1 else "OB"
    if syntax == RLE or syntax in _COMPRESSORS:
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True


def _rle(data: Dataset, frame: NDArray[Any]) -> bytes:
    one = Dataset()
    for keyword in _PIXEL_KEYWORDS:
        setattr(one, keyword, data[keyword].value)
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    one.SOPClassUID, one.SOPInstanceUID = UID(CT), UID(uid_of("rle"))
    one.PixelData = frame.tobytes()
    one.compress(RLELossless, frame, generate_instance_uid=False)
    return next(generate_frames(one.PixelData, number_of_frames=1))


def _by_simpleitk(frame: NDArray[Any], syntax: str) -> bytes:
    """One frame, compressed without loss by SimpleITK's GDCM."""
    sitk: Any = importlib.import_module("SimpleITK")
    with tempfile.TemporaryDirectory(prefix="ctscribe-") as folder:
        path = Path(folder) / "frame.dcm"
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.SetCompressor(_COMPRESSORS[syntax])
        writer.Execute(sitk.GetImageFromArray(frame))
        written = dcmread(path)
        assert written.file_meta.TransferSyntaxUID == syntax
        return next(generate_frames(written.PixelData, number_of_frames=1))


def _stored(
    volume: Volume, axes: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """HU (slices, rows, columns) in an orientation, unit axes (x, y, slices) and origin in LPS."""
    order = [_LETTERS[letter][0] for letter in axes]
    signs = [_LETTERS[letter][1] for letter in axes]
    if sorted(order) != [0, 1, 2]:
        raise ValueError(f"{axes} does not name three axes")
    spacing_xyz = np.array(volume.spacing_zyx_mm[::-1])
    shape_xyz = np.array(volume.array_zyx.shape[::-1])
    xyz = volume.array_zyx.astype(np.float64).transpose(2, 1, 0).transpose(order)
    xyz = xyz[tuple(slice(None, None, sign) for sign in signs)]
    corner = np.zeros(4)
    corner[3] = 1
    for axis, sign in zip(order, signs, strict=True):
        corner[axis] = 0 if sign > 0 else shape_xyz[axis] - 1
    unit = volume.affine[:3, :3] / spacing_xyz
    axis_lps = np.array([_LPS * unit[:, a] * s for a, s in zip(order, signs, strict=True)])
    origin = _LPS * (volume.affine @ corner)[:3]
    return xyz.transpose(2, 1, 0), axis_lps, origin, spacing_xyz[order]


def _as_stored(values: NDArray[np.float64], bits: int, signed: bool) -> NDArray[Any]:
    stored = np.rint(values).astype(f"{'i' if signed else 'u'}{bits // 8}")
    if not np.array_equal(stored, np.round(values, 6)):
        raise ValueError("these HU do not fit the pixels or the slope asked for")
    return stored


def _identity(
    study: Study, sop_class: str, series_uid: str, number: int, count: int, description: str
) -> Dataset:
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = UID(sop_class)
    data.SOPInstanceUID = UID(uid_of("instance", series_uid, count))
    data.StudyInstanceUID, data.SeriesInstanceUID = UID(study.uid), UID(series_uid)
    data.StudyDate = data.SeriesDate = study.date
    data.AccessionNumber, data.Modality = study.accession, "CT"
    data.StudyDescription, data.SeriesDescription = "CT Chest", description
    data.PatientName, data.PatientID = study.patient_name, study.patient_id
    data.PatientBirthDate, data.PatientSex = "19600101", "O"
    data.SeriesNumber, data.InstanceNumber = number, count + 1
    data.Manufacturer = "ctscribe phantom"
    return data


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _decimal(values: Any) -> list[str]:
    """DICOM's decimal strings have 16 characters at most."""
    return [next(t for d in range(16, 0, -1) if len(t := f"{v:.{d}g}") <= 16) for v in values]
