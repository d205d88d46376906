from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctscribe.ops import code_cache


def name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


KEY = name("key")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(code_cache.ENV, str(tmp_path / "kept"))
    monkeypatch.setattr(code_cache, "_complained", False)
    return tmp_path / "kept"


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@pytest.mark.parametrize("code", [b"", b"code", bytes(range(256)) * 99])
def test_what_is_kept_is_read_again(code: bytes) -> None:
    assert code_cache.read(KEY) is None
    code_cache.write(KEY, code)
    assert code_cache.read(KEY) == code
    assert code_cache.read(name("other")) is None
    code_cache.write(KEY, code + b"new")
    assert code_cache.read(KEY) == code + b"new"


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_damaged_file_is_seen_and_replaced(kept: Path, data: st.DataObject) -> None:
    code = b"some code"
    code_cache.write(KEY, code)
    file = only_file(kept)
    whole = file.read_bytes()
    if data.draw(st.booleans(), label="cut"):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    file.write_bytes(damaged)
    assert code_cache.read(KEY) is None
    file.write_bytes(whole + b"\0")
    assert code_cache.read(KEY) is None
    code_cache.write(KEY, code)
    assert code_cache.read(KEY) == code


def test_a_file_under_another_ones_name_is_not_taken(kept: Path) -> None:
    code_cache.write(KEY, b"code")
    only_file(kept).rename(kept / f"{name('other')}.bin")
    assert code_cache.read(name("other")) is None


@pytest.mark.parametrize("where", ["a file", "below a file", "read-only", "a folder in the way"])
def test_an_unusable_folder_costs_nothing_but_one_warning(
    where: str, kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if where == "a file":
        kept.write_bytes(b"mine")
    elif where == "below a file":
        kept.write_bytes(b"mine")
        monkeypatch.setenv(code_cache.ENV, str(kept / "kernels"))
    elif where == "read-only":
        if os.name == "nt" or os.geteuid() == 0:  # both write there all the same: refuse it below
            monkeypatch.setattr(code_cache, "write_atomically", refuse)
        else:
            kept.mkdir(mode=0o500)
    else:
        (kept / f"{KEY}.bin").mkdir(parents=True)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert code_cache.read(KEY) is None
            code_cache.write(KEY, b"code")
    assert [(r.levelname, r.exc_info) for r in caplog.records] == [("WARNING", None)]
    assert "compiled kernels cannot be kept" in caplog.text
    assert code_cache.ENV in caplog.text
    if "file" in where:
        assert kept.read_bytes() == b"mine"


def refuse(path: Path, data: bytes) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_full_disk_leaves_nothing_behind(
    kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as handle:
            handle.write(data[:10])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    code_cache.write(KEY, b"code")
    assert list(kept.iterdir()) == []
    assert "No space left on device" in caplog.text


def test_no_home_folder_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(code_cache.ENV)
    monkeypatch.setattr(Path, "home", homeless)
    assert code_cache.read(KEY) is None
    code_cache.write(KEY, b"code")
    assert "home directory" in caplog.text


def test_a_file_that_another_process_holds_open_needs_no_replacing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code_cache.write(KEY, b"code")
    monkeypatch.setattr(code_cache, "write_atomically", refuse)
    code_cache.write(KEY, b"code")
    assert not caplog.records


def test_the_least_recently_used_go_first(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [name(str(n)) for n in range(5)]
    for age, key in enumerate(keys):
        code_cache.write(key, bytes(1000))
        os.utime(kept / f"{key}.bin", (1000 + age, 1000 + age))
    size = (kept / f"{keys[0]}.bin").stat().st_size
    leftover = kept / f".4711.{name('crashed')}.bin"
    leftover.write_bytes(bytes(size))
    os.utime(leftover, (1, 1))
    unfinished = kept / f".4712.{name('being written')}.bin"
    unfinished.write_bytes(bytes(size))
    mine = kept / "notes.txt"
    mine.write_bytes(bytes(9000))
    os.utime(mine, (1, 1))
    assert code_cache.read(keys[0]) is not None  # used now, so no longer the oldest
    monkeypatch.setattr(code_cache, "LIMIT_BYTES", 4 * size)
    code_cache.write(KEY, bytes(1000))
    left = {file.name for file in kept.iterdir()}
    assert left == {f"{key}.bin" for key in (keys[0], keys[3], keys[4], KEY)} | {
        mine.name,
        unfinished.name,
    }


def test_one_that_is_larger_than_all_the_room_stays_alone(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_cache, "LIMIT_BYTES", 10)
    code_cache.write(name("old"), b"code")
    code_cache.write(KEY, b"code")
    assert code_cache.read(KEY) == b"code"
    assert len(list(kept.iterdir())) == 1


def test_files_that_vanish_while_others_are_counted_are_no_error(
    kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        code_cache.write(name(str(n)), bytes(100))
    whole = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        if path.name == f"{name('1')}.bin":
            raise FileNotFoundError(2, "gone", str(path))
        return whole(path, **how)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise FileNotFoundError(2, "gone", str(path))

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(code_cache, "LIMIT_BYTES", 1)
    code_cache.write(KEY, b"code")
    assert not caplog.records
    assert code_cache.read(KEY) == b"code"


RACER = """
import sys, time
from pathlib import Path
from ctscribe.ops import code_cache
code_cache.LIMIT_BYTES = 300_000
go, who = Path(sys.argv[1]), sys.argv[2]
Path(who).touch()
while not go.exists():
    time.sleep(0.001)
for turn in range(60):
    for n in range(4):
        key = f"{n:064x}"
        code = bytes([n]) * 100_000
        found = code_cache.read(key)
        assert found is None or found == code, (turn, n)
        code_cache.write(key, code)
"""


def test_processes_that_race_read_whole_files_or_none(kept: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    ready = [tmp_path / f"racer{n}" for n in range(2)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RACER, str(go), str(who)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for who in ready
    ]
    while not all(who.exists() for who in ready) and all(r.poll() is None for r in racers):
        time.sleep(0.01)
    go.touch()
    said = [racer.communicate(timeout=120)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], said
    if os.name != "nt":  # where an open file cannot be replaced, so that a warning may be due
        assert said == ["", ""]
    assert all(file.suffix == ".bin" and file.name[0] != "." for file in kept.iterdir())
    assert sum(file.stat().st_size for file in kept.iterdir()) < 500_000
