"""The two sides of a join: rows of a sheet, and images of a CSV or a folder, each with its id."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ctscribe.errors import DataError
from ctscribe.tables.csv_file import read_table
from ctscribe.tables.ids import Id, cell_text, read_date, read_id, without_zeros
from ctscribe.tables.join import Entry, several
from ctscribe.tables.manifest import LISTED, image_fault, image_path, rebase
from ctscribe.tables.pseudonym import Identity, Pseudonyms
from ctscribe.tables.sheet import (
    DATE_NAMES,
    ID_NAMES,
    QUESTION_NAMES,
    Book,
    Sheet,
    faults_of,
    find_column,
    report_text,
    sections_of,
)
from ctscribe.tables.split import patient_key

CASE, PATIENT = (
    "case_id",
    "patient_id",
)  # of a CSV of images, such as import-dicom's: known by the DICOM files
PATH_NAMES = ("image_path", "path", "image", "影像路径", "图像路径", "文件路径", "路径")
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


def read_reports(sheet: Sheet, ids: Pseudonyms) -> list[Entry]:
    """The rows of a sheet, each with its id, its patient and the sections of its report.

    Patients that are told apart by name get its pseudonym.
    """
    question, date = sheet.column(QUESTION_NAMES), sheet.column(DATE_NAMES)
    entries = []
    for row in sheet.rows:
        cells = row.cells
        entry = Entry("excel", sheet.title, row.number, read_id(cells[sheet.id_column]))
        patient = read_id(cells[sheet.patient_column]) if sheet.patient_column else Id()
        is_name = sheet.patient_is_name and bool(patient.text)
        entry.patient = patient.text
        if is_name:
            who = Identity(name=patient_key(patient.text))
            entry.patient = ids.patient(who, study=entry.label)
        entry.patient_is_number = patient.is_number
        entry.question = cell_text(cells[question]) if question else ""
        entry.date = read_date(cells[date]) if date else ""
        entry.parts = sections_of(sheet, cells)
        entry.answer = report_text(entry.parts)
        if row.hidden:
            entry.reject(
                "the row is hidden or filtered out in Excel; --include-hidden reads it",
                status="hidden",
            )
        elif entry.id.fault:
            entry.reject(entry.id.fault, code=entry.id.code)
        elif faults := faults_of(sheet, cells):
            column, fault = faults[0]
            entry.reject(f"column {column}: {fault.reason}", code=fault.code)
        elif patient.fault and cell_text(cells[sheet.patient_column]):
            entry.reject(f"column {sheet.patient_column}: {patient.fault}", code="bad-id")
        entries.append(entry)
    return entries


def put_zeros_back(reports: Sequence[Entry]) -> list[Entry]:
    """Give patients that stood as numbers the zeros that others of their id have; returns them.

    One sheet may hold "00123" and the next 123: one patient, who would be on both sides of a split.
    Where several can be meant the row is rejected.
    """
    written: dict[str, set[str]] = {}
    for entry in reports:
        if entry.patient and not entry.patient_is_number:
            written.setdefault(without_zeros(entry.patient), set()).add(entry.patient)
    changed = []
    for entry in reports:
        if not entry.patient_is_number:
            continue
        meant = written.get(without_zeros(entry.patient), set())
        if len(meant) > 1:
            reason = f"its patient {entry.patient} may have lost zeros: others are {several(meant)}"
            entry.reject(reason, code="bad-id")
        elif meant - {entry.patient}:
            (entry.patient,) = meant
            changed.append(entry)
    return changed


def notes_of(book: Book) -> list[str]:
    """What was repaired or not used in a workbook, and which columns were taken."""
    notes = []
    for sheet in book.sheets:
        elsewhere = any(other.patient_column for other in book.sheets)
        patients = sheet.patient_column or ("another sheet" if elsewhere else "the images")
        at = f"sheet {sheet.title}"
        used = {*sheet.report_columns, sheet.id_column, sheet.patient_column}
        used |= {sheet.column(QUESTION_NAMES) or "", sheet.column(DATE_NAMES) or ""}
        rest = ", ".join(column for column in sheet.columns if column not in used)
        notes.append(
            f"{at}: ids from {sheet.id_column}, patients from {patients}, reports from "
            f"{', '.join(sheet.report_columns) or 'another sheet'}; not read: {rest or 'none'}"
        )
        if sheet.merges:
            more = f" and {len(sheet.merges) - LISTED} more" if len(sheet.merges) > LISTED else ""
            notes.append(
                f"{at}: merged cells {', '.join(sheet.merges[:LISTED])}{more} count for all "
                "their rows"
            )
        if sheet.hidden_columns:
            notes.append(
                f"{at}: hidden columns are left out: {', '.join(sheet.hidden_columns)}; "
                "--include-hidden reads them"
            )
        if hidden := [row.number for row in sheet.rows if row.hidden]:
            notes.append(
                f"{at}: {len(hidden)} hidden or filtered rows are left out; "
                "--include-hidden reads them"
            )
    notes += [f"sheet {title} is not used: {reason}" for title, reason in book.unused]
    return notes + [f"sheet {sheet.title} is not used: {reason}" for sheet, reason in book.apart]


def unused_reports(book: Book) -> list[Entry]:
    """The rows of sheets whose ids are of another kind: rejected, and never compared by them."""
    entries = []
    for sheet, reason in book.apart:
        for row in sheet.rows:
            entry = Entry("excel", sheet.title, row.number, Id())
            entry.answer = report_text(sections_of(sheet, row.cells))
            entry.reject(f"the sheet is not used: {reason}", code="bad-table")
            entries.append(entry)
    return entries


def images_of_csv(
    path: Path, out_dir: Path, *, id_name: str | None = None, path_name: str | None = None
) -> list[Entry]:
    """The images that a CSV lists; id_name and path_name are its columns, None for a usual name.

    Its columns case_id and patient_id, if it has them, say which they are and whose.

    Raises DataError: no CSV, a column is missing.
    """
    given = [name for name in (id_name, path_name) if name]
    frame = read_table(path, required=given)
    columns = [str(column) for column in frame.columns]
    id_column = id_name or find_column(columns, ID_NAMES)
    path_column = path_name or find_column(columns, PATH_NAMES)
    for column, what, flag in (
        (id_column, "id", "--pairs-id-col"),
        (path_column, "image", "--pairs-path-col"),
    ):
        if column is None:
            raise DataError(
                f"there is no column of the {what}, only {', '.join(columns)}",
                file=path,
                fix=f"name one of them with {flag}",
                code="bad-table",
            )
    entries = []
    for line, record in enumerate(frame.to_dict("records"), 2):
        entry = Entry("images", "", line, read_id(record[id_column]))
        cell = str(record[path_column])
        entry.image = rebase(cell, path.parent, out_dir)
        entry.patient = str(record.get(PATIENT, "")).strip()
        entry.case = "" if id_column == CASE else str(record.get(CASE, "")).strip()
        if entry.id.fault:
            entry.reject(entry.id.fault, code=entry.id.code)
        elif not cell.strip():
            entry.reject(f"{path_column} is empty", code="bad-table")
        else:
            file = image_path(cell, path.parent, case=entry.id.text, file=path)
            entry.file = _same_file(file)
            if fault := image_fault(file):
                entry.reject(fault, code="missing")
        entries.append(entry)
    return entries


def images_of_folder(root: Path, ids: set[str], out_dir: Path) -> list[Entry]:
    """Images below a folder. The id is the file's name, without nnU-Net's _0000, or its folder's:
    the one of these that the sheet has, be it without zeros in front; with two it is not used.

    Raises DataError: no folder, no images in it.
    """
    if not root.is_dir():
        raise DataError(
            "there is no such folder", file=root, fix="check --image-root", code="missing"
        )
    short = {without_zeros(id_) for id_ in ids if id_}
    entries = []
    for file in sorted(root.rglob("*")):
        ending = next((e for e in IMAGE_ENDINGS if file.name.lower().endswith(e)), None)
        if ending is None or not file.is_file():
            continue
        stem = file.name[: -len(ending)]
        names = (stem, stem.removesuffix("_0000"), file.parent.name)
        close = [name for name in names if without_zeros(name) in short]
        exact = [name for name in close if name in ids]
        found = Id([*exact, *close, stem][0])
        if len(set(exact)) > 1 or len(set(map(without_zeros, close))) > 1:  # 5/1.nii.gz
            reason = f"its name and its folder are two ids: {several(set(close))}"
            found = Id(fault=reason, code="unmatched")
        entry = Entry("images", "", file.relative_to(root).as_posix(), found)
        entry.image = rebase(str(file), Path.cwd(), out_dir)
        entry.file = _same_file(file)
        if found.fault:
            entry.reject(found.fault, code=found.code)
        elif fault := image_fault(file):
            entry.reject(fault, code="missing")
        entries.append(entry)
    if not entries:
        raise DataError(
            "there are no images in it",
            file=root,
            fix=f"give a folder of {', '.join(IMAGE_ENDINGS)}",
            code="missing",
        )
    return entries


def _same_file(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))
