"""What is wrong with a table of reports, row by row; the images are looked at elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctscribe.errors import DataError
from ctscribe.problems import Problem, problem_of
from ctscribe.reports.deidentify import find_personal
from ctscribe.tables.csv_file import read_table
from ctscribe.tables.damage import damage, mend
from ctscribe.tables.grade import GRADE_COLUMN, read_grade
from ctscribe.tables.ids import read_id
from ctscribe.tables.manifest import COLUMNS, image_fault, image_path, points
from ctscribe.tables.split import patient_key
from ctscribe.tables.text import is_of_one_study, near_identical, says_nothing, tidy

PLAIN = ("utf-8", "utf-8-sig")
SPLIT_COLUMN = "split"
NAMES = ("name", "patient_name", "姓名", "患者姓名", "病人姓名")  # columns that betray a name
LISTED = 3


@dataclass(frozen=True)
class TableRow:
    """A row's case and its image, None where there is none to look at."""

    case: str
    image: Path | None


@dataclass(frozen=True)
class TableExam:
    """problems: the table's own bear the case "". rows: empty for what is no table of reports."""

    problems: tuple[Problem, ...]
    rows: tuple[TableRow, ...] = ()


def examine_csv(path: Path) -> TableExam:
    """Encoding, columns, ids, reports and patients of a CSV. Never raises for what it holds."""
    try:
        frame = read_table(path)
    except DataError as error:
        return TableExam((problem_of(error, case="", file=path),))
    found = _Problems(path)
    encoding = frame.attrs["encoding"]
    if encoding not in PLAIN:
        found.add("", "encoding", f"it was read as {encoding}")
    columns = [str(name) for name in frame.columns]
    if not {"image_path", "answer"} & set(columns):
        detail = "no table of reports: neither a column image_path nor answer"
        found.add("", "left-out", detail, "nothing to do")
        return TableExam(tuple(found.problems))
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        found.add("", "bad-table", f"there is no column {', '.join(missing)}")
    if frame.empty:
        found.add("", "bad-table", "it has no rows")
    rows = [
        _Row(line, {str(k): str(v).strip() for k, v in record.items()})
        for line, record in enumerate(frame.to_dict("records"), 2)
    ]
    listed = []
    unfilled = {"answer", "accession"} <= set(columns) and not any(r.is_answered for r in rows)
    if rows and unfilled:  # as import-dicom writes it
        detail = f"none of its {len(rows)} rows has an answer yet"
        found.add("", "report-empty", detail, "join the reports: ctscribe excel --pairs-csv")
    for row in rows:
        listed.append(TableRow(row.case, _image(row, path, found)))
        _look_at_row(row, found, unfilled=unfilled)
        _look_at_options(row, path, found)
    _compare_rows(rows, found)
    _compare_reports(rows, found)
    _compare_parts(rows, found)
    return TableExam(tuple(found.problems), tuple(listed))


class _Problems:
    """Problems of one table."""

    def __init__(self, path: Path) -> None:
        self.file, self.problems = str(path), list[Problem]()

    def add(self, case: str, code: str, detail: str, fix: str = "") -> None:
        self.problems.append(Problem(case, self.file, code, detail, fix))


@dataclass(frozen=True)
class _Row:
    line: int  # in a sheet: the first below the names is 2
    cells: Mapping[str, str]

    @property
    def case(self) -> str:
        return self.cells.get("case_id", "") or f"row {self.line}"

    @property
    def answer(self) -> str:
        return self.cells.get("answer", "")

    @property
    def is_answered(self) -> bool:
        return not says_nothing(self.answer)


def _image(row: _Row, path: Path, found: _Problems) -> Path | None:
    if "image_path" not in row.cells:
        return None
    try:
        image = image_path(row.cells["image_path"], path.parent, case=row.case, file=path)
    except DataError as error:
        code = "missing" if row.cells["image_path"] else "unmatched"
        found.add(row.case, code, f"row {row.line}: {error.reason}", error.fix)
        return None
    fault = image_fault(image)
    if fault is not None:
        found.add(row.case, "missing", f"row {row.line}: {fault}: {row.cells['image_path']}")
        return None
    return image


def _look_at_row(row: _Row, found: _Problems, *, unfilled: bool) -> None:
    for column in ("case_id", "patient_id"):
        if column in row.cells:
            read = read_id(row.cells[column])
            if read.fault is not None:
                found.add(row.case, "bad-id", f"row {row.line}, {column}: {read.fault}")
            elif read.note is not None:
                found.add(row.case, "repaired", f"row {row.line}, {column}: {read.note}")
    if "answer" not in row.cells:
        return
    if not row.is_answered:
        if not unfilled:  # said once of the whole table
            said = f": it says {row.answer[:20]!r}" if row.answer.strip() else ""
            found.add(row.case, "report-empty", f"row {row.line}: the answer is empty{said}")
        return
    mended = mend(row.answer)
    lost = damage(mended)
    if lost:
        found.add(row.case, "encoding-damage", f"row {row.line}: {lost}")
    elif mended != row.answer:
        detail = f"row {row.line}: it was read in the wrong encoding, and can be mended"
        found.add(row.case, "encoding-damage", detail, "run ctscribe clean")
    names = [row.cells[column] for column in NAMES if row.cells.get(column)]
    kinds = Counter(span.kind for span in find_personal(row.answer, names=names))
    if kinds:  # counted, not quoted: this goes into files that are passed on
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        found.add(row.case, "personal-data", f"row {row.line}: {listed}")


def _look_at_options(row: _Row, path: Path, found: _Problems) -> None:
    """Columns that a table need not have, read as whoever trains on it reads them."""
    mask = row.cells.get("mask_path", "")
    try:
        read_grade(row.cells.get(GRADE_COLUMN, ""), case=row.case)
        points(row.cells.get("roi_mm", ""), case=row.case)
        fault = mask and image_fault(image_path(mask, path.parent, case=row.case))
    except DataError as error:
        found.add(row.case, "bad-table", f"row {row.line}: {error.reason}", error.fix)
    else:
        if fault:
            found.add(row.case, "missing", f"row {row.line}, mask_path: {fault}: {mask}")


def _compare_rows(rows: Iterable[_Row], found: _Problems) -> None:
    """One case has one patient and one image, and one answer to a question."""
    first: dict[str, _Row] = {}
    asked: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        known = first.setdefault(row.case, row)
        for column in ("image_path", "patient_id"):
            if _alike(column, known) != _alike(column, row):
                detail = f"rows {known.line} and {row.line} of this case have another {column}"
                found.add(row.case, "bad-table", detail, "give each study its own case_id")
        asked.setdefault((row.case, row.cells.get("question", "")), []).append(row)
    for (case, _), same in asked.items():
        answers = {"".join(tidy(row.answer).split()) for row in same}
        lines = _few([str(row.line) for row in same])
        if len(answers) > 1:
            found.add(case, "report-conflict", f"rows {lines} give different reports")
        elif len(same) > 1:
            found.add(case, "report-duplicate", f"rows {lines} say the same", "keep one of them")


def _compare_reports(rows: Sequence[_Row], found: _Problems) -> None:
    """Measured reports that stand, nearly the same, at several cases."""
    cases: dict[str, dict[str, int]] = {}  # of each text: its cases, and a row of each
    for row in rows:
        if is_of_one_study(row.answer):
            cases.setdefault(row.answer, {}).setdefault(row.case, row.line)
    texts = list(cases)
    alike: dict[str, set[str]] = {}
    for text, here in cases.items():
        for case in here:
            alike.setdefault(case, set()).update(c for c in cases[text] if c != case)
    for i, j, _ in near_identical(texts):
        for one, two in ((texts[i], texts[j]), (texts[j], texts[i])):
            for case in cases[one]:
                alike[case].update(c for c in cases[two] if c != case)
    for case, others in alike.items():
        if others:
            found.add(case, "report-duplicate", f"the same as {_few(sorted(others))}")


def _compare_parts(rows: Iterable[_Row], found: _Problems) -> None:
    """A patient belongs to one part of the split, if the table has such a column."""
    parts: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        patient = row.cells.get("patient_id", "")
        part = row.cells.get(SPLIT_COLUMN, "").casefold()
        if patient and part:
            own = parts.setdefault(patient_key(patient), {})
            own.setdefault(part, []).append(row.case)
    for by_part in parts.values():
        if len(by_part) > 1:
            for part, cases in by_part.items():
                others = ", ".join(sorted(set(by_part) - {part}))
                for case in dict.fromkeys(cases):
                    detail = f"its patient is in {part} and also in {others}"
                    found.add(case, "patient-leak", detail)


def _alike(column: str, row: _Row) -> str:
    """The same for every spelling of one path or one patient."""
    cell = row.cells.get(column, "")
    return patient_key(cell) if column == "patient_id" else Path(cell.replace("\\", "/")).as_posix()


def _few(names: Sequence[Any]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
