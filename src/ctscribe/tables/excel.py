"""`ctscribe excel`: a hospital's sheet of reports and its images become caption tables.

Reports and images are joined by their id, never by position. What does not match, or matches twice,
on either side, is not guessed at: it goes to caption_rejected.csv with the reason.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.errors import ConfigError, DataError
from ctscribe.settings import Config, setting
from ctscribe.tables.clean import compile_pattern, content_filters
from ctscribe.tables.csv_file import read_table, write_table
from ctscribe.tables.filters import Candidate, Filter
from ctscribe.tables.manifest import (
    COLUMNS,
    LISTED,
    Row,
    image_fault,
    image_path,
    rebase,
    split_by_patient,
)
from ctscribe.tables.sheet import (
    ID_NAMES,
    PATIENT_NAMES,
    QUESTION_NAMES,
    Id,
    Sheet,
    cell_text,
    find_column,
    read_id,
    read_sheet,
    report_text,
)

if TYPE_CHECKING:
    import pandas as pd

PATH_NAMES = ("image_path", "path", "image", "影像路径", "图像路径", "文件路径", "路径")
NAME_NAMES = ("姓名", "患者姓名", "病人姓名", "patient_name")
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
REJECTED_COLUMNS = ("source", "row", "id", "reason", "image_path", "answer")


@dataclass(frozen=True)
class ExcelOptions(Config):
    """`ctscribe excel` and `scripts/excel_total_to_caption_csv.py`."""

    section = "excel"

    excel: Path | None = setting(None, "Workbook (.xlsx) of the reports.")
    out_dir: Path | None = setting(None, "Folder for the tables; left out, the workbook's own.")
    pairs_csv: Path | None = setting(None, "CSV that gives the image of each id.")
    image_root: Path | None = setting(
        None, "Folder of images named by id, or in folders named by id, in place of --pairs-csv."
    )
    pairs_id_col: str | None = setting(
        None, "Column of the id in --pairs-csv; left out, a usual name such as accession or 检查号."
    )
    pairs_path_col: str | None = setting(
        None, "Column of the image in --pairs-csv; left out, a usual name such as image_path."
    )
    sheet_index: int = setting(0, "Sheet of the workbook, counted from 0.", low=0, high=1000)
    excel_id_col: str | None = setting(
        None, "Column of the id in the sheet; left out, that of --pairs-csv or a usual name."
    )
    patient_id_col: str | None = setting(
        None, "Column of the patient in the sheet; left out, a usual name such as 患者ID or 姓名."
    )
    val_ratio: float = setting(0.1, "Share of patients for validation.", low=0, high=0.9)
    answer_prefix: str = setting("", "Text to put in front of each answer.")
    min_answer_chars: int = setting(
        0, "Leave out answers of fewer characters, spaces not counted.", low=0, high=100_000
    )
    require_keywords: str | None = setting(
        None, "Leave out answers in which this regular expression is not found."
    )
    force_numbered_prefix: bool = setting(
        False, "Make the conclusion, or each line of a text without sections, begin with a number."
    )
    seed: int = setting(0, "Seed of the split.", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        compile_pattern(self.require_keywords, "require_keywords")
        if self.pairs_csv is not None and self.image_root is not None:
            raise ConfigError("--pairs-csv and --image-root are both given", fix="give one of them")


@dataclass(frozen=True)
class ExcelResult:
    """Caption tables (`COLUMNS` and accession), and every row of either side that is in none.

    rejected: `source` (excel or images), `row`, `id`, `reason`, and what the row held.
    """

    full: pd.DataFrame
    train: pd.DataFrame
    val: pd.DataFrame
    rejected: pd.DataFrame
    notes: tuple[str, ...]  # what was repaired, and how columns were taken


@dataclass
class _Entry:
    """A report or an image with its id; `reason` is why it cannot be used."""

    source: str
    row: int | str
    id: Id
    patient: str = ""
    question: str = ""
    answer: str = ""
    image: str = ""
    reason: str | None = None


def excel_to_captions(options: ExcelOptions) -> ExcelResult:
    """Join reports and images by id and divide them by patient; writes nothing.

    Raises ConfigError if a setting is missing; DataError if the workbook or the CSV cannot be
    read, a column is missing, or no id of one side is on the other.
    """
    if options.excel is None:
        raise ConfigError("--excel is not given", fix="pass --excel with the workbook")
    if options.pairs_csv is None and options.image_root is None:
        raise ConfigError(
            "neither --pairs-csv nor --image-root is given", fix="pass one, to say where images are"
        )
    out_dir = options.out_dir or options.excel.parent
    sheet = read_sheet(options.excel, options.sheet_index)
    notes: list[str] = []
    reports = _reports(sheet, options, notes)
    if options.pairs_csv is not None:
        images = _images_of_csv(options.pairs_csv, options, out_dir)
    else:
        assert options.image_root is not None
        images = _images_of_folder(options.image_root, {e.id.text for e in reports}, out_dir)
    _reject_repeated_reports(reports)
    _reject_repeated_images(images)
    pairs = _join(reports, images, options.excel)
    notes += [f"{e.source} row {e.row}: id {e.id.note}" for e in reports + images if e.id.note]
    rows = [
        Row(r.id.text, r.patient, Path(i.image), r.question, r.answer, {"accession": r.id.text})
        for r, i in pairs
    ]
    parts = split_by_patient(rows, val_ratio=options.val_ratio, test_ratio=0, seed=options.seed)
    text_of = {report.id.text: image.image for report, image in pairs}
    return ExcelResult(
        _frame(rows, text_of),
        _frame(parts["train"], text_of),
        _frame(parts["val"], text_of),
        _rejected(reports + images),
        tuple(notes),
    )


def run_excel(options: ExcelOptions) -> ExcelResult:
    """Convert, print what matched and what did not, and write the tables to `out_dir`.

    Writes caption_full.csv, caption_train.csv, caption_val.csv and caption_rejected.csv, nothing
    if an error is raised.
    """
    result = excel_to_captions(options)
    assert options.excel is not None
    out_dir = options.out_dir or options.excel.parent
    for name in ("full", "train", "val", "rejected"):
        write_table(getattr(result, name), out_dir / f"caption_{name}.csv")
    _print(result, out_dir)
    return result


def _reports(sheet: Sheet, options: ExcelOptions, notes: list[str]) -> list[_Entry]:
    wanted = [options.excel_id_col] if options.excel_id_col else []
    if not wanted:
        wanted = ([options.pairs_id_col] if options.pairs_id_col else []) + list(ID_NAMES)
    id_column = _need(sheet, wanted, "id", "--excel-id-col")
    named = [options.patient_id_col] if options.patient_id_col else [*PATIENT_NAMES, *NAME_NAMES]
    patient_column = _need(sheet, named, "patient", "--patient-id-col")
    is_name = find_column([patient_column], NAME_NAMES) is not None
    question_column = sheet.column(QUESTION_NAMES)
    notes.append(f"sheet {sheet.title}: ids from {id_column}, patients from {patient_column}")
    if is_name:
        notes.append(f"{patient_column} is a name: only its hash is written, as patient_id")
    rules = content_filters(
        min_answer_chars=options.min_answer_chars,
        require_keywords=options.require_keywords,
        force_numbered_prefix=options.force_numbered_prefix,
    )
    entries = []
    for number, cells in sheet.rows:
        entry = _Entry("excel", number, read_id(cells[id_column]))
        patient = read_id(cells[patient_column])
        entry.patient = _hashed(patient.text) if is_name and patient.text else patient.text
        entry.question = cell_text(cells[question_column]) if question_column else ""
        entry.answer = report_text(sheet, cells)
        entry.reason = entry.id.fault
        if entry.reason is None and patient.fault:
            entry.reason = f"column {patient_column}: {patient.fault}"
        if entry.reason is None:
            _filter(entry, rules)
        if entry.reason is None:
            entry.answer = options.answer_prefix + entry.answer
        entries.append(entry)
    return entries


def _filter(entry: _Entry, rules: Iterable[Filter]) -> None:
    for rule in rules:
        if rule.edit is not None:
            entry.answer = rule.edit(entry.answer)
        if rule.reject is not None:
            candidate = Candidate(entry.id.text, Path(), entry.question, entry.answer)
            reason = rule.reject(candidate)
            if reason is not None:
                entry.reason = f"{rule.name}: {reason}"
                return


def _need(sheet: Sheet, names: Sequence[str], what: str, flag: str) -> str:
    column = sheet.column(names)
    if column is None:
        missing = f"no column {names[0]}" if len(names) == 1 else f"no column of the {what}"
        raise DataError(
            f"sheet {sheet.title} has {missing}, only {', '.join(sheet.columns)}",
            file=sheet.path,
            fix=f"name one of them with {flag}",
        )
    return column


def _images_of_csv(path: Path, options: ExcelOptions, out_dir: Path) -> list[_Entry]:
    given = [name for name in (options.pairs_id_col, options.pairs_path_col) if name]
    frame = read_table(path, required=given)
    columns = [str(column) for column in frame.columns]
    id_column = options.pairs_id_col or find_column(columns, ID_NAMES)
    path_column = options.pairs_path_col or find_column(columns, PATH_NAMES)
    for column, what, flag in (
        (id_column, "id", "--pairs-id-col"),
        (path_column, "image", "--pairs-path-col"),
    ):
        if column is None:
            raise DataError(
                f"there is no column of the {what}, only {', '.join(columns)}",
                file=path,
                fix=f"name one of them with {flag}",
            )
    entries = []
    for line, record in enumerate(frame.to_dict("records"), 2):
        entry = _Entry("images", line, read_id(record[id_column]))
        cell = str(record[path_column])
        entry.image, entry.reason = rebase(cell, path.parent, out_dir), entry.id.fault
        if entry.reason is None:
            file = image_path(cell, path.parent, case=entry.id.text, file=path)
            entry.reason = image_fault(file)
        entries.append(entry)
    return entries


def _images_of_folder(root: Path, ids: set[str], out_dir: Path) -> list[_Entry]:
    """Images below a folder. The id is the file's name, without nnU-Net's _0000, or its folder's:
    the first of these that the sheet has."""
    if not root.is_dir():
        raise DataError("there is no such folder", file=root, fix="check --image-root")
    entries = []
    for file in sorted(root.rglob("*")):
        ending = next((e for e in IMAGE_ENDINGS if file.name.lower().endswith(e)), None)
        if ending is None or not file.is_file():
            continue
        stem = file.name[: -len(ending)]
        names = (stem, stem.removesuffix("_0000"), file.parent.name)
        name = next((name for name in names if name in ids), stem)
        entry = _Entry("images", str(file.relative_to(root)), Id(name))
        entry.image = rebase(str(file), Path.cwd(), out_dir)
        entry.reason = image_fault(file)
        entries.append(entry)
    if not entries:
        raise DataError(
            "there are no images in it",
            file=root,
            fix=f"give a folder of {', '.join(IMAGE_ENDINGS)}",
        )
    return entries


def _by_id(entries: Iterable[_Entry]) -> dict[str, list[_Entry]]:
    groups: dict[str, list[_Entry]] = {}
    for entry in entries:
        if entry.id.text:
            groups.setdefault(entry.id.text, []).append(entry)
    return groups


def _reject_repeated_reports(reports: Iterable[_Entry]) -> None:
    """Of reports that stand there twice, one stays; if they differ, none does."""
    for id_, group in _by_id(reports).items():
        rows = ", ".join(str(entry.row) for entry in group)
        if len({(e.answer, e.patient, e.question) for e in group}) > 1:
            for entry in group:
                entry.reason = f"rows {rows} give id {id_} different reports or patients"
        for entry in group[1:]:
            entry.reason = entry.reason or f"the same again as row {group[0].row}"


def _reject_repeated_images(images: Iterable[_Entry]) -> None:
    for id_, group in _by_id(images).items():
        if len({os.path.normcase(e.image) for e in group}) > 1:
            for entry in group:
                entry.reason = f"id {id_} has {len(group)} images"
        for entry in group[1:]:
            entry.reason = entry.reason or f"the same again as row {group[0].row}"


def _join(
    reports: Sequence[_Entry], images: Sequence[_Entry], excel: Path
) -> list[tuple[_Entry, _Entry]]:
    """Usable reports with their usable image; the others get a reason."""
    known = {side: _by_id(entries) for side, entries in (("r", reports), ("i", images))}
    usable = {entry.id.text: entry for entry in images if entry.reason is None}
    pairs = []
    for report in reports:
        if report.reason is not None:
            continue
        image = usable.get(report.id.text)
        if image is not None:
            pairs.append((report, image))
        elif report.id.text in known["i"]:
            report.reason = f"its image: {known['i'][report.id.text][0].reason}"
        else:
            report.reason = "no image has this id"
    joined = {report.id.text for report, _ in pairs}
    for id_, image in usable.items():
        if id_ not in joined:
            partner = known["r"].get(id_)
            image.reason = (
                f"its report: {partner[0].reason}" if partner else "no report has this id"
            )
    if not pairs:
        reasons = [e.reason for e in (*reports, *images) if e.reason]
        common = max(set(reasons), key=reasons.count) if reasons else "there are no rows"
        examples = " and ".join(
            ", ".join(list(known[side])[:LISTED]) or "none" for side in ("r", "i")
        )
        raise DataError(
            f"no report has an image ({common}); ids in the sheet and of the images: {examples}",
            file=excel,
            fix="name the columns of the same id with --excel-id-col and --pairs-id-col",
        )
    return pairs


def _frame(rows: Iterable[Row], text_of: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    columns = [*COLUMNS, "accession"]
    records = [
        (r.case_id, r.patient_id, text_of[r.case_id], r.question, r.answer, r.extra["accession"])
        for r in rows
    ]
    return pd.DataFrame(records, columns=columns, dtype=str)


def _rejected(entries: Iterable[_Entry]) -> pd.DataFrame:
    import pandas as pd

    records = [
        (e.source, str(e.row), e.id.text, e.reason, e.image, e.answer)
        for e in entries
        if e.reason is not None
    ]
    return pd.DataFrame(records, columns=list(REJECTED_COLUMNS), dtype=str)


def _hashed(name: str) -> str:
    return "p" + hashlib.sha256(name.encode()).hexdigest()[:12]


def _print(result: ExcelResult, out_dir: Path) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, markup=False, highlight=False)
    for note in result.notes[: 4 * LISTED]:
        console.print(note)
    if len(result.notes) > 4 * LISTED:
        console.print(f"and {len(result.notes) - 4 * LISTED} more ids repaired")
    pairs = zip(result.rejected["source"], result.rejected["reason"], strict=True)
    for (source, reason), count in Counter(pairs).items():
        console.print(f"left out, {source}: {count} × {reason}")
    for name in ("full", "train", "val", "rejected"):
        rows = len(getattr(result, name))
        console.print(f"{rows:6} rows: {out_dir / f'caption_{name}.csv'}")
