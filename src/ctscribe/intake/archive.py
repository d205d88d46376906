"""Zip archives of unknown origin: refused before anything of them is unpacked, or unpacked safely.

No name of the archive becomes a path: entries are written under short names of our own, so that
neither `../`, nor names that Windows reserves, nor over-long ones can do anything.
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ctscribe.errors import DataError
from ctscribe.problems import KINDS

CHUNK = 1 << 20
RATIO_FROM_BYTES = 64 << 20  # small archives of blank images may shrink by any ratio
UTF8_FLAG, ENCRYPTED_FLAG = 0x800, 0x1
# What Windows opens as a device, whatever ending follows.
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
    OverflowError,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold. ratio: unpacked to packed bytes, of the whole."""

    entries: int = 200_000
    total_bytes: int = 256 << 30
    ratio: float = 100.0


def unpack(path: Path, folder: Path, *, limits: ArchiveLimits | None = None) -> dict[Path, str]:
    """Unpack a zip into an empty folder; returns each file's name in the archive.

    Files of one folder stay together. Archives within the archive are left as files. Raises
    DataError, the folder then being empty: unsafe or doubled names, links, too much, encrypted,
    damaged, or of another format.
    """
    limits = limits or ArchiveLimits()
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked(archive, path, folder, limits)
            return _extract(archive, entries, path, folder)
    except FileNotFoundError as error:
        raise _refused(path, "missing", "there is no such file") from error
    except OSError as error:
        _empty(folder)
        reason = f"it cannot be unpacked ({error.strerror or 'input error'})"
        raise _refused(path, "unreadable", reason) from error
    except BROKEN as error:
        _empty(folder)
        raise _refused(path, "unreadable", f"it is no sound zip archive ({error})") from error
    except BaseException:
        _empty(folder)
        raise


def name_of(info: zipfile.ZipInfo) -> str:
    """An entry's name with `/` between folders, in whatever encoding the archive has it.

    Chinese Windows writes GBK and says nothing; zipfile then reads code page 437.
    """
    name = info.orig_filename
    if not info.flag_bits & UTF8_FLAG:
        try:
            raw = name.encode("cp437")
        except UnicodeEncodeError:
            raw = b""
        for encoding in ("utf-8", "gb18030"):
            try:
                name = raw.decode(encoding) if raw else name
                break
            except UnicodeDecodeError:
                continue
    # After decoding: in GBK the byte of the backslash is the second half of some characters.
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def unsafe(name: str) -> str:
    """Why a name of an archive must not be used, empty where it may."""
    if name.startswith("/"):
        return "it is an absolute path"
    if any(ord(character) < 32 for character in name):
        return "it has control characters"
    for part in name.removesuffix("/").split("/"):
        if part == "..":
            return "it leads out of its folder"
        if part in ("", "."):
            return "it has an empty part"
        if ":" in part:
            return "it has a colon: a drive or a hidden stream"
        if part[-1] in ". ":
            return "a part of it ends with a dot or a space, which Windows drops"
        # Windows drops spaces before the ending too: "con .dcm" is the console.
        if RESERVED.fullmatch(re.sub(r" +(?=\.|$)", "", part)):
            return "Windows reserves it for a device"
    return ""


def _checked(
    archive: zipfile.ZipFile, path: Path, folder: Path, limits: ArchiveLimits
) -> list[tuple[zipfile.ZipInfo, str]]:
    """Files of the archive and their names; raises for what its directory alone betrays."""
    infos = archive.infolist()
    if len(infos) > limits.entries:
        reason = f"it has {len(infos)} entries, more than {limits.entries}"
        raise _refused(path, "zip-bomb", reason)
    found: dict[str, zipfile.ZipInfo] = {}
    for number, info in enumerate(infos, 1):
        name = name_of(info)
        kind = stat.S_IFMT(info.external_attr >> 16)
        why = unsafe(name)
        if not why and kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            why = "it is a link or a device"
        if not why and name in found:
            why = "two entries have this name"
        if why:  # the name itself may be a patient's, or made to confuse a terminal
            reason = f"its entry {number} ({name[:80]!a}) is unsafe: {why}"
            raise _refused(path, "zip-unsafe-name", reason)
        if info.flag_bits & ENCRYPTED_FLAG:
            raise _refused(
                path, "unreadable", "it is encrypted", fix="unpack it, and give the folder"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refused(
                path,
                "unreadable",
                f"its entry {number} is packed by method {info.compress_type}, not by deflate",
                fix="unpack it by hand, and give the folder",
            )
        found[name] = info
    _refuse_bomb(infos, path, folder, limits)
    return [(info, name) for name, info in found.items() if not name.endswith("/")]


def _refuse_bomb(
    infos: list[zipfile.ZipInfo], path: Path, folder: Path, limits: ArchiveLimits
) -> None:
    packed, size = sum(i.compress_size for i in infos), path.stat().st_size
    total = sum(info.file_size for info in infos)
    free = shutil.disk_usage(folder).free
    reason = ""
    if packed > size:
        reason = "its entries overlap"
    elif total > limits.total_bytes:
        reason = f"it unpacks to {_gb(total)}, more than {_gb(limits.total_bytes)}"
    elif total > RATIO_FROM_BYTES and total > limits.ratio * size:
        reason = f"it unpacks to {total / size:.0f} times its size"
    elif total > free:
        reason = f"it unpacks to {_gb(total)}, but the temporary folder has {_gb(free)} left"
    if reason:
        raise _refused(path, "zip-bomb", reason)


def _extract(
    archive: zipfile.ZipFile,
    entries: list[tuple[zipfile.ZipInfo, str]],
    path: Path,
    folder: Path,
) -> dict[Path, str]:
    names: dict[Path, str] = {}
    folders: dict[str, Path] = {}
    for number, (info, name) in enumerate(entries, 1):
        inside = name.rpartition("/")[0]
        if inside not in folders:
            folders[inside] = folder / f"{len(folders):04d}"
            folders[inside].mkdir()
        # Endings matter to nobody who reads DICOM, and they are the archive's words.
        target = folders[inside] / f"{number:06d}"
        written = 0
        with archive.open(info) as packed, target.open("xb") as out:
            while data := packed.read(CHUNK):
                written += len(data)
                if written > info.file_size:
                    reason = f"its entry {number} holds more than it declares"
                    raise _refused(path, "zip-bomb", reason)
                out.write(data)
        if written < info.file_size:
            raise _refused(path, "unreadable", f"its entry {number} is cut off")
        names[target] = name
    return names


def _empty(folder: Path) -> None:
    for child in folder.iterdir():
        shutil.rmtree(child, ignore_errors=True)


def _refused(path: Path, code: str, reason: str, *, fix: str = "") -> DataError:
    return DataError(reason, file=path, fix=fix or KINDS[code].fix_en, code=code)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
