"""Compiled kernels kept on disk: a cache that may cost time, never correctness.

One file a kernel, named by the hash of all it was made from. It holds a magic, the SHA-256 of key
and code, and the code: a damaged file is seen and made again. Any number of processes may share the
folder: a file is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from pathlib import Path

from ctscribe.files import default_cache_dir, write_atomically

ENV = "CTSCRIBE_KERNEL_CACHE"
LIMIT_BYTES = 64 << 20
_CRASHED_S = 3600.0  # an unfinished file this old has no process left that writes it

_MAGIC = b"ctscribe kernel 1\n"
_OURS = re.compile(r"(\.\d+\.)?[0-9a-f]{64}\.bin")  # unfinished ones too
_BROKEN = (OSError, RuntimeError)  # RuntimeError: there is no home folder
_log = logging.getLogger(__name__)
_complained = False


def folder() -> Path:
    """Where compiled kernels are kept: $CTSCRIBE_KERNEL_CACHE, else in the user's cache folder."""
    named = os.environ.get(ENV, "").strip()
    return Path(named) if named else default_cache_dir() / "kernels"


def read(key: str) -> bytes | None:
    """The code kept under a key; None if there is none, or it is not what was written."""
    start = len(_MAGIC) + hashlib.sha256().digest_size
    try:
        path = _path(key)
        data = path.read_bytes()
    except _BROKEN:  # absent, mostly; anything else shows at writing
        return None
    code = data[start:]
    if data[:start] != _MAGIC + _digest(key, code):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # so that the least recently used go first
    return code


def write(key: str, code: bytes) -> None:
    """Keep code under a key and drop the oldest above LIMIT_BYTES; if it fails, says so once."""
    global _complained
    try:
        path = _path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _MAGIC + _digest(key, code) + code
        write_atomically(path, data)
        _evict(path, len(data))
    except _BROKEN as error:
        # On Windows a file that another process reads cannot be replaced: then it is there.
        if not _complained and read(key) != code:
            _complained = True
            _log.warning(
                "compiled kernels cannot be kept (%s): each start compiles them again; "
                "%s names another folder",
                error,
                ENV,
            )


def _path(key: str) -> Path:
    return folder() / f"{key}.bin"


def _digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _evict(newest: Path, size: int) -> None:
    """Remove what was used longest ago until LIMIT_BYTES hold the rest; `newest` stays."""
    files = []
    for path in newest.parent.iterdir():
        if _OURS.fullmatch(path.name) and path != newest:
            try:
                about = path.stat()
            except OSError:  # another process removed it
                continue
            if path.name.startswith(".") and time.time() - about.st_mtime < _CRASHED_S:
                continue  # another process writes it
            files.append((about.st_mtime_ns, about.st_size, path))
    total = size + sum(size for _, size, _ in files)
    for _, freed, path in sorted(files):
        if total <= LIMIT_BYTES:
            return
        try:
            path.unlink(missing_ok=True)
        except OSError:  # open elsewhere, on Windows: another one then
            continue
        total -= freed
