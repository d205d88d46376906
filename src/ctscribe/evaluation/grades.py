"""How well the grade head ranks and names grades, beside saying the commonest grade of all.

Only studies whose row states a grade are scored. All sums are per study, so a bootstrap over
studies is a matrix product, as in `clinical.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ctscribe.evaluation.clinical import Scores, as_json, bootstrap_weights, divide, estimate
from ctscribe.tables.grade import GRADES, Grade

CALIBRATION_BINS = 10  # of equal width, over the probability of the named grade
Array = NDArray[np.float64]


@dataclass(frozen=True)
class GradeScores:
    """Scores of the grade head.

    studies, unknown: with a grade, and without one. scores: accuracy, balanced_accuracy (mean
    recall of the grades there are), macro_auroc (mean over grades, each against the others), ece
    (expected calibration error). constant: the same of always naming `majority`, the commonest
    grade of these very studies. confusion: studies by true (row) and named grade, as in GRADES.
    """

    studies: int
    unknown: int
    scores: Scores
    majority: Grade
    constant: Scores
    confusion: tuple[tuple[int, ...], ...]

    def as_json(self) -> dict[str, object]:
        """Plain numbers for a results file."""
        scores, constant = as_json(self.scores), as_json(self.constant)
        return {**asdict(self), "grades": list(GRADES), "scores": scores, "constant": constant}


def score_grades(
    probabilities: Array, grades: Sequence[Grade | None], n_boot: int = 1000, seed: int = 0
) -> GradeScores | None:
    """Scores of probabilities (n, 4) against the grades of the same studies; None without any."""
    known = [i for i, grade in enumerate(grades) if grade is not None]
    if not known:
        return None
    p = np.asarray(probabilities, np.float64)[known]
    truth = np.array([GRADES.index(grade) for grade in grades if grade is not None])
    counts = np.bincount(truth, minlength=len(GRADES))
    majority = int(counts.argmax())
    constant = np.zeros_like(p)
    constant[:, majority] = 1.0
    # The first row is the studies as they are, the others are resamples.
    drawn = np.concatenate([np.ones((1, len(truth))), bootstrap_weights(len(truth), n_boot, seed)])
    confusion = np.zeros((len(GRADES), len(GRADES)), int)
    np.add.at(confusion, (truth, p.argmax(1)), 1)
    without = _scores(constant, truth, drawn)
    del without["ece"]
    return GradeScores(
        studies=len(known),
        unknown=len(grades) - len(known),
        scores=_scores(p, truth, drawn),
        majority=GRADES[majority],
        constant=without,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def grade_lines(found: GradeScores) -> list[str]:
    """The grade head's scores and confusion matrix as lines."""

    def shown(name: str) -> str:
        a, b = found.scores[name], found.constant.get(name)
        beside = "" if b is None else f", always {found.majority} {b.value:.3f}"
        return f"{name.replace('_', ' ')} {a.value:.3f} ({a.low:.2f}-{a.high:.2f}){beside}"

    return [
        f"grade head, {found.studies} studies with a grade, {found.unknown} without: "
        + "; ".join(shown(name) for name in found.scores),
        "rows true, columns named " + "".join(f"{grade:>6}" for grade in GRADES),
        *(
            f"{grade:>24} " + "".join(f"{n:6}" for n in counts)
            for grade, counts in zip(GRADES, found.confusion, strict=True)
        ),
    ]


def _scores(p: Array, truth: NDArray[np.intp], drawn: Array) -> Scores:
    named = p.argmax(1)
    hit = (named == truth).astype(np.float64)
    own = np.eye(len(GRADES))[truth]
    values = {
        "accuracy": divide(drawn @ hit, drawn.sum(1)),
        "balanced_accuracy": _mean(divide((drawn * hit) @ own, drawn @ own)),
        "macro_auroc": _mean(
            np.stack([_auroc(p[:, k], truth == k, drawn) for k in range(len(GRADES))], 1)
        ),
        "ece": _calibration_error(p.max(1), hit, drawn),
    }
    return {name: estimate(float(v[0]), v[1:]) for name, v in values.items()}


def _mean(of_grades: Array) -> Array:
    """Mean over the grades that have a value, NaN where none has."""
    there = ~np.isnan(of_grades)
    return divide(np.where(there, of_grades, 0.0).sum(1), there.sum(1).astype(np.float64))


def _auroc(score: Array, positive: NDArray[np.bool_], drawn: Array) -> Array:
    """Share of pairs (one positive, one not) that are ranked rightly, ties half; per resample."""
    high, low = score[positive][:, None], score[~positive][None]
    right = (high > low) + 0.5 * (high == low)
    yes, no = drawn[:, positive], drawn[:, ~positive]
    return divide(((yes @ right) * no).sum(1), yes.sum(1) * no.sum(1))


def _calibration_error(confidence: Array, hit: Array, drawn: Array) -> Array:
    """Mean distance of confidence and accuracy over bins, weighted by their studies."""
    at = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins = np.eye(CALIBRATION_BINS)[at]
    apart = np.abs((drawn * (confidence - hit)) @ bins).sum(1)
    return divide(apart, drawn.sum(1))
