"""Dirt with its truth; that cleaning finds all of it is tested in tables/test_clean.py."""

from collections import Counter

import numpy as np
import pytest

from ctscribe.phantom.rubbish import (
    ANSWER_BEFORE,
    EDITS,
    EXTRA_ROWS,
    KINDS,
    RUBBISH,
    add_rubbish,
    without_truth,
)
from ctscribe.reports.schema import Language

ANSWERS = {
    "zh": "所见：右肺上叶见实性结节，约{}mm。双侧胸腔未见积液。\n结论：右肺上叶结节。",
    "en": "Findings: Solid nodule, {} mm, in the right upper lobe.\nImpression: Nodule.",
}


def sound(n: int, language: Language) -> list[dict[str, str]]:
    return [
        {
            "case_id": f"c{i}",
            "patient_id": f"p{i}",
            "image_path": f"images/c{i}.nii.gz",
            "question": "",
            "answer": ANSWERS[language].format(8 + i),
        }
        for i in range(n)
    ]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_kind_is_there_and_the_truth_says_which(language: Language) -> None:
    rows = sound(100, language)
    before = [dict(row) for row in rows]
    dirty = add_rubbish(rows, np.random.default_rng(0), language)
    assert rows == before  # the caller's rows are left alone
    kinds = Counter(row[RUBBISH] for row in dirty)
    assert set(kinds) == {"", *KINDS}
    originals = [row for row in dirty if row[RUBBISH] not in EXTRA_ROWS]
    assert [row["case_id"] for row in originals] == [row["case_id"] for row in rows]
    for row, source in zip(originals, rows, strict=True):
        assert row[ANSWER_BEFORE] == source["answer"]
        assert (row["answer"] != source["answer"]) == (row[RUBBISH] in EDITS)
    known = {row["image_path"] for row in rows}
    for row in dirty:
        assert (row["image_path"] not in known) == (row[RUBBISH] == "missing_image")
    assert set(without_truth(dirty)[0]) == set(rows[0])


def test_same_generator_same_dirt_and_another_seed_other_dirt() -> None:
    rows = sound(60, "zh")
    one, two, three = (add_rubbish(rows, np.random.default_rng(s), "zh") for s in (1, 1, 2))
    assert one == two
    assert one != three


def test_duplicates_stand_below_what_they_repeat() -> None:
    dirty = add_rubbish(sound(100, "zh"), np.random.default_rng(3), "zh")
    repeats = [(i, row) for i, row in enumerate(dirty) if row[RUBBISH] == "duplicate"]
    for i, row in repeats:
        assert any(
            r["case_id"] == row["case_id"] and r["answer"] == row["answer"] for r in dirty[:i]
        )
    assert repeats


def test_a_few_rows_and_none() -> None:
    assert add_rubbish([], np.random.default_rng(0), "zh") == []
    one = add_rubbish(sound(1, "zh"), np.random.default_rng(0), "zh")
    assert Counter(row[RUBBISH] in EDITS for row in one) == {True: 1, False: len(EXTRA_ROWS)}
