"""CSV files in and out: whatever encoding a hospital's Excel wrote, and utf-8-sig back."""

from __future__ import annotations

import csv
import difflib
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.errors import DataError
from ctscribe.files import replacing

if TYPE_CHECKING:
    import pandas as pd

ENCODINGS = ("utf-8", "utf-8-sig", "gbk", "gb18030")

_log = logging.getLogger(__name__)


def read_table(path: str | Path, *, required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV of any of `ENCODINGS`; every cell is text, an empty one is "".

    The frame's `attrs["encoding"]` says which encoding it had (also logged); its index is 0, 1, …
    Raises DataError: no such file, empty, no CSV, another encoding, a column missing or twice.
    """
    import pandas as pd

    path = Path(path)
    text, encoding = _decode(_read_bytes(path), path)
    if not text.strip():
        raise DataError("the table is empty", file=path, fix="give a CSV with a line of names")
    header = next(csv.reader(io.StringIO(text)), [])
    if len(header) == 1 and (found := re.search("[\t;，]", header[0])):
        name = {"\t": "tabs", ";": "semicolons", "，": "full-width commas"}[found[0]]
        raise DataError(
            f"its columns are divided by {name}", file=path, fix="save it as comma-separated CSV"
        )
    try:
        frame = pd.read_csv(
            io.StringIO(text), dtype=str, keep_default_na=False, skip_blank_lines=True, header=None
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "")
        raise DataError(
            f"it is no sound CSV ({reason})", file=path, fix="quote cells that hold commas"
        ) from error
    frame = frame.fillna("")  # rows that are shorter than the header
    names = [str(name).strip() for name in frame.iloc[0]]
    frame = frame.iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index(names)
    require_columns(names, required, path)
    frame.attrs["encoding"] = encoding
    _log.info("%s: %d rows, read as %s", path, len(frame), encoding)
    return frame


def require_columns(names: Sequence[str], required: Sequence[str], path: Path) -> None:
    """Raise DataError if a required column is missing (naming the nearest) or stands twice."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(
            f"the column {twice[0]} stands there twice", file=path, fix="rename one of them"
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
            )


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a CSV as utf-8-sig, which Excel opens rightly; whole or not at all.

    Raises DataError if the file cannot be written (open in Excel, no folder rights).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            frame.to_csv(part, index=False, encoding="utf-8-sig", lineterminator="\r\n")
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
        raise DataError("there is no such file", file=path, fix="check the path") from error
    except IsADirectoryError as error:
        raise DataError("it is a folder", file=path, fix="give the CSV in it") from error
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror})", file=path, fix="close it in other programs"
        ) from error


def _decode(data: bytes, path: Path) -> tuple[str, str]:
    """The text and its encoding: the first of `ENCODINGS` in which every byte makes sense."""
    if data.startswith(b"PK\x03\x04"):
        raise DataError(
            "it is an Excel workbook, not a CSV", file=path, fix="run ctscribe excel on it first"
        )
    if data.startswith(b"\xef\xbb\xbf"):  # utf-8 would keep the mark in the first column's name
        encodings: tuple[str, ...] = ("utf-8-sig",)
    else:
        encodings = ENCODINGS
    if b"\0" not in data:  # UTF-16 is full of them, and so is what is no text at all
        for encoding in encodings:
            try:
                return data.decode(encoding), encoding
            except UnicodeDecodeError:
                continue
    raise DataError(
        f"its encoding is none of {', '.join(ENCODINGS)}",
        file=path,
        fix="save it from Excel as 'CSV UTF-8 (comma delimited)'",
    )
