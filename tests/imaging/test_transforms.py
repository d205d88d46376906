from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.errors import ImageError
from ctscribe.imaging import transforms
from ctscribe.imaging.transforms import (
    Box,
    choose_slice,
    prepare,
    prepare_tensor,
    resample,
    slice_of,
)
from ctscribe.imaging.volume import Volume

from .bodies import SHAPE, SPACING, as_volume, body

BODY = body()
WINDOW = (-1000.0, 400.0)
KW = {"spacing_zyx_mm": (4.0, 3.0, 3.0), "window_hu": WINDOW, "multiple": (8, 16, 16)}


@pytest.mark.parametrize("slab_voxels", [1, 5_000, 100_000])
@pytest.mark.parametrize("spacing", [(4.0, 3.0, 3.0), (9.0, 3.1, 3.5), (4.0, 9.0, 3.0), (2, 2, 8)])
def test_slabs_make_no_difference(
    monkeypatch: pytest.MonkeyPatch, spacing: tuple[float, float, float], slab_voxels: int
) -> None:
    """Whichever axis shrinks least, and however few planes a slab holds."""
    kw = {**KW, "spacing_zyx_mm": spacing}
    monkeypatch.setattr(transforms, "SLAB_VOXELS", 1 << 30)
    whole = prepare(BODY.volume, **kw).tensor
    monkeypatch.setattr(transforms, "SLAB_VOXELS", slab_voxels)
    torch.testing.assert_close(prepare(BODY.volume, **kw).tensor, whole, atol=1e-5, rtol=0)


def test_resampling_keeps_a_ramp_and_a_constant() -> None:
    z, y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in (12, 20, 30)), indexing="ij")
    ramp = 3.0 * z + 2.0 * y - 1.0 * x  # in voxels of 1 mm
    for new in ((1.0, 1.0, 1.0), (2.0, 4.0, 3.0), (0.5, 0.8, 0.7), (1.3, 1.7, 2.9)):
        out = resample(ramp, (1, 1, 1), new).numpy()
        nz, ny, nx = out.shape
        centre = [
            (np.arange(m) + 0.5) * s + (n - m * s) / 2
            for m, s, n in zip((nz, ny, nx), new, ramp.shape, strict=True)
        ]
        want = 3 * centre[0][:, None, None] + 2 * centre[1][:, None] - centre[2]
        inner = (slice(2, -2),) * 3
        # A box that cuts voxels weighs them whole: up to an eighth of a voxel off, each axis.
        exact = all(s <= 1 or s == int(s) for s in new)
        np.testing.assert_allclose(out[inner], want[inner], atol=1e-3 if exact else 0.125 * 6)
        flat = resample(np.full((12, 20, 30), 7.0), (1, 1, 1), new)
        np.testing.assert_allclose(flat, 7.0, atol=1e-5)


def test_coarser_voxels_are_averages_so_nothing_aliases() -> None:
    checkers = np.indices((8, 16, 16)).sum(0) % 2 * 1000.0
    np.testing.assert_allclose(resample(checkers, (1, 1, 1), (2, 2, 2)), 500.0)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (24, 24, 24))
    want = noise.reshape(8, 3, 8, 3, 8, 3).mean((1, 3, 5))
    np.testing.assert_allclose(resample(noise, (1, 1, 1), (3, 3, 3)), want, atol=1e-5)


def test_equal_spacing_changes_nothing_inside_the_box() -> None:
    prepared = prepare(BODY.volume, **{**KW, "multiple": 1})
    hu = BODY.volume.array_zyx[prepared.box.slices].astype(np.float32)
    want = np.clip((hu + 1000) / 1400 * 2 - 1, -1, 1)
    np.testing.assert_allclose(prepared.tensor[0], want, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_marked_voxel_is_found_again_where_it_was(data: st.DataObject) -> None:
    spacing = tuple(data.draw(st.floats(0.7, 5.5)) for _ in range(3))
    shape = tuple(int(n * s / mm) for n, s, mm in zip((40, 60, 80), SPACING, spacing, strict=True))
    corner = data.draw(st.floats(0.05, 0.2))
    box = Box(
        tuple(int(n * corner) for n in shape), tuple(int(n * (1 - corner / 2)) for n in shape)
    )
    at = [data.draw(st.integers(a, b - 1)) for a, b in zip(box.low_zyx, box.high_zyx, strict=True)]
    hu = np.full(shape, -800, np.int16)
    hu[tuple(at)] = 400
    volume = as_volume(hu, spacing)
    prepared = prepare_tensor(torch.from_numpy(hu), spacing, box=box, **KW)
    peak = np.unravel_index(int(prepared.tensor[0].argmax()), prepared.tensor.shape[1:])
    off = np.abs(prepared.from_source(at) - peak)
    assert (off <= 0.5 + 0.5 / np.array(prepared.step_zyx).clip(None, 1) + 1e-6).all()
    # mm and back, and the grid's own affine, say the same.
    placed = replace(prepared, affine=volume.affine)
    mm = placed.to_mm(peak)
    np.testing.assert_allclose(placed.from_mm(mm), peak, atol=1e-6)
    np.testing.assert_allclose(placed.grid_affine @ [*peak[::-1], 1.0], [*mm, 1.0], atol=1e-6)
    want = volume.affine @ [*placed.to_source(peak)[::-1], 1.0]
    np.testing.assert_allclose(mm, want[:3], atol=1e-6)


def test_labels_stay_on_the_image() -> None:
    """A block in the right upper front: labels mirrored or shifted would miss it."""
    hu = np.full(SHAPE, -1000, np.int16)
    block = (slice(46, 54), slice(52, 64), slice(80, 92))
    hu[block] = 1000
    mask = np.zeros(SHAPE, np.uint8)
    mask[block] = 5
    prepared = prepare_tensor(
        torch.from_numpy(hu),
        SPACING,
        spacing_zyx_mm=(3.1, 2.2, 2.6),
        window_hu=(-1000, 1000),
        multiple=16,
        box=Box((5, 6, 7), (70, 90, 120)),
    )
    label, share = prepared.labels(mask) == 5, (prepared.tensor[0] + 1) / 2
    assert label.sum() > 1000
    # The nearest voxel is in the block: then it weighs at least a half along each axis.
    assert share[label].min() >= 0.5**3 - 1e-5
    assert share[~label].max() <= 0.5 + 1e-5
    with pytest.raises(ValueError, match="labels are"):
        prepared.labels(mask[1:])


def test_sizes_are_multiples_grown_evenly_and_beyond_the_image_is_air() -> None:
    box = Box((2, 3, 4), (68, 92, 121))
    hu = torch.from_numpy(np.full(SHAPE, 300, np.int16))
    prepared = prepare_tensor(hu, SPACING, box=box, **{**KW, "multiple": (8, 32, 128)})
    assert tuple(prepared.tensor.shape) == (1, 72, 96, 128)
    middle = (np.array(prepared.tensor.shape[1:]) - 1) / 2
    want = (np.array(box.low_zyx) + box.high_zyx - 1) / 2
    np.testing.assert_allclose(prepared.to_source(middle), want)
    source = prepared.to_source(np.moveaxis(np.indices(prepared.tensor.shape[1:]), 0, -1))
    outside = ((source < -0.5) | (source > np.array(SHAPE) - 0.5)).any(-1)
    assert outside.any()
    assert (prepared.tensor[0].numpy()[outside] == -1).all()
    inside = ((source >= 0) & (source <= np.array(SHAPE) - 1)).all(-1)
    np.testing.assert_allclose(prepared.tensor[0].numpy()[inside], 1300 / 1400 * 2 - 1, atol=1e-5)


def test_the_tensor_path_is_the_volume_path() -> None:
    a = prepare(BODY.volume, **KW)
    b = prepare_tensor(torch.from_numpy(BODY.volume.array_zyx).float(), SPACING, **KW)
    assert a.box == b.box
    assert torch.equal(a.tensor, b.tensor)
    assert a.tensor.abs().max() <= 1
    assert all(n % m == 0 for n, m in zip(a.tensor.shape[1:], (8, 16, 16), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_prepares_the_same() -> None:
    a = prepare(BODY.volume, **KW)
    b = prepare_tensor(torch.from_numpy(BODY.volume.array_zyx).cuda(), SPACING, **KW)
    assert a.box == b.box
    torch.testing.assert_close(a.tensor, b.tensor.cpu(), atol=1e-4, rtol=0)


def test_a_slice_is_chosen_by_mask_then_point_then_lung() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[20, 10:20, 10:20] = 1
    mask[21, 10:12, 10:12] = 1
    assert choose_slice(BODY.volume, mask) == 20
    point = (BODY.volume.affine @ [10, 10, 33, 1.0])[:3]
    assert choose_slice(BODY.volume, roi_mm=tuple(point)) == 33
    one = slice_of(BODY.volume, 33)
    assert np.array_equal(one.array_zyx[0], BODY.volume.array_zyx[33])
    np.testing.assert_allclose(one.affine @ [0, 0, 0, 1.0], BODY.volume.affine @ [0, 0, 33, 1.0])
    middle = choose_slice(BODY.volume)
    area = ((BODY.volume.array_zyx < -400) & BODY.both).sum((1, 2))
    assert area[middle] > 0.95 * area.max()
    for bad in ({"mask": mask * 0}, {"mask": mask[1:]}, {"roi_mm": (0.0, 0.0, -900.0)}):
        with pytest.raises(ImageError):
            choose_slice(BODY.volume, **bad)


def test_a_slice_is_prepared_in_its_plane() -> None:
    one = slice_of(BODY.volume, choose_slice(BODY.volume))
    prepared = prepare(one, spacing_zyx_mm=(4, 2, 2), window_hu=WINDOW, multiple=(1, 16, 16))
    _, z, y, x = prepared.tensor.shape
    assert z == 1
    assert y % 16 == x % 16 == 0
    index = np.argwhere(BODY.both[int((one.affine[2, 3] - 300) / 4)])
    low = prepared.from_source([0, *index.min(0)])
    high = prepared.from_source([0, *index.max(0)])
    assert (low[1:] > 0).all()
    assert (high[1:] < (y, x)).all()


def test_a_read_only_or_flipped_array_is_prepared_too() -> None:
    array = BODY.volume.array_zyx[:, :, ::-1].copy()
    array.setflags(write=False)
    flipped = Volume(array[:, :, ::-1], SPACING, BODY.volume.affine)
    assert torch.equal(prepare(flipped, **KW).tensor, prepare(BODY.volume, **KW).tensor)
