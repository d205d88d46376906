"""What was made of an image file, kept on disk: a cache that may cost time, never correctness.

An entry is named by the hash of the image's bytes, of the settings and of the code that made it, so
it can be missing but not stale. It is there whole or not at all, under a SHA-256 of its own: any
number of threads and processes may share the folder, and a damaged entry is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
from torch import Tensor

from ctscribe.errors import ImageError
from ctscribe.files import write_atomically

# A file changed so shortly before it was hashed may change again without its times showing it.
RACY_NS = 5_000_000_000
SAMPLES, SAMPLE_BYTES = 8, 4096  # of a file, head and tail among them: a .gz ends with its CRC-32
IMAGE_SHARE = 0.25  # of its file that a kept image may take: others are made as fast as read
CRASHED_S = 3600.0  # an unfinished file this old has no process left that writes it

_MAGIC = b"ctscribe entry 1\n"
_SUM_BYTES = hashlib.sha256().digest_size
_ELSEWHERE = re.compile(rb"^(?:ElementDataFile|data ?file)\s*[=:]\s*(.+?)\s*$", re.M | re.I)
_log = logging.getLogger(__name__)
_complained: set[Path] = set()


@lru_cache
def code_digest(*files: str) -> str:
    """SHA-256 of the code that prepares images: this folder, `files`, and the libraries' versions.

    Part of every `what` below, so that nothing made by other code is ever read.
    """
    paths = [*sorted(Path(__file__).parent.glob("*.py")), *map(Path, files)]
    made_by = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    made_by += [version(name) for name in ("SimpleITK", "isal", "numpy", "scipy", "torch")]
    return hashlib.sha256(" ".join(made_by).encode()).hexdigest()


class Cache:
    """A folder of entries; made when the first is written, and never in the way if it cannot be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with contextlib.suppress(OSError):  # what crashed processes left
            for path in folder.glob(".*.kept"):
                if time.time() - path.stat().st_mtime > CRASHED_S:
                    path.unlink(missing_ok=True)

    def entry(self, path: Path, *, case: str | None = None) -> Entry:
        """What is kept of an image file as it is now.

        Raises ImageError if it cannot be read.
        """
        try:
            return Entry(self, path, *self.content(path))
        except OSError as error:
            raise ImageError(
                f"the image cannot be read ({error.strerror})",
                case=case,
                file=path,
                fix="correct image_path in the table, or restore the file",
            ) from error

    def content(self, path: Path) -> tuple[str | None, int]:
        """A key of all bytes that make an image, and how many; None where that cannot be told."""
        files = _files(path)
        key = None if files is None else " ".join(map(self._sha256, files))
        return key, sum(file.stat().st_size for file in files or ())

    def read(self, name: str) -> bytes | None:
        """What is kept under a name; None if there is nothing, or not what was written."""
        try:
            with self._path(name).open("rb", buffering=0) as file:
                head = file.read(len(_MAGIC) + _SUM_BYTES)
                kept = file.readall()
        except OSError:  # absent, mostly; anything else shows at writing
            return None
        return kept if head == _MAGIC + _sum(name, kept) else None

    def write(self, name: str, data: bytes) -> None:
        """Keep data under a name; if that fails, say so once."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(name), _MAGIC + _sum(name, data) + data)
        except OSError as error:
            # On Windows a file that another process reads cannot be replaced: then it is there.
            if self.folder not in _complained and self.read(name) is None:
                _complained.add(self.folder)
                _log.warning(
                    "%s: prepared images cannot be kept (%s); each run prepares them again",
                    self.folder,
                    error.strerror or error,
                )

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.kept"

    def _sha256(self, path: Path) -> str:
        """SHA-256 of a file, from memory if nothing about the file has changed.

        It is remembered under the path, and believed only while size, times, inode and samples of
        the content are the same; a file that changed just now is hashed each time.
        """
        name = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()
        with path.open("rb") as file:
            now = time.time_ns()
            about = os.fstat(file.fileno())
            looks = _looks(file, about)
            remembered = (self.read(name) or b"").decode().split()
            if remembered[:-1] == [looks]:
                return remembered[-1]
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            settled = max(about.st_mtime_ns, about.st_ctime_ns) < now - RACY_NS
            if settled and _looks(file, os.fstat(file.fileno())) == looks:
                self.write(name, f"{looks} {sha256}".encode())
        return sha256


@dataclass(frozen=True)
class Entry:
    """What is kept of one image file.

    content: key of its bytes when first looked at, None to keep nothing; bytes: how many there are.
    `what` below names settings and code (see `code_digest`).
    """

    cache: Cache
    path: Path
    content: str | None
    bytes: int

    def read(self, what: str) -> dict[str, Tensor] | None:
        """Tensors that were kept, None if there are none."""
        data = None if self.content is None else self.cache.read(self._name(what))
        return None if data is None else safetensors.torch.load(data)

    def write(self, what: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors, unless the file was changed or removed while they were made."""
        try:
            now = self.cache.content(self.path)
        except OSError:
            return
        if self.content is not None and now == (self.content, self.bytes):
            plain = {key: tensor.contiguous() for key, tensor in tensors.items()}
            self.cache.write(self._name(what), safetensors.torch.save(plain))

    def tensors(self, what: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """A prepared image and what belongs to it: kept before, or made now and kept.

        What is above IMAGE_SHARE of its file's size is made each time.
        """
        kept = self.read(what)
        if kept is not None:
            return kept
        made = make()
        if sum(tensor.nbytes for tensor in made.values()) <= IMAGE_SHARE * self.bytes:
            self.write(what, made)
        return made

    def _name(self, what: str) -> str:
        # The name's ending decides how the bytes are read.
        ending = "".join(self.path.suffixes[-2:]).lower()
        return hashlib.sha256(f"{self.content} {ending} {what}".encode()).hexdigest()


def _looks(file: BinaryIO, about: os.stat_result) -> str:
    """All that tells a changed file without reading it whole."""
    samples = hashlib.sha256()
    for i in range(SAMPLES):
        file.seek(max(0, about.st_size - SAMPLE_BYTES) * i // (SAMPLES - 1))
        samples.update(file.read(SAMPLE_BYTES))
    numbers = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
    return "-".join([*map(str, numbers), samples.hexdigest()])


def _files(path: Path) -> list[Path] | None:
    """The files that hold an image, None where it is not plain which: a list or a pattern."""
    if not path.name.lower().endswith((".mhd", ".mha", ".nrrd")):
        return [path]
    with path.open("rb") as file:
        head = file.read(1 << 16)
    named = _ELSEWHERE.findall(head.split(b"\n\n")[0] if head.startswith(b"NRRD") else head)
    if not named or named[0].upper() == b"LOCAL":
        return [path]
    voxels = path.parent / os.fsdecode(named[0])
    return [path, voxels] if len(named) == 1 and voxels.is_file() else None


def _sum(name: str, data: bytes) -> bytes:
    found = hashlib.sha256(name.encode())
    found.update(data)
    return found.digest()
