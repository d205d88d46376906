from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from ctscribe.errors import ImageError
from ctscribe.imaging import lungs
from ctscribe.imaging.lungs import find_lungs, lung_air_mask, lung_box
from ctscribe.imaging.transforms import prepare
from ctscribe.imaging.volume import Volume
from ctscribe.phantom.render import render_study, sample_study

from .bodies import SHAPE, SPACING, Body, body

CASES = {
    "plain": {},
    "off-centre": {"shift_x_mm": 22.0},
    "arms": {"arms": True},
    "table": {"table": True},
    "right fluid": {"right": "fluid"},
    "left fluid": {"left": "fluid"},
    "right pneumothorax": {"right": "pneumothorax"},
    "left pneumothorax": {"left": "pneumothorax", "table": True, "shift_x_mm": -18.0},
}


def lungs_of(volume: Volume):
    return find_lungs(torch.from_numpy(volume.array_zyx), volume.spacing_zyx_mm)


def share_outside(mask: np.ndarray, volume: Volume) -> float:
    inside = np.zeros_like(mask, bool)
    inside[lung_box(lungs_of(volume)).slices] = True
    return float((mask & ~inside).sum() / max(1, mask.sum()))


@pytest.mark.parametrize("case", CASES)
def test_the_box_holds_both_cavities_and_little_else(case: str) -> None:
    drawn = body(**CASES[case])
    box = lung_box(lungs_of(drawn.volume), margin_mm=16)
    where = np.argwhere(drawn.both)
    for axis, (low, high, mm) in enumerate(zip(box.low_zyx, box.high_zyx, SPACING, strict=True)):
        first, last = where[:, axis].min(), where[:, axis].max() + 1
        # Sides fill up from the other lung, so they may end 10 % short of it: still in the margin.
        assert low <= first, (case, axis)
        assert high >= last, (case, axis)
        slack = 16 + 24
        assert low >= max(0, first - slack / mm) - 1, (case, axis)
        assert high <= min(drawn.both.shape[axis], last + slack / mm) + 1, (case, axis)


def test_with_fluid_on_both_sides_the_box_still_reaches_the_spine() -> None:
    drawn = body(right="fluid", left="fluid")
    box = lung_box(lungs_of(drawn.volume), margin_mm=0)
    spine = (SHAPE[1] - 1) / 2 - 68 / SPACING[1]
    assert box.low_zyx[1] <= spine + 2
    air = np.argwhere(drawn.both & (drawn.volume.array_zyx < -400))
    assert box.low_zyx[1] < air[:, 1].min() - 20


@pytest.mark.parametrize("case", ["plain", "off-centre", "arms", "table", "left pneumothorax"])
def test_each_lung_is_measured_on_its_own_side(case: str) -> None:
    drawn = body(**CASES[case])
    right, left = lungs_of(drawn.volume).litres
    air = drawn.volume.array_zyx < -400
    voxel = np.prod(SPACING) / 1e6
    assert right == pytest.approx((drawn.right & air).sum() * voxel, rel=0.04)
    assert left == pytest.approx((drawn.left & air).sum() * voxel, rel=0.04)


def test_a_lung_full_of_fluid_holds_little_air_on_that_side_alone() -> None:
    right, left = lungs_of(body(right="fluid").volume).litres
    assert right < 0.3 * left
    right, left = lungs_of(body(left="fluid").volume).litres
    assert left < 0.35 * right


def test_the_mask_is_lung_and_neither_stomach_nor_table_nor_the_gap_under_an_arm() -> None:
    drawn = body(arms=True, table=True)
    mask = lung_air_mask(drawn.volume.array_zyx, drawn.volume.spacing_zyx_mm)
    assert not (mask & ~drawn.both).any()
    air = drawn.both & (drawn.volume.array_zyx < -400)
    assert (mask & air).sum() > 0.995 * air.sum()


def test_a_volume_cut_to_the_chest_has_its_lungs_although_they_touch_the_border() -> None:
    drawn = body()
    where = np.argwhere(drawn.both)
    low, high = where.min(0) + np.array((0, 2, 2)), where.max(0) - np.array((0, 1, 1))
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    cut = Volume(drawn.volume.array_zyx[part].copy(), SPACING, np.eye(4))
    right, left = lungs_of(cut).litres
    assert right > 0.9 * (drawn.right[part] & (cut.array_zyx < -400)).sum() * 36e-6
    assert left > 0.9 * (drawn.left[part] & (cut.array_zyx < -400)).sum() * 36e-6


def test_finer_voxels_give_the_same_box_in_millimetres() -> None:
    coarse = body().volume
    fine = Volume(coarse.array_zyx.repeat(3, 1).repeat(3, 2), (4.0, 1.0, 1.0), np.eye(4))
    a, b = lung_box(lungs_of(coarse)), lung_box(lungs_of(fine))
    for axis, mm in enumerate((4.0, 1.0, 1.0)):
        assert a.low_zyx[axis] * SPACING[axis] == pytest.approx(b.low_zyx[axis] * mm, abs=5)
        assert a.high_zyx[axis] * SPACING[axis] == pytest.approx(b.high_zyx[axis] * mm, abs=5)


def test_no_lung_is_an_error() -> None:
    hu = body().volume.array_zyx.copy()
    hu[hu < -400] = 40
    with pytest.raises(ImageError, match="no air-filled lung"):
        lung_box(find_lungs(torch.from_numpy(hu), SPACING))


@pytest.mark.parametrize("seed", range(6))
def test_phantoms_lie_in_the_box_with_all_that_is_wrong_with_them(seed: int) -> None:
    study = sample_study(700_000 + seed, 700_000 + seed, "demo")
    rendered = render_study(study, "cpu")
    hu = rendered.hu_zyx.round().short().numpy()
    volume = Volume(hu, study.spacing_zyx_mm, np.eye(4))
    assert share_outside(rendered.region_zyx.numpy() > 0, volume) < 0.01
    assert share_outside(rendered.lesion_zyx.numpy() > 0, volume) < 0.05
    mask = lung_air_mask(hu, study.spacing_zyx_mm)
    assert (mask & (rendered.region_zyx.numpy() == 0)).sum() < 0.05 * mask.sum()


def test_preparing_a_study_is_fast() -> None:
    drawn: Body = body()
    times = []
    for _ in range(5):
        start = time.process_time()
        prepare(drawn.volume, spacing_zyx_mm=(4, 3, 3), window_hu=(-1000, 400), multiple=16)
        times.append(time.process_time() - start)
    assert min(times) < 0.3  # s of CPU; about 0.03 on an idle core, CI's are not idle


@pytest.mark.parametrize("shape", [(30, 61, 77), (1, 64, 50), (7, 5, 9)])
@pytest.mark.parametrize("spacing", [(1.0, 0.7, 0.6), (5.0, 2.1, 2.0), (0.5, 5.0, 1.4)])
def test_arrays_and_tensors_give_the_same_bits(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    hu = np.random.default_rng(0).integers(-1024, 3000, shape).astype(np.int16)
    for turned in (hu, hu[::-1, :, ::-1]):  # views as well
        own, factor, _ = lungs._coarse(turned, spacing)
        other, _, _ = lungs._coarse(torch.from_numpy(turned.copy()), spacing)
        assert own.dtype == other.dtype == np.float32
        assert np.array_equal(own, other)
        whole = [turned[: factor[0], : factor[1], : factor[2]]]
        skip = [max(1, int(lungs.FINE_MM / mm)) for mm in spacing]
        first = whole[0][:: skip[0], :: skip[1], :: skip[2]]
        assert own[0, 0, 0] == pytest.approx(first.mean(), rel=1e-6)
