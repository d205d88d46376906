from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ctscribe.imaging.volume import Volume
from ctscribe.phantom.dicom import EXPLICIT, JPEG_2000

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def dicom(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("dicom")


def test_the_kept_figures_follow_from_what_was_measured(dicom: ModuleType) -> None:
    found = json.loads((BENCHMARKS / "results" / "dicom.json").read_text(encoding="utf-8"))
    assert {"date", "device", "threads", "versions", "load", "how"} <= set(found)
    assert set(dicom.PACKAGES) <= set(found["versions"])
    assert set(found["series"]) == set(dicom.SERIES)
    for name, row in found["series"].items():
        assert row["voxels_xyz"] == [512, 512, 300 // dicom.SERIES[name][1]]
        for ratio, seconds in (("ratio", "seconds"), ("read_ratio", "read_seconds")):
            expected = row[seconds]["ctscribe"] / row[seconds]["SimpleITK"]
            assert row[ratio] == pytest.approx(expected, rel=2e-3)
        assert all(
            low <= row["seconds"][way] <= high for way, (low, high) in row["spread_seconds"].items()
        )
    assert set(found["figures"]) == set(dicom.MUST)
    figure = found["figures"]["dicom_read_ratio"]
    assert figure["value"] == found["series"]["uncompressed"]["ratio"]
    assert figure["must"] == dicom.MUST["dicom_read_ratio"]
    assert figure["met"] is (figure["value"] <= figure["must"])
    assert figure["met"]


@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_2000])
def test_both_ways_read_the_same_voxels_of_what_is_timed(
    dicom: ModuleType, syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "REPEATS", 1)
    hu = np.random.default_rng(0).integers(-1000, 1000, (3, 16, 16)).astype(np.int16)
    volume = Volume(hu, (1.0, 0.7, 0.7), np.diag([0.7, 0.7, 1.0, 1.0]))
    row = dicom.measure(volume, tmp_path, syntax)
    assert row["voxels_xyz"] == [16, 16, 3]
    assert row["ratio"] > 0
    monkeypatch.setattr(dicom, "by_simpleitk", lambda folder: (0.0, 0.0, hu + 1))
    with pytest.raises(AssertionError):
        dicom.measure(volume, tmp_path, syntax)
