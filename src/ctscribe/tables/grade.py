"""The column `grade` of a caption table: how far a nodule has come from a precursor to a cancer.

Four grades of lung adenocarcinoma and its precursors (WHO classification of 2021); an empty cell is
a study whose grade nobody knows. Optional: a table without the column has no grades at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from ctscribe.errors import DataError

Grade = Literal["AAH", "AIS", "MIA", "IAC"]
GRADES: tuple[Grade, ...] = get_args(Grade)
GRADE_COLUMN = "grade"
NAMES: dict[Grade, tuple[str, str]] = {  # in Chinese and English
    "AAH": ("不典型腺瘤样增生", "atypical adenomatous hyperplasia"),
    "AIS": ("原位腺癌", "adenocarcinoma in situ"),
    "MIA": ("微浸润性腺癌", "minimally invasive adenocarcinoma"),
    "IAC": ("浸润性腺癌", "invasive adenocarcinoma"),
}
_KNOWN: dict[str, Grade] = {
    spelled: grade for grade in GRADES for spelled in (grade, NAMES[grade][0])
}


def read_grade(text: str, *, case: str, file: Path | None = None) -> Grade | None:
    """The grade that a cell names, in capitals or not, or in Chinese; None for an empty cell.

    Raises DataError for anything else.
    """
    text = text.strip()
    if not text:
        return None
    if text.upper() in _KNOWN:
        return _KNOWN[text.upper()]
    raise DataError(
        f"{GRADE_COLUMN} is {text!r}, which is none of {', '.join(_KNOWN)}",
        case=case,
        file=file,
        fix=f"write one of these in {GRADE_COLUMN}, or leave the cell empty where it is not known",
    )
