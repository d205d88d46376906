from __future__ import annotations

import pytest

from ctscribe.reports.statements import statements


@pytest.mark.parametrize(
    ("text", "size", "change"),
    [
        ("右肺上叶结节由6mm增至9mm。", 9, "larger"),
        ("右肺上叶结节，3年前4mm，现7mm。", 7, "larger"),
        ("左肺下叶结节（9mm→6mm）。", 6, "smaller"),
        ("右肺上叶结节，2021年5mm、2022年6mm、本次8mm。", 8, "larger"),
        ("The nodule in the RUL, before 4 mm, now 7 mm.", 7, "larger"),
        ("RUL nodule has shrunk to 4 mm from 7 mm.", 4, "smaller"),
        ("RUL nodule: 9 mm today, 9 mm on 3/2022.", 9, "stable"),
        # Two sizes, neither of them the prior's.
        ("右肺上叶两枚结节，6mm、9mm。", None, None),
    ],
)
def test_the_size_of_today_is_told_from_the_priors(
    text: str, size: float | None, change: str | None
) -> None:
    spoken = statements(text)
    if size is None:
        assert [(s.size_mm, s.comparison) for s in spoken] == [(6, None), (9, None)]
    else:
        assert [(s.size_mm, s.comparison) for s in spoken] == [(size, change)]


@pytest.mark.parametrize(
    ("text", "amount", "change"),
    [
        ("左侧胸腔积液由大量减为中等量。", "moderate", "smaller"),
        ("右侧胸腔积液由少量增为大量。", "large", "larger"),
        ("Left effusion, previously moderate, now small.", "small", "smaller"),
    ],
)
def test_the_amount_of_today_is_told_from_the_priors(text: str, amount: str, change: str) -> None:
    assert [(s.amount, s.comparison) for s in statements(text)] == [(amount, change)]


@pytest.mark.parametrize(
    "text",
    [
        "双侧甲状腺结节，右侧1.2公分，左侧0.8公分。",
        "Bilateral thyroid nodules, 12 mm on the right and 8 mm on the left.",
    ],
)
def test_each_side_has_its_own_size(text: str) -> None:
    assert [(s.side, s.size_mm) for s in statements(text)] == [("right", 12), ("left", 8)]


def test_each_place_has_its_own_finding() -> None:
    text = "右肺上叶尖段、前段及中叶内侧段分别见pGGN、mGGN、实性结节。"
    assert [(s.segment, s.density) for s in statements(text)] == [
        ("S1", "ground-glass"),
        ("S3", "part-solid"),
        ("S5", "solid"),
    ]


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        ("右肺上叶后段结节（应为前段）。", "S3"),
        ("右肺中叶外侧段结节，更正：内侧段，约6mm。", "S5"),
        ("左下肺叶（更正：左上肺叶）前段结节。", "S3"),
    ],
)
def test_what_is_put_right_later_is_read(text: str, segment: str) -> None:
    assert [s.segment for s in statements(text)] == [segment]
