from __future__ import annotations

import pytest

from ctscribe.reports.labeller import extract
from ctscribe.reports.statements import statements


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("Nodules in the RUL, RLL and LLL measure 6, 8 and 11 mm, respectively.", [6, 8, 11]),
        ("Nodules in the RUL and LLL measure 0.6 and 1.1 cm, respectively.", [6, 11]),
        ("右肺上叶、右肺下叶及左肺下叶结节，大小分别约6、8、11mm。", [6, 8, 11]),
        ("右肺上叶及左肺下叶结节，直径依次为0.6和1.1厘米。", [6, 11]),
        # No list: a number of something else, and sizes that are not one each.
        ("Nodules in the RUL and LLL measure 6 mm and 8 mm, respectively.", [6, 8]),
        ("Nodule in the RUL on series 3, image 45 and 6 mm in size.", [6]),
    ],
)
def test_sizes_with_one_unit_are_one_each(text: str, sizes: list[float]) -> None:
    assert [s.size_mm for s in statements(text)] == sizes
    assert sorted(f.size_mm or 0 for f in extract(text)) == sizes
