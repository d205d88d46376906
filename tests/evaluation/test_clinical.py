from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ctscribe.evaluation.clinical import Pair, as_json, score, score_reports
from ctscribe.reports.schema import DENSITIES, LOBES, SIDES, Density, Finding, Lobe, Side, side_of


def nodule(lobe: Lobe, size: float | None = 15, density: Density = "solid") -> Finding:
    return Finding("nodule", side_of(lobe), lobe, size, density)


def effusion(side: Side) -> Finding:
    return Finding("effusion", side, amount="small")


def random_findings(rng: np.random.Generator) -> list[Finding]:
    nodules = [
        nodule(LOBES[rng.integers(5)], float(rng.integers(6, 31)), DENSITIES[rng.integers(4)])
        for _ in range(rng.integers(0, 3))
    ]
    return nodules + [effusion(SIDES[rng.integers(2)]) for _ in range(rng.integers(0, 2))]


def test_perfect_reports_score_one_and_silence_scores_nothing() -> None:
    truth = [nodule("RUL"), effusion("left")]
    perfect = score([(truth, truth)] * 3, n_boot=50)
    for name in ("strict_f1", "finding_f1", "nodule_f1", "side_accuracy", "lobe_accuracy"):
        assert perfect[name] == (1.0, 1.0, 1.0)
    assert perfect["hallucinated_share"].value == perfect["size_error_mm"].value == 0
    silent = score([([], truth)] * 3, n_boot=50)
    assert silent["strict_f1"] == (0.0, 0.0, 0.0)
    assert silent["hallucinated_share"].value == 0
    assert math.isnan(silent["side_accuracy"].value)


def test_a_wrong_lobe_is_found_but_not_strictly() -> None:
    scores = score([([nodule("RLL")], [nodule("RUL")])], n_boot=20)
    assert scores["finding_f1"].value == 1
    assert scores["strict_f1"].value == 0
    assert scores["side_accuracy"].value == 1
    assert scores["lobe_accuracy"].value == 0
    assert scores["hallucinated_share"].value == 0
    assert scores["hallucinated_strict_share"].value == 1
    other_side = score([([nodule("LUL")], [nodule("RUL")])], n_boot=20)
    assert other_side["side_accuracy"].value == 0


def test_matching_is_one_to_one() -> None:
    scores = score([([nodule("RUL"), nodule("RUL")], [nodule("RUL")])], n_boot=20)
    assert scores["strict_f1"].value == pytest.approx(2 / 3)
    assert scores["strict_precision"].value == 0.5


def test_a_finding_without_a_place_matches_no_place() -> None:
    vague = Finding("nodule", "right", None, 15)
    scores = score([([vague], [nodule("RUL")])], n_boot=20)
    assert (scores["strict_f1"].value, scores["finding_f1"].value) == (0, 1)
    assert score([([vague], [vague])], n_boot=20)["strict_f1"].value == 0


def test_small_nodules_count_neither_way_in_nodule_f1() -> None:
    truth = [nodule("RUL", 15), nodule("LLL", 8)]
    assert score([([nodule("RUL"), nodule("LLL")], truth)])["nodule_f1"].value == 1
    assert score([([nodule("RUL")], truth)])["nodule_f1"].value == 1
    invented = score([([nodule("RUL"), nodule("LUL")], truth)])
    assert invented["nodule_f1"].value == pytest.approx(2 / 3)
    assert score([([nodule("LLL")], truth)])["nodule_f1"].value == 0
    bands = score([([nodule("RUL")], truth)])
    assert bands["nodule_recall_8_12"].value == 0
    assert bands["nodule_recall_12_18"].value == 1


def test_hallucinations_are_names_that_the_study_does_not_hold() -> None:
    predicted = [nodule("RUL"), effusion("left"), Finding("emphysema", "right", "RUL")]
    scores = score([(predicted, [nodule("LUL"), effusion("left")])], n_boot=20)
    assert scores["hallucinated_share"].value == pytest.approx(1 / 3)
    assert scores["hallucinated_strict_share"].value == pytest.approx(2 / 3)


def test_size_and_density_are_of_strictly_matched_nodules() -> None:
    predicted = [nodule("RUL", 17, "solid"), nodule("LLL", 30), nodule("LUL", None, "calcified")]
    truth = [nodule("RUL", 15, "calcified"), nodule("RML", 10), nodule("LUL", 9, "calcified")]
    scores = score([(predicted, truth)], n_boot=20)
    assert scores["size_error_mm"].value == 2
    assert scores["size_stated"].value == 0.5
    assert scores["density_accuracy"].value == 0.5


def test_the_bootstrap_equals_scoring_the_resampled_studies() -> None:
    rng = np.random.default_rng(0)
    pairs: list[Pair] = [(random_findings(rng), random_findings(rng)) for _ in range(20)]
    scores = score(pairs, n_boot=80, seed=5)
    draws = np.random.default_rng(5).multinomial(20, np.full(20, 1 / 20), size=80)
    for name in ("strict_f1", "lobe_accuracy", "strict_f1_effusion", "hallucinated_share"):
        repeated = [
            score([p for p, n in zip(pairs, draw, strict=True) for _ in range(n)], n_boot=1)[name]
            for draw in draws
        ]
        low, high = np.quantile([estimate.value for estimate in repeated], [0.025, 0.975])
        assert scores[name].low == pytest.approx(low)
        assert scores[name].high == pytest.approx(high)
        assert scores[name].low < scores[name].value < scores[name].high


def test_reports_are_scored_by_section_with_contradictions_and_silence_counted() -> None:
    generated = [
        "所见：右肺上叶实性结节，约15mm。\n结论：右肺下叶实性结节，15mm。",
        "所见：左侧少量胸腔积液。\n结论：左侧少量胸腔积液。",
        "",
    ]
    scores = score_reports(generated, [[nodule("RUL")], [effusion("left")], []], n_boot=50)
    assert scores.findings["strict_f1"].value == 1
    assert scores.impression["strict_f1"].value == 0.5
    assert (scores.contradictions, scores.empty, scores.studies) == (1, 1, 3)
    assert scores.contradictory_share.value == pytest.approx(1 / 3)
    plain = json.loads(json.dumps(scores.as_json(), allow_nan=False))
    assert plain["impression"]["strict_f1"]["value"] == 0.5
    with pytest.raises(ValueError, match="2 reports for 1 studies"):
        score_reports(["", ""], [[]])


def test_no_studies_give_no_numbers() -> None:
    scores = score([], n_boot=10)
    assert math.isnan(scores["strict_f1"].value)
    assert as_json(scores)["strict_f1"] == {"value": None, "low": None, "high": None}
