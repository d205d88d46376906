"""DICOM in: files to series, the chest CT among them, and its volume in the house's axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ctscribe.imaging.dicom_series import (
    Choice,
    Instance,
    LeftOut,
    PixelFormat,
    Scan,
    Series,
    SeriesVolume,
)

__all__ = [
    "Choice",
    "Instance",
    "LeftOut",
    "PixelFormat",
    "Scan",
    "Series",
    "SeriesVolume",
    "choose_series",
    "read_series",
    "scan_files",
    "studies",
]


def scan_files(files: Iterable[Path], *, progress: Callable[[int], None] | None = None) -> Scan:
    """Sort files into series by their headers alone; `progress` gets 1 after each file."""
    raise NotImplementedError


def studies(scan: Scan) -> list[list[Series]]:
    """Series by study: by StudyInstanceUID, or by patient, date, accession and folder."""
    raise NotImplementedError


def choose_series(study_series: Sequence[Series]) -> Choice:
    """The diagnostic chest CT series among those of one study."""
    raise NotImplementedError


def read_series(series: Series, *, case: str | None = None) -> SeriesVolume:
    """The series' volume: sorted by position, in HU, z to the head, y to the front, x to the right.

    Raises ImageError with a code of `problems.KINDS`.
    """
    raise NotImplementedError
