from __future__ import annotations

import re

import pytest

from ctscribe.reports.segments import (
    CODE,
    EN_SEGMENT,
    ZH_SEGMENT,
    place_segment,
    segment_name,
)


@pytest.mark.parametrize(
    ("words", "side", "lobe", "code"),
    [
        ("尖后段", "left", "LUL", "S1+2"),
        ("尖段", "right", "RUL", "S1"),
        ("尖段", "left", "LUL", "S1+2"),
        ("后段", "right", "RUL", "S2"),
        ("前段", "left", "LUL", "S3"),
        ("外侧段", "right", "RML", "S4"),
        ("内侧段", "right", "RML", "S5"),
        ("上舌段", "left", "LUL", "S4"),
        ("下舌段", "left", "LUL", "S5"),
        ("舌段", "left", "LUL", "S4+5"),
        ("背段", "left", "LLL", "S6"),
        ("内侧基底段", "right", "RLL", "S7"),
        ("前内基底段", "left", "LLL", "S7+8"),
        ("前基底段", "right", "RLL", "S8"),
        ("外基底段", "left", "LLL", "S9"),
        ("后基底段", "right", "RLL", "S10"),
        ("S10", "left", "LLL", "S10"),
        ("S3a", "right", "RUL", "S3"),
        ("RB3", None, "RUL", "S3"),
        ("apicoposterior segment", "left", "LUL", "S1+2"),
        ("superior segment", "right", "RLL", "S6"),
        ("posterior basal segment", "right", "RLL", "S10"),
        ("inferior lingular segment", None, "LUL", "S5"),
    ],
)
def test_a_segment_implies_its_lobe(words: str, side: str | None, lobe: str, code: str) -> None:
    assert any(re.fullmatch(p, words, re.I) for p in (ZH_SEGMENT, EN_SEGMENT, CODE))
    assert place_segment(side, None, segment_name(words))[1:] == (lobe, code)  # type: ignore[arg-type]


def test_a_lobe_that_does_not_have_the_segment_is_not_kept() -> None:
    assert place_segment("right", "RUL", segment_name("背段")) == ("right", None, "S6")
    assert place_segment(None, None, "S6") == (None, None, "S6")
