"""CSV files in and out: whatever encoding a hospital's Excel wrote, and utf-8-sig back."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.errors import DataError
from ctscribe.files import replacing
from ctscribe.sandbox import Limits

if TYPE_CHECKING:
    import pandas as pd

ENCODINGS = ("utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16")
MOST_COLUMNS = 10_000
LIMITS = Limits(seconds=600)  # of a table nobody has looked at; 100,000 reports take seconds
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST_CELL = 2**31 - 1  # the csv module's own limit is 128 KiB
_CHINESE_UTF8 = re.compile(rb"(?:[\xe2-\xe9\xef][\x80-\xbf]{2}){2}")
_SAVE = "save it from Excel as 'CSV UTF-8 (comma delimited)'"
_limit = threading.Lock()  # it is one number for the whole process

_log = logging.getLogger(__name__)


def read_table(path: str | Path, *, required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV of any of `ENCODINGS`; every cell is text, an empty one is "".

    utf-16 needs its mark, and may be divided by tabs: that is Excel's "Unicode text". The frame's
    `attrs["encoding"]` says which encoding it had (also logged); its index is 0, 1, … Raises
    DataError: no such file, empty, no CSV, another encoding or several (`encoding-mixed`), a
    column missing or twice.
    """
    import pandas as pd

    path = Path(path)
    text, encoding = _decode(_read_bytes(path), path)
    if not text.strip():
        raise DataError(
            "the table is empty",
            file=path,
            fix="give a CSV with a line of names",
            code="bad-table",
        )
    rows = _cells(text, path, tabs=encoding == "utf-16")
    names = [name.strip() for name in rows[0]]
    require_columns(names, required, path)
    frame = pd.DataFrame(rows[1:], columns=pd.Index(names), dtype=str)
    if names.count("") > 1:  # Excel writes empty columns beside the table
        frame = _without_empty_columns(frame, path)
    frame.attrs["encoding"] = encoding
    _log.info("%s: %d rows, read as %s", path, len(frame), encoding)
    return frame


def _without_empty_columns(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The columns that have a name or, one of them, anything in it."""
    kept = [n for n, name in enumerate(frame.columns) if name or (frame.iloc[:, n] != "").any()]
    nameless = [str(n + 1) for n in kept if not frame.columns[n]]
    if len(nameless) > 1:
        raise DataError(
            f"columns {', '.join(nameless[:5])} have no name",
            file=path,
            fix="name them in the first line, or remove them",
            code="bad-table",
        )
    return frame.iloc[:, kept]


def _cells(text: str, path: Path, *, tabs: bool) -> list[list[str]]:
    """Header and rows, each as long as the header; blank lines are left out."""
    first = text.lstrip("\r\n").splitlines()[0]
    divider = "\t" if tabs and "\t" in first else ","
    if first.count(divider) >= MOST_COLUMNS:
        raise DataError(
            f"its first line has more than {MOST_COLUMNS} columns",
            file=path,
            fix="save it as comma-separated CSV with one line of names",
            code="too-large",
        )
    rows: list[list[str]] = []
    line = 1  # where the row begins, which is where a quote is left open
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=divider, strict=True)
    with _limit:
        before = csv.field_size_limit(_LONGEST_CELL)
        try:
            for cells in lines:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    width = len(rows[0]) if rows else len(cells)
                    if len(cells) > width:
                        raise csv.Error(f"{len(cells)} cells under {width} names")
                    rows.append(cells + [""] * (width - len(cells)))
                if len(rows) == 1:
                    _require_commas(rows[0], path)
                line = lines.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"it is no sound CSV (line {line}: {error})",
                file=path,
                fix="quote cells that hold commas, and double the quotes inside a cell",
                code="bad-table",
            ) from error
        finally:
            csv.field_size_limit(before)
    if not rows:
        raise DataError("it has no line of names", file=path, fix="give it one", code="bad-table")
    return rows


def _require_commas(header: Sequence[str], path: Path) -> None:
    if len(header) == 1 and (found := re.search("[\t;，]", header[0])):
        name = {"\t": "tabs", ";": "semicolons", "，": "full-width commas"}[found[0]]
        raise DataError(
            f"its columns are divided by {name}",
            file=path,
            fix="save it as comma-separated CSV",
            code="bad-table",
        )


def require_columns(names: Sequence[str], required: Sequence[str], path: Path) -> None:
    """Raise DataError if a required column is missing (naming the nearest) or stands twice."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(
            f"the column {twice[0]} stands there twice",
            file=path,
            fix="rename one of them",
            code="bad-table",
        )
    for column in required:
        if column not in names:
            free = [name for name in names if name and name not in required]
            near = difflib.get_close_matches(column, free, 1, 0.5)
            has = ", ".join(name for name in names if name)
            raise DataError(
                f"there is no column {column}, only {has}",
                file=path,
                fix=f"rename {near[0]} to {column}" if near else f"add the column {column}",
                code="bad-table",
            )


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a CSV as utf-8-sig, which Excel opens rightly; whole or not at all.

    Raises DataError if the file cannot be written (open in Excel, no folder rights).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            # Half a character has no bytes in any encoding: its number is written instead.
            frame.to_csv(
                part,
                index=False,
                encoding="utf-8-sig",
                lineterminator="\r\n",
                errors="backslashreplace",
            )
    except OSError as error:
        raise DataError(
            f"it cannot be written ({error.strerror})",
            file=path,
            fix="close it in other programs, or choose another folder",
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            "there is no such file", file=path, fix="check the path", code="missing"
        ) from error
    except IsADirectoryError as error:
        raise DataError(
            "it is a folder", file=path, fix="give the CSV in it", code="unreadable"
        ) from error
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror})",
            file=path,
            fix="close it in other programs",
            code="unreadable",
        ) from error


def _decode(data: bytes, path: Path) -> tuple[str, str]:
    """The text and its encoding: the first of `ENCODINGS` in which every byte makes sense."""
    if data.startswith(b"PK\x03\x04"):
        raise DataError(
            "it is an Excel workbook, not a CSV",
            file=path,
            fix="run ctscribe excel on it first",
            code="bad-table",
        )
    if data.startswith(_UTF16):
        encodings: tuple[str, ...] = ("utf-16",)
    elif data.startswith(codecs.BOM_UTF8):  # utf-8 would keep it in the first column's name
        encodings = ("utf-8-sig",)
    else:
        encodings = ENCODINGS[:-1]
    if b"\0" not in data or encodings == ("utf-16",):
        for encoding in encodings:
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                if encoding.startswith("gb"):
                    _refuse_mixture(data, path)
                return text, encoding
        if encodings != ("utf-16",):
            _refuse_mixture(data, path)
    no_text = ", and it holds zero bytes as no text does" if b"\0" in data else ""
    raise DataError(
        f"its encoding is none of {', '.join(ENCODINGS)}{no_text}",
        file=path,
        fix=_SAVE,
        code="unreadable",
    )


def _refuse_mixture(data: bytes, path: Path) -> None:
    """Raise DataError if some lines are utf-8 and others are not, naming the first of the fewer.

    Only lines with Chinese characters or stops count as utf-8: pasted together from two exports,
    such a file can be read as gbk from end to end, as nonsense.
    """
    kinds: dict[str, list[int]] = {}
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not line.isascii():
            kinds.setdefault(_kind(line), []).append(number)
    if len(kinds) < 2:
        return
    main, *others = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kinds[kind]))
    first, kind = min((kinds[other][0], other) for other in others)
    raise DataError(
        f"it mixes encodings: line {first} is {kind}, line {kinds[main][0]} is {main}",
        file=path,
        fix=_SAVE,
        code="encoding-mixed",
    )


def _kind(line: bytes) -> str:
    for encoding in ("utf-8", "gb18030"):
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Two gbk characters can look like a letter of another script in utf-8.
        if encoding != "utf-8" or _CHINESE_UTF8.search(line):
            return "gbk or gb18030" if encoding == "gb18030" else encoding
    return "neither utf-8 nor gbk"
