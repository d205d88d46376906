"""The words of DICOM as ctscribe uses them: an instance, a series, a scan of a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ctscribe.errors import ImageError
from ctscribe.imaging.volume import Volume
from ctscribe.problems import KINDS, Problem


@dataclass(frozen=True)
class PixelFormat:
    """How an instance's pixels are stored.

    frames: of the whole file. syntax: the transfer syntax's UID. lossy: compressed with loss, by
    the syntax or by LossyImageCompression. offset: of the pixel data's value in the file (inflated
    where the file is deflated), -1 without any; length: its bytes, -1 where it is encapsulated.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    little_endian: bool
    photometric: str
    syntax: str
    lossy: bool
    offset: int
    length: int


@dataclass(frozen=True)
class Instance:
    """One slice: a file of one frame, or one frame of a multi-frame file.

    frame: counted from 0. number: InstanceNumber, for words alone. position_mm, orientation:
    ImagePositionPatient and ImageOrientationPatient (LPS), None where the header lacks them.
    padding: PixelPaddingValue and PixelPaddingRangeLimit as stored values, None without.
    """

    file: Path
    frame: int
    uid: str
    number: int | None
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, float, float, float, float, float] | None
    spacing_yx_mm: tuple[float, float] | None
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    pixels: PixelFormat


@dataclass(frozen=True)
class Series:
    """Instances of one SeriesInstanceUID (of one folder and like fields where it is empty).

    broken: its files that cannot be used; the scan lists them too. It is not read without them.
    patient_key: equal for the same patient, for comparing alone; never written anywhere.
    study_date: YYYYMMDD. body_part: BodyPartExamined. kernel: ConvolutionKernel.
    sop_class: the UID of the instances' kind. thickness_mm: SliceThickness, which is not the step.
    """

    study_uid: str
    series_uid: str
    instances: tuple[Instance, ...]
    broken: tuple[Problem, ...] = ()
    modality: str = ""
    description: str = ""
    study_description: str = ""
    protocol: str = ""
    body_part: str = ""
    image_type: tuple[str, ...] = ()
    kernel: str = ""
    sop_class: str = ""
    manufacturer: str = ""
    number: int | None = None
    thickness_mm: float | None = None
    study_date: str = ""
    patient_id: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    patient_key: str = field(default="", repr=False)

    @property
    def n_slices(self) -> int:
        """Frames of multi-frame files count each."""
        return len(self.instances)

    @property
    def folder(self) -> Path:
        """Where its first file lies."""
        return self.instances[0].file.parent


@dataclass(frozen=True)
class LeftOut:
    """A file that is no image, and why."""

    file: Path
    reason: str


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    problems: files that should have been images, and what is odd about others; their `case` is
    empty. left_out: files that are none.
    """

    series: tuple[Series, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Choice:
    """The diagnostic chest CT series of a study, None without one; why: one line either way.

    left_out: every other series and why. diagnostic: all that would have done, the chosen one too.
    """

    chosen: Series | None
    why: str
    left_out: tuple[tuple[Series, str], ...]
    diagnostic: tuple[Series, ...] = ()


@dataclass(frozen=True)
class SeriesVolume:
    """A series as a volume in the house's axes, with notes and warnings of how it became one."""

    volume: Volume
    problems: tuple[Problem, ...]


def refused(code: str, reason: str, *, file: Path, case: str | None) -> ImageError:
    """The error of a code, with that code's own fix."""
    return ImageError(reason, case=case, file=file, code=code, fix=KINDS[code].fix_en)
