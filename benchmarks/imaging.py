"""Time and memory from a CT's file to model input, beside MONAI: python benchmarks/imaging.py.

pip install monai itk first. Each image goes through ctscribe and through MONAI's own pipeline in
turn, in one process, with 2 threads and a warm page cache, and once more in a fresh process each,
for peak memory. One run writes results/imaging-cpu.json.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import SimpleITK as sitk  # noqa: N813
import torch
from machine import machine, short
from torch import Tensor

from ctscribe.files import write_atomically
from ctscribe.imaging.cache import Cache
from ctscribe.imaging.nifti import read_volume
from ctscribe.imaging.sample import fetch_sample, fetch_tumours
from ctscribe.imaging.volume import Volume
from ctscribe.model.encoder import EncoderConfig
from ctscribe.model.pooling import PoolingConfig
from ctscribe.training.data import to_input

OUT = Path(__file__).parent / "results" / "imaging-cpu.json"
THREADS = 2
REPEATS = 7
ENCODER = EncoderConfig()
FINE = replace(ENCODER, spacing_zyx_mm=(1.5, 1.5, 1.5))
SHAPE_ZYX, SPACING_ZYX_MM = (300, 512, 512), (1.0, 0.7, 0.7)
CACHED_ZYX = (100, 120, 160)  # of the input whose cached read must be fast
MUST = {"ratio_to_monai": 0.7, "peak_over_volume": 2.5, "cached_read_ms": 30.0}
PACKAGES = ("torch", "numpy", "SimpleITK", "isal", "monai", "itk", "nibabel")
HOW = {
    "seconds": f"median of {REPEATS} in turn, warm page cache, file to model input; ours with the "
    "chest check",
    "monai": "LoadImaged (int16), EnsureChannelFirstd, Orientationd, CropForegroundd to the body, "
    "Spacingd, ScaleIntensityRanged, DivisiblePadd; ratio_to_monai is to the faster reader",
    "peak": "high-water mark of a fresh process above its memory after imports",
    "cached": "key look-up and read of a prepared input, checksum and all",
}


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", nargs=3, metavar=("WAY", "SPACING", "FILE"), help="(own use)")
    parser.add_argument("--make", type=Path, help="write the phantom there and stop")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write the JSON")
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    if given.make:
        make_phantom(given.make)
    elif given.peak:
        way, spacing, file = given.peak
        print(json.dumps(peak_mb(way, FINE if spacing == "fine" else ENCODER, Path(file))))
    else:
        measure(given.out)


def measure(out: Path) -> None:
    """Every image, then the cache."""
    with tempfile.TemporaryDirectory(prefix="ctscribe-") as scratch:
        phantom = Path(scratch) / "phantom.nii.gz"
        _self("--make", phantom)
        images = {
            "phantom_512x512x300": (phantom, ENCODER),
            "phantom_512x512x300_to_1.5_mm": (phantom, FINE),
            "TotalSegmentator_sample": (fetch_sample().ct, ENCODER),
        }
        images |= {f"pyradiomics_{case.ct.stem}": (case.ct, ENCODER) for case in fetch_tumours()}
        rows = {name: measure_image(*image) for name, image in images.items()}
        cached = measure_cache(phantom, Path(scratch))
    first = rows["phantom_512x512x300"]
    values = {
        "ratio_to_monai": first["ratio_to_monai"],
        "peak_over_volume": first["peak_over_volume"],
        "cached_read_ms": cached["read_ms"],
    }
    figures = {
        key: {"value": value, "must": MUST[key], "met": value <= MUST[key]}
        for key, value in values.items()
    }
    found = {
        "date": time.strftime("%Y-%m-%d"),
        **machine(torch.device("cpu"), PACKAGES),
        "figures": figures,
        "images": rows,
        "cache": cached,
        "how": HOW,
    }
    write_atomically(out, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    print(f"{json.dumps(figures, indent=1)}\nwrote {out}")


def measure_image(file: Path, config: EncoderConfig) -> dict[str, Any]:
    """Seconds in turn, then peaks in processes of their own."""
    ways = ["ctscribe", "monai_itk"]
    ways += ["monai_nibabel"] if file.name.endswith(".nii.gz") else []
    prepare = {way: pipeline(way, config) for way in ways}
    inputs = {way: run(file) for way, run in prepare.items()}  # imports, page cache
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(REPEATS):
        for way, run in prepare.items():
            start = time.perf_counter()
            run(file)
            seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    spacing = "fine" if config == FINE else "encoder"
    peaks = {way: json.loads(_self("--peak", way, spacing, file)) for way in ways}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    voxels = int(np.prod(reader.GetSize()))
    row = {
        "voxels_xyz": list(reader.GetSize()),
        "file_mb": short(file.stat().st_size / 1e6),
        "spacing_zyx_mm": list(config.spacing_zyx_mm),
        "input_zyx": {way: list(image.shape[1:]) for way, image in inputs.items()},
        "seconds": {way: short(value) for way, value in medians.items()},
        "spread_seconds": {way: [short(min(t)), short(max(t))] for way, t in seconds.items()},
        "ratio_to_monai": short(
            medians["ctscribe"] / min(v for way, v in medians.items() if way != "ctscribe")
        ),
        "peak_mb": {way: short(value) for way, value in peaks.items()},
        "peak_over_volume": short(peaks["ctscribe"] * 1e6 / (4 * voxels)),
    }
    print(file.name, json.dumps(row), flush=True)
    return row


def pipeline(way: str, config: EncoderConfig) -> Callable[[Path], Tensor]:
    """From a file to model input; MONAI's axes are RAS, (x, y, z), ours (z, y, x)."""
    if way == "ctscribe":
        return lambda file: (
            to_input(read_volume(file), "benchmark", file, config, PoolingConfig()).image
        )
    import itk
    from monai import transforms as t

    itk.set_nthreads(THREADS)
    reader = {"monai_itk": "ITKReader", "monai_nibabel": "NibabelReader"}[way]
    spacing_xyz = config.spacing_zyx_mm[::-1]
    low, high = config.window_hu
    steps = t.Compose(
        [
            # int16 is faster and leaner than the default float32.
            t.LoadImaged("image", reader=reader, dtype=np.int16, image_only=True),
            t.EnsureChannelFirstd("image"),
            t.Orientationd("image", "RAS", labels=None),
            t.CropForegroundd("image", "image", select_fn=lambda hu: hu > -500, margin=16),
            t.Spacingd("image", spacing_xyz, mode="bilinear", padding_mode="border"),
            t.ScaleIntensityRanged("image", low, high, -1, 1, clip=True),
            t.DivisiblePadd("image", config.multiple[::-1], constant_values=-1),
        ]
    )
    return lambda file: steps({"image": str(file)})["image"]


def peak_mb(way: str, config: EncoderConfig, file: Path) -> float:
    """Memory of one preparation above what the process had after its imports, in this process."""
    run = pipeline(way, config)
    before = psutil.Process().memory_info().rss
    run(file)
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent had as well
        (peak_kib,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return (int(peak_kib) * 1024 - before) / 1e6
    return float(psutil.Process().memory_info().peak_wset - before) / 1e6  # Windows


def measure_cache(file: Path, scratch: Path) -> dict[str, Any]:
    """A cached read as encode_rows does it, and what the first read costs."""
    cache = Cache(scratch / "cache")
    seconds = {}
    start = time.perf_counter()
    cache.entry(file)
    seconds["first_look"] = time.perf_counter() - start
    image = torch.rand(1, *CACHED_ZYX) * 2 - 1
    start = time.perf_counter()
    cache.entry(file).tensors("benchmark", lambda: {"image": image})
    seconds["write"] = time.perf_counter() - start
    looks, reads = [], []
    for _ in range(50):
        start = time.perf_counter()
        entry = cache.entry(file)
        looks.append(time.perf_counter() - start)
        kept = entry.tensors("benchmark", lambda: {"image": torch.zeros(1)})["image"]
        reads.append(time.perf_counter() - start)
        assert kept.equal(image)
    return {
        "input_zyx": list(CACHED_ZYX),
        "read_ms": short(1e3 * statistics.median(reads)),
        "slowest_read_ms": short(1e3 * max(reads)),
        "key_look_up_ms": short(1e3 * statistics.median(looks)),
        **{f"{name}_ms": short(1e3 * value) for name, value in seconds.items()},
    }


def make_phantom(path: Path) -> None:
    """A phantom of SHAPE_ZYX with a real scan's noise, stored as dcm2niix does (LAS, int16)."""
    from ctscribe.phantom.render import render, sample_study

    study = sample_study(5, 5)
    drawn = render(
        study.anatomy, study.lesions, shape_zyx=SHAPE_ZYX, spacing_zyx_mm=SPACING_ZYX_MM, seed=5
    )
    hu = drawn.hu_zyx.round().to(torch.int16).numpy()
    z, y, x = SPACING_ZYX_MM
    las = np.diag([-x, y, z, 1.0])
    write_las(Volume(hu[:, :, ::-1], SPACING_ZYX_MM, las), path)


def write_las(volume: Volume, path: Path) -> None:
    """As `write_volume`, but compressed as other programs do by default."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array_zyx))
    image.SetSpacing(volume.spacing_zyx_mm[::-1])
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=6)


def _self(*arguments: object) -> str:
    """Run this file once more, in a fresh process; what it printed last."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


if __name__ == "__main__":
    main()
