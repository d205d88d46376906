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
from pathlib import Path

from ctscribe.files import default_cache_dir, write_atomically

ENV = "CTSCRIBE_KERNEL_CACHE"
LIMIT_BYTES = 64 << 20

_MAGIC = b"ctscribe kernel 1\n"
_OURS = re.compile(r"(\.\d+\.)?[0-9a-f]{64}\.bin")  # with the unfinished files of crashed processes
_log = logging.getLogger(__name__)
_complained = False


def folder() -> Path:
    """Where compiled kernels are kept: $CTSCRIBE_KERNEL_CACHE, else in the user's cache folder."""
    named = os.environ.get(ENV, "").strip()
    return Path(named) if named else default_cache_dir() / "kernels"


def read(key: str) -> bytes | None:
    """The code kept under a key; None if there is none, or it is not what was written."""
    path = _path(key)
    try:
        data = path.read_bytes()
    except OSError:  # absent, mostly; what else it may be shows at writing
        return None
    start = len(_MAGIC) + hashlib.sha256().digest_size
    code = data[start:]
    if data[:start] != _MAGIC + _digest(key, code):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # so that the least recently used go first
    return code


def write(key: str, code: bytes) -> None:
    """Keep code under a key and drop the oldest above LIMIT_BYTES; if it fails, says so once."""
    global _complained
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _MAGIC + _digest(key, code) + code)
        _evict(path)
    except OSError as error:
        if not _complained:
            _complained = True
            _log.warning(
                "compiled kernels cannot be kept in %s (%s): each start compiles them again; "
                "%s names another folder",
                path.parent,
                error.strerror or error,
                ENV,
            )


def _path(key: str) -> Path:
    return folder() / f"{key}.bin"


def _digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _evict(newest: Path) -> None:
    """Remove what was used longest ago until LIMIT_BYTES hold the rest; `newest` stays."""
    files = []
    for path in newest.parent.iterdir():
        if _OURS.fullmatch(path.name) and path != newest:
            try:
                about = path.stat()
            except OSError:  # another process removed it
                continue
            files.append((about.st_mtime_ns, about.st_size, path))
    total = newest.stat().st_size + sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= LIMIT_BYTES:
            return
        try:
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError:  # open elsewhere, on Windows: another one then
            continue
        total -= size
