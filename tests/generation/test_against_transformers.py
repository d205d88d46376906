"""The same tokens as transformers' own generate on the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.generation.decode import generate
from tests.generation.ending import ending_pair, random_prompts, theirs

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    ),
]
quiet = pytest.mark.filterwarnings("ignore:Passing `(repetition_penalty|no_repeat_ngram_size)`")


@quiet
@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    eagerness=st.sampled_from([4.0, 7.0, 9.0]),
    sharpness=st.sampled_from([0.2, 0.5, 2.0]),
    beams=st.sampled_from([1, 1, 2, 3, 5]),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]),
    penalty=st.sampled_from([1.0, 1.3, 0.8]),
    ngram=st.integers(0, 3),
    limit=st.integers(1, 24),
    least=st.integers(0, 6),
)
def test_fp32_tokens_are_identical(
    device: str,
    seed: int,
    eagerness: float,
    sharpness: float,
    beams: int,
    length_penalty: float,
    penalty: float,
    ngram: int,
    limit: int,
    least: int,
) -> None:
    model, llm = ending_pair(seed, eagerness, sharpness, device=device)
    embeds, mask = (t.to(device) for t in random_prompts(seed, 3, 4))
    options: dict[str, Any] = {
        "max_new_tokens": limit,
        "num_beams": beams,
        "repetition_penalty": penalty,
        "no_repeat_ngram_size": ngram,
    }
    if beams > 1:
        options["length_penalty"] = length_penalty
    least = min(least, limit)
    # On a GPU one graph a step is not worth capturing for so few; test_cuda.py has the graphs.
    ours = generate(llm, embeds, mask, min_new_tokens=least, cuda_graph=False, **options)
    expected = theirs(
        model, llm, embeds, mask, min_new_tokens=least or None, do_sample=False, **options
    )
    assert [text.tokens for text in ours] == expected


@pytest.mark.parametrize(
    ("seed", "beams", "length_penalty", "eagerness", "sharpness"),
    [
        (4, 2, 2.0, 8.0, 1.0),
        (5, 4, 2.0, 10.0, 0.5),
        (7, 3, 1.0, 9.0, 1.0),
        (21, 2, 3.0, 10.0, 0.5),
        (1, 2, -1.0, 9.0, 0.3),
        (6, 4, -1.0, 9.0, 0.5),
    ],
)
def test_a_done_text_takes_no_more_beams_while_others_go_on(
    seed: int, beams: int, length_penalty: float, eagerness: float, sharpness: float
) -> None:
    """Cases in which later or lesser beams would win, if they were let in."""
    model, llm = ending_pair(seed, eagerness, sharpness)
    prompts = random_prompts(seed, 6, 3)
    options = {"max_new_tokens": 20, "num_beams": beams, "length_penalty": length_penalty}
    expected = theirs(model, llm, *prompts, do_sample=False, **options)
    assert [text.tokens for text in generate(llm, *prompts, **options)] == expected


def test_the_texts_compared_end_at_different_lengths() -> None:
    lengths = set()
    for seed in range(6):
        _, llm = ending_pair(seed)
        for beams in (1, 3):
            out = generate(llm, *random_prompts(seed, 3, 4), max_new_tokens=24, num_beams=beams)
            lengths |= {(beams > 1, len(text.tokens)) for text in out}
    assert len(lengths) > 8


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(6))
def test_bf16_tokens_are_identical_up_to_the_first_tie(device: str, seed: int) -> None:
    """Where they part, the scores are apart by less than bf16 moves transformers' own scores."""
    model, llm = ending_pair(seed, 4.0, 1.0, dtype=torch.bfloat16, device=device)
    exact, _ = ending_pair(seed, 4.0, 1.0, device=device)
    exact.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    embeds, mask = (t.to(device) for t in random_prompts(seed, 6, 5))
    embeds = embeds.bfloat16()
    ours = generate(llm, embeds, mask, max_new_tokens=48)
    other = theirs(model, llm, embeds, mask, max_new_tokens=48, do_sample=False)
    same_until = []
    for text, row, prompt, seen in zip(ours, other, embeds, mask, strict=True):
        mine, their = (*text.tokens, llm.eos_id), (*row, llm.eos_id)
        pairs = enumerate(zip(mine, their, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), len(mine))
        same_until.append(at)
        if mine == their:
            continue
        written = torch.tensor(mine[:at], device=device).long()
        both = []
        for other_model in (exact, model):
            whole = torch.cat(
                [prompt.to(other_model.dtype), other_model.backbone.embeddings(written)]
            )
            attended = torch.cat([seen, torch.ones_like(written)])[None]
            out = other_model(inputs_embeds=whole[None], attention_mask=attended)
            both.append(out.logits[0, -1].float())
        moved = (both[1] - both[0]).abs().max()
        assert (both[0][mine[at]] - both[0][their[at]]).abs() <= 2 * moved
    assert sum(same_until) / len(same_until) > 8
