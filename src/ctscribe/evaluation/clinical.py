"""Clinical scores: are the right findings stated, at the right place, and none invented?

`strict_f1` leads every table: a finding counts only with its lobe (or its side, if pleural).
Presence alone can be gamed: a model that always prints nodules scored 0.51 on a blank image.
All counts are per study, so a bootstrap over studies is one matrix product.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctscribe.reports.labeller import label_report
from ctscribe.reports.schema import FINDINGS, LOBAR, Finding

NODULE_RANGE_MM = (12.0, 30.0)  # truth sizes, both ends included, that `nodule_f1` scores
RECALL_BANDS_MM = ((4.0, 8.0), (8.0, 12.0), (12.0, 18.0), (18.0, 31.0))  # upper end excluded
CONFIDENCE = 0.95

Pair = tuple[Sequence[Finding], Sequence[Finding]]  # (predicted, truth) of one study


class Estimate(NamedTuple):
    """A score with the ends of its bootstrap 95 % interval; NaN where nothing was to be scored."""

    value: float
    low: float
    high: float


Scores = dict[str, Estimate]


@dataclass(frozen=True)
class ReportScores:
    """Scores of generated reports, 所见 and 结论 separately."""

    studies: int
    findings: Scores
    impression: Scores
    contradictory_share: Estimate  # of reports, with at least one contradiction
    contradictions: int  # over all reports
    empty: int  # reports without any text: scored as stating nothing

    def as_json(self) -> dict[str, object]:
        """Plain numbers for a results file: NaN becomes null."""
        plain: dict[str, object] = asdict(self)
        plain["findings"] = as_json(self.findings)
        plain["impression"] = as_json(self.impression)
        plain["contradictory_share"] = as_json({"share": self.contradictory_share})["share"]
        return plain


def as_json(scores: Scores) -> dict[str, dict[str, float | None]]:
    """Estimates as plain numbers: NaN, which JSON does not have, becomes null."""
    return {
        name: {key: None if math.isnan(n) else round(n, 4) for key, n in e._asdict().items()}
        for name, e in scores.items()
    }


def score(pairs: Sequence[Pair], n_boot: int = 1000, seed: int = 0) -> Scores:
    """Scores of predicted against true findings, one pair a study, bootstrapped over studies.

    strict_f1, strict_precision, strict_recall: name and place match, one to one, micro over
        studies; strict_f1_<finding> for each finding.
    finding_f1: each finding's presence in a study, micro over studies.
    nodule_f1: strict, nodules of `NODULE_RANGE_MM`; predicted nodules at the place of a nodule of
        another size count neither way. nodule_recall_<low>_<high>: by true size in mm.
    side_accuracy, lobe_accuracy: of lesions whose name was predicted in that study, matched one to
        one as well as they can be; lobes of lobar findings only.
    density_accuracy, size_error_mm: of strictly matched nodules; median absolute error of those
        whose size is stated, whose share is size_stated.
    hallucinated_share: predicted findings whose name is nowhere in that study's truth, of all
        predicted; hallucinated_strict_share: those without a strict match. 0 where none were made.
    """
    studies = [_count(predicted, truth) for predicted, truth in pairs]
    names = list(studies[0].counts) if studies else list(_count((), ()).counts)
    counts = np.array([[s.counts[n] for n in names] for s in studies], dtype=np.float64)
    counts = counts.reshape(len(studies), len(names))
    weights = bootstrap_weights(len(studies), n_boot, seed)
    total = dict(zip(names, counts.sum(0), strict=True))
    resampled = dict(zip(names, (weights @ counts).T, strict=True))
    scores = {
        name: estimate(
            float(ratio({key: np.asarray(n) for key, n in total.items()})), ratio(resampled)
        )
        for name, ratio in _ratios().items()
    }
    errors = [(index, error) for index, s in enumerate(studies) for error in s.size_errors_mm]
    scores["size_error_mm"] = _median_estimate(errors, weights)
    return scores


def score_reports(
    generated: Sequence[str],
    truth: Sequence[Sequence[Finding]],
    n_boot: int = 1000,
    seed: int = 0,
) -> ReportScores:
    """Label generated reports and score both of their sections against the same truth.

    Raises ValueError if there are not as many reports as studies.
    """
    if len(generated) != len(truth):
        raise ValueError(f"{len(generated)} reports for {len(truth)} studies")
    labels = [label_report(text) for text in generated]
    contradicted = np.array([label.contradictions > 0 for label in labels], dtype=np.float64)
    weights = bootstrap_weights(len(labels), n_boot, seed)
    studies = len(labels)
    return ReportScores(
        studies=studies,
        findings=score([(x.findings, t) for x, t in zip(labels, truth, strict=True)], n_boot, seed),
        impression=score(
            [(x.impression, t) for x, t in zip(labels, truth, strict=True)], n_boot, seed
        ),
        contradictory_share=estimate(
            float(contradicted.mean()) if studies else math.nan,
            weights @ contradicted / max(1, studies),
        ),
        contradictions=sum(label.contradictions for label in labels),
        empty=sum(not text.strip() for text in generated),
    )


# ------------------------------------------------------------------------------ one study
class _Study(NamedTuple):
    counts: dict[str, float]
    size_errors_mm: list[float]


def _count(predicted: Sequence[Finding], truth: Sequence[Finding]) -> _Study:
    """Everything one study adds to the sums that scores are ratios of."""
    counts: dict[str, float] = {}
    strict = _by_place(predicted) & _by_place(truth)
    for name in FINDINGS:
        counts[f"hit_{name}"] = sum(n for (kind, _), n in strict.items() if kind == name)
        counts[f"said_{name}"] = sum(f.name == name for f in predicted)
        counts[f"true_{name}"] = sum(f.name == name for f in truth)
    said, there = {f.name for f in predicted}, {f.name for f in truth}
    counts |= {"present_hit": len(said & there), "present_said": len(said)}
    counts |= {"present_true": len(there), "said": len(predicted), "true": len(truth)}
    counts |= {"hit": strict.total(), "invented": sum(f.name not in there for f in predicted)}
    counts |= _nodule_counts(predicted, truth)
    counts |= _place_counts(predicted, truth)
    matched = _matched_nodules(predicted, truth)
    errors = [
        abs(said.size_mm - true.size_mm)
        for said, true in matched
        if said.size_mm is not None and true.size_mm is not None
    ]
    with_density = [(said, true) for said, true in matched if true.density is not None]
    counts |= {
        "density_hit": sum(said.density == true.density for said, true in with_density),
        "density_true": len(with_density),
        "size_said": len(errors),
        "size_true": sum(true.size_mm is not None for _, true in matched),
    }
    return _Study({name: float(n) for name, n in counts.items()}, errors)


def _by_place(findings: Sequence[Finding]) -> Counter[tuple[str, str]]:
    """(name, place) counts; a finding without a place can match nothing and is left out."""
    return Counter((f.name, f.place) for f in findings if f.place is not None)


def _nodule_counts(predicted: Sequence[Finding], truth: Sequence[Finding]) -> dict[str, float]:
    low, high = NODULE_RANGE_MM
    said = Counter(f.place or "" for f in predicted if f.name == "nodule")
    nodules = [f for f in truth if f.name == "nodule"]
    scored = Counter(
        f.place or "" for f in nodules if f.size_mm is not None and low <= f.size_mm <= high
    )
    others = Counter(f.place or "" for f in nodules) - scored
    hit = said & scored
    extra = said - hit - others  # what stands where a nodule of another size is, is excused
    counts: dict[str, float] = {"nodule_hit": hit.total(), "nodule_true": scored.total()}
    counts["nodule_said"] = hit.total() + extra.total()
    for band_low, band_high in RECALL_BANDS_MM:
        left, hits, there = said.copy(), 0, 0
        for nodule in sorted(nodules, key=lambda f: -(f.size_mm or 0.0)):
            found = left[nodule.place or ""] > 0
            left[nodule.place or ""] -= found
            if nodule.size_mm is not None and band_low <= nodule.size_mm < band_high:
                there, hits = there + 1, hits + found
        counts |= {f"band_hit_{band_low:g}": hits, f"band_true_{band_low:g}": there}
    return counts


def _place_counts(predicted: Sequence[Finding], truth: Sequence[Finding]) -> dict[str, float]:
    """Detected lesions, and those of them on the right side and in the right lobe.

    Matching equal places first also matches the most sides: a pair at one place is on one side.
    """
    counts = dict.fromkeys(("detected", "side_hit", "detected_lobar", "lobe_hit"), 0.0)
    for name in FINDINGS:
        said = [f for f in predicted if f.name == name]
        there = [f for f in truth if f.name == name]
        pairs = min(len(said), len(there))
        sides = Counter(f.side for f in said if f.side) & Counter(f.side for f in there if f.side)
        counts["detected"] += pairs
        counts["side_hit"] += sides.total()
        if name in LOBAR:
            counts["detected_lobar"] += pairs
            counts["lobe_hit"] += (_by_place(said) & _by_place(there)).total()
    return counts


def _matched_nodules(
    predicted: Sequence[Finding], truth: Sequence[Finding]
) -> list[tuple[Finding, Finding]]:
    """(predicted, true) nodules in the same lobe, those closest in size first."""
    said = [f for f in predicted if f.name == "nodule" and f.lobe is not None]
    there = [f for f in truth if f.name == "nodule" and f.lobe is not None]
    candidates = [
        (abs((p.size_mm or 0.0) - (t.size_mm or 0.0)), i, j)
        for i, p in enumerate(said)
        for j, t in enumerate(there)
        if p.lobe == t.lobe
    ]
    used_said: set[int] = set()
    used_there: set[int] = set()
    matched = []
    for _, i, j in sorted(candidates):
        if i not in used_said and j not in used_there:
            used_said.add(i)
            used_there.add(j)
            matched.append((said[i], there[j]))
    return matched


# ------------------------------------------------------------------------ sums to estimates
Sums = dict[str, NDArray[np.float64]]


def _ratios() -> dict[str, Callable[[Sums], NDArray[np.float64]]]:
    """Every score but the size error, as a function of the sums over studies."""

    def f1(hit: str, said: str, true: str) -> Callable[[Sums], NDArray[np.float64]]:
        return lambda sums: divide(2 * sums[hit], sums[said] + sums[true])

    def share(part: str, whole: str) -> Callable[[Sums], NDArray[np.float64]]:
        return lambda sums: divide(sums[part], sums[whole])

    ratios = {
        "strict_f1": f1("hit", "said", "true"),
        "strict_precision": share("hit", "said"),
        "strict_recall": share("hit", "true"),
        "finding_f1": f1("present_hit", "present_said", "present_true"),
        "nodule_f1": f1("nodule_hit", "nodule_said", "nodule_true"),
        "side_accuracy": share("side_hit", "detected"),
        "lobe_accuracy": share("lobe_hit", "detected_lobar"),
        "density_accuracy": share("density_hit", "density_true"),
        "size_stated": share("size_said", "size_true"),
        "hallucinated_share": lambda sums: sums["invented"] / np.maximum(1, sums["said"]),
        "hallucinated_strict_share": lambda sums: (
            (sums["said"] - sums["hit"]) / np.maximum(1, sums["said"])
        ),
    }
    for name in FINDINGS:
        ratios[f"strict_f1_{name}"] = f1(f"hit_{name}", f"said_{name}", f"true_{name}")
    for low, high in RECALL_BANDS_MM:
        ratios[f"nodule_recall_{low:g}_{high:g}"] = share(f"band_hit_{low:g}", f"band_true_{low:g}")
    return ratios


def divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """part / whole, NaN where whole is 0: there was nothing to score."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def bootstrap_weights(studies: int, n_boot: int, seed: int) -> NDArray[np.float64]:
    """(n_boot, studies): how often each resample draws each study."""
    if not studies:
        return np.zeros((n_boot, 0))
    rng = np.random.default_rng(seed)
    return rng.multinomial(studies, np.full(studies, 1 / studies), size=n_boot).astype(np.float64)


def estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    """A score with the ends of its interval from its resamples; NaN among them is left out."""
    kept = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(kept):
        return Estimate(value, math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def _median_estimate(
    errors: Sequence[tuple[int, float]], weights: NDArray[np.float64], chunk: int = 100
) -> Estimate:
    """Median over lesions, resampled by study: the lower median of the repeated errors."""
    if not errors:
        return Estimate(math.nan, math.nan, math.nan)
    ordered = sorted(errors, key=lambda pair: pair[1])
    owners = np.array([index for index, _ in ordered])
    sizes = np.array([error for _, error in ordered])
    medians = []
    for start in range(0, len(weights), chunk):
        running = weights[start : start + chunk, owners].cumsum(1)
        reached = running >= running[:, -1:] / 2
        median = sizes[reached.argmax(1)]
        medians.append(np.where(running[:, -1] > 0, median, np.nan))
    resampled = np.concatenate(medians) if medians else np.zeros(0)
    return estimate(float(np.median(sizes)), resampled)
