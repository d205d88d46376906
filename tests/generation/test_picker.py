"""The choice of a token against slow references, and that it never asks the device for a value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from ctscribe.errors import ConfigError
from ctscribe.generation.beam import BeamPicker
from ctscribe.generation.picker import Picker, Rules

EOS, PAD, WORDS = 0, 1, 7


def picker(rows: int, room: int = 16, **rules: Any) -> Picker:
    unused = torch.zeros(WORDS, dtype=torch.bool)
    kind = BeamPicker if rules.get("num_beams", 1) > 1 else Picker
    made = kind(Rules(**rules), rows, room, unused, EOS, PAD)
    made.start(0)
    return made


def banned(row: list[int], n: int) -> set[int]:
    """Tokens that would complete an n-gram of `row` again, straight from the definition."""
    grams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
    return {t for t in range(WORDS) if (*row[len(row) - n + 1 :], t) in grams}


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(0, 12).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(2, 4), min_size=n, max_size=n), min_size=1, max_size=3
        )
    ),
    n=st.integers(1, 5),
)
def test_no_ngram_is_written_twice(rows: list[list[int]], n: int) -> None:
    pick = picker(len(rows), room=13, no_repeat_ngram_size=n)
    for token in zip(*rows, strict=True):
        pick.write(torch.tensor(token))
    scores = pick.adjusted(torch.zeros(len(rows), WORDS))
    for row, out in zip(rows, scores, strict=True):
        found = {t for t in range(WORDS) if out[t] == float("-inf")}
        assert found == (banned(row, n) if len(row) >= n else set())


def test_an_ngram_longer_than_the_buffer_bans_nothing() -> None:
    pick = picker(1, room=2, no_repeat_ngram_size=5)
    pick.write(torch.tensor([3]))
    assert pick.adjusted(torch.zeros(1, WORDS)).isfinite().all()


def test_penalty_divides_or_multiplies_what_is_written_in_the_same_row_only() -> None:
    pick = picker(2, repetition_penalty=2.0)
    pick.write(torch.tensor([3, 4]))
    scores = torch.tensor([[1.0, 1, 1, 4, -4, 1, 1], [1.0, 1, 1, 4, -4, 1, 1]])
    out = pick.adjusted(scores)
    assert out[0].tolist() == [1, 1, 1, 2, -4, 1, 1]
    assert out[1].tolist() == [1, 1, 1, 4, -8, 1, 1]


def test_the_end_waits_for_min_new_tokens() -> None:
    pick = picker(1, min_new_tokens=2)
    eager = torch.zeros(1, WORDS)
    eager[0, EOS], eager[0, 5] = 9, 5
    for _ in range(3):
        pick(eager)
    assert pick.tokens[0, :3].tolist() == [5, 5, EOS]


def test_a_finished_row_writes_padding() -> None:
    pick = picker(2)
    first, second = torch.zeros(2, WORDS), torch.zeros(2, WORDS)
    first[0, EOS] = first[1, 4] = second[:, 5] = 1
    pick(first)
    pick(second)
    assert pick.tokens[:, :2].tolist() == [[EOS, PAD], [4, 5]]
    assert pick.done.tolist() == [True, False]


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_sampling_draws_with_the_right_chances(top_p: float) -> None:
    rows, temperature = 40_000, 1.5
    pick = picker(rows, do_sample=True, temperature=temperature, top_p=top_p)
    logits = torch.tensor([1.0, -1, 0.5, 2, 0, 1.5, -2])
    chance = (logits / temperature).softmax(-1)
    order = chance.argsort(descending=True)
    kept = order[: int((chance[order].cumsum(0) < top_p).sum()) + 1] if top_p < 1 else order
    expected = torch.zeros(WORDS)
    expected[kept] = chance[kept] / chance[kept].sum()
    pick(logits.expand(rows, -1))
    drawn = pick.token.bincount(minlength=WORDS) / rows
    assert (drawn[expected == 0] == 0).all()
    # Five standard deviations.
    assert ((drawn - expected).abs() <= 5 * (expected * (1 - expected) / rows).sqrt()).all()


def test_a_clock_at_zero_draws_nothing_that_is_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    pick = picker(1, do_sample=True, top_p=0.3)
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, **_: self.zero_())
    pick(torch.tensor([[0.0, 0, 5, 0, 0, 0, 0]]))
    assert pick.token.item() == 2


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 4},
        {"num_beams": 3, "length_penalty": 0.5},
        {"num_beams": 3, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    ],
    ids=str,
)
def test_a_choice_reads_no_value_and_keeps_every_shape(
    rules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tensors without values cannot be filled from a generator.
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, **_: self.fill_(1))
    with FakeTensorMode():
        pick = picker(4, **rules)
        shapes = {k: v.shape for k, v in vars(pick).items() if isinstance(v, torch.Tensor)}
        logits = torch.empty(4 * rules.get("num_beams", 1), WORDS)
        for _ in range(2):
            pick(logits)
        assert shapes == {k: v.shape for k, v in vars(pick).items() if isinstance(v, torch.Tensor)}
        with pytest.raises(DataDependentOutputException):
            bool(pick.done.all())  # this mode would have told


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"repetition_penalty": -1.0}, "repetition_penalty is -1"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"length_penalty": float("inf")}, "length_penalty is inf"),
        ({"num_beams": 2, "do_sample": True}, "beam search draws nothing"),
    ],
)
def test_rules_out_of_range_are_refused(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Rules(**rules)
