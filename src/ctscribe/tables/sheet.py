"""An Excel sheet of reports: finding its columns, reading ids that Excel mangled, report text."""

from __future__ import annotations

import datetime
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctscribe.errors import DataError
from ctscribe.tables.text import HEADING, tidy

# Names of columns, small letters and without spaces; earlier ones are preferred.
ID_NAMES = (
    "accession",
    "accessionnumber",
    "检查号",
    "检查编号",
    "影像号",
    "影像编号",
    "登记号",
    "放射编号",
    "case_id",
    "id",
)
PATIENT_NAMES = (
    "patient_id",
    "patientid",
    "患者id",
    "病人id",
    "患者编号",
    "病人编号",
    "病历号",
    "病案号",
    "住院号",
    "门诊号",
)
QUESTION_NAMES = ("question", "问题")
# Section in a report: its Chinese and English heading, and the columns that hold it.
_SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "所见",
        "Findings",
        ("所见", "影像所见", "检查所见", "ct所见", "影像表现", "检查表现", "影像描述", "findings"),
    ),
    (
        "结论",
        "Impression",
        (
            *("结论", "影像结论", "检查结论", "诊断", "影像诊断", "诊断意见", "诊断结论"),
            *("检查诊断", "印象", "impression", "conclusion"),
        ),
    ),
    ("建议", "Recommendation", ("建议", "处理建议", "recommendation", "recommendations")),
    (
        "病理倾向",
        "Pathology tendency",
        ("病理倾向", "病理考虑", "pathologytendency", "pathology_tendency"),
    ),
)
_WHOLE = ("报告", "报告内容", "报告全文", "检查报告", "report", "answer")
_REPORT_NAMES = tuple(name for *_, names in _SECTIONS for name in names) + _WHOLE
_HEADER_WITHIN = 10  # rows in which the line of names is looked for, below a title
_DIGITS_KEPT = 15  # of a number, by Excel
_SCIENTIFIC = re.compile(r"(\d)(?:\.(\d+))?[eE]\+?(\d{1,2})")


@dataclass(frozen=True)
class Sheet:
    """Rows below the line of names. Each row is its number in Excel and its cells by name."""

    path: Path
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, Any]], ...]

    def column(self, names: Iterable[str]) -> str | None:
        """The column that bears the first of these names that there is, or None."""
        return find_column(self.columns, names)


@dataclass(frozen=True)
class Id:
    """An id as text; or what is wrong with it; or what was repaired."""

    text: str = ""
    fault: str | None = None
    note: str | None = None


def find_column(columns: Sequence[str], names: Iterable[str]) -> str | None:
    """The first of `names` among `columns`, whatever the case and the spaces."""
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[_plain(name)] for name in names if _plain(name) in plain), None)


def read_sheet(path: Path, sheet_index: int) -> Sheet:
    """Read one sheet of a workbook (index from 0); values of formulas as Excel last computed them.

    The line of names is the first with a column of report text. Raises DataError: no such file, no
    .xlsx, no such sheet, no line of names, a name that stands there twice.
    """
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles that it does not know
            book = openpyxl.load_workbook(path, data_only=True)
    except FileNotFoundError as error:
        raise DataError("there is no such file", file=path, fix="check --excel") from error
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(
            "it is no .xlsx workbook (or has a password)", file=path, fix="save it as .xlsx"
        ) from error
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror})", file=path, fix="close it in Excel"
        ) from error
    sheets = book.worksheets
    if not 0 <= sheet_index < len(sheets):
        titles = ", ".join(f"{i} {sheet.title}" for i, sheet in enumerate(sheets))
        raise DataError(
            f"there is no sheet {sheet_index}, only {titles}", file=path, fix="give --sheet-index"
        )
    cells = [list(row) for row in sheets[sheet_index].iter_rows(values_only=True)]
    book.close()
    title = str(sheets[sheet_index].title)
    top, names = 0, []
    for top, row in enumerate(cells[:_HEADER_WITHIN]):  # noqa: B007
        names = [cell_text(cell).replace("\n", "") for cell in row]
        if find_column(names, _REPORT_NAMES) is not None:
            break
    else:
        first = next((row for row in cells if any(map(cell_text, row))), [])
        seen = ", ".join(text for cell in first if (text := cell_text(cell))) or "nothing"
        raise DataError(
            f"sheet {title} has no column of report text, only {seen}",
            file=path,
            fix="name the columns 所见, 结论, 建议, 病理倾向, or 报告; or give --sheet-index",
        )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"the column {twice} stands there twice", file=path, fix="rename one of them"
        )
    rows = tuple(
        (number, {name: cell for name, cell in zip(names, row, strict=True) if name})
        for number, row in enumerate(cells[top + 1 :], top + 2)
        if any(map(cell_text, row))
    )
    return Sheet(path, title, tuple(name for name in names if name), rows)


def cell_text(cell: Any) -> str:
    """A cell as tidy text; nothing for an empty cell or an error of Excel's (#N/A, #REF!)."""
    text = "" if cell is None else tidy(str(cell))
    return "" if re.fullmatch(r"#[A-Z/0]+[!?A]", text) else text


def read_id(cell: Any) -> Id:
    """An id from a cell of Excel or of a CSV that Excel wrote.

    "1.23E+15" has lost its digits and is a fault; "1.23456E+5" has all of them and is repaired.
    Excel keeps 15 digits of a number, so a longer one that ends in 0 cannot be trusted.
    """
    if isinstance(cell, datetime.date | datetime.time):
        return Id(fault=f"the id became a date ({cell})")
    if isinstance(cell, float) and not cell.is_integer():
        return Id(fault=f"the id is no whole number ({cell})")
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        text = str(int(cell))
        if len(text) > _DIGITS_KEPT and (int(cell) >= 2**53 or text.endswith("0")):
            return Id(
                fault=f"the id {text} is a number, of which Excel keeps {_DIGITS_KEPT} digits"
            )
        return Id(text)
    text = cell_text(cell).removeprefix("'").strip()
    if not text:
        return Id(fault="there is no id")
    if short := re.fullmatch(r"(\d+)\.0+", text):
        return Id(short[1], note=f"{text} read as {short[1]}")
    if match := _SCIENTIFIC.fullmatch(text):
        digits, power = match[1] + (match[2] or ""), int(match[3])
        if len(digits) - 1 < power:
            return Id(fault=f"the id {text} has lost digits in Excel")
        if len(digits) - 1 == power:
            return Id(digits, note=f"{text} read as {digits}")
    return Id(text)


def report_text(sheet: Sheet, row: Mapping[str, Any]) -> str:
    """The report of a row: its sections under their headings, or the column of whole reports."""
    parts = []
    for chinese, english, names in _SECTIONS:
        columns = [column for column in sheet.columns if _plain(column) in names]
        bodies: list[str] = []
        for column in columns:
            body = HEADING.sub("", cell_text(row[column]), count=1) if _headed(row[column]) else ""
            body = body or cell_text(row[column])
            if body and body not in bodies:  # 结论 and 诊断 often say the same
                bodies.append(body)
        if bodies:
            heading = f"{english}: " if columns[0].isascii() else f"{chinese}："
            parts.append(heading + "\n".join(bodies))
    if parts:
        return "\n".join(parts)
    whole = sheet.column(_WHOLE)
    return "" if whole is None else cell_text(row[whole])


def _headed(cell: Any) -> bool:
    return HEADING.match(cell_text(cell)) is not None


def _plain(name: str) -> str:
    return "".join(name.lower().split())
