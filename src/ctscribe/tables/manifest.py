"""Rows of a caption table: reading and checking. `split.py` divides them, `leaks.py` compares.

A caption table is a CSV with the columns `COLUMNS`; others are carried along. A relative
image_path is relative to the folder of the CSV, and may use either slash.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.errors import DataError, ImageError
from ctscribe.tables import csv_file
from ctscribe.tables.csv_file import write_table as write_table
from ctscribe.tables.grade import GRADE_COLUMN, Grade, read_grade
from ctscribe.tables.split import SPLITS as SPLITS
from ctscribe.tables.split import Split as Split
from ctscribe.tables.split import patient_key
from ctscribe.tables.split import split_by_patient as split_by_patient

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("case_id", "patient_id", "image_path", "question", "answer")
LISTED = 5  # problems named in one error; the rest are counted

_WINDOWS_PATH = re.compile(r"^(?:[A-Za-z]:[\\/]|\\\\)")


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
                code="bad-table",
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
    said: dict[tuple[str, str], str] = {}
    for row in rows:
        known = first.setdefault(row.case_id, row)
        for what in ("image_path", "patient_id"):
            one, two = (str(getattr(r, what)) for r in (known, row))
            same = patient_key if what == "patient_id" else str
            if same(one) != same(two):
                raise DataError(
                    f"two rows of this case have another {what} ({one} and {two})",
                    case=row.case_id,
                    file=path,
                    fix="give each study its own case_id",
                    code="bad-table",
                )
        if said.setdefault((row.case_id, row.question), row.answer) != row.answer:
            raise DataError(
                "two rows of this case answer the same question with different reports",
                case=row.case_id,
                file=path,
                fix="keep the report that is right",
                code="report-conflict",
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
