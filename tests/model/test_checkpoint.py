import json
import pickle
from pathlib import Path

import pytest
import torch

from ctscribe.errors import CheckpointError
from ctscribe.model.checkpoint import load_tensors, save_tensors


def test_tensors_and_settings_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.tensor(1.5).half()}
    save_tensors(tmp_path / "x.pt", tensors, {"answer": 42, "文": "胸部"})
    loaded, settings = load_tensors(tmp_path / "x.pt")
    assert settings["answer"] == 42
    assert settings["文"] == "胸部"
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype
    assert json.loads((tmp_path / "x.json").read_text("utf-8"))["answer"] == 42


def test_a_pickle_is_refused_without_being_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "exploded",))

    for name, save in (
        ("a.pt", torch.save),
        ("b.pt", lambda o, f: Path(f).write_bytes(pickle.dumps(o))),
    ):
        file = tmp_path / name
        save({"x": Bomb()}, file)
        with pytest.raises(CheckpointError, match="pickle"):
            load_tensors(file)
    assert not (tmp_path / "exploded").exists()


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    save_tensors(file, {"a": torch.randn(64)}, {})
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_tensors(file)


def test_truncated_and_missing_files_are_one_line_errors(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    save_tensors(file, {"a": torch.randn(64)}, {})
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError) as caught:
        load_tensors(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="missing"):
        load_tensors(tmp_path / "nothing.pt")


@pytest.mark.parametrize("fails_at", ["write", "replace"])
def test_a_crash_while_saving_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    file = tmp_path / "x.pt"
    save_tensors(file, {"a": torch.zeros(4)}, {"run": 1})

    def crash(*_: object) -> None:
        raise OSError("disk full")

    if fails_at == "write":
        monkeypatch.setattr("os.fsync", crash)
    else:
        monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(file, {"a": torch.ones(4)}, {"run": 2})
    monkeypatch.undo()
    tensors, settings = load_tensors(file)
    assert settings["run"] == 1
    assert torch.equal(tensors["a"], torch.zeros(4))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "x.pt"]
