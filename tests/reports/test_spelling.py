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
    ("text", "right"),
    [
        ("雙側肋膜積液", "双侧胸膜积液"),
        ("未有淋巴腺腫大之情形", "未见淋巴结肿大的情形"),
        ("部份實心結節", "部分实性结节"),
        ("之前、之間、之後", "之前、之间、之后"),
        ("其實心包無積液", "其实心包无积液"),
    ],
)
def test_taiwans_and_hong_kongs_words_are_the_mainlands(text: str, right: str) -> None:
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
