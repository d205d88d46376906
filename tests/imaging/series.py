"""A small volume whose every flip shows, and reading a folder of DICOM."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctscribe.errors import ImageError
from ctscribe.imaging.dicom import Scan, Series, SeriesVolume, read_series, scan_files
from ctscribe.imaging.volume import Volume
from ctscribe.phantom import dicom as phantom

SPACING_ZYX = (2.5, 0.8, 0.7)
SYNTAXES = [
    phantom.IMPLICIT,
    phantom.EXPLICIT,
    phantom.DEFLATED,
    phantom.BIG_ENDIAN,
    phantom.RLE,
    phantom.JPEG_LOSSLESS,
    phantom.JPEG_2000,
]


def small(shape_zyx: tuple[int, int, int] = (12, 9, 14), seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1024, 2000, shape_zyx).astype(np.int16)
    affine = np.diag([*SPACING_ZYX[::-1], 1.0])
    affine[:3, 3] = (-100.5, 20.25, -300.0)
    return Volume(hu, SPACING_ZYX, affine)


def scan(folder: Path) -> Scan:
    return scan_files(sorted(path for path in folder.rglob("*") if path.is_file()))


def only_series(folder: Path) -> Series:
    found = scan(folder)
    (series,) = found.series
    assert found.problems == (), found.problems
    return series


def read(folder: Path) -> SeriesVolume:
    return read_series(only_series(folder), case="case-7")


def refusal(folder: Path) -> ImageError:
    """The error that the one series of a folder ends in."""
    (series,) = scan(folder).series
    try:
        read_series(series, case="case-7")
    except ImageError as error:
        message = str(error)
        assert message.startswith("case case-7, "), message
        assert "Fix: " in message, message
        assert "\n" not in message, message
        return error
    raise AssertionError("it was read")


def assert_same(found: Volume, expected: Volume) -> None:
    assert found.array_zyx.dtype == expected.array_zyx.dtype
    assert np.array_equal(found.array_zyx, expected.array_zyx)
    np.testing.assert_allclose(found.spacing_zyx_mm, expected.spacing_zyx_mm, atol=1e-5)
    np.testing.assert_allclose(found.affine, expected.affine, atol=2e-3)
