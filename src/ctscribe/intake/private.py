"""`ctscribe clean`, with the filter of `--deidentify`: personal data, and the names of the row."""

from __future__ import annotations

from ctscribe.reports.deidentify import deidentify
from ctscribe.tables.clean import DEIDENTIFY, CleanOptions, CleanResult, clean_file
from ctscribe.tables.filters import Candidate, Filter
from ctscribe.tables.sheet import NAME_NAMES


def run_clean(options: CleanOptions) -> CleanResult:
    """`clean_file`, de-identifying where the options ask for it; raises as it does."""
    return clean_file(options, [deidentifying_filter()] if DEIDENTIFY in options.wanted() else [])


def deidentifying_filter() -> Filter:
    """Replaces personal data of an answer; names in the row's own columns are found anywhere."""

    def edit(row: Candidate) -> str:
        names = [row.cells[column] for column in row.cells if column.strip() in NAME_NAMES]
        return deidentify(row.answer, names=[name for name in names if name.strip()])

    about = "names, ids, dates, phone numbers"
    return Filter(DEIDENTIFY, about, edit_row=edit, private=True)
