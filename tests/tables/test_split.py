"""Who goes where: every row once, no patient twice, the order of rows nothing, findings spread."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.errors import DataError
from ctscribe.tables.manifest import Row
from ctscribe.tables.split import (
    MOST_WEIGHT,
    folds_by_patient,
    patient_key,
    sampler_weights,
    split_by_patient,
    stratified,
)

FINDINGS = ["nodule", "effusion", "pneumothorax", "normal"]
SEEDS = st.integers(0, 2**31 - 1)
BRIEF = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], dict[str, set[str]]]:
    """Rows of 12 to 40 patients with one to three studies each, and the labels of the studies."""
    rows: list[Row] = []
    labels: dict[str, set[str]] = {}
    for patient in range(draw(st.integers(12, 40))):
        for study in range(draw(st.integers(1, 3))):
            case = f"c{patient}-{study}"
            rows.append(Row(case, f"P{patient:03}", Path(f"{case}.nii"), "", "答"))
            labels[case] = draw(st.sets(st.sampled_from(FINDINGS), max_size=3))
    return draw(st.permutations(rows)), labels


def patients(rows: list[Row]) -> set[str]:
    return {row.patient_id for row in rows}


def cases(rows: list[Row]) -> list[str]:
    return sorted(row.case_id for row in rows)


@given(table=tables(), seed=SEEDS, by_label=st.booleans(), shuffled=st.randoms())
@BRIEF
def test_every_row_is_in_one_part_whatever_the_order_of_rows(
    table: tuple[list[Row], dict[str, set[str]]], seed: int, by_label: bool, shuffled: object
) -> None:
    rows, every = table
    labels = every if by_label else None
    parts = split_by_patient(rows, val_ratio=0.2, test_ratio=0.1, seed=seed, labels=labels)
    assert cases([r for own in parts.values() for r in own]) == cases(rows)
    held = [patients(own) for own in parts.values()]
    assert sum(map(len, held)) == len(patients(rows))  # nobody twice
    n = len(patients(rows))
    for part, ratio in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        assert abs(len(patients(parts[part])) - ratio * n) <= 1  # type: ignore[index]
    for part, own in parts.items():
        assert own == [row for row in rows if row in own], f"{part} keeps the order of rows"
    other = list(rows)
    shuffled.shuffle(other)  # type: ignore[attr-defined]
    again = split_by_patient(other, val_ratio=0.2, test_ratio=0.1, seed=seed, labels=labels)
    assert {p: cases(own) for p, own in again.items()} == {p: cases(o) for p, o in parts.items()}


@given(table=tables(), folds=st.integers(2, 6), seed=SEEDS, by_label=st.booleans())
@BRIEF
def test_every_patient_is_in_one_validation_fold(
    table: tuple[list[Row], dict[str, set[str]]], folds: int, seed: int, by_label: bool
) -> None:
    rows, labels = table
    found = folds_by_patient(rows, folds, seed=seed, labels=labels if by_label else None)
    assert len(found) == folds
    assert cases([r for own in found for r in own]) == cases(rows)
    sizes = [len(patients(own)) for own in found]
    assert sum(sizes) == len(patients(rows))
    assert max(sizes) - min(sizes) <= 1
    again = folds_by_patient(rows[::-1], folds, seed=seed, labels=labels if by_label else None)
    assert [cases(own) for own in again] == [cases(own) for own in found]


@given(
    labels=st.lists(st.sets(st.sampled_from(FINDINGS), max_size=3), min_size=10, max_size=60),
    shares=st.sampled_from([(0.1, 0.1), (0.2, 0.2), (0.25, 0.25), (0.3, 0.1)]),
    seed=SEEDS,
)
@BRIEF
def test_labels_are_spread_as_evenly_as_can_be(
    labels: list[set[str]], shares: tuple[float, float], seed: int
) -> None:
    held = [max(1, round(len(labels) * share)) for share in shares]
    sizes = [*held, len(labels) - sum(held)]
    parts = stratified(labels, sizes, seed=seed)
    assert [parts.count(k) for k in range(3)] == sizes
    present = [label for label in FINDINGS if any(label in own for own in labels)]

    def apart(label: str, where: list[int]) -> float:
        """How far the label's counts are from its shares, at most over the parts."""
        has = [k for k, own in zip(where, labels, strict=True) if label in own]
        return max(
            abs(has.count(k) - len(has) * size / len(labels)) for k, size in enumerate(sizes)
        )

    if present:
        rarest = min(present, key=lambda x: (sum(x in own for own in labels), x))
        assert apart(rarest, parts) <= 1 + 1e-9, "the rarest label is dealt first, to the unit"
    # Over all labels no worse than lots usually are.
    rng = np.random.default_rng(0)
    dealt = np.repeat(np.arange(3), sizes)
    lots = [sum(apart(x, rng.permutation(dealt).tolist()) for x in present) for _ in range(30)]
    assert sum(apart(x, parts) for x in present) <= np.median(lots) + 1e-9


def test_a_rare_finding_reaches_every_part() -> None:
    """Of 1,000 patients 10 have it: by lot the test part of 100 often has none."""
    rows = [Row(f"c{i}", f"p{i}", Path("x"), "", "答") for i in range(1000)]
    labels = {r.case_id: {"rare"} if i < 10 else {"nodule"} for i, r in enumerate(rows)}
    for seed in range(5):
        parts = split_by_patient(rows, val_ratio=0.1, test_ratio=0.2, seed=seed, labels=labels)
        rare = {p: sum("rare" in labels[r.case_id] for r in own) for p, own in parts.items()}
        assert rare == {"train": 7, "val": 1, "test": 2}
    one, two = (
        split_by_patient(rows, val_ratio=0.1, test_ratio=0.2, seed=s, labels=labels)["test"]
        for s in (0, 1)
    )
    assert patients(one) != patients(two)


def test_ids_that_differ_in_case_width_or_spaces_are_one_patient() -> None:
    spelled = ["p001", "P001", " P 001", "Ｐ００１", "P001\u3000"]
    assert len({patient_key(text) for text in spelled}) == 1
    assert len({patient_key(text) for text in ("p001", "p01", "p010", "q001", "001", "1")}) == 6
    rows = [Row(f"c{i}", text, Path("x"), "", "答") for i, text in enumerate(spelled)]
    rows += [Row(f"d{i}", f"q{i}", Path("x"), "", "答") for i in range(5)]
    for seed in range(10):
        parts = split_by_patient(rows, val_ratio=0.3, test_ratio=0.3, seed=seed)
        assert sum(any(r.case_id.startswith("c") for r in own) for own in parts.values()) == 1


@pytest.mark.parametrize(("n", "val", "test"), [(1, 0.1, 0.0), (2, 0.1, 0.1), (10, 0.5, 0.5)])
def test_a_split_that_would_leave_a_part_empty(n: int, val: float, test: float) -> None:
    rows = [Row(f"c{i}", f"p{i}", Path("x"), "", "答") for i in range(n)]
    with pytest.raises(DataError, match="cannot be divided") as caught:
        split_by_patient(rows, val_ratio=val, test_ratio=test, seed=0)
    assert caught.value.code == "bad-table"
    for folds in (1, n + 1):
        with pytest.raises(DataError, match=f"cannot be divided into {folds} folds"):
            folds_by_patient(rows, folds, seed=0)
    if n > 1:  # one patient in each is as many as can be
        assert [len(own) for own in folds_by_patient(rows, n, seed=0)] == [1] * n
    for sizes in ((n,), (n, 2)):
        with pytest.raises(ValueError, match="units"):
            stratified([set()] * (n + 1), sizes, seed=0)


def test_who_goes_where_is_drawn_by_lot() -> None:
    rows = [Row(f"c{i}", f"p{i}", Path("x"), "", "答") for i in range(60)]
    for labels in (None, {row.case_id: {"nodule"} for row in rows}):
        drawn = [
            frozenset(
                patients(
                    split_by_patient(rows, val_ratio=0.2, test_ratio=0, seed=s, labels=labels)[
                        "val"
                    ]
                )
            )
            for s in range(3)
        ]
        assert len(set(drawn)) == 3


def test_of_parts_that_lack_alike_the_one_with_most_room_takes_the_unit() -> None:
    labels: list[set[str]] = [*[{"x"}] * 3, *[{"y"}] * 5, set(), set()]
    for seed in range(20):
        parts = stratified(labels, [5, 5], seed=seed)
        x, y = ([parts[at] for at, own in enumerate(labels) if label in own] for label in "xy")
        assert {x.count(0), x.count(1)} == {1, 2}
        assert [y.count(0), y.count(1)] == [4 - x.count(0), 4 - x.count(1)]


@given(st.lists(st.sets(st.sampled_from(FINDINGS), max_size=3), min_size=1, max_size=60))
@BRIEF
def test_weights_are_of_mean_one_and_favour_the_rare(labels: list[set[str]]) -> None:
    weights = sampler_weights(labels)
    assert weights.shape == (len(labels),)
    assert math.isclose(weights.mean(), 1)
    assert weights.min() > 0
    assert weights.max() / weights.min() <= MOST_WEIGHT + 1e-9
    counts = {x: sum(x in own for own in labels) for x in FINDINGS}
    rarest = [min((counts[x] for x in own), default=len(labels)) for own in labels]
    order = np.argsort(rarest)
    assert (np.diff(weights[order]) <= 1e-9).all()


def test_weights_by_hand() -> None:
    # 16 rows: one pneumothorax (f = 1/16, weight 4), 4 effusions (2), the rest 11/16.
    labels = [{"pneumothorax", "nodule"}, *[{"effusion"}] * 4, *[{"nodule"}] * 11]
    raw = np.array([4.0, *[2.0] * 4, *[np.sqrt(16 / 12)] * 11])
    np.testing.assert_allclose(sampler_weights(labels), raw / raw.mean())
    assert sampler_weights(labels, most=1.5).max() == pytest.approx(
        1.5 / np.minimum(raw, 1.5).mean()
    )
    assert sampler_weights([]).shape == (0,)


def test_a_patient_has_the_labels_of_all_studies() -> None:
    """The finding stands in the first study of each of ten patients, in none of the later ones."""
    rows = [Row(f"c{i}-{k}", f"p{i}", Path("x"), "", "答") for i in range(100) for k in (0, 1)]
    first = {f"c{i}-0" for i in range(10)}
    labels: dict[str, set[str]] = {
        row.case_id: {"rare"} if row.case_id in first else set() for row in rows
    }
    for seed in range(5):
        found = folds_by_patient(rows, 5, seed=seed, labels=labels)
        assert [sum("rare" in labels[r.case_id] for r in own) for own in found] == [2] * 5
