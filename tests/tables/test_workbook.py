"""Workbooks from anywhere: what is refused, before harm and with its fix, and what cells mean."""

import datetime
import random
import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.styles import Font
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from ctscribe.errors import DataError
from ctscribe.tables.ids import read_date, read_id
from ctscribe.tables.sheet import read_book
from ctscribe.tables.workbook import Fault, Grid, cell_name, read_workbook


def saved(folder: Path, *rows: Any, change: Callable[[Any], None] | None = None) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if change:
        change(book.active)
    file = folder / "表.xlsx"
    book.save(file)
    return file


def with_part(file: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The workbook with its parts changed; None leaves one out."""
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            if (data_new := change(name, data)) is not None:
                new.writestr(name, data_new)
    return file


def in_sheet(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if name != "xl/worksheets/sheet1.xml":
            return data
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return change


def only(file: Path) -> Grid:
    (grid,) = read_workbook(file)
    return grid


OLE = bytes.fromhex("d0cf11e0a1b11ae1")


@pytest.mark.parametrize(
    ("data", "says", "code"),
    [
        (OLE + bytes(3000), r"old \.xls", "unreadable"),
        (OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le"), "a password", "unreadable"),
        ("检查号,所见\n1,好\n".encode("gbk"), "text, such as a CSV", "unreadable"),
        (b"<html><table><tr><td>1</td></tr></table></html>", "web page", "unreadable"),
        (b'<?xml version="1.0"?><Workbook/>', "web page or XML", "unreadable"),
        (b"", r"no \.xlsx", "unreadable"),
        (b"PK\x03\x04" + bytes(100), "damaged", "unreadable"),
    ],
)
def test_what_is_no_xlsx_is_refused_with_its_fix(
    data: bytes, says: str, code: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.xlsx"
    file.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        read_workbook(file)
    assert caught.value.code == code
    assert "save" in caught.value.fix
    assert file.read_bytes() == data


def test_missing_folder_binary_and_other_archives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file") as caught:
        read_workbook(tmp_path / "none.xlsx")
    assert caught.value.code == "missing"
    with pytest.raises(DataError, match="cannot be read"):
        read_workbook(tmp_path)
    for name, says in (("xl/workbook.bin", "binary .xlsb"), ("content.xml", "something else")):
        with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
            archive.writestr(name, "x")
        with pytest.raises(DataError, match=re.escape(says)):
            read_workbook(tmp_path / "b.xlsx")


def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    file = saved(tmp_path, ["检查号", "所见"])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings2.xml", bytes(80 << 20))
    assert file.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="times its size") as caught:
            read_workbook(file)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "zip-bomb"


def test_a_part_that_lies_about_its_size_is_damaged_not_inflated(tmp_path: Path) -> None:
    file = saved(tmp_path, ["检查号", "所见"], *([i, "x" * 50] for i in range(2000)))
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("xl/worksheets/sheet1.xml").file_size
    for at in [m.start() for m in re.finditer(re.escape(size.to_bytes(4, "little")), bytes(data))]:
        data[at : at + 4] = (1000).to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        read_workbook(file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused(encoding: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    file = saved(tmp_path, ["检查号", "所见"], ["A1", "好"])

    def change(name: str, data: bytes) -> bytes:
        if name != "xl/worksheets/sheet1.xml":
            return data
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        dtd = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
        text = data.decode().replace("好", "&e;").replace("&#22909;", "&e;")
        return (head + dtd + text).encode(encoding)

    with pytest.raises(DataError, match="document type"):
        read_workbook(with_part(file, change))


def test_a_million_empty_rows_take_neither_time_nor_memory(tmp_path: Path) -> None:
    def change(sheet: Any) -> None:
        sheet.cell(1_048_576, 16_384).font = Font(bold=True)
        sheet["A1000000"] = " "

    file = saved(tmp_path, ["检查号", "所见"], ["A1", "好"], change=change)
    start = time.process_time()
    tracemalloc.start()
    try:
        grid = only(file)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 20
    assert grid.rows == ((1, ("检查号", "所见")), (2, ("A1", "好")))


@pytest.mark.parametrize("row", ["99999999999", "-1", "x"])
def test_impossible_row_numbers(row: str, tmp_path: Path) -> None:
    file = saved(tmp_path, ["检查号", "所见"], ["A1", "好"])
    with_part(file, in_sheet('<row r="2"><c r="A2"', f'<row r="{row}"><c r="A{row}"'))
    with pytest.raises(DataError, match="damaged"):
        read_workbook(file)


def test_a_dimension_that_is_too_small_cuts_nothing_off(tmp_path: Path) -> None:
    file = saved(tmp_path, ["检查号", "所见"], ["A1", "好"])
    with_part(file, in_sheet('<dimension ref="A1:B2"/>', '<dimension ref="A1"/>'))
    assert only(file).rows == ((1, ("检查号", "所见")), (2, ("A1", "好")))


def test_formulas_and_errors_are_faults_with_their_cell(tmp_path: Path) -> None:
    file = saved(tmp_path, ["=1+1", "#N/A", "=A1", "#REF!", "LONG"])
    # Excel itself writes what a formula found: a number, or a text that is empty.
    with_part(file, in_sheet("<f>1+1</f><v></v>", "<f>1+1</f><v>2</v>"))
    with_part(file, in_sheet('<c r="C1"><f>A1</f><v></v>', '<c r="C1" t="str"><f>A1</f><v></v>'))
    with_part(file, in_sheet("LONG", "x" * 40_000))
    ((_, cells),) = only(file).rows
    assert cells[0] == 2
    assert cells[2] is None
    for cell, name in ((cells[1], "B1"), (cells[3], "D1"), (cells[4], "E1")):
        assert isinstance(cell, Fault)
        assert f"cell {name} " in cell.reason
    assert [c.code for c in cells if isinstance(c, Fault)] == [
        *("no-formula-value", "no-formula-value", "bad-table"),
    ]
    file = saved(tmp_path, ["=1+1"])
    ((_, (cell,)),) = only(file).rows
    assert cell.code == "no-formula-value"
    assert "cell A1 is a formula without a stored value: open the workbook in Excel" in cell.reason


def test_merges_hidden_rows_and_columns(tmp_path: Path) -> None:
    def change(sheet: Any) -> None:
        sheet.merge_cells("A2:A4")
        sheet.merge_cells("B1:C1")
        sheet.merge_cells("A6:B6")
        sheet.row_dimensions[3].hidden = True
        sheet.column_dimensions["D"].hidden = True

    rows = (["id", "t", None, "u"], ["A1", 1], [None, 2], [None, None], ["A5", 3], ["end"])
    grid = only(saved(tmp_path, *rows, change=change))
    assert [(n, row[:2]) for n, row in grid.rows] == [
        (1, ("id", "t")),
        (2, ("A1", 1)),
        (3, ("A1", 2)),
        (5, ("A5", 3)),
        (6, ("end", None)),
    ]
    assert grid.merges == ("A2:A4",)
    assert grid.spans == {(1, 2): 3, (6, 1): 2}
    assert (grid.hidden_rows, grid.hidden_columns) == ({3}, {4})


def test_numbers_shown_with_zeros_keep_them(tmp_path: Path) -> None:
    def change(sheet: Any) -> None:
        sheet["A1"].number_format = "00000000"
        sheet["B1"].number_format = "0.00"
        sheet["C1"].number_format = "0000"

    ((_, cells),) = only(saved(tmp_path, [1234, 1234, 1.5], change=change)).rows
    assert cells == ("00001234", 1234, 1.5)


def test_dates_of_both_epochs_serials_and_text(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 1, 3)
    for epoch in (None, CALENDAR_MAC_1904):
        book = openpyxl.Workbook()
        if epoch:
            book.epoch = epoch
        book.active.append([when])
        book.save(tmp_path / "e.xlsx")
        ((_, (cell,)),) = only(tmp_path / "e.xlsx").rows
        assert read_date(cell) == "2024-01-03"
        assert read_id(cell).fault == "the id became a date (2024-01-03)"
    for cell in (45294, 45294.5, 20240103, "20240103", "2024年1月3日", "2024/1/3 10:11"):
        assert read_date(cell) == "2024-01-03"
    for cell in (None, "", "2024-13-01", 12, "A20240103", 1.5, True):
        assert read_date(cell) == ""


def test_strict_open_xml_is_not_taken_for_an_empty_workbook(tmp_path: Path) -> None:
    file = saved(tmp_path, ["检查号", "所见"], ["A1", "好"])
    main = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    with_part(file, lambda _, data: data.replace(main, b"http://purl.oclc.org/ooxml/main"))
    with pytest.raises(DataError, match="Strict Open XML") as caught:
        read_book(file)
    assert caught.value.code == "unreadable"


def test_cell_names() -> None:
    assert [cell_name(3, n) for n in (1, 26, 27, 703, 16_384)] == [
        *("A3", "Z3", "AA3", "AAA3", "XFD3"),
    ]


def test_damaged_bytes_raise_nothing_but_typed_errors(tmp_path: Path) -> None:
    file = saved(tmp_path, ["检查号", "所见"], ["A1", "好"], ["=1", 5])
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    rng = random.Random(0)
    refused = []
    for turn in range(120):
        if turn % 2:  # of the archive
            data = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            file.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        else:  # of a part, packed soundly again
            name = rng.choice(list(parts))
            data = bytearray(parts[name])
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(32, 127)
            with zipfile.ZipFile(file, "w") as archive:
                for other, old in parts.items():
                    archive.writestr(other, bytes(data) if other == name else old)
        try:
            read_workbook(file)
        except DataError as error:
            refused.append(error)
    assert len(refused) > 40
    assert {error.code for error in refused} <= {"unreadable", "zip-bomb"}
    assert not any("\n" in str(error) for error in refused)
