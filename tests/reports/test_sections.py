from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctscribe.reports.schema import Language, Report
from ctscribe.reports.sections import format_report, parse_report, section_spans

WANT = Report("双肺清晰。", "未见异常。", "定期体检。", "良性。")


@pytest.mark.parametrize(
    "text",
    [
        "所见：双肺清晰。\n结论：未见异常。\n建议：定期体检。\n病理倾向：良性。",
        "【影像所见】双肺清晰。【诊断】未见异常。【建议】定期体检。【病理倾向】良性。",
        "影像学表现\n双肺清晰。\n影像诊断\n未见异常。\n建议:\n定期体检。\n病理倾向：\n良性。",
        "结论：未见异常。所见：双肺清晰。病理倾向: 良性。 建议： 定期体检。",
    ],
)
def test_headings_of_many_kinds_are_read(text: str) -> None:
    assert parse_report(text) == WANT


def test_a_word_inside_a_sentence_is_no_heading() -> None:
    report = parse_report("所见：右肺结节，建议：复查。\n结论：结节，诊断：良性可能")
    assert report.findings == "右肺结节，建议：复查。"
    assert report.impression == "结节，诊断：良性可能"
    assert report.recommendation == ""


def test_text_without_headings_is_findings() -> None:
    assert parse_report("双肺清晰。") == Report("双肺清晰。", "")
    assert parse_report("") == Report("", "", language="en")


def test_a_heading_that_comes_twice_loses_nothing() -> None:
    assert parse_report("结论：甲。\n结论：乙。").impression == "甲。\n乙。"


def test_spans_lie_on_the_text() -> None:
    text = "Findings: Clear lungs.\nImpression: Normal."
    assert [(name, text[a:b].strip()) for name, a, b in section_spans(text)] == [
        ("findings", "Clear lungs."),
        ("impression", "Normal."),
    ]


@given(
    st.sampled_from(["zh", "en"]),
    st.lists(st.text("肺结节无 ab，,14", max_size=12).map(str.strip), min_size=4, max_size=4),
)
def test_what_is_written_is_read_back(language: Language, bodies: list[str]) -> None:
    word = {"zh": "肺叶未见异常。", "en": "Clear lungs, no disease at all."}[language]
    ends = "。" if language == "zh" else "."
    pad = {"zh": "", "en": " and nothing else is seen in this long sentence of plain words"}[
        language
    ]
    bodies = [
        b.translate(str.maketrans("", "", "肺结节无，")) if language == "en" else b for b in bodies
    ]
    report = Report(*(word + b + pad + ends for b in bodies), language=language)
    assert parse_report(format_report(report)) == report
