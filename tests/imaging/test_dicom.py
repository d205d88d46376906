from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from ctscribe.errors import ImageError
from ctscribe.imaging.dicom import read_series, scan_files
from ctscribe.imaging.nifti import read_volume, write_volume
from ctscribe.imaging.volume import Volume
from ctscribe.phantom import dicom as phantom
from tests.imaging.series import SYNTAXES, assert_same, only_series, read, small

AXES = [
    "".join(letters)
    for pairs in itertools.permutations(("LR", "PA", "SI"))
    for letters in itertools.product(*pairs)
]


@pytest.mark.parametrize("axes", AXES)
def test_any_orientation_is_the_same_volume(axes: str, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, axes=axes)
    assert_same(read(tmp_path).volume, small())


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_lossless_syntax_is_the_same_volume(syntax: str, signed: bool, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path / "plain", syntax=syntax, signed=signed)
    found = read(tmp_path / "plain")
    assert_same(found.volume, small())
    assert found.problems == ()


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_multi_frame_is_read_by_each_frames_own_position_and_slope(
    syntax: str, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(12).tolist()
    slopes = ((1.0, -1024.0), (0.5, 0.0), (0.25, -7.0))
    phantom.write_enhanced(small(), tmp_path / "a.dcm", syntax=syntax, order=order, slopes=slopes)
    found = read(tmp_path)
    assert_same(found.volume, small())
    assert [problem.code for problem in found.problems] == ["slope-varies"]


@st.composite
def stored(draw: Any) -> dict[str, Any]:
    """A small volume, oblique or not, and one of the ways to store it."""
    shape = tuple(draw(st.lists(st.integers(2, 6), min_size=3, max_size=3)))
    spacing = tuple(
        draw(st.lists(st.sampled_from([0.5, 0.703125, 1.25, 3.0]), min_size=3, max_size=3))
    )
    seed = draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    slope = draw(st.sampled_from([1.0, 2.0, 0.5]))
    hu = (slope * rng.integers(-500, 1000, shape)).astype(np.float32)
    hu.flat[0] = -1000 * slope  # so that it is Hounsfield
    turn, _ = np.linalg.qr(np.eye(3) + rng.normal(0, draw(st.sampled_from([0, 0.05])), (3, 3)))
    turn *= np.sign(np.diag(turn))
    if np.linalg.det(turn) < 0:
        turn[:, 2] *= -1
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing[::-1]
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    signed = draw(st.booleans())
    return {
        "volume": Volume(hu, spacing, affine),
        "axes": draw(st.sampled_from(AXES)),
        "signed": signed,
        "slopes": ((slope, -1000 * slope), (slope, 0.0 if signed else -1500 * slope)),
        "order": draw(st.permutations(range(max(shape)))),
    }


@settings(max_examples=40, deadline=None)
@given(stored())
def test_dicom_and_nifti_of_one_volume_are_equal(case: dict[str, Any]) -> None:
    volume = case.pop("volume")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phantom.write_series(volume, folder / "dicom", **case)
        write_volume(volume, folder / "a.nii")
        expected = read_volume(folder / "a.nii")
        assert_same(read(folder / "dicom").volume, expected)
        assert np.array_equal(expected.array_zyx, volume.array_zyx)


def test_order_is_by_position_whatever_names_and_numbers_say(tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(12).tolist()
    phantom.write_series(small(), tmp_path, order=order, tags={"SliceThickness": "5"})
    found = read(tmp_path).volume
    assert_same(found, small())
    assert found.spacing_zyx_mm[0] == 2.5  # the step, not the thickness


def test_rounded_positions_are_one_even_grid(tmp_path: Path) -> None:
    """0.625 mm written as 0.6, 1.3, 1.9, as some scanners do."""
    volume = replace(small((60, 9, 14)), spacing_zyx_mm=(0.625, 0.8, 0.7))
    volume.affine[2, 2] = 0.625

    def rounded(data: Dataset, _at: int) -> None:
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y, f"{float(z):.1f}"]

    phantom.write_series(volume, tmp_path, change=rounded)
    assert read(tmp_path).volume.spacing_zyx_mm[0] == pytest.approx(0.625, abs=0.002)


@pytest.mark.parametrize("slopes", [((1.0, -1024.0), (0.5, -100.0)), ((2.0, -1024.0), (1.0, 0.0))])
def test_each_slice_has_its_own_slope(slopes: Any, tmp_path: Path) -> None:
    volume = small()
    volume.array_zyx[:] = volume.array_zyx // 2 * 2
    phantom.write_series(volume, tmp_path, slopes=slopes)
    found = read(tmp_path)
    assert_same(found.volume, volume)
    (note,) = found.problems
    assert (note.code, note.severity, note.case) == ("slope-varies", "note", "case-7")
    assert f"{slopes[1][0]:g}" in note.detail


def test_fractions_of_hu_stay(tmp_path: Path) -> None:
    volume = small()
    volume = replace(volume, array_zyx=(volume.array_zyx + np.float32(0.25)).astype(np.float32))
    phantom.write_series(volume, tmp_path, slopes=((0.25, -1024.0),), bits_allocated=16)
    assert_same(read(tmp_path).volume, volume)


def test_a_file_that_vanished_since_the_scan_is_named(tmp_path: Path) -> None:
    paths = phantom.write_series(small(), tmp_path)
    series = only_series(tmp_path)
    paths[5].unlink()
    with pytest.raises(ImageError, match=r"CT0005\.dcm: it cannot be read"):
        read_series(series)


def test_too_many_voxels_are_refused_before_any_is_read(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    series = only_series(tmp_path)
    vast = tuple(
        replace(one, pixels=replace(one.pixels, rows=16000, columns=16000))
        for one in series.instances
    )
    with pytest.raises(ImageError, match="16000 x 16000 x 12") as caught:
        read_series(replace(series, instances=vast))
    assert caught.value.code == "too-large"


def test_chinese_spaces_and_long_paths_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "张 三" / ("很长的文件夹名" * 5) / ("x" * 120) / ("y" * 120)
    for syntax in (phantom.EXPLICIT, phantom.JPEG_2000):
        phantom.write_series(small(), folder, syntax=syntax, name="影像 {:04d}.dcm")
        assert len(str(folder)) > 260
        assert_same(read(folder).volume, small())


def test_sources_are_left_as_they_were(tmp_path: Path) -> None:
    paths = phantom.write_series(small(), tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    series = scan_files(paths).series[0]
    read_series(series)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)
