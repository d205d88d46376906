# ruff: noqa: E501 - texts are read in one piece
from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.deidentify import UNSEEN, UNTOUCHED, measure, unmarked, written
from ctscribe.phantom.findings import draw_findings
from ctscribe.phantom.personal import personal_text
from ctscribe.phantom.text import write_report
from ctscribe.reports import deidentify as deidentification
from ctscribe.reports.deidentify import PLACEHOLDERS, Span, deidentify, find_personal
from ctscribe.reports.labeller import mentions
from ctscribe.reports.schema import Language
from ctscribe.reports.sections import format_report

ROWS = json.loads((Path(__file__).parent / "personal_texts.json").read_text(encoding="utf-8"))


def shown(text: str, spans: list[Span]) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.kind) for s in spans]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["text"][:40])
def test_hand_written_texts(row: dict[str, str]) -> None:
    text, spans, _ = unmarked(row["text"])
    found = find_personal(text, row["language"])  # type: ignore[arg-type]
    assert shown(text, found) == shown(text, spans)


def test_half_of_the_hand_written_texts_hold_nothing_personal() -> None:
    assert len(ROWS) >= 120
    assert sum(not unmarked(row["text"])[1] for row in ROWS) >= len(ROWS) / 2


@pytest.mark.parametrize("name", sorted(written(UNSEEN)))
def test_texts_of_independent_authors(name: str) -> None:
    """Mended on them; what the rules made of each set at first is in the benchmark's results."""
    rows = written(UNSEEN)[name]
    result = measure([text for text, _ in rows], 20, either=[either for _, either in rows])
    assert result["recall"] >= 0.99
    assert result["precision"] >= 0.98
    assert result["texts_without_that_lose_something"] == 0


def test_texts_that_no_rule_was_mended_for() -> None:
    """Kept apart: what a hospital that nobody has seen may expect. Not to be mended for."""
    ((name, rows),) = written(UNTOUCHED).items()
    result = measure([text for text, _ in rows], either=[either for _, either in rows])
    assert (name, len(rows)) == ("independent_6", 130)
    assert result["recall"] >= 0.92
    assert result["precision"] >= 0.96
    assert result["texts_without_that_lose_something"] == 0


VARIANTS = Path(__file__).parent / "personal_variants.json"


def test_variants_of_the_authors_themselves() -> None:
    """Written beside the rules to press them: rare and everyday words as names, in many places."""
    rows = written(VARIANTS)["with_people"]
    result = measure([text for text, _ in rows], 20, either=[either for _, either in rows])
    assert len(rows) >= 400
    assert result["recall"] >= 0.93
    assert result["precision"] >= 0.985
    assert result["texts_without_that_lose_something"] == 0


def test_clinical_sentences_about_nobody() -> None:
    """Patients, relatives and staff without a name, beside words that begin as surnames do."""
    for text, either in written(VARIANTS)["nobody"]:
        found = [s for s in find_personal(text.text, text.language) if s.start not in either]
        assert shown(text.text, found) == [], text.text


SENTENCES = json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))


def test_sentences_keep_their_labels() -> None:
    for row in SENTENCES:
        text, language = row["text"], row["language"]
        before = [(m.finding, m.negated) for m in mentions(text, language)]
        after = [(m.finding, m.negated) for m in mentions(deidentify(text, language), language)]
        assert after == before, text


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_phantom_reports(language: Language, held_out: bool) -> None:
    rng = np.random.default_rng(7)
    spans = hits = taken = right = 0
    for _ in range(300):
        made = personal_text(language, rng, held_out=held_out)
        found = find_personal(made.text, language, institutions=True)
        covered = {i for s in found for i in range(s.start, s.end)}
        personal = {i for s in made.spans for i in range(s.start, s.end)}
        spans += len(made.spans)
        hits += sum(covered.issuperset(range(s.start, s.end)) for s in made.spans)
        taken += len(covered)
        right += len(covered & personal)
    assert hits / spans >= 0.99
    assert right / taken >= 0.98


def test_placeholders() -> None:
    text = "姓名：张三，电话13812345678，2024年1月5日检查，住址：浙江省杭州市文三路1号，a@b.cn，住院号9912"
    assert (
        deidentify(text)
        == "姓名：[姓名]，电话[电话]，[日期]检查，住址：[地址]，[邮箱]，住院号[编号]"
    )
    text = "Patient: John Smith, MRN 991234, seen on Jan 5, 2024 by Dr. Jane Doe."
    assert deidentify(text) == "Patient: [NAME], MRN [ID], seen on [DATE] by Dr. [NAME]."


def test_what_a_placeholder_shows_is_found_too() -> None:
    text = "同名提示：胡桂东（110105491231002）。"
    assert deidentify(text) == "同名提示：[姓名]（[编号]）。"


def test_institutions_only_if_asked_for() -> None:
    text = "2024年1月5日外院（杭州市第一人民医院）CT。"
    assert [s.kind for s in find_personal(text)] == ["date"]
    assert [s.kind for s in find_personal(text, institutions=True)] == ["date", "institution"]
    assert find_personal("建议转上级医院，我院复查。", institutions=True) == []


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("牛大力", "结节同前，牛大力要求复查。牛 大 力。", ["牛大力", "牛 大 力"]),
        ("阿依古丽", "阿依·古丽", ["阿依·古丽"]),
        ("Zhang Sanfeng", "seen by ZHANG, Sanfeng and sanfeng zhang.", ["ZHANG, Sanfeng", "sanfeng zhang"]),
        ("Mary-Ann Poe", "Poe, Mary Ann. Mary-Ann Poe", ["Poe, Mary Ann", "Mary-Ann Poe"]),
        ("李", "李氏人工肝", []),
        ("Al", "Alveolar al", []),
        ("  ", "  ", []),
        ("(a", "x (a y", []),
        ("Li Na", "linalool, sali nanny", []),
    ],
)  # fmt: skip
def test_known_names(name: str, text: str, found: list[str]) -> None:
    spans = find_personal(text, names=[name])
    assert [text[s.start : s.end] for s in spans] == found


# Text that is likely to break something: pieces of labels, names, numbers and placeholders.
_PIECES = st.lists(
    st.sampled_from(
        [
            *("姓名", "：", ":", " ", "\n", "，", "。", "张三", "欧阳", "王", "某某", "×", "·", "阿卜", "/"),
            *("医师", "患者", "男", "45岁", "女士", "主任", "检查号", "住院号", "床", "1", "12", "2024", "年", "1月"),
            *("5日", "-", ".", "10:32", "138", "12345678", "a@b.cn", "浙江省", "杭州市", "路", "3号", "电话", "于"),
            *("Dr. ", "John", " Smith", ", ", "MD", "Patient", "MRN ", "Jan ", "5, ", "He", "ZHANG ", "San"),
            *("[姓名]", "[DATE]", "[ID]", "[", "]", "右肺上叶结节", "8×6mm", "Reported by ", "(", "+1 "),
            *("由", "书写", "女儿", "通知", "审核", "3/1", "CT", "二〇二四年", "^", "@", "市", "县", "路", "之父", "male", "Li Xiaolong"),
            *("小王", "老", "床", "Bed ", '{"name":"', '"}', "<Name>", "</Name>", "mrn=", "(0010,0010) PN [", "2 0 2 4"),
            *("123 Maple Street", "微信", "wx_a1", "医院", "人民"),
        ]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(_PIECES, st.text(max_size=60)), st.booleans())
def test_spans_and_idempotence(text: str, institutions: bool) -> None:
    spans = find_personal(text, institutions=institutions)
    ends = [0, *(s.end for s in spans)]
    assert all(end <= s.start < s.end <= len(text) for end, s in zip(ends, spans, strict=False))
    clean = deidentify(text, institutions=institutions)
    assert deidentify(clean, institutions=institutions) == clean
    assert find_personal(clean, institutions=institutions) == []
    # Outside of the spans the text is as it was.
    words = "|".join(re.escape(word) for known in PLACEHOLDERS.values() for word in known.values())
    kept, end = [], 0
    for span in spans:
        kept.append(text[end : span.start])
        end = span.end
    pattern = f"(?:{words})".join(re.escape(piece) for piece in [*kept, text[end:]])
    assert re.fullmatch(pattern, clean)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=8), max_size=3))
def test_known_names_never_raise(text: str, names: list[str]) -> None:
    clean = deidentify(text, names=names)
    assert deidentify(clean, names=names) == clean


@pytest.mark.parametrize("unit", ["市县区", "王医生", "张三 ", "患者李", "Dr. Aa ", "男，5岁，"])
def test_the_number_of_searches_has_a_cap(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much each search shows: SEARCHES, and the few by which the reach is the text."""
    searches, size = 0, 12_000
    candidates = deidentification._candidates

    def counted(*args: object) -> object:
        nonlocal searches
        searches += 1
        return candidates(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(deidentification, "_candidates", counted)
    text = unit * (size // len(unit))
    clean = deidentify(text)
    assert searches <= deidentification.SEARCHES + math.log(size / 50, 4) + 2
    assert deidentify(clean) == clean


def test_what_each_search_shows_anew_goes_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that finds one more character at each search, for ever."""

    def one_more(text: str, *_: object) -> Iterator[Span]:
        at = text.find("a")
        if at >= 0:
            yield Span(at, at + 1, "name")

    monkeypatch.setattr(deidentification, "_candidates", one_more)
    monkeypatch.setattr(deidentification, "SEARCHES", 3)
    text = "b" * 500 + "a b " * 500 + "结节"
    assert deidentify(text, "zh") == "[姓名]"
    assert find_personal("a b a c", "zh") == [Span(0, 1, "name"), Span(4, 5, "name")]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_labels_of_phantom_reports_stay(language: Language) -> None:
    rng = np.random.default_rng(11)
    for _ in range(200):
        text = format_report(write_report(draw_findings(rng), language, rng))
        assert find_personal(text, language, institutions=True) == []
    for _ in range(100):  # what is taken away around a report leaves its statements alone
        report = format_report(write_report(draw_findings(rng), language, rng))
        head = "姓名：张三丰 检查号：123456\n" if language == "zh" else "Patient: John Smith\n"
        before = [(m.finding, m.negated) for m in mentions(head + report, language)]
        after = [(m.finding, m.negated) for m in mentions(deidentify(head + report), language)]
        assert before == after


@pytest.mark.parametrize(
    "unit",
    ["1", "a", "张", "张·", "王医生", "Aa ", "Aa Aa, MD ", "a@", "a.", "浙江省", "2024年1月", "1 ", "姓名：",
     "姓名|年龄|性别\n张三|5|男\n", "A^", "Zhang San ", "路3号", "1.2.", "张三 ", "儿子", "@a", "市县区", "张三丰", "Li Xiaolong ",
     "[姓名]", "Read by Aa ", "+1 ", "张三/", "王×", "1-", "A.", "男，5岁", "A B ", "小王，", "张 三 ", "12 34 ", "Aa, "],
)  # fmt: skip
def test_time_is_linear(unit: str) -> None:
    """Ten times what 20,000 characters take on a slow machine; a square would take minutes."""
    start = time.process_time()
    find_personal(unit * (20_000 // len(unit)))
    assert time.process_time() - start < 8
