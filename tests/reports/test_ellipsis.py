from __future__ import annotations

import pytest

from ctscribe.reports.ellipsis import spelled_out, without_emphasis, without_unnamed
from ctscribe.reports.labeller import extract
from ctscribe.reports.statements import statements
from ctscribe.reports.tokens import tokenize


def said(text: str) -> list[tuple[str, bool, str | None, float | None]]:
    return [(s.finding, s.negated, s.lobe or s.side, s.size_mm) for s in statements(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "右侧胸腔积液，左侧未见。",
            [("effusion", False, "right", None), ("effusion", True, "left", None)],
        ),
        (
            "右侧胸腔积液。左侧未见。",
            [("effusion", False, "right", None), ("effusion", True, "left", None)],
        ),
        (
            "双肺小结节，右肺者约5mm，左肺者约3mm。",
            [("nodule", False, "right", 5.0), ("nodule", False, "left", 3.0)],
        ),
        (
            "右肺上叶结节8mm；左肺下叶5mm。",
            [("nodule", False, "RUL", 8.0), ("nodule", False, "LLL", 5.0)],
        ),
        (
            "Two nodules in the LLL, 7 mm and 4 mm; a third, in the RUL, measures 11 mm.",
            [
                ("nodule", False, "LLL", 7.0),
                ("nodule", False, "LLL", 4.0),
                ("nodule", False, "RUL", 11.0),
            ],
        ),
    ],
)
def test_a_clause_without_its_findings_name_is_read(
    text: str, expected: list[tuple[str, bool, str | None, float | None]]
) -> None:
    assert said(text) == expected


def test_what_is_gone_on_one_side_is_none_of_the_others() -> None:
    text = "双侧胸腔积液较前减少，左侧已基本吸收，右侧仍有少量。"
    found = {s.side: (s.negated, s.amount, s.comparison) for s in statements(text)}
    assert found == {"left": (True, None, "resolved"), "right": (False, "small", "smaller")}
    assert {(f.side, f.amount) for f in extract(text)} == {("right", "small")}


def test_the_rest_of_the_lungs_is_what_was_not_named() -> None:
    text = "双肺上叶及右肺下叶未见肺气肿，余肺轻度肺气肿。"
    assert {s.lobe for s in statements(text) if not s.negated} == {"RML", "LLL"}
    text = "右肺上叶未见肺气肿，余肺轻度肺气肿。"  # four lobes left: none is named
    assert [s.lobe for s in statements(text) if not s.negated] == [None]


def test_nothing_is_put_in_where_nothing_is_left_out() -> None:
    text = "右肺上叶结节，约8mm，左侧胸腔未见积液。"
    tokens = tokenize(text, "zh")
    assert spelled_out(text, tokens, "", "zh") == (tokens, set())
    assert without_emphasis(text, tokens, "zh") == tokens
    assert without_unnamed(text, tokens, "zh") == tokens
    assert statements("左侧未见。") == []


def test_a_lesion_without_a_name_gives_its_place_to_no_other() -> None:
    text = "右上肺病灶较前无变化，左下肺新见斑片状磨玻璃影。"
    assert [(s.lobe, s.comparison) for s in statements(text)] == [("LLL", "new")]


@pytest.mark.parametrize(
    ("text", "right", "left"),
    [
        ("右侧胸腔积液较前减少，左侧较前增多。", "smaller", "larger"),
        ("双侧胸腔积液，右侧较前减少，左侧较前增多。", "smaller", "larger"),
        ("Right effusion is smaller, the left is unchanged.", "smaller", "stable"),
    ],
)
def test_each_side_of_an_effusion_has_its_own_change(text: str, right: str, left: str) -> None:
    assert {s.side: s.comparison for s in statements(text)} == {"right": right, "left": left}


@pytest.mark.parametrize(
    "text",
    ["A small effusion on the right, none on the left.", "Right effusion. None on the left."],
)
def test_none_on_the_left_denies_there(text: str) -> None:
    assert {s.side: s.negated for s in statements(text)} == {"right": False, "left": True}
