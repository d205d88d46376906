"""Who goes where: rows divided by patient, stratified by label, and weights for rare labels.

A patient is one whose id reads the same (`patient_key`); all of a patient's rows go together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ctscribe.errors import DataError

if TYPE_CHECKING:
    from ctscribe.tables.manifest import Row

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
WEIGHT_COLUMN = "sample_weight"
MOST_WEIGHT = 5.0  # that a row of rare findings has of a row that everybody is like

Labels = Mapping[str, Collection[str]]  # of each case_id


def patient_key(patient_id: str) -> str:
    """What two spellings of one id share: width, case and spaces say nothing of who it is.

    "Ｐ 001" and "p001" are one patient; zeros count, so "p01" is another.
    """
    return "".join(unicodedata.normalize("NFKC", patient_id).casefold().split())


def split_by_patient(
    rows: Sequence[Row],
    *,
    val_ratio: float,
    test_ratio: float,
    seed: int,
    labels: Labels | None = None,
) -> dict[Split, list[Row]]:
    """Divide rows so that no patient is in two parts; rows keep their order within a part.

    The ratios are shares of patients. With `labels` each label's patients are spread over the parts
    in proportion too, see `stratified`. Who goes where depends on the seed and the set of patients,
    not on the order of the rows. Raises DataError if a part that was asked for would be empty.
    """
    patients = sorted({patient_key(row.patient_id) for row in rows})
    wanted = {"val": val_ratio, "test": test_ratio}
    counts = {part: round(len(patients) * ratio) for part, ratio in wanted.items()}
    for part, ratio in wanted.items():
        if ratio > 0:
            counts[part] = max(1, counts[part])
    if not 0 <= sum(counts.values()) < len(patients) or min(wanted.values()) < 0:
        raise DataError(
            f"{len(patients)} patient(s) cannot be divided with {val_ratio:g} for validation and "
            f"{test_ratio:g} for the test",
            fix="lower the ratios, or give more patients",
            code="bad-table",
        )
    sizes = (counts["val"], counts["test"], len(patients) - sum(counts.values()))
    part_of = _divide(rows, patients, sizes, seed, labels)
    order: tuple[Split, ...] = ("val", "test", "train")
    return {
        part: [r for r in rows if order[part_of[patient_key(r.patient_id)]] == part]
        for part in SPLITS
    }


def folds_by_patient(
    rows: Sequence[Row], folds: int, *, seed: int, labels: Labels | None = None
) -> list[list[Row]]:
    """The validation rows of each fold; every patient is in exactly one of them.

    Folds differ by one patient at most, and are stratified as in `split_by_patient`. Raises
    DataError for fewer patients than folds.
    """
    patients = sorted({patient_key(row.patient_id) for row in rows})
    if not 2 <= folds <= len(patients):
        raise DataError(
            f"{len(patients)} patient(s) cannot be divided into {folds} folds",
            fix="give at least 2 folds, and no more than there are patients",
            code="bad-table",
        )
    sizes = [(len(patients) + fold) // folds for fold in range(folds)]
    part_of = _divide(rows, patients, sizes, seed, labels)
    return [[r for r in rows if part_of[patient_key(r.patient_id)] == k] for k in range(folds)]


def _divide(
    rows: Sequence[Row],
    patients: Sequence[str],
    sizes: Sequence[int],
    seed: int,
    labels: Labels | None,
) -> dict[str, int]:
    """The part of each patient."""
    if labels is None:
        order = np.random.default_rng(seed).permutation(len(patients))
        parts = np.repeat(np.arange(len(sizes)), sizes)
        return {patients[i]: int(part) for i, part in zip(order, parts, strict=True)}
    of_patient: dict[str, set[str]] = {patient: set() for patient in patients}
    for row in rows:
        of_patient[patient_key(row.patient_id)] |= set(labels[row.case_id])
    found = stratified([of_patient[patient] for patient in patients], sizes, seed=seed)
    return dict(zip(patients, found, strict=True))


def stratified(labels: Sequence[Collection[str]], sizes: Sequence[int], *, seed: int) -> list[int]:
    """The part of each unit, parts of exactly `sizes`, labels spread in proportion to them.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011): the label with the
    fewest units left is dealt out first, each unit to the part that still lacks most of that label,
    of equal ones to that with most room, then by lot; what has no label fills the rest. Unlike
    theirs a part that is full takes no more. sizes must sum to the number of units.
    """
    if sum(sizes) != len(labels):
        raise ValueError(f"parts of {sum(sizes)} for {len(labels)} units")
    rng = np.random.default_rng(seed)
    order = [int(i) for i in rng.permutation(len(labels))]
    holders: dict[str, list[int]] = {}
    for unit in order:
        for label in sorted(labels[unit]):
            holders.setdefault(label, []).append(unit)
    lacks = {
        label: [len(units) * size / len(labels) for size in sizes]
        for label, units in holders.items()
    }
    room = list(sizes)
    part_of: dict[int, int] = {}

    def put(unit: int, wanted: Sequence[float]) -> None:
        free = [part for part, left in enumerate(room) if left]
        lot = rng.random(len(sizes))
        part_of[unit] = part = max(free, key=lambda p: (round(wanted[p], 9), room[p], lot[p]))
        room[part] -= 1
        for label in labels[unit]:
            lacks[label][part] -= 1

    while holders:
        left = {label: [u for u in us if u not in part_of] for label, us in holders.items()}
        holders = {label: units for label, units in left.items() if units}
        if holders:
            rarest = min(holders, key=lambda label: (len(holders[label]), label))
            for unit in holders.pop(rarest):
                put(unit, lacks[rarest])
    for unit in order:
        if unit not in part_of:
            put(unit, room)
    return [part_of[unit] for unit in range(len(labels))]


def sampler_weights(
    labels: Sequence[Collection[str]], *, most: float = MOST_WEIGHT
) -> NDArray[np.float64]:
    """How often each row should be drawn, (rows,), of mean 1: rows of rare labels more often.

    A row's weight is 1 / sqrt(f) of the rarest of its labels, f the share of rows that have it, at
    most `most`, and 1 without a label; then all are divided by their mean. The square root of the
    inverse frequency is that of Mahajan et al., ECCV 2018, and of LVIS's repeat factors (Gupta,
    Dollár and Girshick, CVPR 2019): 1 / f itself would show the few rare studies until they are
    known by heart.
    """
    if not labels:
        return np.empty(0)
    counts = _counts(labels)
    weights = np.array(
        [
            min(most, max((np.sqrt(len(labels) / counts[label]) for label in own), default=1.0))
            for own in labels
        ]
    )
    found: NDArray[np.float64] = weights / weights.mean()
    return found


def _counts(labels: Iterable[Collection[str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for own in labels:
        for label in set(own):
            counts[label] = counts.get(label, 0) + 1
    return counts
