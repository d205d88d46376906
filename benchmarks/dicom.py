"""Time from a folder of DICOM to a volume, beside SimpleITK's reader: python benchmarks/dicom.py.

A phantom of 300 slices is written uncompressed, and every fifth slice of it as JPEG 2000 and as
lossless JPEG. Each series goes through ctscribe and through SimpleITK in turn, in one process with
a warm page cache. One run writes results/dicom.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from machine import machine, short
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ctscribe.files import write_atomically
from ctscribe.imaging.dicom import read_series, scan_files
from ctscribe.imaging.volume import Volume
from ctscribe.phantom import dicom as phantom

OUT = Path(__file__).parent / "results" / "dicom.json"
SHAPE_ZYX, SPACING_ZYX_MM = (300, 512, 512), (1.0, 0.7, 0.7)
REPEATS = 7
PRIVATE = 150
MUST = {"dicom_read_ratio": 1.2}
PACKAGES = ("numpy", "SimpleITK", "pydicom")
SERIES = {  # syntax, and every which slice is written
    "uncompressed": (phantom.EXPLICIT, 1),
    "jpeg_2000_lossless": (phantom.JPEG_2000, 5),
    "jpeg_lossless": (phantom.JPEG_LOSSLESS, 5),
}
HOW = {
    "seconds": f"median of {REPEATS} in turn, warm page cache, both give the same voxels",
    "ctscribe": "scan_files and read_series, every check of theirs included",
    "SimpleITK": "ImageSeriesReader.GetGDCMSeriesFileNames and Execute",
    "ratio": "of the two steps together; read_ratio of read_series to Execute alone",
    "headers": f"{PRIVATE} private elements beside the image's own, as scanners write",
}


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="where to write the JSON")
    given = parser.parse_args()
    volume = chest()
    rows = {}
    for name, (syntax, every) in SERIES.items():
        part = replace(volume, array_zyx=volume.array_zyx[::every])
        with tempfile.TemporaryDirectory(prefix="ctscribe-") as scratch:
            rows[name] = measure(part, Path(scratch), syntax)
        print(name, json.dumps(rows[name]), flush=True)
    value = rows["uncompressed"]["ratio"]
    must = MUST["dicom_read_ratio"]
    found = {
        "date": time.strftime("%Y-%m-%d"),
        **machine(torch.device("cpu"), PACKAGES),
        "figures": {"dicom_read_ratio": {"value": value, "must": must, "met": value <= must}},
        "series": rows,
        "how": HOW,
    }
    write_atomically(given.out, (json.dumps(found, indent=1) + "\n").encode())
    print(f"{json.dumps(found['figures'], indent=1)}\nwrote {given.out}")


def measure(volume: Volume, folder: Path, syntax: str) -> dict[str, Any]:
    """Both ways in turn through one series."""
    order = np.random.default_rng(0).permutation(len(volume.array_zyx)).tolist()
    files = phantom.write_series(volume, folder, syntax=syntax, order=order, change=as_scanners)
    ways: dict[str, Callable[[Path], tuple[float, float, NDArray[Any]]]] = {
        "ctscribe": by_ctscribe,
        "SimpleITK": by_simpleitk,
    }
    for run in ways.values():  # page cache
        assert np.array_equal(run(folder)[2], volume.array_zyx)
    look: dict[str, list[float]] = {way: [] for way in ways}
    read: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(REPEATS):
        for way, run in ways.items():
            looked, done, _array = run(folder)
            look[way].append(looked)
            read[way].append(done)
    both = {way: [a + b for a, b in zip(look[way], read[way], strict=True)] for way in ways}
    medians = {way: statistics.median(times) for way, times in both.items()}
    reads = {way: statistics.median(times) for way, times in read.items()}
    z, y, x = volume.array_zyx.shape
    return {
        "voxels_xyz": [x, y, z],
        "mb": short(sum(file.stat().st_size for file in files) / 1e6),
        "seconds": {way: short(value) for way, value in medians.items()},
        "spread_seconds": {way: [short(min(t)), short(max(t))] for way, t in both.items()},
        "read_seconds": {way: short(value) for way, value in reads.items()},
        "ratio": short(medians["ctscribe"] / medians["SimpleITK"]),
        "read_ratio": short(reads["ctscribe"] / reads["SimpleITK"]),
    }


def as_scanners(data: Dataset, _at: int) -> None:
    """Add what a maker puts into its headers."""
    data.add_new(0x00190010, "LO", "CTSCRIBE PHANTOM")
    for element in range(PRIVATE):
        data.add_new(0x00191000 + element, "DS", f"{element}.25")


def by_ctscribe(folder: Path) -> tuple[float, float, NDArray[Any]]:
    """Seconds of the scan and of the reading, and the voxels."""
    start = time.perf_counter()
    (series,) = scan_files(folder.iterdir()).series
    middle = time.perf_counter()
    volume = read_series(series).volume
    return middle - start, time.perf_counter() - middle, volume.array_zyx


def by_simpleitk(folder: Path) -> tuple[float, float, NDArray[Any]]:
    """The same; turned to the house's axes after the clock has stopped."""
    start = time.perf_counter()
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    middle = time.perf_counter()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    image = reader.Execute()
    end = time.perf_counter()
    return middle - start, end - middle, sitk.GetArrayFromImage(image)[:, ::-1, ::-1]


def chest() -> Volume:
    """A phantom of SHAPE_ZYX with a real scan's noise."""
    from ctscribe.phantom.render import render, sample_study

    study = sample_study(5, 5)
    drawn = render(
        study.anatomy, study.lesions, shape_zyx=SHAPE_ZYX, spacing_zyx_mm=SPACING_ZYX_MM, seed=5
    )
    z, y, x = SPACING_ZYX_MM
    hu = drawn.hu_zyx.round().to(torch.int16).numpy()
    return Volume(hu, SPACING_ZYX_MM, np.diag([x, y, z, 1.0]))


if __name__ == "__main__":
    main()
