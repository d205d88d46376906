"""Files to series: grouped by their UIDs, by their other fields where those are empty."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from ctscribe.imaging.dicom_header import (
    BadHeaderError,
    Found,
    look_at,
    numbers,
    patient_key,
    text,
    whole,
)
from ctscribe.imaging.dicom_series import Instance, LeftOut, Scan, Series
from ctscribe.problems import Problem


@dataclass
class _Group:
    header: Dataset
    patient: str
    instances: list[Instance] = field(default_factory=list)
    broken: list[Problem] = field(default_factory=list)


def scan_files(files: Iterable[Path], *, progress: Callable[[int], None] | None = None) -> Scan:
    """Sort files into series by their headers alone; `progress` gets 1 after each file.

    Never raises for what a file is or holds: see `Scan`.
    """
    groups: dict[tuple[Any, ...], _Group] = {}
    problems: list[Problem] = []
    left_out: list[LeftOut] = []
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")  # pydicom's remarks on values, which it would quote
        for file in map(Path, files):
            found = look_at(file)
            problem = None
            if found.problem is not None:
                problem = Problem("", str(file), *found.problem)
                problems.append(problem)
            elif found.left_out:
                left_out.append(LeftOut(file, found.left_out))
            if found.header is not None and (found.instances or problem):
                _add(groups, file, found, problem)
            if progress is not None:
                progress(1)
        series = tuple(_series(group) for group in groups.values() if group.instances)
    problems += [missing for one in series if (missing := _missing_uids(one)) is not None]
    return Scan(series, tuple(problems), tuple(left_out))


def _add(
    groups: dict[tuple[Any, ...], _Group], file: Path, found: Found, problem: Problem | None
) -> None:
    """Put a file's instances, or that it is broken, to its series."""
    header = found.header
    assert header is not None
    uid, patient = text(header, "SeriesInstanceUID"), patient_key(header)
    if not uid and not found.instances:
        return  # nobody knows where it belongs
    key: tuple[Any, ...] = (uid, text(header, "StudyInstanceUID"), patient)
    key += (text(header, "SOPClassUID"), "LOCALIZER" in text(header, "ImageType").upper())
    if not uid:
        key += (file.parent, *(text(header, keyword) for keyword in _ALIKE), _plane(found))
    group = groups.setdefault(key, _Group(header, patient))
    group.instances += found.instances
    if problem is not None:
        group.broken.append(problem)


_ALIKE = (
    "StudyDate",
    "AccessionNumber",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "ConvolutionKernel",
    "ImageType",
)


def _plane(found: Found) -> tuple[Any, ...]:
    """Size and orientation, which the slices of a series share."""
    first = found.instances[0]
    lies = first.orientation
    rounded = None if lies is None else tuple(round(cosine, 2) + 0.0 for cosine in lies)
    return first.pixels.rows, first.pixels.columns, rounded


def _series(group: _Group) -> Series:
    header = group.header
    return Series(
        study_uid=text(header, "StudyInstanceUID"),
        series_uid=text(header, "SeriesInstanceUID"),
        instances=tuple(sorted(group.instances, key=lambda one: (str(one.file), one.frame))),
        broken=tuple(group.broken),
        modality=text(header, "Modality"),
        description=text(header, "SeriesDescription"),
        study_description=text(header, "StudyDescription"),
        protocol=text(header, "ProtocolName"),
        body_part=text(header, "BodyPartExamined"),
        image_type=tuple(text(header, "ImageType").upper().split("\\")),
        kernel=text(header, "ConvolutionKernel"),
        sop_class=text(header, "SOPClassUID"),
        manufacturer=text(header, "Manufacturer"),
        number=_or_none(header, "SeriesNumber"),
        thickness_mm=_or_none(header, "SliceThickness"),
        study_date=text(header, "StudyDate"),
        patient_id=text(header, "PatientID"),
        accession=text(header, "AccessionNumber"),
        patient_key=group.patient,
    )


def _or_none(header: Dataset, keyword: str) -> Any:
    """A number for words and ranks alone, so a broken one is none."""
    try:
        if keyword == "SeriesNumber":
            return whole(header, keyword, None)
        values = numbers(header, keyword, 1)
    except BadHeaderError:
        return None
    return values[0] if values else None


def _missing_uids(series: Series) -> Problem | None:
    empty = [
        name
        for name, uid in (("study", series.study_uid), ("series", series.series_uid))
        if not uid
    ]
    without = sum(not one.uid for one in series.instances)
    empty += [f"instance ({without} of {series.n_slices})"] if without else []
    if not empty:
        return None
    detail = f"the {', '.join(empty)} UID is empty in a series of {series.n_slices}"
    return Problem("", str(series.instances[0].file), "uid-missing", detail)
