"""`ctscribe excel`: a hospital's workbook of reports and its images become caption tables.

Reports and images are joined by their id, never by position. What does not match, or matches twice,
on either side, is not guessed at: it goes to caption_rejected.csv with the reason, and reports that
contradict each other to caption_quarantine.csv, side by side.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.errors import ConfigError, DataError
from ctscribe.sandbox import Limits, run_one
from ctscribe.settings import Config, setting
from ctscribe.tables.clean import compile_pattern, content_filters
from ctscribe.tables.csv_file import write_table
from ctscribe.tables.entries import (
    images_of_csv,
    images_of_folder,
    notes_of,
    put_zeros_back,
    read_reports,
    unused_reports,
)
from ctscribe.tables.filters import Candidate, Filter
from ctscribe.tables.join import (
    Conflict,
    Entry,
    by_id,
    complete_reports,
    join,
    refuse_repeated_images,
)
from ctscribe.tables.manifest import COLUMNS, LISTED, Row, split_by_patient
from ctscribe.tables.pseudonym import SALT_BYTES, Pseudonyms, load_salt
from ctscribe.tables.sheet import read_book, report_text

if TYPE_CHECKING:
    import pandas as pd

LIMITS = Limits(seconds=1800)  # 50,000 rows take about a minute
REJECTED_COLUMNS = (
    *("source", "sheet", "row", "id", "status", "code", "reason", "image_path", "answer"),
)
JOIN_COLUMNS = ("source", "sheet", "row", "id", "status", "partner", "reason")
QUARANTINE_COLUMNS = (
    *("id", "column", "one_at", "one_date", "one", "two_at", "two_date", "two", "difference"),
)


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
    sheet_index: int | None = setting(
        None,
        "The one sheet to read, counted from 0; left out, every sheet with a line of names.",
        low=0,
        high=1000,
    )
    include_hidden: bool = setting(
        False, "Read sheets, rows and columns that are hidden or filtered out in Excel too."
    )
    excel_id_col: str | None = setting(
        None, "Column of the id in the sheet; left out, that of --pairs-csv or a usual name."
    )
    patient_id_col: str | None = setting(
        None, "Column of the patient in the sheet; left out, a usual name such as 患者ID or 姓名."
    )
    salt_file: Path | None = setting(
        None,
        "File of the secret behind pseudonyms of patients that the sheet knows by name alone; left "
        "out, one in your folder of settings.",
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
    """Caption tables (`COLUMNS` and accession), and what became of every row of either side.

    rejected: the rows that are in no caption table, with the reason. quarantine: reports of one id
    that contradict each other. join: each row of either side, `REJECTED_COLUMNS` and
    `JOIN_COLUMNS` name the columns. matched: rows of (reports, images) in the caption tables.
    """

    full: pd.DataFrame
    train: pd.DataFrame
    val: pd.DataFrame
    rejected: pd.DataFrame
    quarantine: pd.DataFrame
    join: pd.DataFrame
    notes: tuple[str, ...]  # what was repaired or not used, and how columns were taken
    matched: tuple[int, int]


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
    images: list[Entry] = []
    if options.pairs_csv is not None:
        images = images_of_csv(
            options.pairs_csv,
            out_dir,
            id_name=options.pairs_id_col,
            path_name=options.pairs_path_col,
        )
    # The patients of import-dicom are pseudonyms, and told by the DICOM files themselves.
    known = bool(images) and all(image.patient for image in images)
    book = read_book(
        options.excel,
        sheet_index=options.sheet_index,
        include_hidden=options.include_hidden,
        id_name=options.excel_id_col,
        like_id=options.pairs_id_col,
        patient_name=options.patient_id_col,
        needs_patients=not known,
    )
    named = not known and any(sheet.patient_is_name for sheet in book.sheets)
    # Names that are only compared need no secret that lasts.
    salt = secrets.token_bytes(SALT_BYTES)
    ids = Pseudonyms(load_salt(options.salt_file, outside=[out_dir]) if named else salt)
    reports = [entry for sheet in book.sheets for entry in read_reports(sheet, ids)]
    if options.pairs_csv is None:
        assert options.image_root is not None
        images = images_of_folder(options.image_root, {e.id.text for e in reports}, out_dir)
    mended = put_zeros_back(reports)
    conflicts = complete_reports(reports)
    _write_answers(reports, options, needs_patients=not known)
    refuse_repeated_images(images)
    pairs = join(reports, images)
    _require_pairs(pairs, reports, images, options.excel)
    notes = notes_of(book)
    notes += _notes_of_patients(pairs) if known else _notes_of_unknown(images, named=named)
    notes += _notes_of_ids(reports, images, pairs)
    notes += [f"excel {e.label}: its patient is {e.patient}: zeros were lost" for e in mended]
    cases = {image.case for _, image in pairs} - {""}
    rows, text_of = [], {}
    for report, image in pairs:
        accession = max(report.id.text, image.id.text, key=len)  # the one that has its zeros
        # An accession number is no pseudonym, and the case has one if import-dicom named it.
        case = image.case if len(cases) == len(pairs) else accession
        text_of[case] = image.image
        extra = {"accession": accession}
        patient = image.patient if known else report.patient
        rows.append(Row(case, patient, Path(image.image), report.question, report.answer, extra))
    parts = split_by_patient(rows, val_ratio=options.val_ratio, test_ratio=0, seed=options.seed)
    both = [*reports, *unused_reports(book), *images]
    return ExcelResult(
        _frame(rows, text_of),
        _frame(parts["train"], text_of),
        _frame(parts["val"], text_of),
        _table(REJECTED_COLUMNS, [_rejected(e) for e in both if e.reason is not None]),
        _table(QUARANTINE_COLUMNS, [_quarantined(conflict) for conflict in conflicts]),
        _table(JOIN_COLUMNS, [_joined(e) for e in both]),
        tuple(notes),
        (sum(e.reason is None for e in reports), len(pairs)),
    )


def run_excel(options: ExcelOptions) -> ExcelResult:
    """Convert, print what matched and what did not, and write the tables to `out_dir`.

    Writes caption_full.csv, caption_train.csv, caption_val.csv, caption_rejected.csv,
    caption_quarantine.csv and caption_join_report.csv, nothing if an error is raised. Workbook and
    CSV are read in a child process under `LIMITS`.
    """
    from rich.console import Console

    with Console(stderr=True).status("reading and joining the tables"):
        result = run_one(excel_to_captions, options, limits=LIMITS)
    assert options.excel is not None
    out_dir = options.out_dir or options.excel.parent
    for name, file in _files(out_dir).items():
        write_table(getattr(result, name), file)
    _print(result, out_dir)
    return result


def _write_answers(
    reports: Iterable[Entry], options: ExcelOptions, *, needs_patients: bool
) -> None:
    """The answer of each report that is complete, or why it is none."""
    rules = content_filters(
        min_answer_chars=options.min_answer_chars,
        require_keywords=options.require_keywords,
        force_numbered_prefix=options.force_numbered_prefix,
    )
    for entry in reports:
        if entry.reason is not None or entry.head is not None:
            continue
        entry.answer = report_text(entry.parts)
        if needs_patients and not entry.patient:
            entry.reject("there is no id of its patient", code="bad-id")
        else:
            _filter(entry, rules)
        if entry.reason is None:
            entry.answer = options.answer_prefix + entry.answer


def _filter(entry: Entry, rules: Iterable[Filter]) -> None:
    for rule in rules:
        if rule.edit is not None:
            entry.answer = rule.edit(entry.answer)
        if rule.reject is not None:
            candidate = Candidate(entry.id.text, Path(), entry.question, entry.answer)
            reason = rule.reject(candidate)
            if reason is not None:
                code = "report-empty" if rule.name == "empty" else ""
                entry.reject(f"{rule.name}: {reason}", code=code)
                return


def _require_pairs(
    pairs: Sequence[object], reports: Sequence[Entry], images: Sequence[Entry], excel: Path
) -> None:
    if pairs:
        return
    reasons = [e.reason for e in (*reports, *images) if e.reason]
    common = max(set(reasons), key=reasons.count) if reasons else "there are no rows"
    examples = " and ".join(
        ", ".join(list(by_id(side))[:LISTED]) or "none" for side in (reports, images)
    )
    raise DataError(
        f"no report has an image ({common}); ids in the sheet and of the images: {examples}",
        file=excel,
        fix="name the columns of the same id with --excel-id-col and --pairs-id-col",
        code="unmatched",
    )


def _notes_of_ids(
    reports: Iterable[Entry], images: Iterable[Entry], pairs: Iterable[tuple[Entry, Entry]]
) -> list[str]:
    notes = [f"{e.source} {e.label}: id {e.id.note}" for e in (*reports, *images) if e.id.note]
    for report, image in pairs:
        if report.id.text != image.id.text:
            short, long = sorted((report.id.text, image.id.text), key=len)
            notes.append(f"excel {report.label}: id {short} taken for {long}: zeros were lost")
    return notes


def _notes_of_patients(pairs: Sequence[tuple[Entry, Entry]]) -> list[str]:
    """That the ids of patients are the images' own, and where the sheet sees other persons."""
    here: dict[str, dict[str, str]] = {}  # each patient's ids on the other side, and where
    there: dict[str, dict[str, str]] = {}
    for report, image in pairs:
        if report.patient:
            here.setdefault(report.patient, {}).setdefault(image.patient, report.label)
            there.setdefault(image.patient, {}).setdefault(report.patient, report.label)
    notes = ["patient_id is that of --pairs-csv; the sheet's is only compared with it"]
    alike, apart = "give one person one patient_id", "give each person a patient_id of its own"
    for side, other, groups, fix in (
        ("sheet", "images", here, alike),
        ("images", "sheet", there, apart),
    ):
        if several := [" and ".join(group.values()) for group in groups.values() if len(group) > 1]:
            count, more = len(several), ", ..." * (len(several) > LISTED)
            notes.append(
                f"warning: {count} patient{'s' * (count > 1)} of the {side} "
                f"{'have' if count > 1 else 'has'} several ids in the {other} "
                f"({', '.join(several[:LISTED])}{more}): one of the two is wrong, and a split by "
                f"patient may leak. Fix: look at them, {fix} in --pairs-csv, and run again"
            )
    return notes


def _notes_of_unknown(images: Sequence[Entry], *, named: bool) -> list[str]:
    """What patients are called in the tables, and where that was not to be expected."""
    own = (
        "a pseudonym of the name in the sheet, by a secret in your own folder"
        if named
        else "the sheet's own number: keep these tables in the house"
    )
    notes = [f"patient_id is {own}"]
    lacking = [image.label for image in images if not image.patient]
    if len(lacking) < len(images):
        where = ", ".join(lacking[:LISTED]) + ", ..." * (len(lacking) > LISTED)
        notes.append(
            f"warning: {where} of --pairs-csv without patient_id, so all patients are named as in "
            "the sheet. Fix: fill it in, and run again"
        )
    return notes


def _files(out_dir: Path) -> dict[str, Path]:
    names = {name: name for name in ("full", "train", "val", "rejected", "quarantine")}
    names["join"] = "join_report"
    return {name: out_dir / f"caption_{file}.csv" for name, file in names.items()}


def _table(columns: Sequence[str], records: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(records), columns=list(columns), dtype=str)


def _frame(rows: Iterable[Row], text_of: Mapping[str, str]) -> pd.DataFrame:
    records = [
        {
            "case_id": r.case_id,
            "patient_id": r.patient_id,
            "image_path": text_of[r.case_id],
            "question": r.question,
            "answer": r.answer,
            **r.extra,
        }
        for r in rows
    ]
    return _table([*COLUMNS, "accession"], records)


def _joined(entry: Entry) -> dict[str, object]:
    head = entry.head or entry
    partner = head.partner.label if head.partner is not None else ""
    return {
        "source": entry.source,
        "sheet": entry.sheet,
        "row": str(entry.row),
        "id": entry.id.text,
        "status": entry.status,
        "partner": partner if entry.reason is None else "",
        "reason": entry.reason or (f"completes {head.label}" if entry.head else ""),
    }


def _rejected(entry: Entry) -> dict[str, object]:
    return _joined(entry) | {
        "code": entry.code,
        "image_path": entry.image,
        "answer": entry.answer,
    }


def _quarantined(conflict: Conflict) -> dict[str, object]:
    one, two = conflict.one, conflict.two
    return {
        "id": conflict.id,
        "column": conflict.column,
        "one_at": one.label,
        "one_date": one.date,
        "one": one.says()[conflict.column],
        "two_at": two.label,
        "two_date": two.date,
        "two": two.says()[conflict.column],
        "difference": conflict.difference,
    }


def _print(result: ExcelResult, out_dir: Path) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, markup=False, highlight=False)
    # None of the warnings may be one of those that are only counted.
    notes = sorted(result.notes, key=lambda note: not note.startswith("warning"))
    for note in notes[: 4 * LISTED]:
        console.print(note)
    if len(result.notes) > 4 * LISTED:
        console.print(f"and {len(result.notes) - 4 * LISTED} more notes")
    kinds = zip(result.rejected["source"], result.rejected["status"], strict=True)
    by_reason = Counter(
        (source, reason)
        for source, reason in zip(result.rejected["source"], result.rejected["reason"], strict=True)
    )
    for (source, reason), count in by_reason.most_common(4 * LISTED):
        console.print(f"left out, {source}: {count} × {reason}")
    left = len(by_reason) - 4 * LISTED
    if left > 0:
        console.print(f"and {left} more reasons, in {_files(out_dir)['rejected']}")
    counts = Counter(kinds)
    for source, matched in zip(("excel", "images"), result.matched, strict=True):
        by_status = {status: n for (side, status), n in sorted(counts.items()) if side == source}
        total = matched + sum(by_status.values())
        listed = ", ".join(f"{n} {status}" for status, n in by_status.items()) or "0"
        console.print(f"{source}: {total} rows = {matched} matched + rejected ({listed})")
    for name, file in _files(out_dir).items():
        console.print(f"{len(getattr(result, name)):6} rows: {file}")
