from __future__ import annotations

import re

import numpy as np
import pytest

from ctscribe.phantom.personal import GAPS, id18, personal_text
from ctscribe.phantom.personal_names import COMPOUND, SURNAMES
from ctscribe.phantom.personal_texts import HARD, HELD_OUT, TEMPLATES
from ctscribe.phantom.wording import Picker
from ctscribe.reports.schema import Language

LANGUAGES: tuple[Language, ...] = ("zh", "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_templates(language: Language) -> None:
    known, held_out = TEMPLATES[language], HELD_OUT[language]
    assert len({*known, *held_out}) == len(known) + len(held_out) >= 40
    assert len(held_out) * 4 >= len(known) + len(held_out)
    plain = {"report", "findings", "impression", "recommendation", "hard", "age", "sex"}
    used = {gap for t in known + held_out for gap in re.findall(r"\{(\w+)\}", t)}
    assert used - plain == set(GAPS[language])
    assert len(set(HARD[language])) == len(HARD[language])
    assert len({s for s, _ in SURNAMES}) == len(SURNAMES) >= 100
    assert len(dict(COMPOUND)) == len(COMPOUND)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("language", LANGUAGES)
def test_spans_are_what_filled_the_gaps(language: Language, held_out: bool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        made = personal_text(language, rng, held_out=held_out)
        assert "{" not in made.text
        assert made.template in (HELD_OUT if held_out else TEMPLATES)[language]
        end = 0
        for span in made.spans:
            assert end <= span.start < span.end <= len(made.text)
            end = span.end
        # The template's own words stand between the spans, in this order.
        gaps = [g for g in re.findall(r"\{(\w+)\}", made.template) if g in GAPS[language]]
        assert [GAPS[language][g][0] for g in gaps] == [s.kind for s in made.spans]


def test_the_same_seed_gives_the_same_text() -> None:
    one, same, other = (personal_text("zh", np.random.default_rng(s)) for s in (4, 4, 5))
    assert one == same != other


def test_identity_numbers_have_their_check_digit() -> None:
    pick = Picker(np.random.default_rng(0))
    for number in (id18(pick) for _ in range(50)):
        total = sum((10 if c in "Xx" else int(c)) * 2 ** (17 - i) for i, c in enumerate(number))
        assert total % 11 == 1
