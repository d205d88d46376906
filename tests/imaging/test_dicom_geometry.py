from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ctscribe.phantom import dicom as phantom
from tests.imaging.series import assert_same, read, refusal, small


@pytest.mark.parametrize("skip", [(4,), (3, 4, 8)])
def test_missing_slices_are_counted_and_named(skip: tuple[int, ...], tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=skip)
    error = refusal(tmp_path)
    assert error.code == "slices-missing"
    assert f"{len(skip)} slice" in error.reason
    assert "missing of 12" in error.reason
    first, last = f"CT{skip[0] - 1:04d}.dcm", f"CT{skip[0] + len(skip[:2]):04d}.dcm"
    assert first in error.reason
    assert last in error.reason


def test_gaps_are_seen_where_most_steps_are_double(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=(1, 3, 5, 9))
    assert refusal(tmp_path).code == "slices-missing"


@pytest.mark.parametrize(("slice_at", "mm"), [(5, 0.9), (0, -1.0), (11, 0.6)])
def test_uneven_slices_are_refused(slice_at: int, mm: float, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, shift_mm={slice_at: mm})
    error = refusal(tmp_path)
    assert error.code == "uneven-slices"
    assert " mm off" in error.reason


def test_a_spacing_that_changes_halfway_is_uneven(tmp_path: Path) -> None:
    shifts = {at: 0.25 * max(0, at - 6) for at in range(12)}
    phantom.write_series(small(), tmp_path, shift_mm=shifts)
    assert refusal(tmp_path).code == "uneven-slices"


@pytest.mark.parametrize("degrees", [-20.0, 1.0, 12.5])
def test_a_tilted_gantry_is_refused_with_its_angle(degrees: float, tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tilt_deg=degrees)
    error = refusal(tmp_path)
    assert error.code == "gantry-tilt"
    assert f"{abs(degrees):.1f} degrees" in error.reason


def test_a_tilt_within_rounding_is_none(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, tilt_deg=0.2)
    assert_same(read(tmp_path).volume, small())


def test_a_slice_shifted_in_its_plane_is_refused(tmp_path: Path) -> None:
    def shifted(data: Dataset, at: int) -> None:
        if at == 6:
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [f"{float(x) + 8:.3f}", y, z]

    phantom.write_series(small(), tmp_path, change=shifted)
    error = refusal(tmp_path)
    assert error.code == "uneven-slices"
    assert "sideways" in error.reason


def second_copy(folder: Path, at: int, change: Any = None) -> None:
    """Slice `at` once more in another file."""

    def altered(data: Dataset, index: int) -> None:
        data.SOPInstanceUID = phantom.uid_of("again", index)
        if change is not None:
            change(data)

    others = [index for index in range(12) if index != at]
    phantom.write_series(small(), folder, skip=others, name="again{:04d}.dcm", change=altered)


def test_equal_duplicates_are_kept_once(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4)
    second_copy(tmp_path, 0)
    found = read(tmp_path)
    assert_same(found.volume, small())
    (note,) = found.problems
    assert note.code == "slices-duplicate"
    assert note.detail.startswith("2 slices came")


def test_equal_pixels_with_another_slope_conflict(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4, lambda data: setattr(data, "RescaleIntercept", "-1000"))
    assert refusal(tmp_path).code == "slices-conflict"


def test_one_pixel_makes_a_conflict(tmp_path: Path) -> None:
    def one_pixel(data: Dataset) -> None:
        data.PixelData = data.PixelData[:-1] + bytes([data.PixelData[-1] ^ 1])

    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4, one_pixel)
    error = refusal(tmp_path)
    assert error.code == "slices-conflict"
    assert error.reason.endswith("differ in 1 pixel")
    assert {"CT0004.dcm", "again0004.dcm"} <= set(error.reason.split())


def test_a_second_reconstruction_of_another_field_of_view_conflicts(tmp_path: Path) -> None:
    def moved(data: Dataset) -> None:
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [f"{float(x) + 0.3:.3f}", y, z]

    phantom.write_series(small(), tmp_path)
    second_copy(tmp_path, 4, moved)
    assert "in plane" in refusal(tmp_path).reason


@pytest.mark.parametrize(
    ("keyword", "code"),
    [
        ("ImagePositionPatient", "no-geometry"),
        ("ImageOrientationPatient", "no-geometry"),
        ("PixelSpacing", "spacing"),
    ],
)
def test_geometry_is_never_guessed(keyword: str, code: str, tmp_path: Path) -> None:
    def without(data: Dataset, at: int) -> None:
        if at == 5:
            delattr(data, keyword)

    phantom.write_series(small(), tmp_path, change=without)
    error = refusal(tmp_path)
    assert error.code == code
    assert error.file == str(tmp_path / "CT0005.dcm")
    assert "1 of 12" in error.reason


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no-geometry"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "no-geometry"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "not-3d"),
        ({"PixelSpacing": ["0.9", "0.9"]}, "spacing"),
        ({"PixelSpacing": ["0", "0"]}, "spacing"),
    ],
)
def test_a_slice_that_lies_otherwise_is_refused(
    tags: dict[str, Any], code: str, tmp_path: Path
) -> None:
    def other(data: Dataset, at: int) -> None:
        if at == 7:
            for keyword, value in tags.items():
                setattr(data, keyword, value)

    phantom.write_series(small(), tmp_path, change=other)
    error = refusal(tmp_path)
    assert (error.code, error.file) == (code, str(tmp_path / "CT0007.dcm"))


def test_slices_of_two_sizes_are_refused(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=(3,))
    volume = small((12, 9, 13))
    others = [at for at in range(12) if at != 3]
    phantom.write_series(volume, tmp_path, skip=others)
    error = refusal(tmp_path)
    assert error.code == "not-3d"
    assert error.file == str(tmp_path / "CT0003.dcm")


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, skip=range(1, 12))
    assert refusal(tmp_path).code == "not-3d"


def of_slice(at: int, keyword: str, value: Any) -> Any:
    """Set an element of that slice, of every slice for -1."""

    def change(data: Dataset, index: int) -> None:
        if at in (index, -1):
            setattr(data, keyword, value)

    return change


def moved(at: int, x_mm: float) -> Any:
    def change(data: Dataset, index: int) -> None:
        if index == at:
            x, y, z = map(float, data.ImagePositionPatient)
            data.ImagePositionPatient = [f"{x + x_mm:.3f}", f"{y:.3f}", f"{z:.3f}"]

    return change


ORIENTATION, SPACING = "ImageOrientationPatient", "PixelSpacing"


@pytest.mark.parametrize(
    ("made", "code"),
    [
        # A step is 2.5 mm, so a slice may lie 0.25 mm off.
        ({"shift_mm": {5: 0.2}}, ""),
        ({"shift_mm": {5: 0.32}}, "uneven-slices"),
        # One is missing, whatever the rounding of the others; 1.6 steps are no whole number.
        ({"skip": (9,), "shift_mm": {5: -0.24}}, "slices-missing"),
        ({"skip": (4,), "shift_mm": {at: 0.25 for at in range(5, 12)}}, "slices-missing"),
        ({"shift_mm": {at: 1.5 for at in range(6, 12)}}, "uneven-slices"),
        ({"tilt_deg": 0.45}, ""),
        ({"tilt_deg": 0.6}, "gantry-tilt"),
        ({"tilt_deg": 1.0, "skip": range(3, 12)}, ""),  # 0.09 mm: rounding
        ({"change": moved(6, 0.3)}, ""),
        ({"change": moved(6, 1.0)}, "uneven-slices"),
        ({"change": of_slice(7, ORIENTATION, [1, 0.001, 0, -0.001, 1, 0])}, ""),
        ({"change": of_slice(7, ORIENTATION, [1, 0.01, 0, -0.01, 1, 0])}, "not-3d"),
        ({"change": of_slice(-1, ORIENTATION, [1.2, 0, 0, 0, 1, 0])}, "no-geometry"),
        ({"change": of_slice(7, SPACING, ["0.81", "0.7"])}, "spacing"),
        ({"change": of_slice(-1, SPACING, ["0", "0"])}, "spacing"),
    ],
    # A function's own name would differ between the processes of a run.
    ids=map(str, range(15)),
)
def test_where_rounding_ends_and_a_fault_begins(
    made: dict[str, Any], code: str, tmp_path: Path
) -> None:
    phantom.write_series(small(), tmp_path, **made)
    if code:
        assert refusal(tmp_path).code == code
    else:
        assert read(tmp_path).problems == ()


def test_thin_slices_may_lie_off_by_what_positions_are_rounded_to(tmp_path: Path) -> None:
    thin = replace(small(), affine=small().affine @ np.diag([1, 1, 0.2, 1]))
    phantom.write_series(thin, tmp_path, shift_mm={5: 0.08})
    assert read(tmp_path).problems == ()


def test_the_step_is_that_of_the_whole_stack(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path, shift_mm={11: 0.2})
    assert read(tmp_path).volume.spacing_zyx_mm[0] == pytest.approx(2.5 + 0.2 / 11, abs=1e-4)
