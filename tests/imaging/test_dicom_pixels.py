from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ctscribe.errors import ImageError
from ctscribe.imaging.dicom import read_series
from ctscribe.phantom import dicom as phantom
from tests.imaging.series import SYNTAXES, assert_same, read, refusal, scan, small


def test_rubbish_above_the_stored_bits_is_dropped(tmp_path: Path) -> None:
    volume = small()

    def rubbish(data: Dataset, at: int) -> None:
        stored = np.frombuffer(data.PixelData, np.uint16)
        data.PixelData = (stored | np.uint16(0xA000)).tobytes()

    phantom.write_series(volume, tmp_path, signed=False, bits_stored=12, change=rubbish)
    assert_same(read(tmp_path).volume, volume)


def test_twelve_signed_bits_keep_their_sign(tmp_path: Path) -> None:
    volume = small()

    def without_sign(data: Dataset, at: int) -> None:
        data.PixelData = (np.frombuffer(data.PixelData, np.uint16) & 0xFFF).tobytes()

    phantom.write_series(
        volume, tmp_path, slopes=((1.0, 0.0),), bits_stored=12, change=without_sign
    )
    assert_same(read(tmp_path).volume, volume)


def test_bits_may_lie_high(tmp_path: Path) -> None:
    def high(data: Dataset, at: int) -> None:
        data.PixelData = (np.frombuffer(data.PixelData, np.uint16) << 4 | 5).tobytes()
        data.HighBit = 15

    phantom.write_series(small(), tmp_path, signed=False, bits_stored=12, change=high)
    assert_same(read(tmp_path).volume, small())


def test_eight_bits_with_a_slope_are_hu(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:] = volume.array_zyx // 16 * 16
    phantom.write_series(
        volume, tmp_path, bits_allocated=8, signed=False, slopes=((16.0, -1024.0),)
    )
    assert_same(read(tmp_path).volume, volume)


def test_monochrome1_shows_darker_but_holds_the_same_hu(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tags={"PhotometricInterpretation": "MONOCHROME1"})
    assert_same(read(tmp_path).volume, small())


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_becomes_air(vr: str, value: int, tmp_path: Path) -> None:
    padded = small()
    padded.array_zyx[:, :3, :4] = -1024
    volume = small()
    volume.array_zyx[:, :3, :4] = -2000 - 1024
    phantom.write_series(
        volume, tmp_path, change=lambda data, at: data.add_new(0x00280120, vr, value)
    )
    assert_same(read(tmp_path).volume, padded)


def test_padding_that_would_overflow_becomes_air(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:, :3, :4] = -31768
    phantom.write_series(
        volume,
        tmp_path,
        slopes=((1.0, 1000.0),),
        change=lambda data, at: (
            data.add_new(0x00280120, "SS", -32768),
            setattr(data, "RescaleIntercept", "-1024"),
        ),
    )
    found = read(tmp_path).volume
    assert found.array_zyx.dtype == np.int16
    assert (found.array_zyx[:, :3, :4] == -1024).all()
    assert np.array_equal(found.array_zyx[:, 3:], volume.array_zyx[:, 3:] - 2024)


def test_declared_padding_that_pixels_do_not_hold_changes_nothing(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:, :3, :4] = -2000
    phantom.write_series(
        volume, tmp_path, change=lambda data, at: data.add_new(0x00280120, "SS", -32768)
    )
    assert_same(read(tmp_path).volume, volume)


def test_padding_in_tissues_range_counts_outside_the_body_alone(tmp_path: Path) -> None:
    """Zero is padding in the corners and water in the middle."""
    volume = small()
    volume.array_zyx[volume.array_zyx == 0] = 1
    for y, x in itertools.product((slice(0, 2), slice(-2, None)), repeat=2):
        volume.array_zyx[:, y, x] = 0
    volume.array_zyx[:, 4, 6] = 0
    phantom.write_series(
        volume,
        tmp_path,
        slopes=((1.0, 0.0),),
        change=lambda data, at: data.add_new(0x00280120, "SS", 0),
    )
    found = read(tmp_path).volume.array_zyx
    assert (found[:, :2, :2] == -1024).all()
    assert (found[:, 4, 6] == 0).all()


def test_one_corner_of_padding_in_tissues_range_changes_nothing(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[volume.array_zyx == 0] = 1
    volume.array_zyx[:, :2, :2] = 0
    phantom.write_series(
        volume,
        tmp_path,
        slopes=((1.0, 0.0),),
        change=lambda data, at: data.add_new(0x00280120, "SS", 0),
    )
    assert_same(read(tmp_path).volume, volume)


def test_blank_slices_are_named(tmp_path: Path) -> None:
    def blank(data: Dataset, at: int) -> None:
        if at in (3, 8):
            data.PixelData = bytes(len(data.PixelData))

    phantom.write_series(small(), tmp_path, change=blank)
    error = refusal(tmp_path)
    assert error.code == "blank"
    assert "2 of 12" in error.reason
    assert "CT0003.dcm, CT0008.dcm" in error.reason


def test_a_slice_of_padding_alone_is_blank(tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[4] = -3000 + volume.array_zyx[4] % 2

    def declare(data: Dataset, at: int) -> None:
        data.add_new(0x00280120, "SS", -1976)
        data.add_new(0x00280121, "SS", -1975)

    phantom.write_series(volume, tmp_path, change=declare)
    error = refusal(tmp_path)
    assert error.code == "blank"
    assert "CT0004.dcm" in error.reason


def test_pixels_without_slope_are_not_hu(tmp_path: Path) -> None:
    def lost(data: Dataset, at: int) -> None:
        del data.RescaleSlope, data.RescaleIntercept

    phantom.write_series(small(), tmp_path, signed=False, change=lost)
    assert "not Hounsfield" in refusal(tmp_path).reason


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_an_unknown_syntax_is_named(syntax: str, name: str, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    (series,) = scan(tmp_path).series
    changed = tuple(
        replace(one, pixels=replace(one.pixels, syntax=syntax)) for one in series.instances
    )
    with pytest.raises(ImageError, match="stored as") as caught:
        read_series(replace(series, instances=changed))
    assert caught.value.code == "syntax-unsupported"
    assert name in str(caught.value)


def test_loss_is_a_warning(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tags={"LossyImageCompression": "01"})
    found = read(tmp_path)
    assert_same(found.volume, small())
    (warning,) = found.problems
    assert (warning.code, warning.severity) == ("syntax-lossy", "warning")
    assert "12 of 12" in warning.detail


def test_colour_is_refused(tmp_path: Path) -> None:
    phantom.write_secondary_capture(tmp_path)
    (series,) = scan(tmp_path).series
    twice = replace(
        series,
        instances=tuple(
            replace(
                series.instances[0],
                position_mm=(0.0, 0.0, z),
                orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                spacing_yx_mm=(1.0, 1.0),
            )
            for z in (0.0, 1.0)
        ),
    )
    with pytest.raises(ImageError, match="colours"):
        read_series(twice)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_cut_file_is_never_read(syntax: str, share: float, tmp_path: Path) -> None:
    """Whatever the syntax: at the scan or at the reading, never zeros."""
    paths = phantom.write_series(small((3, 40, 48)), tmp_path, syntax=syntax)
    data = paths[2].read_bytes()
    tag = b"\x7f\xe0\0\x10" if syntax == phantom.BIG_ENDIAN else b"\xe0\x7f\x10\0"
    start = 400 if syntax == phantom.DEFLATED else data.rindex(tag)
    paths[2].write_bytes(data[: start + int((len(data) - start) * share)])
    error = refusal(tmp_path)
    assert error.code == "unreadable"
    assert error.file == str(paths[2])
