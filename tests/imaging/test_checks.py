from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctscribe.errors import ImageError
from ctscribe.imaging.checks import check_chest, require_chest
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
