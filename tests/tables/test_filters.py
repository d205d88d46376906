"""Each filter against labelled texts, hard negatives among them: precision, recall, and the rest.

`labelled_texts.json`: {"filter", "text", "clean"} for editing filters ("clean" equal to "text" for
a text that must be left alone), {"filter", "text", "drop"} for those that drop rows.
"""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctscribe.tables import filters
from ctscribe.tables.text import clauses, near_identical, sentences, tidy

TEXTS = json.loads((Path(__file__).parent / "labelled_texts.json").read_text(encoding="utf-8"))
EDITS = {
    "phone": filters.strip_phones,
    "advertising": filters.strip_advertising,
    "sex_age": filters.strip_sex_age,
    "thorax_only": filters.keep_thorax,
}


def labelled(name: str) -> list[dict[str, str]]:
    return [row for row in TEXTS if row["filter"] == name]


@pytest.mark.parametrize("name", EDITS)
def test_edits_find_what_they_should_and_leave_the_rest(name: str) -> None:
    rows, outcome, wrong = labelled(name), Counter[str](), []
    for row in rows:
        got = EDITS[name](row["text"])
        wanted, changed = row["clean"] != row["text"], got != row["text"]
        outcome["hit" if wanted and changed else "miss" if wanted else "false" * changed] += 1
        if got != row["clean"]:
            wrong.append((row["text"], got))
    assert len(rows) >= 20
    assert outcome["hit"] >= 0.97 * (outcome["hit"] + outcome["false"]), wrong
    assert outcome["hit"] >= 0.97 * (outcome["hit"] + outcome["miss"]), wrong
    assert len(wrong) <= 0.03 * len(rows), wrong  # what is left is right to the character


def test_generic_one_liners_and_what_only_looks_like_one() -> None:
    rows = labelled("generic_only")
    wrong = [row["text"] for row in rows if filters.is_generic(row["text"]) is not row["drop"]]
    assert Counter(row["drop"] for row in rows).most_common()[1][1] >= 30  # both kinds
    assert wrong == []


def test_no_edit_touches_a_text_of_another_filters_hard_negatives() -> None:
    for row in TEXTS:
        if row.get("clean") == row["text"]:
            for name in ("phone", "advertising", "sex_age"):
                assert EDITS[name](row["text"]) == row["text"], (name, row["text"])


def test_measurements_survive_beside_a_contact() -> None:
    text = "右肺结节，12mm，边界清，电话13812345678，约1.4cm。"
    assert filters.strip_phones(text) == "右肺结节，12mm，边界清，约1.4cm。"
    assert filters.strip_advertising("左肺结节，加微信号abc。") == "左肺结节。"


def test_a_heading_goes_with_its_body_and_stays_without() -> None:
    text = "所见：双肺清晰。\n建议：关注公众号。\n病理倾向：无。"
    assert filters.strip_advertising(text) == "所见：双肺清晰。\n病理倾向：无。"
    assert filters.strip_advertising("所见：\n双肺清晰。") == "所见：\n双肺清晰。"


def test_tidy() -> None:
    assert tidy("\ufeff右肺\u200b结节，\u3000约１４ｍｍ（１．４ｃｍ）。\r\n\n 结论：ＣＴ ") == (
        "右肺结节，约14mm（1.4cm）。\n结论：CT"
    )
    assert tidy("a_x000D_b") == "a\nb"
    assert tidy("，：（）。") == "，：（）。"  # Chinese punctuation is no damage


@given(st.text(alphabet="右肺结节。，；\n .1a:？!所见：", max_size=60))
def test_cutting_loses_nothing_and_tidy_settles(text: str) -> None:
    assert "".join(sentences(text)) == text
    assert "".join(piece for s in sentences(text) for piece in clauses(s)) == text
    assert tidy(tidy(text)) == tidy(text)


def test_sentences_keep_numbers_whole() -> None:
    assert sentences("1. Nodule of 1.4 cm. No effusion.") == [
        "1. Nodule of 1.4 cm.",
        " No effusion.",
    ]


def test_numbering() -> None:
    assert filters.number("右肺结节。\n左肺实变。") == "1.右肺结节。\n2.左肺实变。"
    assert filters.number("1、右肺结节。") == "1、右肺结节。"
    assert filters.number("所见：清晰。\n结论：正常。") == "所见：清晰。\n结论：1.正常。"
    assert filters.number("所见：清晰。\n结论：1.正常。") == "所见：清晰。\n结论：1.正常。"


def test_lines_are_kept_or_dropped_by_pattern() -> None:
    text = "所见：右肺结节。\n报告医师：张三\n结论：结节。"
    drop = filters.keep_lines(re.compile("医师"), matching=False)
    keep = filters.keep_lines(re.compile("结节"), matching=True)
    assert drop(text) == keep(text) == "所见：右肺结节。\n结论：结节。"


def test_near_identical_tells_copies_from_look_alikes() -> None:
    base = (
        "所见：右肺上叶见一枚实性结节，大小约14×11mm，边界清晰。双侧胸腔未见积液及气胸，气管通畅，"
        "纵隔淋巴结无肿大，心影不大。\n结论：右上肺占位性病变。\n建议：3个月后复查薄层CT。"
    )
    texts = [
        base,
        base.replace("边界清晰", "边界较清晰"),
        base.replace("14×11", "15×11"),
        base.replace("右肺上叶", "左肺下叶").replace("结节", "肿块"),
        base.replace("，", " ， "),
        "短",
    ]
    assert [(i, j) for i, j, _ in near_identical(texts)] == [(0, 1), (0, 4), (1, 4)]
