"""An .xlsx workbook from anywhere: refused before it can do harm, and read as Excel shows it.

openpyxl reads values and formats as a stream. A pass over each sheet's XML finds what it does not
tell in a stream: merges, hidden rows and columns, formulas without a value, and where content ends
(one formatted cell in the last row makes a sheet claim a million rows).
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

from ctscribe.errors import DataError

MOST_XML_BYTES = 256 << 20  # of all parts of text, inflated; 100,000 long reports need a third
MOST_RATIO = 300  # inflated to packed, of a part beyond SMALL_BYTES; a real sheet has up to 30
SMALL_BYTES = 4 << 20
MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384  # Excel's own
MOST_TEXT = 32_767  # characters in a cell, Excel's own
MOST_FILLED = 2_000_000  # cells that take the value of a merge
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_DTD = tuple("<!DOCTYPE".encode(code) for code in ("ascii", "utf-16-le", "utf-16-be"))
_CHUNK = 1 << 20
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_ERROR = re.compile(
    r"#(?:N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!|SPILL!|CALC!|FIELD!|GETTING_DATA)"
)


@dataclass(frozen=True)
class Fault:
    """What stands in a cell whose value cannot be used. code: of `problems.KINDS`."""

    reason: str
    code: str


@dataclass(frozen=True)
class Grid:
    """A worksheet; rows and columns are counted from 1, as Excel does.

    rows: number and cells (from column 1) of each row with something of its own in it; cells below
    the top of a merge hold its value, numbers shown with leading zeros are text with them.
    spans: last column of the merge that begins in (row, column).
    merges: the ranges whose value was filled in, such as A2:A4.
    """

    title: str
    hidden: bool
    rows: tuple[tuple[int, tuple[Any, ...]], ...]
    hidden_rows: frozenset[int] = frozenset()
    hidden_columns: frozenset[int] = frozenset()
    spans: dict[tuple[int, int], int] = field(default_factory=dict)
    merges: tuple[str, ...] = ()


@dataclass
class _Layout:
    """What the XML of a sheet says beside its values."""

    rows: int = 0  # the last with content
    columns: int = 0
    hidden_rows: set[int] = field(default_factory=set)
    hidden_columns: set[int] = field(default_factory=set)
    no_value: set[tuple[int, int]] = field(default_factory=set)
    merges: list[tuple[int, int, int, int]] = field(default_factory=list)  # rows, then columns


def read_workbook(path: Path) -> list[Grid]:
    """All worksheets, in order.

    Raises DataError: no such file; not .xlsx (old .xls, .xlsb, .ods, CSV, HTML), password, damaged
    (unreadable); a zip bomb, by sizes and before anything is inflated (zip-bomb); a DTD, which no
    spreadsheet program writes (unreadable).
    """
    _refuse_what_is_no_xlsx(path)
    try:
        # openpyxl would leave a file open that it fails to read, and Windows keep it locked.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of styles and extensions that it drops
            archive = zipfile.ZipFile(file)
            _refuse_bombs(archive, path)
            return list(_grids(file, archive))
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror or error})",
            file=path,
            fix="close it in Excel",
            code="unreadable",
        ) from error
    except Exception as error:  # openpyxl raises whatever a damaged part makes it stumble over
        raise DataError(
            f"it is damaged ({type(error).__name__}: {str(error)[:120]})",
            file=path,
            fix="open it in Excel and save it as .xlsx",
            code="unreadable",
        ) from error


def cell_name(row: int, column: int) -> str:
    """A1 for (1, 1)."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{row}"


def _refuse_what_is_no_xlsx(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4096)
            rest = file.read(1 << 24) if start.startswith(_OLE) else b""
    except FileNotFoundError as error:
        raise DataError(
            "there is no such file", file=path, fix="check --excel", code="missing"
        ) from error
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror})",
            file=path,
            fix="close it in Excel; give the workbook, not its folder",
            code="unreadable",
        ) from error
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if start.startswith(_OLE):
        locked = "EncryptedPackage".encode("utf-16-le") in start + rest
        what, fix = (
            ("it has a password", "open it in Excel, take the password off, and save it")
            if locked
            else ("it is no .xlsx workbook but an old .xls", "open it in Excel, save it as .xlsx")
        )
    elif text.startswith((b"<html", b"<table", b"<!doctype", b"<?xml", b"<meta", b"mime-version")):
        what = "it is no .xlsx workbook but a web page or XML that some system calls Excel"
        fix = "open it in Excel, save it as .xlsx"
    elif not start.startswith(b"PK"):
        is_text = b"\0" not in start and start.strip() != b""
        what = "it is no .xlsx workbook" + (" but text, such as a CSV" if is_text else "")
        fix = "open it in Excel, save it as .xlsx"
    else:
        return
    raise DataError(what, file=path, fix=fix, code="unreadable")


def _refuse_bombs(archive: zipfile.ZipFile, path: Path) -> None:
    """Sizes are the archive's word, but zipfile inflates no part beyond its own."""
    parts = [p for p in archive.infolist() if p.filename.lower().endswith((".xml", ".rels"))]
    names = {p.filename for p in archive.infolist()}
    total = sum(part.file_size for part in parts)
    for part in parts:
        ratio = part.file_size / max(1, part.compress_size)
        if total > MOST_XML_BYTES or (part.file_size > SMALL_BYTES and ratio > MOST_RATIO):
            raise DataError(
                f"it unpacks to {total >> 20} MB, its part {part.filename} to {ratio:.0f} times "
                "its size",
                file=path,
                fix="copy the list alone into a new workbook, without formatting of empty rows",
                code="zip-bomb",
            )
    if any(part.flag_bits & 1 for part in parts):
        raise DataError(
            "it has a password", file=path, fix="save it without one", code="unreadable"
        )
    if "xl/workbook.xml" not in names and "[Content_Types].xml" not in names:
        kind = "binary .xlsb" if "xl/workbook.bin" in names else "zip archive of something else"
        raise DataError(
            f"it is no .xlsx workbook but a {kind}",
            file=path,
            fix="open it in Excel, save it as .xlsx",
            code="unreadable",
        )
    for part in parts:
        with archive.open(part) as file:
            before = b""
            while chunk := file.read(_CHUNK):
                if any(mark in before + chunk for mark in _DTD):
                    raise DataError(
                        f"its part {part.filename} declares a document type, which can name "
                        "other files",
                        file=path,
                        fix="do not trust it; ask for the list anew",
                        code="unreadable",
                    )
                before = chunk[-32:]


def _grids(workbook: BinaryIO, archive: zipfile.ZipFile) -> Iterator[Grid]:
    import openpyxl

    book = openpyxl.load_workbook(workbook, read_only=True, data_only=True)
    try:
        for sheet in book.worksheets:
            with archive.open(sheet._worksheet_path) as file:
                layout = _layout(file)
            if layout.rows > MOST_ROWS or layout.columns > MOST_COLUMNS:
                raise ValueError(f"sheet {sheet.title} goes on to row {layout.rows}")
            yield _grid(sheet, layout)
    finally:
        book.close()


def _layout(file: Any) -> _Layout:
    from openpyxl.utils.cell import coordinate_to_tuple, range_boundaries

    layout = _Layout()
    row = column = 0
    for event, element in ElementTree.iterparse(file, ("start", "end")):
        if element.tag.endswith("}worksheet") and element.tag != f"{_MAIN}worksheet":
            raise ValueError("its sheets are Strict Open XML, not the usual one")
        if event == "start":
            if element.tag == f"{_MAIN}row":
                row, column = int(element.get("r", row + 1)), 0
                if element.get("hidden") in ("1", "true"):
                    layout.hidden_rows.add(row)
        elif element.tag == f"{_MAIN}c":
            name = element.get("r")
            row, column = coordinate_to_tuple(name) if name else (row, column + 1)
            formula, value = element.find(f"{_MAIN}f"), element.find(f"{_MAIN}v")
            filled = bool(value is not None and value.text)
            # Text that a formula found to be empty is a value; `<v/>` alone is none.
            if formula is not None and not filled and element.get("t") != "str":
                layout.no_value.add((row, column))
            if filled or formula is not None or element.find(f"{_MAIN}is") is not None:
                layout.rows, layout.columns = max(layout.rows, row), max(layout.columns, column)
        elif element.tag == f"{_MAIN}row":
            element.clear()
        elif element.tag == f"{_MAIN}col" and element.get("hidden") in ("1", "true"):
            last = min(int(element.get("max", 0)), MOST_COLUMNS)
            layout.hidden_columns.update(range(int(element.get("min", 1)), last + 1))
        elif element.tag == f"{_MAIN}mergeCell":
            left, top, right, bottom = range_boundaries(element.get("ref", ""))
            layout.merges.append((top, bottom, left, right))
    return layout


def _grid(sheet: Any, layout: _Layout) -> Grid:
    from openpyxl.cell.read_only import EMPTY_CELL

    rows: dict[int, list[Any]] = {}
    if layout.rows:
        # Not by the sheet's own dimension: some exporters write one that cuts rows off.
        lines = sheet.iter_rows(max_row=layout.rows, max_col=layout.columns)
        for number, line in enumerate(lines, 1):
            if all(cell is EMPTY_CELL for cell in line):
                continue
            cells = [_value(c, number, n, layout.no_value) for n, c in enumerate(line, 1)]
            if any(cell is not None for cell in cells):
                rows[number] = cells
    spans, filled, count = {}, [], 0
    for top, bottom, left, right in layout.merges:
        if right > left:
            spans[top, left] = right
        source = rows.get(top)
        value = source[left - 1] if source is not None and left <= len(source) else None
        if value is None or bottom == top:
            continue
        below = [n for n in range(top + 1, min(bottom, layout.rows) + 1) if n in rows]
        count += bottom - top
        if count > MOST_FILLED:
            raise ValueError(f"sheet {sheet.title} merges more cells than a list has")
        for number in below:
            if rows[number][left - 1] is None:
                rows[number][left - 1] = value
        if below:
            filled.append(f"{cell_name(top, left)}:{cell_name(bottom, right)}")
    return Grid(
        str(sheet.title),
        sheet.sheet_state != "visible",
        tuple((number, tuple(cells)) for number, cells in sorted(rows.items())),
        frozenset(layout.hidden_rows),
        frozenset(layout.hidden_columns),
        spans,
        tuple(filled),
    )


def _value(cell: Any, row: int, column: int, no_value: set[tuple[int, int]]) -> Any:
    """What the cell means: its value, None for nothing, or a Fault."""
    if (row, column) in no_value:
        return Fault(
            f"cell {cell_name(row, column)} is a formula without a stored value: open the workbook "
            "in Excel and save it",
            "no-formula-value",
        )
    value = cell.value
    if isinstance(value, str):
        if not value.strip():
            return None
        if _ERROR.fullmatch(value.strip()):
            return Fault(
                f"cell {cell_name(row, column)} holds the error {value.strip()}: correct it "
                "in Excel",
                "no-formula-value",
            )
        if len(value) > MOST_TEXT:
            return Fault(
                f"cell {cell_name(row, column)} holds {len(value)} characters, more than Excel "
                "allows",
                "bad-table",
            )
    elif isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        shown = re.fullmatch(r"0{2,}", str(cell.number_format))
        if shown and float(value).is_integer() and value < 10**15:
            return str(int(value)).zfill(len(shown[0]))
    return value
