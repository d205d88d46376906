from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from ctscribe.phantom.dataset import lesion_voxels
from ctscribe.phantom.findings import LESIONS
from ctscribe.phantom.render import render_study, sample_study
from ctscribe.reports.schema import LOBES

N = 30


@pytest.fixture(scope="module")
def studies():
    torch.set_num_threads(1)
    drawn = [sample_study(seed, seed) for seed in range(N)]
    return [
        (s, r.hu_zyx.numpy(), r.region_zyx.numpy(), r.lesion_zyx.numpy())
        for s, r in ((s, render_study(s)) for s in drawn)
    ]


def each(studies, *names):
    """Every lesion of these kinds: its study, HU, regions and own voxels."""
    found = 0
    for study, hu, region, mask in studies:
        for lesion in study.lesions:
            if LESIONS[lesion.bit] in names or lesion.finding.name in names:
                found += 1
                yield (
                    study,
                    lesion,
                    hu,
                    region,
                    lesion_voxels(lesion.finding, lesion.bit, mask, region),
                )
    assert found >= 4, f"too few {names} in {N} studies to test anything"


def test_house_axes(studies):
    for study, hu, region, _ in studies:
        body = hu > -300
        right, left = np.isin(region, (1, 2, 3, 6)), np.isin(region, (4, 5, 7))
        middle = (hu.shape[2] + 1) // 2
        assert not right[:, :, :middle].any()  # x grows to the patient's right
        assert not left[:, :, middle:].any()
        y = np.nonzero(hu > 300)[1]
        front = np.nonzero(body[hu.shape[0] // 2])[0].mean()
        assert np.median(y) < front  # the spine is behind
        # The heart takes more of the left half than of the right one, at its own height.
        heart = study.anatomy.heart.centre_zyx_mm
        z, y, x = (round(v) for v in study.index_zyx(heart))
        assert x < middle - 2
        assert region[z, y, x] == 0
        assert -60 < hu[z - 1 : z + 2, y - 3 : y + 4, x - 3 : x + 4].mean() < 250
    volume = [np.bincount(region.ravel(), minlength=8) for *_, region, _ in studies]
    total = np.sum(volume, 0)
    assert total[[1, 2, 3, 6]].sum() > 1.05 * total[[4, 5, 7]].sum()


def test_the_apex_is_at_the_top_and_the_abdomen_below(studies):
    for _, hu, region, _ in studies:
        area = ((region > 0) & (region < 8)).sum((1, 2))
        assert area[-3:].max() == 0
        assert area[-20:-10].mean() > area[2:6].mean()
        middle = slice(hu.shape[2] // 3, 2 * hu.shape[2] // 3)
        below = hu[:4, hu.shape[1] // 3 : 2 * hu.shape[1] // 3, middle]
        assert np.median(below) > -100


def test_only_the_lung_and_nothing_else_is_labelled_lobe(studies):
    for _, hu, region, mask in studies:
        lobe = (region > 0) & (region < 6)
        assert np.median(hu[lobe & (mask == 0)]) < -750
        assert (hu[lobe & (mask == 0)] < -300).mean() > 0.93
        assert not (mask & 0b111111)[~lobe].any()
        assert not (mask & 0b11000000)[region < 6].any()
        for k in range(1, 6):
            assert (region == k).sum() > 100


def test_nodules_are_where_and_as_large_as_the_truth_says(studies):
    for study, lesion, _, region, own in each(studies, "nodule"):
        at = tuple(round(v) for v in study.index_zyx(lesion.centre_zyx_mm))
        assert region[at] == LOBES.index(lesion.finding.lobe) + 1
        assert own[at]
        points = np.argwhere(own) * np.array(study.spacing_zyx_mm)
        longest = pdist(points).max() if len(points) > 1 else 0
        assert abs(longest - lesion.finding.size_mm) < max(study.spacing_zyx_mm) + 1
        sphere = np.pi / 6 * lesion.finding.size_mm**3
        assert 0.4 < own.sum() * np.prod(study.spacing_zyx_mm) / sphere < 1.15


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("solid", -60, 100),
        ("part-solid", -250, 120),
        ("ground-glass", -690, -400),
        ("calcified", 250, 1000),
    ],
)
def test_densities_of_nodules(studies, kind, low, high):
    for study, lesion, hu, _, own in each(studies, kind):
        if lesion.size_mm < 12:
            continue  # partial volume everywhere
        at = np.array(study.index_zyx(lesion.centre_zyx_mm))
        away = (np.argwhere(own) - at) * np.array(study.spacing_zyx_mm)
        core = hu[own][np.linalg.norm(away, axis=1) < 0.2 * lesion.size_mm]
        assert low < np.median(core) < high, (study.seed, lesion)


def test_emphysema_is_a_clear_part_of_its_lobe_only(studies):
    for _, lesion, hu, region, own in each(studies, "emphysema"):
        lobe = region == LOBES.index(lesion.finding.lobe) + 1
        assert own.sum() / lobe.sum() > 0.3
        assert -985 < np.median(hu[own]) < -905
        assert np.median(hu[lobe & ~own]) - np.median(hu[own]) > 60


def test_consolidation_is_soft_tissue_and_larger_than_any_nodule(studies):
    for study, lesion, hu, region, own in each(studies, "consolidation"):
        lobe = region == LOBES.index(lesion.finding.lobe) + 1
        assert own.sum() / lobe.sum() > 0.25
        assert own.sum() * np.prod(study.spacing_zyx_mm) > np.pi / 6 * 33**3
        assert 0 < np.median(hu[own]) < 80


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("effusion", -40, 40), ("pneumothorax", -1024, -940)]
)
def test_pleural_findings(studies, kind, low, high):
    by_amount = {}
    for _, lesion, hu, region, own in each(studies, kind):
        assert low < np.median(hu[own]) < high
        lung = np.isin(region, (1, 2, 3) if lesion.side == "right" else (4, 5))
        forward = np.nonzero(own)[1].mean() - np.nonzero(lung)[1].mean()
        assert forward < 0 if kind == "effusion" else forward > 0
        share = own.sum() / (own.sum() + lung.sum())
        by_amount.setdefault(lesion.amount, []).append(share)
    shares = [by_amount.get(amount, [np.nan]) for amount in ("small", "moderate", "large")]
    for less, more in pairwise(shares):
        assert not max(less) >= min(more)


def test_vessels_confound_nodules(studies):
    """Bright spots as large as nodules in a slice that are no lesion: a threshold cannot win."""
    from scipy.ndimage import binary_erosion, label

    spots = 0
    for _, hu, region, mask in studies[:10]:
        lung = binary_erosion((region > 0) & (region < 6) & (mask == 0), iterations=2)
        for z in range(0, len(hu), 4):
            spots += label((hu[z] > -500) & lung[z])[1]
    assert spots > 150


def test_same_seed_same_image_and_patient_shared_between_studies():
    one, again = render_study(sample_study(7, 70)), render_study(sample_study(7, 70))
    for a, b in zip(vars(one).values(), vars(again).values(), strict=True):
        assert torch.equal(a, b)
    first, second = sample_study(7, 70), sample_study(8, 70)
    assert first.anatomy.height_mm == second.anatomy.height_mm
    assert (first.spacing_zyx_mm, first.lesions) != (second.spacing_zyx_mm, second.lesions)


def test_fine_profile_keeps_the_smallest_nodule():
    seed = next(
        seed
        for seed in range(300)
        if any((x.finding.size_mm or 99) <= 4 for x in sample_study(seed, 0, "fine").lesions)
    )
    study = sample_study(seed, 0, "fine")
    assert 1 <= study.spacing_zyx_mm[0] <= 2.5
    assert 0.6 <= study.spacing_zyx_mm[1] <= 0.9
    # Drawn coarser than it is, which is harder for the nodule and faster for the test.
    z, y, x = study.shape_zyx
    sz, sy, sx = study.spacing_zyx_mm
    study = replace(
        study, shape_zyx=(z // 2, y // 3, x // 3), spacing_zyx_mm=(2 * sz, 3 * sy, 3 * sx)
    )
    rendered = render_study(study)
    for lesion in study.lesions:
        own = lesion_voxels(
            lesion.finding, lesion.bit, rendered.lesion_zyx.numpy(), rendered.region_zyx.numpy()
        )
        assert own.any()
