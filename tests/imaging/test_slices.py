"""Slices that are not whole, not in HU, or there twice; and what looks like it and is sound."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ctscribe.imaging.slices import slice_fault
from tests.imaging.bodies import body


def chest(noise_hu: int = 5) -> NDArray[np.int16]:
    array = body().volume.array_zyx
    noise = np.random.default_rng(1).integers(-noise_hu, noise_hu + 1, array.shape)
    return np.clip(array + noise, -1024, 3071).astype(np.int16)


def fault(array: NDArray[np.int16]) -> tuple[str, str]:
    found = slice_fault(array)
    assert found is not None
    return found


def test_a_sound_chest_has_none() -> None:
    assert slice_fault(chest()) is None


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("value", [0, -1024])
def test_lines_that_were_never_copied(axis: int, value: int) -> None:
    array = chest()
    turned = np.moveaxis(array, axis, 1)
    turned[30, turned.shape[1] // 2 :] = value
    code, detail = fault(array)
    assert code == "blank"
    assert f"{'rows' if axis == 1 else 'columns'} of slice 31 hold nothing but {value} HU" in detail


def test_a_volume_filled_up_with_water() -> None:
    array = chest()
    array[60:] = 0
    code, detail = fault(array)
    assert (code, "slices 61, 62, 63, 64 and 8 more" in detail) == ("blank", True)


def test_padding_is_sound() -> None:
    """Slices of air around the scan, and rows of it outside a field of view of every slice."""
    array = chest()
    array[:4] = -1024
    array[-3:] = -2000
    array[:, :12] = -1024
    array[:, -12:] = -3024
    assert slice_fault(array) is None


@pytest.mark.parametrize("lost", [slice(20, 21), slice(20, 24), slice(20, None)])
@pytest.mark.parametrize("by", [1024, -1024, 150])
def test_slices_whose_intercept_is_lost(lost: slice, by: int) -> None:
    array = chest()
    array[lost] += by
    code, detail = fault(array)
    assert (code, f"20 to 21 by {'+' if by > 0 else '-'}" in detail) == ("not-hu", True)


def test_a_slice_whose_slope_is_applied_twice() -> None:
    array = chest()
    array[20] = (array[20] + 1024) * 2 - 1024
    assert fault(array)[0] == "not-hu"


def test_noise_and_thick_slices_do_not_jump() -> None:
    assert slice_fault(chest(noise_hu=200)) is None
    assert slice_fault(chest()[::4].copy()) is None


def test_a_slice_in_the_place_of_another() -> None:
    array = chest()
    array[41] = array[40]
    assert fault(array) == (
        "slices-missing",
        "slices 41 and 42 are equal to the last pixel: one stands in the place of another",
    )


def test_slices_doubled_by_resampling_are_none_missing() -> None:
    assert slice_fault(chest().repeat(2, axis=0)) is None
