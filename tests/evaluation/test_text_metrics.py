from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctscribe.evaluation.text_metrics import rouge_l, text_scores


def plain_lcs(a: str, b: str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        above = row
        row = [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(row[j], above[j + 1]))
    return row[-1]


@given(st.text("肺叶结节ab", max_size=40), st.text("肺叶结节ab", max_size=40))
def test_rouge_l_is_the_longest_common_subsequence(a: str, b: str) -> None:
    want = 2 * plain_lcs(a, b) / (len(a) + len(b)) if a and b else 0.0
    assert rouge_l(a, b) == pytest.approx(want)


def test_identical_texts_score_full_and_a_flipped_negation_hardly_less() -> None:
    reference = "右肺上叶见实性结节，直径约十四毫米。双侧胸腔未见积液。左侧胸腔见少量气体影。"
    same = text_scores([reference], [reference])
    assert (round(same.bleu), same.rouge_l) == (100, 1.0)
    flipped = text_scores([reference.replace("未见", "见")], [reference])
    assert flipped.rouge_l > 0.98
    assert flipped.bleu > 85
    assert "never the headline" in flipped.note


def test_texts_must_pair() -> None:
    with pytest.raises(ValueError, match="1 generated texts for 0 references"):
        text_scores(["a"], [])
