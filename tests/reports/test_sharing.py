from __future__ import annotations

import pytest

from ctscribe.reports.sharing import MEASURABLE_MM
from ctscribe.reports.statements import statements


@pytest.mark.parametrize(
    ("now", "before", "change"),
    [
        (10, 7, "larger"),
        (7, 10, "smaller"),
        (9, 9, "stable"),
        (9, 8, None),
        (8 + MEASURABLE_MM, 8, "larger"),
    ],
)
def test_two_sizes_tell_the_change_that_can_be_measured(
    now: float, before: float, change: str | None
) -> None:
    for text in (
        f"右肺上叶结节现约{now:g}mm，前片约{before:g}mm。",
        f"RUL nodule now {now:g} mm, previously {before:g} mm.",
        f"RUL nodule, {now:g} mm (was {before:g} mm).",
    ):
        (one,) = statements(text)
        assert (one.size_mm, one.comparison) == (now, change), text


def test_a_change_in_words_counts_more_than_sizes() -> None:
    (one,) = statements("右肺上叶结节现约10mm，原约7mm，同前。")
    assert one.comparison == "stable"


def test_what_is_said_of_all_is_said_of_each() -> None:
    found = statements("右肺上叶结节7mm，中叶结节4mm，均为实性，均较前无变化。")
    assert [(s.density, s.comparison) for s in found] == [("solid", "stable")] * 2
    found = statements("Small bilateral effusions with atelectasis, similar to prior.")
    assert {s.comparison for s in found} == {"stable"}


def test_an_effusion_of_a_side_is_stated_once() -> None:
    found = statements("双侧胸腔积液引流后复查，右侧积液明显减少，左侧积液完全吸收。")
    assert [(s.side, s.negated) for s in found] == [("right", False), ("left", True)]
    # Two nodules of a lobe are two.
    found = statements("右肺上叶结节，右肺上叶另见结节，约8mm，较前增大。")
    assert [s.size_mm for s in found] == [None, 8.0]
