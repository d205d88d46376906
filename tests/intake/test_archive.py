"""Zips made to harm: refused before anything is unpacked, and nothing is left of them."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ctscribe.errors import DataError
from ctscribe.intake.archive import ArchiveLimits, unpack, unsafe
from tests.intake.hospital import RawName

MIB = 1 << 20


@pytest.fixture
def room(tmp_path: Path) -> Path:
    folder = tmp_path / "room"
    folder.mkdir()
    return folder


def pack(path: Path, *entries: tuple[str | bytes | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            info = RawName(name) if isinstance(name, bytes) else name
            archive.writestr(info, data)
    return path


def refused(path: Path, room: Path, limits: ArchiveLimits | None = None) -> DataError:
    before = path.read_bytes()
    with pytest.raises(DataError) as raised:
        unpack(path, room, limits=limits)
    assert list(room.iterdir()) == []
    assert {f.name for f in path.parent.iterdir()} == {path.name, "room"}
    assert path.read_bytes() == before
    return raised.value


def test_files_come_out_whole_under_our_own_names(tmp_path: Path, room: Path) -> None:
    entries = {
        "PAT/IM 1/0001": b"one",
        "PAT/IM 1/0002": b"two" * 100_000,
        "PAT/IM2/0001": b"",
        "影像/张三.dcm": b"four",
        "inner.zip": b"PK\3\4 never unpacked",
    }
    path = pack(tmp_path / "a.zip", ("PAT/", b""), *entries.items())
    names = unpack(path, room)
    assert {names[file]: file.read_bytes() for file in names} == entries
    files = [file for file in room.rglob("*") if file.is_file()]
    assert sorted(files) == sorted(names)
    assert all(str(f.relative_to(room)).isascii() for f in files)
    by_name = {name: file for file, name in names.items()}
    same = {by_name["PAT/IM 1/0001"].parent, by_name["PAT/IM 1/0002"].parent}
    assert len(same | {by_name["PAT/IM2/0001"].parent}) == 2
    assert len(same) == 1


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("影像/张三.dcm".encode("gbk"), "影像/张三.dcm"),
        ("影像/㐀.dcm".encode("gb18030"), "影像/㐀.dcm"),
        ("影像/张三.dcm".encode(), "影像/张三.dcm"),
        ("許/a".encode("gbk"), "許/a"),  # its second byte is a backslash
        (b"a\\b\\c", "a/b/c"),  # as old Windows programs wrote folders
    ],
)
def test_names_in_chinese_encodings(tmp_path: Path, room: Path, raw: bytes, name: str) -> None:
    names = unpack(pack(tmp_path / "a.zip", (raw, b"x")), room)
    assert list(names.values()) == [name]


def test_a_backslash_within_a_character_is_none() -> None:
    assert b"\\" in "許".encode("gbk") + "誠".encode("gbk")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"../evil", "leads out"),
        (b"a/../../evil", "leads out"),
        (b"..\\evil", "leads out"),
        (b"a\\..\\..\\evil", "leads out"),
        (b"..", "leads out"),
        (b"/etc/passwd", "absolute"),
        (b"\\\\server\\share", "absolute"),
        (b"C:\\evil", "colon"),
        (b"c:evil", "colon"),
        (b"file.dcm:stream", "colon"),
        (b"CON", "device"),
        (b"a/nul.dcm", "device"),
        (b"COM1.tar.gz", "device"),
        ("lpt¹".encode(), "device"),
        (b"aux/b", "device"),
        (b"a./b", "dot or a space"),
        (b"a /b", "dot or a space"),
        (b"evil.dcm.", "dot or a space"),
        (b"a//b", "empty part"),
        (b"./b", "empty part"),
        (b"a\x1b[2Jb", "control"),
        (b"a\nb", "control"),
    ],
)
def test_unsafe_names_refuse_the_whole_archive(
    tmp_path: Path, room: Path, name: bytes, why: str
) -> None:
    error = refused(pack(tmp_path / "a.zip", ("good", b"x"), (name, b"x")), room)
    assert error.code == "zip-unsafe-name"
    assert why in error.reason
    assert "entry 2" in error.reason
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "name", ["console", "com10", "nullify.dcm", "a.b", ".hidden", "...x", "com"]
)
def test_names_that_only_look_unsafe_pass(name: str) -> None:
    assert unsafe(name) == ""


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path: Path, room: Path, kind: int) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    error = refused(pack(tmp_path / "a.zip", (info, b"/etc/passwd")), room)
    assert (error.code, "link or a device" in error.reason) == ("zip-unsafe-name", True)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a/b", "a/b"), ("a/b", b"a\\b"), ("é", "é")])
def test_two_entries_of_one_name(
    tmp_path: Path, room: Path, names: tuple[str | bytes, str | bytes]
) -> None:
    error = refused(pack(tmp_path / "a.zip", *[(name, b"x") for name in names]), room)
    assert (error.code, "two entries" in error.reason) == ("zip-unsafe-name", True)


def test_bombs_by_declared_sizes(tmp_path: Path, room: Path) -> None:
    path = pack(tmp_path / "a.zip", ("zeros", bytes(100 * MIB)))
    assert path.stat().st_size < MIB
    error = refused(path, room)
    assert (error.code, "times its size" in error.reason) == ("zip-bomb", True)
    error = refused(path, room, ArchiveLimits(total_bytes=10 * MIB))
    assert "more than 0.0 GB" in error.reason
    path.unlink()
    path = pack(tmp_path / "b.zip", *[(f"{n}", b"") for n in range(20)])
    error = refused(path, room, ArchiveLimits(entries=19))
    assert (error.code, "20 entries" in error.reason) == ("zip-bomb", True)


def edited(path: Path, local: dict[int, bytes], central: dict[int, bytes]) -> Path:
    """The single entry's headers with other bytes at these offsets."""
    data = bytearray(path.read_bytes())
    for start, changes in (0, local), (data.index(b"PK\1\2"), central):
        for at, new in changes.items():
            data[start + at : start + at + len(new)] = new
    path.write_bytes(data)
    return path


def test_a_bomb_that_declares_a_small_size(tmp_path: Path, room: Path) -> None:
    """zipfile itself stops at the declared size, and the checksum is then wrong."""
    path = pack(tmp_path / "a.zip", ("zeros", bytes(50 * MIB)))
    small = struct.pack("<L", 1000)
    error = refused(edited(path, {22: small}, {24: small}), room)
    assert error.code in ("zip-bomb", "unreadable")


def test_overlapping_entries(tmp_path: Path, room: Path) -> None:
    """One packed block that many entries of the directory name."""
    path = pack(tmp_path / "a.zip", ("0", os.urandom(MIB)))
    data = path.read_bytes()
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry, many = bytearray(data[at:end]), 9
    entries = b"".join(bytes(entry[:-1]) + b"%d" % n for n in range(many))
    tail = bytearray(data[end:])
    struct.pack_into("<HHLL", tail, 8, many, many, len(entries), at)
    path.write_bytes(data[:at] + entries + tail)
    error = refused(path, room)
    assert (error.code, "overlap" in error.reason) == ("zip-bomb", True)


def test_encrypted_and_rare_methods(tmp_path: Path, room: Path) -> None:
    path = pack(tmp_path / "a.zip", ("a", b"x" * 100))
    error = refused(edited(path, {6: b"\1\0"}, {8: b"\1\0"}), room)
    assert (error.code, error.reason) == ("unreadable", "it is encrypted")
    path = pack(path, ("a", b"x" * 100))
    error = refused(edited(path, {8: b"\x0c\0"}, {10: b"\x0c\0"}), room)
    assert (error.code, "method 12" in error.reason) == ("unreadable", True)


def test_damage(tmp_path: Path, room: Path) -> None:
    path = pack(tmp_path / "a.zip", ("first", b"x"), ("a", os.urandom(200_000)))
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[150_000] ^= 1
    for data in (bytes(torn), whole[:-5000], whole[:100], b"", b"text, not a zip"):
        path.write_bytes(data)
        error = refused(path, room)
        assert error.code == "unreadable"
        assert str(path) in str(error)
    path.unlink()
    with pytest.raises(DataError) as raised:
        unpack(path, room)
    assert raised.value.code == "missing"


def test_no_room_on_the_disk(tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.zip", ("a", os.urandom(2 * MIB)))
    usage = type("Usage", (), {"free": MIB})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert "temporary folder has" in refused(path, room).reason


SOUND = io.BytesIO()
with zipfile.ZipFile(SOUND, "w", zipfile.ZIP_DEFLATED) as _archive:
    _archive.writestr("a/b", bytes(range(256)) * 4)
    _archive.writestr("影/像", b"x")


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND.getvalue()) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
@example([(0, 80)])
def test_any_bytes_changed_anywhere_give_the_files_or_a_typed_error(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(SOUND.getvalue())
    for at, value in changes:
        data[at] = value
    path = tmp_path / "fuzz.zip"
    path.write_bytes(data)
    room = tmp_path / "room"
    room.mkdir(exist_ok=True)
    sound = {zlib.crc32(bytes(range(256)) * 4), zlib.crc32(b"x"), 0}
    try:
        names = unpack(path, room)
    except DataError:
        assert list(room.iterdir()) == []
        return
    assert {zlib.crc32(file.read_bytes()) for file in names} <= sound
    for file in sorted(room.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
