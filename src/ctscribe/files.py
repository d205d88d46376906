"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONG_PREFIX = "\\\\?\\"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path`, of the same ending, to write to; once on disk, it becomes `path`.

    If anything fails, `path` is as it was and nothing else is left.
    """
    # Threads and machines may share a folder, so a process id would not do.
    part = path.with_name(f".{secrets.randbits(64)}.{path.name}")
    try:
        yield part
        with part.open("rb+") as handle:
            os.fsync(handle.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content; a crash leaves the old one."""
    with replacing(path) as part:
        part.write_bytes(data)


def is_link(folder: Path) -> bool:
    """A link or (on Windows) a junction, which `os.walk` does not follow."""
    return folder.is_symlink() or (sys.version_info >= (3, 12) and folder.is_junction())


def default_cache_dir() -> Path:
    """The user's own cache folder for ctscribe, by the platform's custom."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "ctscribe"


def long_path(path: Path) -> Path:
    """The same path in the form that Windows opens however long it is; elsewhere the path itself.

    Windows refuses more than 260 characters in any other form, unless its registry allows them.
    """
    if sys.platform != "win32" or str(path).startswith(LONG_PREFIX):
        return path
    whole = str(path.resolve())
    if whole.startswith(r"\\"):  # a share: its two backslashes become UNC
        return Path(rf"{LONG_PREFIX}UNC\{whole[2:]}")
    return Path(LONG_PREFIX + whole)
