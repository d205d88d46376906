from __future__ import annotations

import base64
import io

import matplotlib.image
import numpy as np
import pytest

from ctscribe.imaging.render import Circle, slice_png, three_planes
from ctscribe.imaging.volume import Volume

SPACING = (5.0, 1.0, 2.0)
AFFINE = np.diag([2.0, 1.0, 5.0, 1.0])


def volume() -> Volume:
    hu = np.full((3, 60, 50), -1000, np.int16)
    hu[1, 45:55, 38:46] = 300  # patient's right (high x), front (high y)
    return Volume(hu, SPACING, AFFINE)


def pixels(png: str) -> np.ndarray:
    """(rows, columns, 3), 0 to 1."""
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(png)), format="png")[..., :3]


def coloured(image: np.ndarray) -> np.ndarray:
    return np.argwhere(image.max(-1) - image.min(-1) > 0.3)


def test_patient_right_is_on_the_viewers_left_and_front_is_up() -> None:
    image = pixels(slice_png(volume(), 1))
    rows, columns = np.nonzero(image.mean(-1) > 0.9)
    height, width = image.shape[:2]
    assert rows.max() < height / 2
    assert columns.max() < width / 2
    assert height / width == pytest.approx(60 * 1.0 / (50 * 2.0), abs=0.01)
    assert pixels(slice_png(volume(), 0)).mean() < 0.3


def test_a_mask_is_outlined_where_it_lies() -> None:
    mask = np.zeros((3, 60, 50), np.uint8)
    mask[1, 45:55, 38:46] = 1
    image = pixels(slice_png(volume(), 1, contour=mask))
    ring = coloured(image)
    bright = np.argwhere(image.mean(-1) > 0.9)
    assert np.abs(ring.min(0) - bright.min(0)).max() < 10
    assert np.abs(ring.max(0) - bright.max(0)).max() < 10
    assert len(coloured(pixels(slice_png(volume(), 0, contour=mask)))) == 0
    with pytest.raises(ValueError, match="contour"):
        slice_png(volume(), 1, contour=mask[:, 1:])


def test_a_circle_is_drawn_round_in_millimetres() -> None:
    circle = Circle((2.0 * 30, 40.0, 5.0), 12.0)
    ring = coloured(pixels(slice_png(volume(), 1, contour=circle, width_px=500)))
    high, wide = np.ptp(ring, axis=0)
    per_mm = 500 / 100
    assert high / per_mm == pytest.approx(24, abs=1)
    assert wide / per_mm == pytest.approx(24, abs=1)


def test_a_crop_shows_that_part() -> None:
    png = slice_png(volume(), 1, crop=(slice(40, 60), slice(36, 48)))
    image = pixels(png)
    assert image.shape[0] / image.shape[1] == pytest.approx(20 / 24, abs=0.01)
    assert (image.mean(-1) > 0.9).mean() > 0.25


def test_a_slice_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        slice_png(volume(), 3)


def test_three_planes_show_head_and_front_up_and_the_right_on_the_viewers_left() -> None:
    array = np.full((20, 24, 28), -1000, np.int16)
    array[12:, 10:, 12:] = 400  # to the head, the front and the right
    volume = Volume(array, (3.0, 3.0, 3.0), np.diag([3.0, 3.0, 3.0, 1.0]))
    for png in three_planes(volume, z_index=15):
        grey = pixels(png)[..., 0]
        up, left = (n // 2 for n in grey.shape)
        assert grey[: up // 2, : left // 2].mean() > 0.9
        assert grey[up:, left:].mean() < 0.1
        assert grey[: up // 2, -left // 2 :].mean() < 0.1
