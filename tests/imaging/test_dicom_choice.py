from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctscribe.imaging.dicom import (
    Choice,
    Instance,
    PixelFormat,
    Scan,
    Series,
    choose_series,
    studies,
)
from ctscribe.imaging.dicom_choice import is_soft, why_not
from ctscribe.phantom import dicom as phantom
from tests.imaging.series import scan, small

CT = phantom.CT
PIXELS = PixelFormat(
    512, 512, 1, 1, 16, 16, 15, True, True, "MONOCHROME2", phantom.EXPLICIT, False, 1000, 524288
)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def series(
    description: str = "Chest 1.0",
    *,
    step: float = 1.0,
    slices: int = 300,
    orientation: Any = AXIAL,
    along: int = 2,
    skip: tuple[int, ...] = (),
    **fields: Any,
) -> Series:
    def at(index: int) -> tuple[float, float, float]:
        place = [0.0, 0.0, 0.0]
        place[along] = index * step
        return place[0], place[1], place[2]

    instances = tuple(
        Instance(
            file=Path(f"{index}.dcm"),
            frame=0,
            uid=f"1.{index}",
            number=index,
            position_mm=at(index),
            orientation=orientation,
            spacing_yx_mm=(0.7, 0.7),
            slope=1.0,
            intercept=-1024.0,
            padding=None,
            pixels=PIXELS,
        )
        for index in range(slices)
        if index not in skip
    )
    given = {"modality": "CT", "sop_class": CT, "number": 2, **fields}
    return Series("1.1", f"1.2.{given['number']}", instances, description=description, **given)


def chosen(*candidates: Series) -> tuple[int, Choice]:
    """Which of them, in whatever order they come."""
    choices = [choose_series(order) for order in (candidates, candidates[::-1])]
    assert choices[0].chosen == choices[1].chosen
    assert choices[0].chosen is not None
    assert len(choices[0].left_out) == len(candidates) - 1
    return candidates.index(choices[0].chosen), choices[0]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (series("Topogram 0.6 T20f", slices=1), "localizer"),
        (series("定位像", slices=2), "localizer"),
        (series("", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), slices=1), "localizer"),
        (series("Scout", slices=9), "localizer"),
        (series("Chest", sop_class=phantom.SECONDARY_CAPTURE), "secondary capture"),
        (series("Dose Report", slices=1), "dose"),
        (series("剂量报告", slices=1), "dose"),
        (series("Chest MIP 8.0"), "MIP"),
        (series("", image_type=("DERIVED", "SECONDARY", "MPR")), "reformat"),
        (series("Chest Cor 3.0"), "reformat"),
        (series("胸部冠状位"), "reformat"),
        (series("x", orientation=(1, 0, 0, 0, 0, -1), along=1), "coronal"),
        (series("x", orientation=(0, 1, 0, 0, 0, -1), along=0), "sagittal"),
        (series("VRT lung"), "3D"),
        (series("碘图"), "not HU"),
        (series("PreMonitoring", slices=12), "timing"),
        (series("Chest", slices=4), "only 4 slices"),
        (series("Chest target", step=0.6, slices=40), "cover only 23 mm"),
        (series("T1", modality="MR"), "modality MR"),
        (series("", modality="", sop_class="1.2.840.10008.5.1.4.1.1.4"), "MR Image Storage"),
        (series("Head 5.0 H31s"), "another region (head)"),
        (series("颅脑平扫"), "another region"),
        (series("Head 5.0", body_part="CHEST", study_description="CT 胸部"), "region (head)"),
        (series("", body_part="KNEE"), "another region (knee)"),
        (series("", study_description="CT 腰椎"), "another region"),
        (series("胸椎 1.0"), "another region"),
        (series("T-Spine 2.0", body_part="SPINE"), "another region"),
        (series("Pelvis"), "another region (pelvis)"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.description,
)  # fmt: skip
def test_what_is_no_diagnostic_chest_is_left_out_with_its_reason(
    other: Series, reason: str
) -> None:
    other = replace(other, number=9, series_uid="1.2.9")
    good = series()
    index, choice = chosen(good, other)
    assert index == 0
    assert reason in choice.left_out[0][1]
    assert choice.diagnostic == (good,)
    alone = choose_series([other])
    assert alone.chosen is None
    assert reason in alone.why


@pytest.mark.parametrize(
    "fields",
    [
        {"description": ""},
        {"description": "", "body_part": "ABDOMEN"},
        {"description": "Abdomen Pelvis 1.0"},
        {"description": "CAP 1.0", "body_part": "HEAD"},
        {"description": "1.0 x 1.0", "body_part": "HEAD", "study_description": "Chest CT"},
        {"description": "Low dose 1.0 Qr40"},
        {"description": "低剂量胸部筛查"},
        {"description": "ThorRoutine 1.0 B31f", "body_part": "NECK"},
        {"description": "颈胸部平扫"},
        {"description": "肺窗 1mm", "body_part": "SPINE"},
        {"description": "Body 1.0", "image_type": ("DERIVED", "SECONDARY", "AXIAL")},
        {"description": "Thorax", "modality": ""},
        {"description": "Chest, planned on topogram"},
    ],
    ids=str,
)
def test_headers_that_lie_or_say_nothing_do_not_put_a_chest_out(fields: dict[str, Any]) -> None:
    assert why_not(series(**fields)) == ""


def test_thin_slices_then_a_soft_kernel_are_chosen() -> None:
    soft = series(kernel="B31f", number=3)
    others = (
        series(kernel="B70f", number=2),
        series("Chest 5.0", step=5.0, slices=60, kernel="B31f", number=4),
        series("Chest 1.0", step=1.25, slices=240, kernel="B31f", number=5),
    )
    index, choice = chosen(*others, soft)
    assert index == 3
    reasons = {one.number: reason for one, reason in choice.left_out}
    assert "sharper kernel" in reasons[2]
    assert "thicker slices (60 slices every 5 mm" in reasons[4]
    assert "thicker slices" in reasons[5]
    assert choice.why == (
        "the best of 4 diagnostic series: 300 slices every 1 mm, soft kernel B31f, named as chest"
    )
    assert len(choice.diagnostic) == 4


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        (series("Recon 0.6", step=0.6, slices=500), "do not say chest"),
        (series("Chest 0.6", step=0.6, slices=200), "shows a part"),
        (series("Chest 0.6", step=0.6, slices=500, skip=(7,)), "no even grid"),
        (series("Chest 0.6", step=0.6, slices=500, image_type=("DERIVED",)), "derived"),
        (series("Chest", slices=280), "fewer slices"),
        (series(number=7), "its number"),
    ],
)
def test_what_counts_before_thinness(worse: Series, why: str) -> None:
    worse = replace(worse, number=7, series_uid="1.2.7")
    index, choice = chosen(series(), worse)
    assert index == 0
    assert why in choice.left_out[0][1]


@pytest.mark.parametrize(
    ("kernel", "soft"),
    [
        ("B31f", True), ("B70f", False), ("Br40d\\3", True), ("Bl57d\\2", False), ("I50f", False),
        ("Bl46f", False), ("B48f", True),
        ("STANDARD", True), ("LUNG", False), ("BONEPLUS", False), ("SOFT", True), ("FC08", True),
        ("FC52", False), ("B", True), ("YC", False), ("L", False), ("B_SHARP_C", False),
        ("B_SOFT_B", True), ("", None), ("XYZ", None),
    ],
)  # fmt: skip
def test_kernels_of_all_makers(kernel: str, soft: bool | None) -> None:
    assert is_soft(series("1.0", kernel=kernel)) is soft


def test_no_kernel_is_better_than_a_sharp_one() -> None:
    index, _ = chosen(series("1.0", kernel="B70f", number=2), series("1.0", number=3))
    assert index == 1


def tilted(degrees: float) -> tuple[float, ...]:
    turn = np.radians(degrees)
    return 1.0, 0.0, 0.0, 0.0, float(np.cos(turn)), float(np.sin(turn))


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (series(slices=10, step=12.0), ""),
        (series(slices=9, step=20.0), "only 9 slices"),
        (series(slices=10, step=11.0), "cover only 99 mm"),
        (series(orientation=tilted(30)), ""),
        (series(orientation=tilted(60)), "coronal"),
    ],
)
def test_how_few_how_short_and_how_tilted_a_stack_may_be(one: Series, reason: str) -> None:
    assert reason in why_not(one)
    assert bool(reason) == bool(why_not(one))


@pytest.mark.parametrize(
    ("one", "two", "better"),
    [
        # Of the longest stack's 299 mm: 65% is a part, 80% is as good as all.
        (series(), series("Chest 0.6", step=0.6, slices=325, number=3), 0),
        (series(), series("Chest 0.6", step=0.6, slices=400, number=3), 1),
        # A soft kernel decides between steps of one class alone: to 1.5, 3 and 6 mm.
        *(
            (
                series(kernel="B70f", step=thin, slices=int(300 / thin)),
                series(kernel="B31f", step=thick, slices=int(300 / thick), number=3),
                better,
            )
            for thin, thick, better in (
                *((0.6, 1.4, 1), (1.4, 2.0, 0), (2.0, 2.9, 1), (2.0, 4.0, 0)),
                *((4.0, 5.9, 1), (5.0, 8.0, 0)),
            )
        ),
    ],
)
def test_what_weighs_more(one: Series, two: Series, better: int) -> None:
    assert chosen(one, two)[0] == better


def test_a_study_is_of_one_patient_and_without_a_uid_of_one_day_and_place() -> None:
    def of(*fields: dict[str, Any]) -> int:
        return len(studies(Scan(tuple(replace(series(), **given) for given in fields), (), ())))

    assert of({"patient_key": "a"}, {"patient_key": "a"}) == 1
    assert of({"patient_key": "a"}, {"patient_key": "b"}) == 2
    none = {"study_uid": "", "study_date": "20240101", "accession": "A1"}
    assert of(none, none) == 1
    assert of(none, none | {"study_date": "20240102"}) == 2
    assert of(none, none | {"accession": "A2"}) == 2


def test_a_description_speaks_where_no_kernel_is_named() -> None:
    assert is_soft(series("纵隔窗")) is True
    assert is_soft(series("肺窗")) is False


def test_positions_that_are_missing_are_left_to_the_reader() -> None:
    without = series()
    gone = tuple(replace(one, position_mm=None) for one in without.instances)
    assert choose_series([replace(without, instances=gone)]).chosen is not None


def test_a_sharp_kernel_is_better_than_thick_slices() -> None:
    thick = series("Chest 5.0", step=5.0, slices=60, kernel="B31f", number=4)
    index, choice = chosen(thick, series(kernel="B70f", number=2))
    assert index == 1
    assert "thicker slices" in choice.left_out[0][1]


def test_a_stack_of_colour_pictures_is_no_ct() -> None:
    grey = series()
    colour = replace(grey.instances[0].pixels, samples=3, photometric="RGB")
    instances = tuple(replace(one, pixels=colour) for one in grey.instances)
    assert why_not(replace(grey, instances=instances)) == "a colour picture"


def test_no_series_is_no_choice() -> None:
    assert choose_series([]).chosen is None


def test_a_whole_study_on_disk(tmp_path: Path) -> None:
    volume = replace(small((48, 9, 14)), spacing_zyx_mm=(2.5, 0.8, 0.7))
    phantom.write_series(volume, tmp_path, number=2, name="a{:04d}.dcm")
    phantom.write_series(volume, tmp_path, number=3, name="b{:04d}.dcm", kernel="B70f")
    phantom.write_localizer(tmp_path)
    phantom.write_secondary_capture(tmp_path)
    phantom.write_secondary_capture(tmp_path, number=93, colour=False)
    phantom.write_dose_report(tmp_path)
    found = scan(tmp_path)
    (study,) = studies(found)
    choice = choose_series(study)
    assert choice.chosen is not None
    assert choice.chosen.number == 2
    reasons = sorted(reason for _, reason in choice.left_out)
    assert len(reasons) == 4
    assert "a localizer" in reasons
    assert reasons.count("a secondary capture") == 2
    assert [left.file.name for left in found.left_out] == ["dose92.dcm"]
