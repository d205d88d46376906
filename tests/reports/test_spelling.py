from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctscribe.reports.spelling import respelled
from ctscribe.reports.statements import statements


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("右肺上页结节", "右肺上叶结节"),
        ("左侧胸腔积夜", "左侧胸腔积液"),
        ("右肺尖肺大炮", "右肺尖肺大疱"),
        ("实行小结节", "实性小结节"),
        ("下叶实行扫描", "下叶实行扫描"),
        ("上夜班后咳嗽", "上夜班后咳嗽"),
    ],
)
def test_a_character_that_sounds_the_same_is_put_right(text: str, right: str) -> None:
    assert respelled(text, "zh")[0] == right


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("consolidatoin", "consolidation"),
        ("efusion", "effusion"),
        ("efussion", "efussion"),  # two slips
        ("uper", "upper"),
        ("rigth", "right"),
        ("nodle", "nodule"),
        ("stale", "stale"),
        ("light", "light"),
        ("interior", "interior"),
        ("resolve", "resolve"),  # "expected to resolve" is no "resolved"
        ("effusions", "effusions"),
    ],
)
def test_one_slip_in_a_word_is_put_right(word: str, right: str) -> None:
    assert respelled(f"a {word} there", "en")[0] == f"a {right} there"


def test_spans_lie_in_the_text_as_it_was_written() -> None:
    text = "Consolidatoin in the rigth uper lobe. Smal left efusion."
    assert [text[s.start : s.end] for s in statements(text)] == [
        "Consolidatoin in the rigth uper lobe",
        "left efusion",
    ]


@given(st.text(alphabet="abdefilnopstu rm,.", max_size=80))
def test_positions_never_leave_the_text(text: str) -> None:
    right, at = respelled(text, "en")
    places = [at(i) for i in range(len(right) + 1)]
    assert places[0] == 0
    assert places[-1] == len(text)
    assert all(0 <= place <= len(text) for place in places)
