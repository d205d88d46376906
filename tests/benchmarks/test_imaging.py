from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def imaging(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("imaging")


def test_the_kept_figures_follow_from_what_was_measured(imaging: ModuleType) -> None:
    text = (BENCHMARKS / "results" / "imaging-cpu.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert {"date", "device", "threads", "versions", "how"} <= set(found)
    assert {"monai", "itk", "isal", "SimpleITK", "torch"} <= set(found["versions"])
    assert found["threads"] == imaging.THREADS
    images = found["images"]
    assert len(images) == 5
    for row in images.values():
        seconds = row["seconds"]
        peers = [value for way, value in seconds.items() if way != "ctscribe"]
        assert row["ratio_to_monai"] == pytest.approx(seconds["ctscribe"] / min(peers), rel=2e-3)
        x, y, z = row["voxels_xyz"]
        volume_mb = x * y * z * 4 / 1e6
        assert row["peak_over_volume"] == pytest.approx(
            row["peak_mb"]["ctscribe"] / volume_mb, rel=2e-3
        )
    first = images["phantom_512x512x300"]
    assert first["voxels_xyz"] == [512, 512, 300]
    values = {
        "ratio_to_monai": first["ratio_to_monai"],
        "peak_over_volume": first["peak_over_volume"],
        "cached_read_ms": found["cache"]["read_ms"],
    }
    assert set(found["figures"]) == set(imaging.MUST)
    for name, figure in found["figures"].items():
        assert figure["value"] == values[name]
        assert figure["must"] == imaging.MUST[name]
        assert figure["met"] is (figure["value"] <= figure["must"])


def test_a_cached_read_is_what_is_timed(
    imaging: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging, "CACHED_ZYX", (2, 3, 4))
    (tmp_path / "a.nii.gz").write_bytes(bytes(10_000))
    found = imaging.measure_cache(tmp_path / "a.nii.gz", tmp_path)
    assert found["input_zyx"] == [2, 3, 4]
    assert 0 < found["key_look_up_ms"] <= found["read_ms"] <= found["slowest_read_ms"]
