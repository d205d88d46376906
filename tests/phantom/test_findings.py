from collections import Counter

import numpy as np
import pytest
import torch

from ctscribe.phantom import findings
from ctscribe.phantom.anatomy import lobe_points, sample_anatomy
from ctscribe.phantom.findings import (
    EFFUSION_AMOUNT,
    LESIONS,
    PNEUMOTHORAX_AMOUNT,
    Lesion,
    NoduleShape,
    draw_findings,
    sample_findings,
)
from ctscribe.reports.schema import AMOUNTS, DENSITIES, LOBES, Finding, side_of


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [draw_findings(rng) for _ in range(3000)]


def test_shares_of_findings_are_as_designed(drawn):
    assert 0.17 < np.mean([not f for f in drawn]) < 0.22
    assert 0.5 < np.mean([any(x.name == "nodule" for x in f) for f in drawn]) < 0.7
    nodules = [x for f in drawn for x in f if x.name == "nodule"]
    sizes = np.array([x.size_mm for x in nodules])
    assert sizes.min() >= 8
    assert sizes.max() <= 30
    assert abs(sizes.mean() - 19) < 0.6  # uniform
    for key, n in (("density", 4), ("lobe", 5)):
        shares = np.array(list(Counter(getattr(x, key) for x in nodules).values())) / len(nodules)
        assert len(shares) == n
        assert abs(shares - 1 / n).max() < 0.04
    for name in ("consolidation", "emphysema", "effusion", "pneumothorax"):
        assert np.mean([any(x.name == name for x in f) for f in drawn]) > 0.12


def test_findings_never_contradict_one_another(drawn):
    for found in drawn:
        places = [(f.name, f.place) for f in found]
        assert len(places) == len(set(places))
        effusions = {f.side for f in found if f.name == "effusion"}
        assert not effusions & {f.side for f in found if f.name == "pneumothorax"}
        consolidated = {f.lobe for f in found if f.name == "consolidation"}
        other = {f.lobe for f in found if f.name in ("nodule", "emphysema")}
        assert not consolidated & other
        for f in found:
            assert f.side == (side_of(f.lobe) if f.lobe else f.side)
            assert (f.density in DENSITIES) == (f.name == "nodule") == (f.size_mm is not None)
            assert (f.amount in AMOUNTS) == (f.lobe is None)


@pytest.mark.parametrize("amounts", [EFFUSION_AMOUNT, PNEUMOTHORAX_AMOUNT])
def test_amounts_are_apart_by_more_than_a_voxel(amounts):
    for less, more in (("small", "moderate"), ("moderate", "large")):
        assert amounts[more][0][0] - amounts[less][0][1] >= 10


def test_fine_profile_has_small_nodules():
    rng = np.random.default_rng(0)
    sizes = [f.size_mm for _ in range(400) for f in draw_findings(rng, "fine") if f.size_mm]
    assert min(sizes) <= 5


def test_nodules_have_their_size_and_stay_in_their_lobe():
    seen = 0
    for seed in range(40):
        anatomy, rng = sample_anatomy(seed % 4), np.random.default_rng(seed)
        lesions = sample_findings(rng, anatomy)
        collapse = {x.side: x.collapse for x in lesions if x.finding.lobe is None}
        points, _ = lobe_points(anatomy, 20_000, rng, collapse)
        for lesion in (x for x in lesions if x.finding.name == "nodule"):
            seen += 1
            assert abs(lesion.finding.size_mm - lesion.size_mm) <= 0.5
            gap = {
                k: np.linalg.norm(v - np.array(lesion.centre_zyx_mm), axis=1).min()
                for k, v in points.items()
                if len(v)
            }
            own = gap.pop(lesion.finding.lobe)
            assert own < 10
            # The nearest point of any other lobe is well away from the centre.
            assert min(gap.values()) > 0.55 * lesion.size_mm / 2
    assert seen > 30


def test_a_round_nodule_has_the_radius_it_says():
    finding = Finding("nodule", "left", "LUL", 20.0, "solid")
    lesion = Lesion(finding, "left", (0, 0, 0), 20.0, 30.0, 1, axes_mm=(10.0, 10.0, 10.0))
    direction = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    torch.testing.assert_close(NoduleShape(lesion).radius(direction), torch.full((50,), 10.0))
    assert LESIONS[lesion.bit] == "solid"


def test_every_lobe_and_kind_is_reached_in_patients():
    anatomy = sample_anatomy(0)
    rng = np.random.default_rng(5)
    found = Counter()
    for _ in range(60):
        for lesion in sample_findings(rng, anatomy):
            found[lesion.finding.name, lesion.finding.place] += 1
    for lobe in LOBES:
        assert found["nodule", lobe] > 3


def test_a_finding_without_room_moves_to_a_free_lobe_or_is_left_out(monkeypatch):
    def no_middle_lobe(*args):
        points, depths = lobe_points(*args)
        return points | {"RML": points["RML"][:0]}, depths | {"RML": depths["RML"][:0]}

    nodules = [
        Finding("nodule", side_of(k), k, 10.0, "solid") for k in ("RML", "RUL", "RLL", "LUL")
    ]
    anatomy, rng = sample_anatomy(1), np.random.default_rng(0)
    monkeypatch.setattr(findings, "lobe_points", no_middle_lobe)
    for extra, expected in (
        ((), {"RUL", "RLL", "LUL", "LLL"}),
        ((Finding("consolidation", "left", "LLL"),), {"RUL", "RLL", "LUL"}),
    ):
        monkeypatch.setattr(findings, "draw_findings", lambda *_, e=extra: (*e, *nodules))
        lesions = sample_findings(rng, anatomy)
        assert sorted(x.finding.lobe for x in lesions if x.finding.name == "nodule") == sorted(
            expected
        )
        assert all(x.side == x.finding.side == side_of(x.finding.lobe) for x in lesions)
