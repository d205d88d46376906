from __future__ import annotations

from pathlib import Path

import pytest

from ctscribe.files import long_path, replacing, write_atomically


def crash(*_: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("fails_at", ["writing", "fsync", "replacing"])
def test_whatever_fails_the_file_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str, before: bytes | None
) -> None:
    file = tmp_path / "scan.nii.gz"
    if before is not None:
        file.write_bytes(before)
    target = {"writing": "pathlib.Path.write_bytes", "fsync": "os.fsync"}
    monkeypatch.setattr(target.get(fails_at, "pathlib.Path.replace"), crash)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(file, b"new")
    monkeypatch.undo()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_the_new_content_is_there_at_the_end_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "scan.nii.gz"
    file.write_bytes(b"old")
    with replacing(file) as part:
        part.write_bytes(b"new")
        assert part.name.endswith(".nii.gz")
        assert file.read_bytes() == b"old"
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("scan.nii.gz", b"new")]


def test_long_paths_are_marked_on_windows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("here") / "影像"
    assert long_path(path) is path
    monkeypatch.setattr("sys.platform", "win32")
    resolved = {"here": r"C:\data\here", "share": r"\\nas\ct"}
    monkeypatch.setattr(Path, "resolve", lambda self: resolved[str(self)])
    marked = long_path(Path("here"))
    assert str(marked) == r"\\?\C:\data\here"
    assert long_path(marked) is marked
    assert str(long_path(Path("share"))) == r"\\?\UNC\nas\ct"
