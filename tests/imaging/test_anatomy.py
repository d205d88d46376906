"""Flipped volumes and wrong values are named; sound and sick chests are left alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.errors import DataError
from ctscribe.imaging import anatomy
from ctscribe.imaging.anatomy import check_anatomy, hu_fault
from ctscribe.imaging.nifti import read_volume
from ctscribe.imaging.sample import fetch_sample, fetch_tumours
from ctscribe.imaging.volume import Volume
from ctscribe.phantom.render import render_study, sample_study

from .bodies import SHAPE, as_volume, body

Change = Callable[[np.ndarray], np.ndarray]
FLIPS: dict[str, tuple[Change, set[str]]] = {
    "as it is": (lambda a: a, set()),
    "mirrored": (lambda a: a[:, :, ::-1], {"mirrored"}),
    "upside down": (lambda a: a[::-1], {"upside-down"}),
    "back to front": (lambda a: a[:, ::-1], {"back-to-front"}),
    "LPS named RAS": (lambda a: a[:, ::-1, ::-1], {"back-to-front", "mirrored"}),
    "everything": (lambda a: a[::-1, ::-1, ::-1], {"upside-down", "back-to-front", "mirrored"}),
}
VALUES: dict[str, Change] = {
    "slope twice": lambda a: np.clip(a * 2, -32768, 32767),
    "intercept lost": lambda a: a + 1024,
    "intercept twice": lambda a: a - 1024,
    "a quarter": lambda a: a // 4,
    "a half": lambda a: a // 2,
    "100 HU too much": lambda a: a + 100,
    "grey levels": lambda a: np.clip((a + 1000) // 8, 0, 255),
    "zero to one": lambda a: np.clip((a + 1000) / 2000, 0, 1),
}


def changed(volume: Volume, change: Change) -> Volume:
    array = np.ascontiguousarray(change(volume.array_zyx.astype(np.int32)))
    kind = np.float32 if array.dtype.kind == "f" else np.int16
    return Volume(array.astype(kind), volume.spacing_zyx_mm, volume.affine)


def codes(volume: Volume) -> set[str]:
    return {fault.code for fault in check_anatomy(volume).faults}


@cache
def phantom(seed: int, profile: str = "demo") -> Volume:
    study = sample_study(910_000 + seed, 910_000 + seed, profile)
    hu = render_study(study, "cpu").hu_zyx.round().short().numpy()
    return Volume(hu, study.spacing_zyx_mm, np.eye(4))


@cache
def real() -> dict[str, Volume]:
    try:
        paths = [fetch_sample().ct, *(case.ct for case in fetch_tumours())]
    except DataError as error:
        if "could not be downloaded" in error.reason:
            pytest.skip(f"the sample CTs cannot be fetched here: {error.reason[:200]}")
        raise
    return {path.name: read_volume(path) for path in paths}


@pytest.mark.parametrize("profile", ["demo", "thin"])
def test_no_phantom_is_doubted(profile: str) -> None:
    """Effusions, pneumothoraces and consolidations of whole lobes among them."""
    for seed in range(30 if profile == "demo" else 6):
        found = check_anatomy(phantom(seed, profile))
        assert not [f for f in found.faults if f.code != "anatomy-odd"], (seed, found)


@pytest.mark.parametrize("name", FLIPS)
def test_phantoms_that_are_turned_are_named_so(name: str) -> None:
    change, expected = FLIPS[name]
    found = [codes(changed(phantom(seed), change)) - {"anatomy-odd"} for seed in range(12)]
    # Disease may hide a side, but nothing is ever called what it is not.
    assert all(one <= expected for one in found)
    assert sum(one == expected for one in found) >= 11


@pytest.mark.parametrize("name", FLIPS)
@pytest.mark.parametrize("ct", ["chest_ct.nii.gz", "lung1_image.nrrd", "lung2_image.nrrd"])
def test_real_cts_pass_and_are_caught_when_turned(ct: str, name: str) -> None:
    change, expected = FLIPS[name]
    assert codes(changed(real()[ct], change)) == expected


@pytest.mark.parametrize("name", VALUES)
def test_values_that_are_no_hounsfield_units_are_named(name: str) -> None:
    assert codes(changed(phantom(0), VALUES[name])) == {"not-hu"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("slope twice", "below air"),
        ("intercept twice", "below air"),
        ("intercept lost", "where air would be about -1000"),
        ("a half", "air and lung are missing"),
        ("100 HU too much", "the air around the patient has -90"),
    ],
)
def test_what_was_measured_is_said(name: str, words: str) -> None:
    (fault,) = check_anatomy(changed(phantom(0), VALUES[name])).faults
    assert words in fault.detail


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("ct", ["chest_ct.nii.gz", "lung1_image.nrrd", "lung2_image.nrrd"])
def test_wrong_values_of_real_cts_are_named(ct: str, name: str) -> None:
    assert codes(changed(real()[ct], VALUES[name])) == {"not-hu"}


@pytest.mark.parametrize("padding", [-1024, -2000, -2048, -3024, -32768])
def test_what_a_scanner_pads_its_circle_with_is_no_fault(padding: int) -> None:
    volume = phantom(3)
    array = volume.array_zyx.copy()
    _, y, x = array.shape
    rows, columns = np.mgrid[:y, :x]
    outside = ((rows - y / 2) / (y / 2)) ** 2 + ((columns - x / 2) / (x / 2)) ** 2 > 1
    array[:, outside] = padding
    assert codes(Volume(array, volume.spacing_zyx_mm, volume.affine)) == set()
    twice = np.clip(array.astype(np.int32) * 2, -32768, 32767).astype(np.int16)
    assert codes(Volume(twice, volume.spacing_zyx_mm, volume.affine)) == {"not-hu"}


@pytest.mark.parametrize(
    "disease",
    [
        {"right": "fluid"},
        {"left": "fluid"},
        {"right": "pneumothorax"},
        {"left": "pneumothorax", "right": "fluid"},
        {"arms": True, "table": True, "shift_x_mm": 20.0},
    ],
    ids=str,
)
def test_the_sick_are_not_rejected(disease: dict) -> None:
    assert codes(body(**disease).volume) <= {"anatomy-odd"}


@pytest.mark.parametrize(
    ("heart", "liver", "gas", "aorta", "expected"),
    [
        (-1.0, -1.0, -1.0, -0.5, ["mirrored"]),
        (-1.0, 0.0, 0.0, -0.44, ["mirrored"]),
        (-1.0, 1.0, 0.0, -0.5, []),  # pulled over by a collapse, the liver where it belongs
        (-0.5, 0.0, 0.0, -0.25, ["anatomy-odd"]),  # no liver in view: halved, airless lung
        (-1.0, 0.0, 0.0, 0.0, ["anatomy-odd"]),  # one witness alone
        (0.3, -1.0, 1.0, 0.0, []),
    ],
)
def test_one_witness_alone_never_rejects(
    heart: float, liver: float, gas: float, aorta: float, expected: list[str]
) -> None:
    votes = {"heart": heart, "liver": liver, "stomach gas": gas, "aorta": aorta}
    assert [fault.code for fault in anatomy._verdict("mirrored", votes)] == expected


def test_no_chest_and_blank_are_said_with_their_reasons() -> None:
    noise = np.random.default_rng(0).uniform(-1000, 1000, SHAPE).astype(np.int16)
    assert codes(as_volume(noise)) <= {"no-chest", "not-hu"} != set()
    assert codes(as_volume(np.full(SHAPE, 40, np.int16))) == {"blank"}
    low = body().volume.array_zyx[:20]
    (fault,) = check_anatomy(as_volume(low.copy())).faults
    assert fault.code == "no-chest"
    assert "mm of lung" in fault.detail


def test_a_fault_says_who_saw_it_and_how_sure_it_is() -> None:
    (fault,) = check_anatomy(changed(phantom(0), FLIPS["mirrored"][0])).faults
    assert "liver" in fault.detail
    assert 0.5 <= fault.confidence <= 1.0


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 12)] * 3),
    low=st.integers(-4000, 3000),
    width=st.integers(0, 4000),
    seed=st.integers(0, 9),
)
def test_whatever_the_voxels_it_never_raises(
    shape: tuple[int, int, int], low: int, width: int, seed: int
) -> None:
    array = np.random.default_rng(seed).integers(low, low + width + 1, shape).astype(np.int16)
    check_anatomy(Volume(array, (5.0, 5.0, 5.0), np.eye(4)))
    hu_fault(array.astype(np.float32))


def scan(air: float = -1000, lung: float = -850, tissue: float = 40) -> np.ndarray:
    """A block of tissue with a block of lung in it, in air."""
    array = np.full((20, 60, 60), air, np.float32)
    array[:, 10:50, 10:50] = tissue
    array[:, 20:40, 20:40] = lung
    return array


@pytest.mark.parametrize(
    ("sound", "wrong", "words"),
    [
        ({"air": -1055}, {"air": -1065}, "around the patient has -1065"),
        ({"air": -945}, {"air": -935}, "around the patient has -935"),
        ({"tissue": -155}, {"tissue": -175}, "most tissue has -180"),
        ({"tissue": 125}, {"tissue": 145}, "most tissue has 140"),
        ({"tissue": 290}, {"tissue": 1000}, "hardly a voxel lies between"),
        ({}, {"air": -400, "lung": -400, "tissue": 600}, "values from -400 to 600"),
    ],
    ids=str,
)
def test_how_far_values_may_be_off(sound: dict, wrong: dict, words: str) -> None:
    found = hu_fault(scan(**sound))
    assert found is None or words not in found
    assert words in (hu_fault(scan(**wrong)) or "")


def test_what_lies_below_air_is_padding_only_where_it_is_one_value() -> None:
    array = scan()
    for corner in (-1050, -1150, -3024):
        array[:, :8, :8] = corner
        assert hu_fault(array) is None, corner
    few = array.ravel()[: array.size // 20]  # 5 % of all, of many values
    few[:] = np.linspace(-1400, -1300, len(few))
    assert "5% of voxels lie near" in (hu_fault(array) or "")


def test_of_few_voxels_nothing_is_said() -> None:
    assert hu_fault(np.linspace(0, 900, 900).reshape(9, 10, 10)) is None
    assert hu_fault(np.linspace(0, 900, 1100).reshape(11, 10, 10)) is not None


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ((-1.0, -0.6, 0.0), ["upside-down"]),
        ((-1.0, -0.4, 0.0), ["anatomy-odd"]),
        ((-1.0, 0.0, 0.0), []),  # collapse and fluid alone turn one of three
        ((-1.0, -1.0, 1.0), []),
    ],
)
def test_two_of_three_witnesses_say_what_is_up(
    votes: tuple[float, float, float], expected: list[str]
) -> None:
    named = dict(zip(("windpipe", "lungs' width", "heart"), votes, strict=True))
    assert [fault.code for fault in anatomy._verdict("upside-down", named)] == expected


def test_each_witness_sees_its_own_side() -> None:
    """Together they may hide that one of them looks at the wrong side, or at nothing."""
    votes = [check_anatomy(phantom(seed)).votes["mirrored"] for seed in (0, 3, 5)]
    assert all(vote["liver"] > 0.9 and vote["stomach gas"] == 1 for vote in votes)
    flipped = check_anatomy(changed(phantom(0), FLIPS["mirrored"][0])).votes["mirrored"]
    assert flipped["liver"] < -0.9
    assert flipped["stomach gas"] == -1
    drawn = body().volume.array_zyx.copy()
    drawn[:, 28:34, 72:80] = 40  # beside the spine, where nothing else lies
    aorta = {}
    for name, array in (("right", drawn), ("left", drawn[:, :, ::-1].copy())):
        aorta[name] = check_anatomy(as_volume(array)).votes["mirrored"]["aorta"]
    assert aorta["right"] < -0.05 < 0.05 < aorta["left"], aorta


def test_beside_an_uneven_lung_heart_and_aorta_count_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = body()
    hu = drawn.volume.array_zyx.copy()
    hu[drawn.right & (np.arange(SHAPE[0])[:, None, None] > 30)] = 20
    half = check_anatomy(as_volume(hu)).votes["mirrored"]
    monkeypatch.setattr(anatomy, "UNEVEN", 0.0)
    whole = check_anatomy(as_volume(hu)).votes["mirrored"]
    assert half["heart"] == whole["heart"] / 2 != 0
    assert half["aorta"] == whole["aorta"] / 2 != 0
    assert half["liver"] == whole["liver"]


def test_a_lung_with_little_air_is_odd() -> None:
    drawn = body()
    hu = drawn.volume.array_zyx.copy()
    hu[drawn.right] = 20
    details = [f.detail for f in check_anatomy(as_volume(hu)).faults if f.code == "anatomy-odd"]
    assert "the right lung holds little air" in details


@pytest.mark.parametrize("name", ["back to front", "upside down"])
def test_the_sides_are_asked_of_the_image_put_right(name: str) -> None:
    as_it_is = check_anatomy(phantom(3)).votes["mirrored"]
    turned = check_anatomy(changed(phantom(3), FLIPS[name][0])).votes["mirrored"]
    assert turned == pytest.approx(as_it_is, abs=0.1)
