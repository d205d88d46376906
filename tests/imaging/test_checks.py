from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctscribe.errors import ImageError
from ctscribe.imaging import checks
from ctscribe.imaging.checks import check_chest, require_chest
from ctscribe.imaging.lungs import Lungs
from ctscribe.imaging.volume import Volume
from ctscribe.phantom.render import PhantomStudy, render_study, sample_study

from .bodies import SHAPE, SPACING, as_volume, body


def codes(volume: Volume) -> set[str]:
    return {reason.code for reason in check_chest(volume).reasons}


def noise(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, SHAPE).astype(np.int16)


def abdomen() -> np.ndarray:
    """The drawn body without lungs, with gas in its bowel and the lungs' lowest centimetres."""
    hu = body(stomach=False).volume.array_zyx.copy()
    drawn = body(stomach=False)
    hu[drawn.both] = 40
    lowest = drawn.both & (np.arange(SHAPE[0])[:, None, None] < 8)
    hu[60:][lowest[:12]] = -850
    for x in (30, 50, 75, 95):
        hu[20:60, 45:60, x : x + 8] = -1000
    return hu


def head() -> np.ndarray:
    z, y, x = np.meshgrid(
        *((np.arange(n) - n / 2) * mm for n, mm in zip(SHAPE, SPACING, strict=True)),
        indexing="ij",
    )
    r = (x / 75) ** 2 + (y / 95) ** 2 + (z / 110) ** 2
    hu = np.where(r < 1, 800, -1000)
    hu[r < 0.85] = 35
    hu[(x / 18) ** 2 + ((y - 70) / 14) ** 2 + ((z + 40) / 18) ** 2 < 1] = -1000
    return hu.astype(np.int16)


def test_what_is_no_chest_is_refused_with_its_reason() -> None:
    whole = body().volume.array_zyx
    assert codes(as_volume(np.full(SHAPE, -1000, np.int16))) == {"blank"}
    assert codes(as_volume(np.full(SHAPE, 40, np.int16))) == {"blank"}
    assert codes(as_volume(noise(-1000, 1000))) == {"noise"}
    assert codes(as_volume(noise(-1000, -100))) == {"noise"}
    assert codes(as_volume(head())) & {"no-lung", "litres"}
    assert codes(as_volume(abdomen())) & {"no-lung", "litres", "height", "gas"}
    assert "cut-top" in codes(as_volume(whole[:40]))
    assert codes(as_volume(whole[:20])) >= {"height"}
    assert "cut-bottom" in codes(as_volume(whole[38:]))
    middle = SHAPE[2] // 2
    assert "cut-side" in codes(as_volume(whole[:, :, middle - 22 : middle + 22]))
    balloon = np.where(body().both, -1000, 40).astype(np.int16)
    assert codes(as_volume(balloon)) >= {"gas", "bone"}


@pytest.mark.parametrize(
    "disease",
    [
        {},
        {"arms": True, "table": True, "shift_x_mm": 20.0},
        {"right": "fluid"},
        {"left": "fluid"},
        {"right": "pneumothorax"},
        {"left": "pneumothorax", "right": "fluid"},
    ],
    ids=str,
)
def test_a_chest_passes_however_ill(disease: dict) -> None:
    check = check_chest(body(**disease).volume)
    assert check.ok, check.reasons
    if not disease:
        assert check.notes == ()
        assert check.heart_side == "left"
        assert check.lung_litres[0] > 1.2
        assert check.lung_litres[1] > 1


def test_the_slices_with_lung_are_named() -> None:
    drawn = body()
    rows = np.flatnonzero((drawn.both & (drawn.volume.array_zyx < -400)).any((1, 2)))
    low, high = check_chest(drawn.volume).lung_z_range
    assert abs(low - rows[0]) <= 1
    assert abs(high - rows[-1]) <= 1
    fine = Volume(drawn.volume.array_zyx.repeat(4, 0), (1.0, 3.0, 3.0), drawn.volume.affine)
    low, high = check_chest(fine).lung_z_range
    assert abs(low - 4 * rows[0]) <= 4
    assert abs(high - 4 * rows[-1] - 3) <= 4


def phantom(seed: int) -> PhantomStudy:
    return sample_study(710_000 + seed, 710_000 + seed, "demo")


def is_clear(study: PhantomStudy) -> bool:
    """Nothing in it that hides or moves the heart."""
    hiding = {"consolidation", "effusion", "pneumothorax"}
    return not hiding & {lesion.finding.name for lesion in study.lesions}


def as_scanned(study: PhantomStudy) -> Volume:
    hu = render_study(study, "cpu").hu_zyx.round().short().numpy()
    return Volume(hu, study.spacing_zyx_mm, np.eye(4))


@pytest.mark.parametrize("seed", range(5))
def test_phantoms_pass(seed: int) -> None:
    volume = as_scanned(phantom(seed))
    check = check_chest(volume)
    assert check.ok, check
    mirrored = Volume(volume.array_zyx[:, :, ::-1].copy(), volume.spacing_zyx_mm, np.eye(4))
    right, left = check_chest(mirrored).lung_litres
    assert (left, right) == pytest.approx(check.lung_litres, rel=0.05)


def test_phantoms_show_their_heart_on_the_left_unless_something_hides_it() -> None:
    clear = [study for study in map(phantom, range(30)) if is_clear(study)][:3]
    assert [check_chest(as_scanned(study)).heart_side for study in clear] == ["left"] * 3


def test_a_mirrored_image_is_remarked_on() -> None:
    mirrored = as_volume(body().volume.array_zyx[:, :, ::-1].copy())
    check = check_chest(mirrored)
    assert check.heart_side == "right"
    assert [note.code for note in check.notes] == ["heart-right"]
    assert all(note.zh and note.en for note in check.notes)


def test_a_side_without_air_is_remarked_on() -> None:
    drawn = body()
    hu = drawn.volume.array_zyx.copy()
    hu[drawn.right] = 20
    assert "little-air-right" in {note.code for note in check_chest(as_volume(hu)).notes}


def test_require_chest_names_case_file_reasons_and_fix() -> None:
    with pytest.raises(ImageError) as caught:
        require_chest(as_volume(noise(-1000, 1000)), case="case-3", file=Path("x.nii.gz"))
    message = str(caught.value)
    assert message.startswith("case case-3, x.nii.gz: no plausible chest CT: the image is noise")
    assert "Fix: " in message
    assert require_chest(body().volume).ok


def drawn_lungs(lung: float = 1.0, bone_ml: float = 100.0, edge: float = 0.0) -> Lungs:
    """A block of air, voxels of 1 ml.

    lung: the share of it with a lung's attenuation. edge: of its rows that reach the image's side.
    """
    air = np.zeros((20, 10, 30), bool)
    air[:, :, 5:25] = True
    air.reshape(-1, 30)[: round(edge * 200), 0] = True
    hu = np.full(air.shape, 40, np.float32)
    values = np.full(air.sum(), -1000, np.float32)
    values[: round(lung * len(values))] = -850
    hu[air] = values
    hu.reshape(-1, 30)[: round(bone_ml), 29] = 1000
    return Lungs(air, hu, (1, 1, 1), (10.0, 10.0, 10.0), air.shape, 15.0, None)


def reasons(
    litres: float = 4.0,
    height: float = 250.0,
    area: tuple[float, ...] = (0.1, 1, 0.1),
    **drawn: float,
) -> set[str]:
    lungs = drawn_lungs(**drawn)
    found = checks._reasons(lungs, litres, height, np.array(area), np.arange(20))
    return {reason.code for reason in found}


@pytest.mark.parametrize(
    ("passes", "refused", "code"),
    [
        ({"litres": 0.41}, {"litres": 0.39}, "litres"),
        ({"litres": 11.9}, {"litres": 12.1}, "litres"),
        ({"height": 121}, {"height": 119}, "height"),
        ({"area": (0.1, 1, 0.49)}, {"area": (0.1, 1, 0.51)}, "cut-top"),
        ({"area": (0.79, 1, 0.1)}, {"area": (0.81, 1, 0.1)}, "cut-bottom"),
        ({"edge": 0.49}, {"edge": 0.51}, "cut-side"),
        ({"lung": 0.06}, {"lung": 0.04}, "gas"),
        ({"bone_ml": 51}, {"bone_ml": 49}, "bone"),
    ],
    ids=str,
)
def test_where_a_chest_ends(passes: dict, refused: dict, code: str) -> None:
    assert reasons(**passes) == set()
    assert reasons(**refused) == {code}


def test_a_range_and_a_noise_that_an_image_may_have() -> None:
    whole = body().volume.array_zyx.astype(np.float64)
    for width, blank in ((290, True), (310, False)):
        array = np.rint((whole.clip(-1000, 0) + 1000) / 1000 * width).astype(np.int16)
        assert (codes(as_volume(array)) == {"blank"}) is blank
    low_dose = whole + np.random.default_rng(0).normal(0, 200, SHAPE)
    assert "noise" not in codes(as_volume(np.rint(low_dose).astype(np.int16)))


def test_a_side_with_few_of_the_air_is_remarked_on() -> None:
    for right, noted in ((0.16, []), (0.14, ["little-air-right"])):
        assert [note.code for note in checks._notes(right, 1 - right, None)] == noted
        other = [code.replace("right", "left") for code in noted]
        assert [note.code for note in checks._notes(1 - right, right, None)] == other
