"""`ctscribe clean` with the filters that know reports: personal data, and one way of writing."""

from __future__ import annotations

from ctscribe.reports.deidentify import deidentify
from ctscribe.reports.normalise import normalise
from ctscribe.tables.clean import DEIDENTIFY, NORMALISE, CleanOptions, CleanResult, clean_file
from ctscribe.tables.filters import Candidate, Filter
from ctscribe.tables.sheet import NAME_NAMES


def run_clean(options: CleanOptions) -> CleanResult:
    """`clean_file` with both filters where the options ask for them; raises as it does."""
    made = (
        deidentifying_filter(),
        Filter(NORMALISE, "sizes in mm, one punctuation", edit=normalise),
    )
    wanted = options.wanted()
    return clean_file(options, [rule for rule in made if rule.name in wanted])


def deidentifying_filter() -> Filter:
    """Replaces personal data of an answer; names in the row's own columns are found anywhere."""

    def edit(row: Candidate) -> str:
        names = [row.cells[column] for column in row.cells if column.strip() in NAME_NAMES]
        return deidentify(row.answer, names=[name for name in names if name.strip()])

    about = "names, ids, dates, phone numbers"
    return Filter(DEIDENTIFY, about, edit_row=edit, private=True)
