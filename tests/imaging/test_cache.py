"""A cache may cost time, never correctness: stale, damaged, half-written, shared, unwritable."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from torch import Tensor

from ctscribe.errors import ImageError
from ctscribe.imaging import cache as module
from ctscribe.imaging.cache import Cache, Entry, code_digest

LONG_AGO_NS = 1_600_000_000_000_000_000
WHAT = "settings 1"


def image_of(entry: Entry, what: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What is kept of a prepared image, alone."""
    return entry.tensors(what, lambda: {"image": make()})["image"]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "缓存 1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "张三 1.nii.gz"
    path.write_bytes(np.random.default_rng(0).bytes(200_000))
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: their ctime cannot be set back."""
    monkeypatch.setattr(module, "RACY_NS", -3_600_000_000_000)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read whole."""
    names = []
    real = module.hashlib.file_digest

    def digest(opened, algorithm):  # type: ignore[no-untyped-def]
        names.append(Path(opened.name).name)
        return real(opened, algorithm)

    monkeypatch.setattr(module.hashlib, "file_digest", digest)
    return names


def key(cache: Cache, path: Path) -> str | None:
    return cache.content(path)[0]


def made(value: float, calls: list[float] | None = None) -> Callable[[], Tensor]:
    def make() -> Tensor:
        if calls is not None:
            calls.append(value)
        return torch.full((1, 4, 5, 6), value)

    return make


def test_the_second_look_reads_a_few_blocks_only(
    cache: Cache, file: Path, settled: None, hashed: list[str]
) -> None:
    first = key(cache, file)
    assert first == module.hashlib.sha256(file.read_bytes()).hexdigest()
    assert key(cache, file) == first
    assert key(Cache(cache.folder), file) == first
    assert len(hashed) == 1


def test_a_file_that_changed_just_now_is_hashed_each_time(
    cache: Cache, file: Path, hashed: list[str]
) -> None:
    assert key(cache, file) == key(cache, file)
    assert len(hashed) == 2
    assert not cache.folder.exists()


def in_place(file: Path, data: bytes) -> None:
    with file.open("r+b") as handle:
        handle.write(data)


def middle_byte(file: Path, data: bytes) -> None:
    """One byte where no sample is taken: the times alone tell."""
    changed = bytearray(data)
    changed[5000] ^= 1
    in_place(file, changed)


def by_rename(file: Path, data: bytes) -> None:
    other = file.with_name("other")
    other.write_bytes(bytes(len(data)))
    os.replace(other, file)


def tail(file: Path, data: bytes) -> None:
    in_place(file, data[:-1] + bytes([data[-1] ^ 1]))


def longer(file: Path, data: bytes) -> None:
    file.write_bytes(data + b"x")


@pytest.mark.parametrize("keep_mtime", [False, True])
@pytest.mark.parametrize("change", [middle_byte, by_rename, tail, longer])
def test_changed_content_is_never_taken_for_the_old(
    cache: Cache,
    file: Path,
    settled: None,
    change: Callable[[Path, bytes], None],
    keep_mtime: bool,
) -> None:
    if sys.platform == "win32" and change is middle_byte and keep_mtime:
        pytest.skip("Windows keeps no time of change that a program cannot set back")
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    old = image_of(cache.entry(file), WHAT, made(1))
    assert image_of(cache.entry(file), WHAT, made(2)).equal(old)
    time.sleep(0.02)  # the kernel's clock of file times ticks every 4 or 10 ms
    change(file, file.read_bytes())
    if keep_mtime:
        os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert key(cache, file) == module.hashlib.sha256(file.read_bytes()).hexdigest()
    assert image_of(cache.entry(file), WHAT, made(3)).equal(made(3)())


def test_samples_tell_where_times_do_not(cache: Cache, file: Path) -> None:
    """As on a file system without times of change: the tail of a .gz is its CRC-32."""
    about = file.stat()
    with file.open("rb") as handle:
        before = module._looks(handle, about)
    tail(file, file.read_bytes())
    with file.open("rb") as handle:
        assert module._looks(handle, about) != before


def test_a_touched_or_renamed_file_is_hashed_again_and_the_entry_found(
    cache: Cache, file: Path, settled: None, hashed: list[str]
) -> None:
    calls: list[float] = []
    image_of(cache.entry(file), WHAT, made(1, calls))
    os.utime(file)
    image_of(cache.entry(file), WHAT, made(1, calls))
    moved = file.rename(file.with_name("renamed.nii.gz"))
    image_of(cache.entry(moved), WHAT, made(1, calls))
    assert calls == [1]
    assert len(hashed) == 3


def test_settings_code_and_the_names_ending_are_part_of_the_key(
    cache: Cache, file: Path, tmp_path: Path
) -> None:
    assert image_of(cache.entry(file), WHAT, made(1)).equal(made(1)())
    assert image_of(cache.entry(file), "settings 2", made(2)).equal(made(2)())
    other = file.with_name("a.nrrd")
    other.write_bytes(file.read_bytes())
    assert image_of(cache.entry(other), WHAT, made(3)).equal(made(3)())
    code = tmp_path / "code.py"
    code.write_text("x = 1")
    before = code_digest(str(code))
    code_digest.cache_clear()
    code.write_text("x = 2")
    assert code_digest(str(code)) != before
    assert code_digest() != before


def test_a_file_changed_while_it_is_read_is_used_but_not_kept(cache: Cache, file: Path) -> None:
    entry = cache.entry(file)

    def make() -> Tensor:
        file.write_bytes(b"new" * 60_000)
        return made(1)()

    assert image_of(entry, WHAT, make).equal(made(1)())
    entry.write("features", {"features": torch.ones(3)})
    for now in (entry, cache.entry(file)):
        assert now.read(WHAT) is None
        assert now.read("features") is None
    file.unlink()
    entry.write("features", {"features": torch.ones(3)})
    with pytest.raises(ImageError, match=r"cannot be read \(No such file"):
        cache.entry(file, case="c")


def only_entry(cache: Cache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "header", "longer", "swapped"])
def test_a_damaged_entry_is_made_again(cache: Cache, file: Path, damage: str) -> None:
    image_of(cache.entry(file), WHAT, made(1))
    path = only_entry(cache)
    data = bytearray(path.read_bytes())
    if damage == "swapped":  # a sound entry, but another's
        cache.write("other", b"x")
        data = bytearray((cache.folder / "other.kept").read_bytes())
        (cache.folder / "other.kept").unlink()
    elif damage == "flipped":
        data[-7] ^= 0x10
    elif damage == "header":
        data[20] ^= 1
    path.write_bytes({"cut": data[:-1], "empty": b"", "longer": data + b"x"}.get(damage, data))
    assert image_of(cache.entry(file), WHAT, made(2)).equal(made(2)())
    assert image_of(cache.entry(file), WHAT, made(3)).equal(made(2)())


def test_every_cut_of_an_entry_is_noticed(cache: Cache) -> None:
    cache.write("a", b"some data")
    data = only_entry(cache).read_bytes()
    for length in range(len(data)):
        only_entry(cache).write_bytes(data[:length])
        assert cache.read("a") is None
    assert cache.read("b") is None


def test_a_remembered_hash_that_was_damaged_is_not_believed(
    cache: Cache, file: Path, settled: None, hashed: list[str]
) -> None:
    first = key(cache, file)
    data = bytearray(only_entry(cache).read_bytes())
    data[-1] ^= 1
    only_entry(cache).write_bytes(data)
    assert key(cache, file) == first
    assert len(hashed) == 2


def test_a_small_image_is_not_kept(cache: Cache, file: Path) -> None:
    file.write_bytes(bytes(4 * made(1)().nbytes - 1))
    calls: list[float] = []
    image_of(cache.entry(file), WHAT, made(1, calls))
    image_of(cache.entry(file), WHAT, made(1, calls))
    assert calls == [1, 1]
    assert not cache.folder.exists()


def test_what_is_kept_comes_back_to_the_bit(cache: Cache, file: Path) -> None:
    image = torch.randn(1, 9, 8, 7, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    image_of(cache.entry(file), WHAT, lambda: image)
    back = image_of(cache.entry(file), WHAT, made(0))
    assert back.dtype == torch.float32
    assert back.equal(image)
    back.add_(1)  # its own memory, and no warning that it cannot be written to


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "")])
@pytest.mark.parametrize("fails", ["write_atomically", "folder"])
def test_what_cannot_be_kept_is_used_with_one_warning(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails: str,
    error: OSError,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    if fails == "folder":
        (tmp_path / "file").write_bytes(b"")
        cache = Cache(tmp_path / "file" / "cache")
    else:
        cache = Cache(tmp_path / "cache")
        monkeypatch.setattr(module, "write_atomically", refuse)
    with caplog.at_level(logging.WARNING):
        for value in (1, 2):
            assert image_of(cache.entry(file), WHAT, made(value)).equal(made(value)())
    assert caplog.text.count("cannot be kept") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="folders of Windows know no such right")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder_is_read(cache: Cache, file: Path) -> None:
    image_of(cache.entry(file), WHAT, made(1))
    cache.folder.chmod(0o500)
    assert image_of(cache.entry(file), WHAT, made(2)).equal(made(1)())
    assert image_of(cache.entry(file), "other", made(3)).equal(made(3)())
    cache.folder.chmod(0o700)


def test_where_windows_refuses_to_replace_the_others_entry_is_as_good(
    cache: Cache, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = cache.entry(file)
    real = Path.replace

    def held_open(part: Path, target: Path) -> None:
        real(part, target)  # another process was first
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "replace", held_open)
    with caplog.at_level(logging.WARNING):
        image_of(entry, WHAT, made(1))
    assert caplog.text == ""
    assert image_of(cache.entry(file), WHAT, made(2)).equal(made(1)())


def test_what_crashed_processes_left_is_removed(cache: Cache) -> None:
    cache.write("a", b"x")
    old, new = (cache.folder / f".{n}.b.kept" for n in (1, 2))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    Cache(cache.folder)
    assert sorted(p.name for p in cache.folder.iterdir()) == [new.name, "a.kept"]


def meta_image(folder: Path, **options: object) -> tuple[Path, Path]:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16))
    sitk.WriteImage(image, str(folder / "a.mhd"))
    return folder / "a.mhd", folder / "a.raw"


def test_voxels_in_another_file_are_part_of_the_key(cache: Cache, tmp_path: Path) -> None:
    head, voxels = meta_image(tmp_path)
    entry = cache.entry(head)
    assert entry.bytes == head.stat().st_size + voxels.stat().st_size
    voxels.write_bytes(b"\1" * voxels.stat().st_size)
    assert cache.entry(head).content != entry.content
    nrrd = tmp_path / "a.nrrd"
    nrrd.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nData File: a.raw\n\n")
    first = cache.entry(nrrd).content
    voxels.write_bytes(b"\2" * voxels.stat().st_size)
    assert cache.entry(nrrd).content not in (first, None)
    for many in ("LIST", "a_%03d.raw 1 9 1", "gone.raw"):
        text = head.read_text().replace("a.raw", many)
        (tmp_path / "b.mhd").write_text(text)
        many_files = cache.entry(tmp_path / "b.mhd")
        assert many_files.content is None
        many_files.write(WHAT, {"x": torch.ones(1)})
        assert many_files.read(WHAT) is None
    sitk.WriteImage(sitk.ReadImage(str(head)), str(tmp_path / "one.mha"))
    sitk.WriteImage(sitk.ReadImage(str(head)), str(tmp_path / "one.nrrd"))
    for name in ("one.mha", "one.nrrd"):
        assert cache.entry(tmp_path / name).bytes == (tmp_path / name).stat().st_size


WORKER = """
import sys
from pathlib import Path
import torch
from ctscribe.imaging import cache as module
module.RACY_NS = -3_600_000_000_000
cache, folder, start = module.Cache(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
files = sorted(folder.glob("*.nii.gz"))
for turn in range(25):
    for i in range(len(files)):
        n = (start + i) % len(files)
        made = lambda: torch.full((1, 8, 32, 32), float(n))
        what = f"settings {turn % 5}"
        kept = cache.entry(files[n]).tensors(what, lambda: {"image": made()})
        assert kept["image"].equal(made()), (turn, n)
        if turn % 7 == start % 7:
            for path in cache.folder.glob("[0-9a-f]*.kept"):
                if hash((path.name, turn)) % 5 == 0:
                    path.unlink(missing_ok=True)
print("done")
"""


def test_many_processes_share_one_folder(tmp_path: Path) -> None:
    """The same keys and different ones, written, read and removed at once: never a wrong value."""
    for n in range(4):
        (tmp_path / f"{n}.nii.gz").write_bytes(np.random.default_rng(n).bytes(200_000))
    command = [sys.executable, "-c", WORKER, str(tmp_path / "cache"), str(tmp_path)]
    workers = [
        subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(3)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err.decode()
        assert err == b""
        assert out.strip() == b"done"
    assert not list((tmp_path / "cache").glob(".*"))


def test_many_threads_share_one_entry(cache: Cache, file: Path, settled: None) -> None:
    wrong = []
    image = torch.arange(40_000, dtype=torch.float32).view(1, 10, 40, 100)

    def work() -> None:
        for _ in range(20):
            cache.entry(file).write(WHAT, {"image": image})
            if not image_of(cache.entry(file), WHAT, lambda: image * 0).equal(image):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not list(cache.folder.glob(".*"))


KILLED = """
import os, sys
from pathlib import Path
from ctscribe.imaging import cache as module
real = os.fsync
def stop(fd):
    real(fd)
    print("writing", flush=True)
    sys.stdin.read()
os.fsync = stop
module.Cache(Path(sys.argv[1])).write("a", b"data" * 100_000)
"""


def test_a_process_killed_while_writing_leaves_no_entry(cache: Cache) -> None:
    command = [sys.executable, "-c", KILLED, str(cache.folder)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"writing"
    child.kill()
    child.communicate()
    assert cache.read("a") is None
    cache.write("a", b"whole")
    assert cache.read("a") == b"whole"
