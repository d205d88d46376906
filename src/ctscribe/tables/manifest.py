"""Rows of a caption table: reading, checking, splitting by patient, and looking for leaks.

A caption table is a CSV with the columns `COLUMNS`; others are carried along. A relative
image_path is relative to the folder of the CSV, and may use either slash.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ctscribe.errors import DataError, ImageError
from ctscribe.tables import csv_file
from ctscribe.tables.csv_file import write_table as write_table
from ctscribe.tables.grade import GRADE_COLUMN, Grade, read_grade
from ctscribe.tables.text import near_identical

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("case_id", "patient_id", "image_path", "question", "answer")
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
LeakKind = Literal["patient", "image", "report"]
LISTED = 5  # problems named in one error; the rest are counted

_WINDOWS_PATH = re.compile(r"^(?:[A-Za-z]:[\\/]|\\\\)")
# A report that gives a measurement and is this long (letters and digits) is of one study only.
_MEASURED = re.compile(r"\d\s?(?:mm|cm|毫米|厘米)", re.IGNORECASE)
_LONG = 60
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Row:
    """One study and what is said of it.

    mask_path, roi_mm: of the optional columns of these names: where the local stream looks, roi_mm
    as points (x, y, z) in RAS+ mm. `extra` holds the columns beyond `COLUMNS`.
    """

    case_id: str
    patient_id: str
    image_path: Path
    question: str  # empty: the command's own question is asked
    answer: str
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    mask_path: Path | None = None
    roi_mm: tuple[tuple[float, float, float], ...] = ()

    @property
    def grade(self) -> Grade | None:
        """What the column `grade` says, None where it is empty or not there."""
        return read_grade(self.extra.get(GRADE_COLUMN, ""), case=self.case_id)


@dataclass(frozen=True)
class Leak:
    """Something that stands in two parts of a split, and so tells the model the answer."""

    kind: LeakKind
    splits: tuple[Split, Split]
    cases: tuple[str, str]  # one of each part
    what: str  # the patient, the image's name, or how alike the reports are


def read_table(path: str | Path, *, required: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """`csv_file.read_table` for a table that must have the columns of a caption table."""
    return csv_file.read_table(path, required=required)


def image_path(text: str, base_dir: Path, *, case: str, file: Path | None = None) -> Path:
    """The path that a cell means; see the module's docstring.

    Raises DataError for an empty cell, and for a Windows drive or share on another system.
    """
    if not text.strip():
        raise DataError(
            "image_path is empty", case=case, file=file, fix="fill it in", code="bad-table"
        )
    text = text.strip()
    if os.name != "nt":
        if _WINDOWS_PATH.match(text):
            raise DataError(
                f"image_path is the Windows path {text}, but this machine is not Windows",
                case=case,
                file=file,
                fix="give a path of this machine, best one relative to the CSV's folder",
                code="missing",
            )
        text = text.replace("\\", "/")
    return base_dir / text


def points(
    text: str, *, case: str, file: Path | None = None
) -> tuple[tuple[float, float, float], ...]:
    """The points of a roi_mm cell: `x,y,z` in RAS+ mm, several separated by semicolons.

    Raises DataError for anything else.
    """
    found = []
    for part in filter(None, (p.strip() for p in text.replace("；", ";").split(";"))):
        try:
            x, y, z = (float(n) for n in part.replace("，", ",").split(","))
            if not all(map(math.isfinite, (x, y, z))):
                raise ValueError(part)
        except ValueError as error:
            raise DataError(
                f"roi_mm is {text!r}, not points in mm",
                case=case,
                file=file,
                fix="write x,y,z in the image's RAS+ mm, several points separated by ;",
                code="bad-table",
            ) from error
        found.append((x, y, z))
    return tuple(found)


def rebase(text: str, old_dir: Path, new_dir: Path) -> str:
    """A relative image_path of a CSV in `old_dir`, for a CSV in `new_dir`; others as they are."""
    plain = text.strip() if os.name == "nt" else text.strip().replace("\\", "/")
    if not plain or _WINDOWS_PATH.match(text) or Path(plain).is_absolute():
        return text
    if old_dir.resolve() == new_dir.resolve():
        return text
    try:
        return Path(os.path.relpath(old_dir.resolve() / plain, new_dir.resolve())).as_posix()
    except ValueError:  # another drive of Windows has no relative path to it
        return str(old_dir.resolve() / plain)


def rebase_paths(frame: pd.DataFrame, old_dir: Path, new_dir: Path) -> pd.DataFrame:
    """A caption table of `old_dir` for a CSV in `new_dir`: the paths of images and masks."""
    columns = [c for c in ("image_path", "mask_path") if c in frame.columns]
    moved = {c: [rebase(str(cell), old_dir, new_dir) for cell in frame[c]] for c in columns}
    return frame.assign(**moved)


def load_rows(path: str | Path, *, check_images: bool = True) -> list[Row]:
    """The rows of a caption table, complete and consistent.

    Raises DataError naming case, file, reason and fix: cells that must be filled and are not,
    Windows paths on another system, a grade that is none of the four, one case with two images or
    patients, an empty table. Raises ImageError for image files that are missing or empty, naming
    `LISTED` of them and the number.
    """
    path = Path(path)
    frame = read_table(path)
    if frame.empty:
        raise DataError(
            "the table has no rows",
            file=path,
            fix="give a CSV with studies in it",
            code="bad-table",
        )
    rows: list[Row] = []
    for line, record in enumerate(frame.to_dict("records"), 2):
        cells = {str(name): str(value).strip() for name, value in record.items()}
        case = cells["case_id"] or f"in row {line}"
        for column in ("case_id", "patient_id", "answer"):
            if not cells[column]:
                raise DataError(
                    f"{column} is empty",
                    case=case,
                    file=path,
                    fix="run ctscribe clean" if column == "answer" else f"fill in {column}",
                    code="report-empty" if column == "answer" else "bad-table",
                )
        image = image_path(cells["image_path"], path.parent, case=case, file=path)
        extra = {k: v for k, v in cells.items() if k not in COLUMNS}
        mask = cells.get("mask_path", "")
        read_grade(extra.get(GRADE_COLUMN, ""), case=case, file=path)
        rows.append(
            Row(
                case,
                cells["patient_id"],
                image,
                cells["question"],
                cells["answer"],
                extra,
                image_path(mask, path.parent, case=case, file=path) if mask else None,
                points(cells.get("roi_mm", ""), case=case, file=path),
            )
        )
    _require_one_identity(rows, path)
    if check_images:
        require_images(rows)
    return rows


def _require_one_identity(rows: Iterable[Row], path: Path) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        known = first.setdefault(row.case_id, row)
        for what in ("image_path", "patient_id"):
            one, two = getattr(known, what), getattr(row, what)
            if one != two:
                raise DataError(
                    f"two rows of this case have another {what} ({one} and {two})",
                    case=row.case_id,
                    file=path,
                    fix="give each study its own case_id",
                    code="bad-id",
                )


def image_fault(path: Path) -> str | None:
    """Why there is nothing to read at this path, or None."""
    try:
        if not path.is_file():
            return "the image is a folder" if path.is_dir() else "the image is missing"
        return "the image file is empty" if path.stat().st_size == 0 else None
    except OSError as error:
        return f"the image cannot be reached ({error.strerror})"


def require_images(rows: Sequence[Row]) -> None:
    """Raise one ImageError for all rows whose image file is missing or empty."""
    faults = [(r.case_id, r.image_path, f) for r in rows if (f := image_fault(r.image_path))]
    refuse_images(faults, len(rows))


def refuse_images(faults: Sequence[tuple[str, Path, str]], rows: int) -> None:
    """Raise one ImageError for (case, path, fault) of all rows without an image, if there are any.

    It names `LISTED` of them and their number.
    """
    if not faults:
        return
    case, path, reason = faults[0]
    others = ", ".join(f"{case} ({path})" for case, path, _ in faults[1:LISTED])
    if others:
        more = f" and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        reason += f"; {len(faults)} of {rows} rows have no image: also {others}{more}"
    raise ImageError(
        reason,
        case=case,
        file=path,
        fix="correct image_path, or drop such rows: ctscribe clean --drop-missing-paths",
        code="missing",
    )


def split_by_patient(
    rows: Sequence[Row], *, val_ratio: float, test_ratio: float, seed: int
) -> dict[Split, list[Row]]:
    """Divide rows so that no patient is in two parts; rows keep their order within a part.

    The ratios are shares of patients. Who goes where depends on the seed and the set of patients,
    not on the order of the rows. Raises DataError if a part that was asked for would be empty.
    """
    patients = sorted({row.patient_id for row in rows})
    wanted = {"val": val_ratio, "test": test_ratio}
    counts = {part: round(len(patients) * ratio) for part, ratio in wanted.items()}
    for part, ratio in wanted.items():
        if ratio > 0:
            counts[part] = max(1, counts[part])
    if not 0 <= sum(counts.values()) < len(patients) or min(wanted.values()) < 0:
        raise DataError(
            f"{len(patients)} patient(s) cannot be divided with {val_ratio:g} for validation and "
            f"{test_ratio:g} for the test",
            fix="lower the ratios, or give more patients",
            code="bad-table",
        )
    order = np.random.default_rng(seed).permutation(len(patients))
    n_val, n_test = counts["val"], counts["test"]
    part_of: dict[str, Split] = {
        patients[i]: "val" if rank < n_val else "test" if rank < n_val + n_test else "train"
        for rank, i in enumerate(order)
    }
    return {part: [row for row in rows if part_of[row.patient_id] == part] for part in SPLITS}


def manifest_sha256(rows: Sequence[Row]) -> str:
    """SHA-256 of what the rows say, whatever their order and wherever the folder lies.

    Of each row: case, patient, question, answer, and the image's name and size in bytes (0 if it
    is missing); not its voxels, which would take hours on a real data set.
    """
    lines = []
    for row in rows:
        size = row.image_path.stat().st_size if row.image_path.is_file() else 0
        cells = (row.case_id, row.patient_id, row.image_path.name, str(size))
        lines.append("\x1f".join((*cells, row.question, row.answer)))
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line.encode() + b"\x1e")
    return digest.hexdigest()


def check_leaks(splits: Mapping[Split, Sequence[Row]], *, reports: bool = True) -> list[Leak]:
    """What two parts share: patients, images (equal content, also if packed anew), reports.

    Reports count if they are nearly the same, long, and give a measurement: what is left is said
    of many patients ("未见明显异常"). One leak for each patient, image or pair of reports, and pair
    of parts; reports=False looks at none. Raises ImageError for an image that cannot be read.
    """
    rows = [(part, row) for part in SPLITS for row in splits.get(part, ())]
    seen: dict[str, dict[Split, Row]] = {}
    for part, row in rows:
        seen.setdefault(row.patient_id, {}).setdefault(part, row)
    leaks = _across("patient", seen) + _across("image", _same_images(rows))
    return leaks + _same_reports(rows) if reports else leaks


def require_no_leaks(splits: Mapping[Split, Sequence[Row]]) -> None:
    """Raise DataError if a patient or an image stands in two parts; see `check_leaks`."""
    refuse_leaks(check_leaks(splits, reports=False))


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Raise DataError if a patient or an image stands in two parts.

    Reports alone do not: two patients can truly have the same thing said of them.
    """
    for kind in ("patient", "image"):
        found = [leak for leak in leaks if leak.kind == kind]
        if found:
            listed = ", ".join(
                f"{leak.what} ({leak.cases[0]} in {leak.splits[0]}, {leak.cases[1]} in "
                f"{leak.splits[1]})"
                for leak in found[:LISTED]
            )
            more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
            raise DataError(
                f"{len(found)} {kind}{'s stand' if len(found) > 1 else ' stands'} in two parts of "
                f"the split: {listed}{more}",
                fix="split anew with ctscribe split"
                if kind == "patient"
                else "give the same image one patient_id, or remove one of its rows",
                code="patient-leak" if kind == "patient" else "image-duplicate",
            )


def _across(kind: LeakKind, seen: Mapping[str, Mapping[Split, Row]]) -> list[Leak]:
    leaks = []
    for what, by_part in seen.items():
        parts = [part for part in SPLITS if part in by_part]
        for i, one in enumerate(parts):
            for two in parts[i + 1 :]:
                cases = (by_part[one].case_id, by_part[two].case_id)
                leaks.append(Leak(kind, (one, two), cases, what))
    return leaks


def _same_images(rows: Iterable[tuple[Split, Row]]) -> dict[str, dict[Split, Row]]:
    """First row of each part by image content, under the image's name; only those of two parts."""
    alike: dict[tuple[object, ...], list[tuple[Split, Row]]] = {}
    for part, row in rows:
        alike.setdefault(_quick_key(row), []).append((part, row))
    found: dict[str, dict[Split, Row]] = {}
    for group in alike.values():
        if len({part for part, _ in group}) < 2:
            continue  # nothing to read: sizes or checksums differ already
        by_content: dict[str, dict[Split, Row]] = {}
        for part, row in group:
            by_content.setdefault(_content_sha256(row), {}).setdefault(part, row)
        for by_part in by_content.values():
            if len(by_part) > 1:
                found[str(next(iter(by_part.values())).image_path)] = by_part
    return found


def _same_reports(rows: Iterable[tuple[Split, Row]]) -> list[Leak]:
    first: dict[tuple[Split, str], Row] = {}  # of each part: templates would make pairs endless
    for part, row in rows:
        if _MEASURED.search(row.answer) and _content(row.answer) >= _LONG:
            first.setdefault((part, row.answer), row)
    items = list(first.items())
    leaks = []
    for i, j, alike in near_identical([text for (_, text), _ in items]):
        ((one, _), a), ((two, _), b) = items[i], items[j]
        if one != two:
            what = f"reports {alike:.0%} alike"
            leaks.append(Leak("report", (one, two), (a.case_id, b.case_id), what))
    return leaks


def _quick_key(row: Row) -> tuple[object, ...]:
    """What equal images share and most others do not, without reading them whole."""
    try:
        with row.image_path.open("rb") as file:
            if row.image_path.suffix.lower() != ".gz":
                return (row.image_path.suffix.lower(), file.seek(0, os.SEEK_END))
            # gzip ends with the checksum and the length of what it holds, however it was packed.
            file.seek(-8, os.SEEK_END)
            return (".gz", file.read(8))
    except OSError as error:
        raise _unreadable(row, error) from error


def _content_sha256(row: Row) -> str:
    digest = hashlib.sha256()
    packed = row.image_path.suffix.lower() == ".gz"
    try:
        with (gzip.open if packed else open)(row.image_path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(row, error) from error
    return digest.hexdigest()


def _unreadable(row: Row, error: Exception) -> ImageError:
    return ImageError(
        f"the image cannot be read ({getattr(error, 'strerror', None) or error})",
        case=row.case_id,
        file=row.image_path,
        fix="restore the file, or remove the row",
        code="unreadable",
    )


def _content(text: str) -> int:
    return sum(character.isalnum() for character in text)
