from __future__ import annotations

import itertools

import pytest

from ctscribe.reports.language import (
    QUESTIONS,
    SLOTS,
    describe,
    detect_language,
    slot_phrase,
    slots_of,
)
from ctscribe.reports.schema import AMOUNTS, DENSITIES, LOBAR, Finding, Language, side_of


def test_slots_are_lobes_first_then_sides() -> None:
    assert len(SLOTS) == len(set(SLOTS)) == 19
    assert SLOTS[:4] == (
        ("nodule", "RUL"),
        ("consolidation", "RUL"),
        ("emphysema", "RUL"),
        ("nodule", "RML"),
    )
    assert SLOTS[15:] == (
        ("effusion", "right"),
        ("pneumothorax", "right"),
        ("effusion", "left"),
        ("pneumothorax", "left"),
    )


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_two_slot_phrases_are_made_of_the_same_words(language: Language) -> None:
    phrases = []
    for name, place in SLOTS:
        lobe = place if name in LOBAR else None
        side = side_of(place) if name in LOBAR else place  # type: ignore[arg-type]
        states: list[Finding | None] = [None, Finding(name, side, lobe)]  # type: ignore[arg-type]
        if name == "nodule":
            states = [None] + [
                Finding(name, side, lobe, size, density)  # type: ignore[arg-type]
                for size, density in itertools.product((8, 9, 30), DENSITIES)
            ]
        if name not in LOBAR:
            states = [None] + [Finding(name, side, amount=a) for a in AMOUNTS]  # type: ignore[arg-type]
        phrases += [slot_phrase(name, place, state, language) for state in states]
    assert len({frozenset(phrase.split()) for phrase in phrases}) == len(phrases)
    assert max(map(len, phrases)) < 45


def test_slot_phrases_read_as_agreed() -> None:
    nodule = Finding("nodule", "right", "RUL", 14.0, "solid")
    assert slot_phrase("nodule", "RUL", nodule, "zh") == "右肺上叶 实性 结节 14 mm"
    assert slot_phrase("nodule", "RUL", None, "zh") == "右肺上叶 结节 无"
    effusion = Finding("effusion", "left", amount="small")
    assert slot_phrase("effusion", "left", effusion, "en") == "left small pleural effusion"
    assert describe(effusion, "en") == "small left pleural effusion"
    assert describe(nodule, "zh") == "右肺上叶实性结节 14 mm"


def test_the_largest_wins_a_slot_and_what_has_no_place_has_none() -> None:
    small = Finding("nodule", "left", "LLL", 9, "solid")
    large = Finding("nodule", "left", "LLL", 21, "calcified")
    trace = Finding("effusion", "right", amount="small")
    flood = Finding("effusion", "right", amount="large")
    lost = Finding("nodule", "left", None, 30)
    for order in itertools.permutations([small, large, trace, flood, lost]):
        slots = slots_of(order)
        assert slots[SLOTS.index(("nodule", "LLL"))] == large
        assert slots[SLOTS.index(("effusion", "right"))] == flood
        assert sum(slot is not None for slot in slots) == 2


def test_questions_are_in_their_language() -> None:
    for language, questions in QUESTIONS.items():
        assert all(detect_language(question) == language for question in questions)
        assert len(set(questions)) == len(questions) >= 2
