from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.reports.schema import Language, Report
from ctscribe.reports.sections import SECTIONS, format_report, parse_report, section_spans

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


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ("检查所见：甲", "findings"),
        ("【CT所见】甲", "findings"),
        ("一、影像表现：甲", "findings"),
        ("CT Findings: A", "findings"),
        ("诊断意见：甲", "impression"),
        ("印象：甲", "impression"),
        ("检查结论：甲", "impression"),
        ("Conclusion: A", "impression"),
        ("随访建议：甲", "recommendation"),
        ("病理考虑：甲", "pathology"),
        ("检查技术：甲", "technique"),
        ("TECHNIQUE: A", "technique"),
        ("临床病史：甲", "history"),
        ("Clinical history: A", "history"),
        ("INDICATION: A", "history"),
        ("对比：甲", "comparison"),
        ("Comparison: A", "comparison"),
    ],
)
def test_each_hospitals_headings_are_known(text: str, section: str) -> None:
    report = parse_report(text)
    held = {name for name in SECTIONS if getattr(report, name)}
    assert held == {section}


BODIES = (
    st.lists(
        st.sampled_from(
            [
                *(
                    "结论",
                    "：",
                    ":",
                    "所见",
                    "\n",
                    "。",
                    ". ",
                    " ",
                    "\\",
                    "【",
                    "】",
                    "建议",
                    "肺",
                    "a",
                ),
                *("Findings", "Comparison", "一、", "\x1c", "\u3000", "；", "病史"),
            ]
        )
    ).map("".join)
    | st.text()
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(BODIES.map(str.strip), min_size=7, max_size=7).filter(any),
    st.sampled_from(["zh", "en"]),
)
def test_whatever_a_section_holds_is_read_back(bodies: list[str], language: Language) -> None:
    report = Report(**dict(zip(SECTIONS, bodies, strict=True)), language=language)
    assert parse_report(format_report(report)) == report


@pytest.mark.parametrize("piece", ["\n", " ", "所见", "。", "【", "\\", "Findings ", "。\\"])
def test_a_long_text_takes_no_longer_than_it_is_long(piece: str) -> None:
    begun = time.process_time()
    parse_report(piece * (100_000 // len(piece)))
    assert time.process_time() - begun < 5


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
