"""What a public data set gives: rows of a caption table, and all that is in none, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ctscribe.errors import DataError
from ctscribe.tables.csv_file import read_table

Side = Literal["images", "reports"]


@dataclass(frozen=True)
class Record:
    """A row of the caption table. answer: as the set has it, empty where it has none.

    report_rows: how many rows or files of the set's reports it was made of.
    """

    case_id: str
    patient_id: str
    image: Path
    answer: str
    extra: dict[str, str] = field(default_factory=dict)
    mask: Path | None = None
    report_rows: int = 1
    question: str = ""  # empty: the command's own question is asked


@dataclass(frozen=True)
class Rejected:
    """An image or a report that is in no row. item: its file, or file and row."""

    source: Side
    item: str
    case_id: str
    code: str
    reason: str
    answer: str = ""


@dataclass
class Dataset:
    """All of a set: `images` and `reports` are what was found of either, in rows and rejected."""

    records: list[Record] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    images: int = 0
    reports: int = 0
    notes: list[str] = field(default_factory=list)

    def reject(
        self, source: Side, item: str, case_id: str, code: str, reason: str, answer: str = ""
    ) -> None:
        """Name what is in no row. code: of `problems.KINDS`."""
        self.rejected.append(Rejected(source, item, case_id, code, reason, answer))

    def require_sums(self) -> None:
        """Raise AssertionError unless every image and report is in a row or rejected, once."""
        images = len({record.image for record in self.records})
        reports = sum(record.report_rows for record in self.records)
        assert self.images == images + sum(r.source == "images" for r in self.rejected)
        assert self.reports == reports + sum(r.source == "reports" for r in self.rejected)


def tables_like(
    folder: Path, pattern: str, columns: Sequence[str], *, required: bool = False
) -> list[tuple[str, dict[str, str]]]:
    """Rows of all CSVs below a folder that match and have the columns, each with `file row n`.

    Raises DataError if there is none and one is required, or one cannot be read.
    """
    rows: list[tuple[str, dict[str, str]]] = []
    found = False
    for file in sorted(folder.rglob(pattern)):
        frame = read_table(file)
        if not set(columns) <= set(frame.columns):
            continue
        found = True
        name = file.relative_to(folder).as_posix()
        for line, record in enumerate(frame.to_dict("records"), 2):
            cells = {str(k): str(v).strip() for k, v in record.items()}
            rows.append((f"{name} row {line}", cells))
    if required and not found:
        raise DataError(
            f"there is no {pattern} with the columns {', '.join(columns)} in it",
            file=folder,
            fix="give the folder as it was downloaded, reports included; or name --layout",
            code="missing",
        )
    return rows
