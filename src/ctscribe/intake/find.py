"""What a folder holds that can be checked: images, DICOM, archives, tables. Nothing is left unsaid.

Only names and the first bytes are looked at; whatever parses a file runs in a child process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ctscribe.errors import DataError
from ctscribe.files import is_link
from ctscribe.imaging.dicom_series import Series
from ctscribe.imaging.nifti import FORMATS
from ctscribe.problems import Problem

Kind = Literal["image", "dicom", "study", "zip", "table", "workbook"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ENDINGS: dict[str, Kind] = {
    **dict.fromkeys(FORMATS, "image"),
    ".zip": "zip",
    ".csv": "table",
    ".xlsx": "workbook",
}
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_HEAD_BYTES = 132  # preamble and DICM
# What systems, Office and ctscribe itself leave in folders.
_NO_DATA = (
    (r"\._.*", "macOS keeps notes of its own in it"),
    (r"\.ds_store|thumbs\.db|desktop\.ini", "the system keeps notes of its own in it"),
    (r"~\$.*", "Office holds another file open with it"),
    (r".*_(rejected|changes|quarantine|join_report)\.csv", "a list that ctscribe wrote"),
)


@dataclass(frozen=True)
class Case:
    """One thing to examine. name: its path below the folder, or its case_id. files: of DICOM.

    series, problems: of a study, and what its headers told.
    """

    name: str
    kind: Kind
    path: Path
    files: tuple[Path, ...] = ()
    series: tuple[Series, ...] = field(default=(), repr=False)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class NotLookedAt:
    """A file that is none of the kinds, and why it was left."""

    file: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What there is to examine, by name, and every other file."""

    cases: tuple[Case, ...]
    others: tuple[NotLookedAt, ...]


def find_cases(root: Path, *, leave: Path | None = None) -> Found:
    """Everything below `root`, or `root` itself if it is a file.

    DICOM is one case for each subfolder of `root`, however deep its files lie in it, because an
    archive gives each series a folder of its own; loose files in `root` are one more. leave: a
    folder of our own output. Links to folders are not followed.
    Raises DataError if there is no such path.
    """
    if not root.exists():
        raise DataError(
            "there is no such file or folder", file=root, code="missing", fix="correct the path"
        )
    if root.is_file():
        kind, reason = _kind(root.name, root)
        if kind is None:
            return Found((), (NotLookedAt(root.name, reason),))
        return Found((Case(root.name, kind, root, (root,) if kind == "dicom" else ()),), ())
    own = root.resolve().name
    return sort_files(
        [(f.relative_to(root).as_posix(), f, fault) for f, fault in _files(root, leave)], root, own
    )


def sort_files(files: Iterable[tuple[str, Path, str]], root: Path, own_name: str) -> Found:
    """Files by kind: each with its name below `root`, its path, and why it cannot be looked at.

    own_name: of the DICOM files that lie loose in `root`.
    """
    cases: list[Case] = []
    others: list[NotLookedAt] = []
    dicom: dict[str, list[Path]] = {}
    for name, file, fault in files:
        kind, reason = (None, fault) if fault else _kind(name, file)
        if kind is None:
            others.append(NotLookedAt(name, reason))
        elif kind == "dicom":
            first, _, rest = name.partition("/")
            dicom.setdefault(first if rest else "", []).append(file)
        else:
            cases.append(Case(name, kind, file))
    for first, found in dicom.items():
        cases.append(Case(first or own_name, "dicom", root / first, tuple(found)))
    return Found(
        tuple(sorted(cases, key=lambda c: (c.name, c.kind))),
        tuple(sorted(others, key=lambda o: o.file)),
    )


def _files(root: Path, leave: Path | None) -> list[tuple[Path, str]]:
    """Every file below `root`, and why it cannot be looked at ("" if it can)."""
    found: list[tuple[Path, str]] = []
    ours = None if leave is None else leave.resolve()

    def failed(error: OSError) -> None:
        found.append((Path(error.filename or root), f"cannot be entered ({error.strerror})"))

    for folder, names, files in os.walk(root, onerror=failed):
        here = Path(folder)
        for name in list(names):
            if is_link(here / name):
                names.remove(name)
                found.append((here / name, "a link to a folder; give the folder itself"))
            elif ours is not None and (here / name).resolve() == ours:
                names.remove(name)
        names.sort()
        found += [(here / name, "") for name in sorted(files)]
    return found


def _kind(name: str, file: Path) -> tuple[Kind | None, str]:
    """Which kind a file of this name is; or None, and why."""
    last = name.rpartition("/")[2].lower()
    for pattern, why in _NO_DATA:
        if re.fullmatch(pattern, last):
            return None, why
    if last == "problems.csv" and file.with_name("cases.csv").exists():
        return None, "a list that ctscribe wrote"
    if last.endswith(".json") and file.with_name(f"{file.stem}.nii.gz").exists():
        return None, "what import-dicom says of the image beside it"
    for ending, kind in ENDINGS.items():
        if last.endswith(ending):
            return kind, ""
    try:
        head = _head(file)
    except OSError as error:
        return None, f"cannot be opened ({error.strerror})"
    # Without preamble and ending, DICOM begins with an element of group 8.
    bare = "." not in last and len(head) == _HEAD_BYTES and head[:2] == b"\x08\x00"
    if last.endswith(DICOM_ENDINGS) or last == "dicomdir" or head[128:] == b"DICM" or bare:
        return "dicom", ""
    if last.endswith((".raw", ".zraw")) and file.with_suffix(".mhd").exists():
        return None, "the voxels of the .mhd beside it"
    return None, "neither an image, DICOM, .zip, .csv nor .xlsx"


def _head(file: Path) -> bytes:
    if not file.is_file():  # a pipe would wait for ever
        raise OSError(0, "no regular file")
    with file.open("rb") as opened:
        return opened.read(_HEAD_BYTES)
