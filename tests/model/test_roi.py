"""Regions of interest: what lies in the box is what is averaged, at the place that is told."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.model.encoder import EncoderConfig, EncoderOutput
from ctscribe.model.roi import can_propose, propose, roi_features, tile_around
from ctscribe.reports.schema import DENSITIES, LOBES

CONFIG = EncoderConfig()
OTHER = SimpleNamespace(classes=("background", "nodule"), roi_class="nodule")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_ramp_comes_out_as_positions(data: st.DataObject) -> None:
    """A map that holds its own millimetres is averaged to the millimetres of each cell."""
    dims = data.draw(st.integers(2, 3))
    shape = [data.draw(st.integers(8, 14)) for _ in range(dims)]
    step = [data.draw(st.floats(0.7, 5.0)) for _ in range(dims)]
    space = [n * mm for n, mm in zip(shape, step, strict=True)]
    side = [data.draw(st.floats(0.5, 0.6 * mm)) for mm in space]
    cells = [data.draw(st.integers(1, 3)) for _ in range(dims)]
    # The whole box lies inside, half a voxel from the border: there a voxel's value is its middle.
    centre = [
        data.draw(st.floats(-1.0, 1.0)) * (mm / 2 - s / 2 - d)
        for mm, s, d in zip(space, side, step, strict=True)
    ]
    axes = [
        (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * d
        for n, d in zip(shape, step, strict=True)
    ]
    ramp = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    at = torch.tensor([[[0.0] * (3 - dims) + centre]])
    features, position, inside = roi_features([ramp], at, space, side, cells)
    assert features.shape == (1, 1, math.prod(cells), dims)
    # Voxels are blocks: within one the ramp is flat, so a cell is off by half a voxel at most.
    off = (features[0, 0] - position[0, 0, :, 3 - dims :]).abs()
    assert (off <= torch.tensor(step) / 2 + 1e-3).all()
    torch.testing.assert_close(inside, torch.ones_like(inside), atol=1e-4, rtol=0)
    middle = position[0, 0, :, 3 - dims :].mean(0)
    torch.testing.assert_close(middle, torch.tensor(centre), atol=1e-3, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_marked_voxel_is_in_its_box_and_in_no_other(data: st.DataObject) -> None:
    shape = (10, 12, 14)
    space = (40.0, 36.0, 28.0)
    step = [mm / n for mm, n in zip(space, shape, strict=True)]
    voxel = [data.draw(st.integers(0, n - 1)) for n in shape]
    marked = torch.zeros(1, 1, *shape)
    marked[(0, 0, *voxel)] = 1.0
    at = [(v - (n - 1) / 2) * mm for v, n, mm in zip(voxel, shape, step, strict=True)]
    centres = torch.tensor([[at, [a + 1.2 * mm * 10 for a, mm in zip(at, step, strict=True)]]])
    side = (8.0, 9.0, 6.0)
    features, _, inside = roi_features([marked], centres, space, side, (2, 2, 2))
    volume = math.prod(side) / 8 / math.prod(step)
    # All of the voxel, or the part of it that lies in the image, is in the eight cells.
    held = float((features[0, 0, :, 0] * inside[0, 0] * volume).sum())
    assert held == pytest.approx(1.0, abs=1e-3)
    assert float(features[0, 1].abs().sum()) == 0.0


def test_what_is_absent_or_outside_says_so() -> None:
    maps = [torch.ones(1, 2, 6, 6, 6)]
    centres = torch.tensor([[[math.nan] * 3, [0.0, 0.0, 0.0], [15.0, 0.0, 0.0]]])
    features, _, inside = roi_features(maps, centres, (30.0,) * 3, (10.0,) * 3, (1, 1, 1))
    assert features[0, 0].tolist() == [[0.0, 0.0]]
    assert inside[0, :, 0].tolist() == pytest.approx([0.0, 1.0, 0.5])
    # The half that lies inside is averaged, not diluted.
    torch.testing.assert_close(features[0, 1:], torch.ones(2, 1, 2))


def output(marked: dict[str, tuple[int, int, int]]) -> EncoderOutput:
    """Five slabs of lobes along x, and in each lobe a lesion voxel where it is marked."""
    shape = (8, 8, 20)
    region = torch.full((1, len(CONFIG.regions), *shape), -20.0)
    for i, lobe in enumerate(LOBES):
        region[0, CONFIG.regions.index(lobe), :, :, 4 * i : 4 * i + 4] = 20.0
    lesion = torch.full((1, len(CONFIG.lesions), *shape), -9.0)
    for i, (lobe, at) in enumerate(marked.items()):
        assert LOBES.index(lobe) == at[2] // 4
        lesion[(0, CONFIG.lesions.index(DENSITIES[i % len(DENSITIES)]), *at)] = 2.0 + i
    return EncoderOutput({}, region, lesion)


def test_one_proposal_a_lobe_in_their_order() -> None:
    marked = {"RML": (2, 3, 5), "LLL": (6, 1, 18)}
    centres, scores = propose(output(marked), CONFIG, (32.0, 32.0, 80.0), 5)
    for lobe, at in marked.items():
        expected = [(v - (n - 1) / 2) * 4.0 for v, n in zip(at, (8, 8, 20), strict=True)]
        assert centres[0, LOBES.index(lobe)].tolist() == expected
    found = [scores[0, LOBES.index(lobe)] for lobe in marked]
    assert min(found) > 0.8
    others = [i for i, lobe in enumerate(LOBES) if lobe not in marked]
    assert float(scores[0, others].max()) < 0.01


def test_other_numbers_are_the_strongest_apart_from_each_other() -> None:
    marked = {"RUL": (2, 3, 1), "RLL": (2, 3, 9), "LLL": (6, 1, 18)}
    centres, scores = propose(output(marked), CONFIG, (32.0, 32.0, 80.0), 3)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)
    assert torch.cdist(centres[0], centres[0])[~torch.eye(3, dtype=torch.bool)].min() > 20
    assert centres[0, 0].tolist() == [(6 - 3.5) * 4, (1 - 3.5) * 4, (18 - 9.5) * 4]
    # An encoder of other classes is asked for its lesions in the same way.
    p = torch.rand(2, 2, 8, 9, 10)
    where, how = propose(EncoderOutput({}, classes=p), OTHER, (80.0, 90.0, 100.0), 4)
    assert where.shape == (2, 4, 3)
    torch.testing.assert_close(how[:, 0], p[:, 1].flatten(1).amax(1))
    flat, _ = propose(EncoderOutput({}, classes=p[:, :, 0]), OTHER, (90.0, 100.0), 2)
    assert flat[..., 0].eq(0).all()


def test_a_lesion_is_proposed_once() -> None:
    """The voxels around a peak are the same lesion; a weaker one elsewhere comes second."""
    p = torch.zeros(1, 2, 12, 12, 12)
    p[0, 1, 2:5, 2:5, 2:5] = 0.8
    p[0, 1, 3, 3, 3] = 0.9
    p[0, 1, 10, 9, 8] = 0.4
    centres, scores = propose(EncoderOutput({}, classes=p), OTHER, (60.0,) * 3, 3)
    assert centres[0, 1].tolist() == [(10 - 5.5) * 5, (9 - 5.5) * 5, (8 - 5.5) * 5]
    assert scores[0].tolist() == pytest.approx([0.9, 0.4, 0.0])


def test_only_encoders_that_know_lesions_propose() -> None:
    assert can_propose(CONFIG)
    assert not can_propose(EncoderConfig(lesions=("effusion",)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_tile_holds_its_centre_and_knows_its_own_middle(data: st.DataObject) -> None:
    shape = [data.draw(st.integers(4, 20)) for _ in range(3)]
    tile = [data.draw(st.integers(1, n)) for n in shape]
    mm = [data.draw(st.sampled_from((0.8, 1.0, 2.5))) for _ in range(3)]
    voxel = [data.draw(st.integers(0, n - 1)) for n in shape]
    image = torch.arange(math.prod(shape), dtype=torch.float32).reshape(1, 1, *shape)
    at = torch.tensor(
        [(v - (n - 1) / 2) * d for v, n, d in zip(voxel, shape, mm, strict=True)],
        dtype=torch.float64,
    )
    part, middle = tile_around(image, at, mm, tile)
    assert list(part.shape[2:]) == tile
    assert (part == image[(0, 0, *voxel)]).any()
    # Its middle, told in mm, is the mean index of the voxels that it took.
    index = torch.stack(torch.unravel_index(part.flatten().long(), tuple(shape)), -1).double()
    own = (index.mean(0) - (torch.tensor(shape) - 1) / 2) * torch.tensor(mm)
    torch.testing.assert_close(middle.double(), own, atol=1e-4, rtol=0)
