import numpy as np
import pytest
import torch

from ctscribe.phantom.anatomy import SIGN, Collapse, lobe_points, lung_field, sample_anatomy
from ctscribe.reports.schema import LOBES, SIDES


@pytest.fixture(scope="module", params=range(6))
def anatomy(request):
    return sample_anatomy(request.param)


@pytest.fixture(scope="module")
def lobes(anatomy):
    return lobe_points(anatomy, 20_000, np.random.default_rng(0))


def test_lobes_lie_where_a_radiologist_expects_them(anatomy, lobes):
    points, _ = lobes
    centre = {lobe: points[lobe].mean(0) for lobe in LOBES}
    for lobe in LOBES:
        assert centre[lobe][2] * (1 if lobe[0] == "R" else -1) > 20
    for upper, lower in (("RUL", "RLL"), ("LUL", "LLL"), ("RUL", "RML")):
        assert centre[upper][0] > centre[lower][0] + 15
    assert centre["RML"][1] > centre["RLL"][1] + 30
    litres = 8 * anatomy.height_mm / 2 * anatomy.depth_mm * anatomy.width_mm / 1e6
    share = {lobe: len(points[lobe]) / 20_000 * litres for lobe in LOBES}
    assert 2.2 < sum(share.values()) < 6
    assert min(share.values()) > 0.15


def test_heart_is_on_the_left_and_the_right_diaphragm_higher(anatomy):
    assert anatomy.heart.centre_zyx_mm[2] < -10
    assert anatomy.dome_right_mm > anatomy.dome_left_mm + 5


def test_vessels_grow_from_the_hila_into_every_lobe_and_thin_out(anatomy, lobes):
    tubes = anatomy.vessels
    assert len(tubes.start) > 300
    assert (tubes.radius_end <= tubes.radius_start + 1e-9).all()
    assert 2.5 < tubes.radius_start.max() < 8
    for lobe in LOBES:
        gap = np.linalg.norm(tubes.end[:, None] - lobes[0][lobe][None, :300], axis=2).min(0)
        assert np.median(gap) < 16, lobe  # no lobe is without vessels


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("kind", "behind"), [("effusion", True), ("pneumothorax", False)])
def test_what_fills_a_pleural_space_lies_behind_or_in_front(anatomy, side, kind, behind):
    rng = np.random.default_rng(1)
    half = [anatomy.height_mm / 2, anatomy.depth_mm, anatomy.width_mm]
    z, y, x = torch.from_numpy((rng.uniform(-1, 1, (8000, 3)) * half).astype(np.float32).T)
    keep = x * SIGN[side] > 0
    z, y, x = z[keep], y[keep], x[keep]
    field = lung_field(anatomy, side, x, y, z, Collapse(kind, 40.0, 0.8))
    normal = lung_field(anatomy, side, x, y, z)
    assert torch.equal(field.cavity, normal.lung)
    assert not ((field.lung > 0) & (normal.lung <= 0)).any()
    space = (field.cavity > 0) & (field.lung <= 0)
    assert space.sum() > 100
    forward = y[space].mean() - y[field.lung > 0].mean()
    assert forward < -20 if behind else forward > 20
    upward = z[space].mean() - z[field.lung > 0].mean()
    assert upward < -5 if behind else upward > -5


def test_a_seed_is_a_patient(anatomy):
    again, other = sample_anatomy(3), sample_anatomy(4)
    assert again.height_mm == sample_anatomy(3).height_mm != other.height_mm
    np.testing.assert_array_equal(again.vessels.end, sample_anatomy(3).vessels.end)
