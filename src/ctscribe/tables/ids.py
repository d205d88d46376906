"""Ids and dates as Excel leaves them: what can be repaired is, what cannot is a fault."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from ctscribe.tables.text import tidy
from ctscribe.tables.workbook import Fault

_DIGITS_KEPT = 15  # of a number, by Excel
_SCIENTIFIC = re.compile(r"(\d)(?:\.(\d+))?[eE]\+?(\d{1,2})")
_DATE = re.compile(
    r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})|(\d{4})(\d{2})(\d{2})(?!\d)"
)
_SERIALS = range(20_000, 80_000)  # days of Excel's, from 1954 to 2119
_EPOCH = datetime.date(1899, 12, 30)


@dataclass(frozen=True)
class Id:
    """An id as text; or what is wrong with it; or what was repaired.

    code: of `problems.KINDS`, of the fault. is_number: it stood there as a number, so zeros in
    front may be lost.
    """

    text: str = ""
    fault: str | None = None
    note: str | None = None
    code: str = "bad-id"
    is_number: bool = False


def cell_text(cell: Any) -> str:
    """A cell as tidy text, a date as 2024-05-01; nothing for an empty one or an error (#N/A)."""
    if cell is None or isinstance(cell, Fault):
        return ""
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        cell = cell.date()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 10**_DIGITS_KEPT:
        cell = int(cell)
    text = tidy(str(cell))
    return "" if re.fullmatch(r"#[A-Z/0]+[!?A]", text) else text


def read_id(cell: Any) -> Id:
    """An id from a cell of Excel or of a CSV that Excel wrote.

    "1.23E+15" has lost its digits and is a fault; "1.23456E+5" has all of them and is repaired.
    Excel keeps 15 digits of a number, so a longer one that ends in 0 cannot be trusted.
    """
    if isinstance(cell, Fault):
        return Id(fault=cell.reason, code=cell.code)
    if isinstance(cell, datetime.date | datetime.time | datetime.timedelta):
        return Id(fault=f"the id became a date ({cell_text(cell)})")
    if isinstance(cell, float) and not cell.is_integer():
        return Id(fault=f"the id is no whole number ({cell})")
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        text = str(int(cell))
        # Other programs may write 16 digits that are whole, below what a float can hold.
        if len(text) > _DIGITS_KEPT and (abs(cell) >= 2**53 or text.endswith("0")):
            return Id(
                fault=f"the id {text} is a number, of which Excel keeps {_DIGITS_KEPT} digits"
            )
        return Id(text, is_number=True)
    text = cell_text(cell).removeprefix("'").strip()
    if not text:
        return Id(fault="there is no id")
    note = None
    raw = str(cell)
    if text != raw.strip():
        note = f"{raw.strip()!r} read as {text}"
    if short := re.fullmatch(r"(\d+)\.0+", text):
        return Id(short[1], note=f"{text} read as {short[1]}", is_number=True)
    if match := _SCIENTIFIC.fullmatch(text):
        digits, power = match[1] + (match[2] or ""), int(match[3])
        if len(digits) - 1 < power:
            return Id(fault=f"the id {text} has lost digits in Excel")
        if len(digits) - 1 == power:
            return Id(digits, note=f"{text} read as {digits}", is_number=True)
    return Id(text, note=note)


def without_zeros(text: str) -> str:
    """The same for ids that differ by zeros in front only; an id with other characters as it is."""
    return text.lstrip("0") or "0" if text.isascii() and text.isdigit() else text


def read_date(cell: Any) -> str:
    """A date as 2024-05-01, from a date, a serial number of Excel's or text; else nothing.

    Dates of workbooks that count from 1904 come as dates already.
    """
    if isinstance(cell, datetime.date):
        return cell.strftime("%Y-%m-%d")
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        if int(cell) in _SERIALS:
            return (_EPOCH + datetime.timedelta(days=int(cell))).isoformat()
        cell = int(cell)
    match = _DATE.match(cell_text(cell))
    if match is None:
        return ""
    year, month, day = (int(n) for n in match.groups() if n is not None)
    try:
        return datetime.date(year, month, day).isoformat()
    except ValueError:
        return ""
