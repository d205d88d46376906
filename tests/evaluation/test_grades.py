"""Scores of the grade head against scikit-learn, and against doing it the long way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    roc_auc_score,
)

from ctscribe.evaluation.clinical import bootstrap_weights
from ctscribe.evaluation.grades import GradeScores, grade_lines, score_grades
from ctscribe.tables.grade import GRADES, Grade


def draw(seed: int, n: int, ties: bool = False) -> tuple[NDArray[np.float64], list[Grade | None]]:
    """Probabilities that know something, and grades, some of them not known."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(GRADES), n)
    logits = rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[truth]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    grades: list[Grade | None] = [GRADES[k] if rng.random() < 0.8 else None for k in truth]
    return (p.round(1) if ties else p), grades


def scored(p: NDArray[np.float64], grades: list[Grade | None], **more: int) -> GradeScores:
    found = score_grades(p, grades, **more)
    assert found is not None
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_scores_are_scikit_learns(seed: int, ties: bool) -> None:
    p, grades = draw(seed, 60, ties)
    known = [i for i, g in enumerate(grades) if g is not None]
    truth = np.array([GRADES.index(g) for g in grades if g is not None])
    found = scored(p, grades, n_boot=100)
    named = p[known].argmax(1)
    assert (found.studies, found.unknown) == (len(known), 60 - len(known))
    assert found.scores["accuracy"].value == pytest.approx(accuracy_score(truth, named))
    assert found.scores["balanced_accuracy"].value == pytest.approx(
        np.mean([(named[truth == k] == k).mean() for k in np.unique(truth)])
    )
    aurocs = [
        roc_auc_score(truth == k, p[known, k])
        for k in range(4)
        if 0 < (truth == k).sum() < len(truth)
    ]
    assert found.scores["macro_auroc"].value == pytest.approx(np.mean(aurocs))
    assert np.array_equal(found.confusion, confusion_matrix(truth, named, labels=range(4)))
    for estimate in found.scores.values():
        assert 0 <= estimate.low <= estimate.high <= 1
    most = max(np.bincount(truth))
    assert found.constant["accuracy"].value == pytest.approx(most / len(truth))
    assert found.constant["balanced_accuracy"].value == pytest.approx(1 / len(np.unique(truth)))
    assert found.constant["macro_auroc"].value == 0.5


def test_intervals_are_those_of_resampled_studies() -> None:
    p, grades = draw(3, 40)
    found = scored(p, grades, n_boot=200, seed=7)
    known = [i for i, g in enumerate(grades) if g is not None]
    truth = np.array([GRADES.index(g) for g in grades if g is not None])
    values: dict[str, list[float]] = {name: [] for name in found.scores}
    for weights in bootstrap_weights(len(known), 200, 7):
        index = np.repeat(np.arange(len(known)), weights.astype(int))
        again = p[known][index], truth[index]
        named = again[0].argmax(1)
        values["accuracy"].append(float((named == again[1]).mean()))
        values["balanced_accuracy"].append(balanced_accuracy_score(again[1], named))
        values["macro_auroc"].append(
            np.mean([roc_auc_score(again[1] == k, again[0][:, k]) for k in np.unique(again[1])])
        )
        values["ece"].append(slow_ece(*again))
    for name, drawn in values.items():
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert found.scores[name].low == pytest.approx(low, abs=1e-9), name
        assert found.scores[name].high == pytest.approx(high, abs=1e-9), name


def slow_ece(p: NDArray[np.float64], truth: NDArray[np.intp]) -> float:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, true in zip(p, truth, strict=True):
        bins.setdefault(min(9, int(row.max() * 10)), []).append((row.max(), row.argmax() == true))
    return sum(
        abs(sum(c for c, _ in own) - sum(hit for _, hit in own)) for own in bins.values()
    ) / len(p)


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_not_calibrated() -> None:
    grades: list[Grade | None] = [*GRADES, *GRADES, None]
    sure = np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3, 0]]
    right = scored(sure, grades).scores
    assert [e.value for e in right.values()] == [1.0, 1.0, 1.0, 0.0]
    wrong = scored(np.roll(sure, 1, 1), grades).scores
    assert (wrong["accuracy"].value, wrong["ece"].value) == (0.0, 1.0)


def test_one_grade_alone_has_no_auroc_and_none_at_all_no_scores() -> None:
    p, _ = draw(0, 5)
    found = scored(p, ["IAC"] * 5)
    assert math.isnan(found.scores["macro_auroc"].value)
    assert found.as_json()["scores"]["macro_auroc"]["value"] is None  # type: ignore[index]
    assert found.majority == "IAC"
    assert score_grades(p, [None] * 5) is None


def test_lines_show_the_figures_and_the_matrix() -> None:
    p, grades = draw(1, 30)
    found = scored(p, grades)
    lines = grade_lines(found)
    assert f"accuracy {found.scores['accuracy'].value:.3f}" in lines[0]
    assert f"always {found.majority}" in lines[0]
    assert lines[1].split()[-4:] == list(GRADES)
    assert [[int(n) for n in line.split()[1:]] for line in lines[2:]] == [
        list(row) for row in found.confusion
    ]
