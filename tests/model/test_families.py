"""Each family: visual tokens must enter as the model takes its own, and text must come out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ctscribe.generation.decode import generate
from ctscribe.model.llm import IGNORED, LLM, OUR_PATH, load_llm
from tests.model.tiny import save, tokenizer
from tests.model.tiny_families import NAMES, OURS, shaken, stock

WIDTH = {"Mamba": 24, "FalconMamba": 24, "Mamba2": 24}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def load(name: str) -> LLM:
        return load_llm(save(tmp_path_factory.mktemp(name), stock(name)))

    return load


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (2, 13) and mask: the first is padded at its left."""
    ids = torch.randint(2, 300, (2, 13), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    return ids, mask


def test_a_loss_through_embeddings_is_the_models_own_from_ids(name: str, loaded: Any) -> None:
    llm, (ids, mask) = loaded(name), prompts()
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[1, :7] = IGNORED
    loss = llm.forward_embeds(llm.embed(ids), mask, labels)
    theirs = stock(name)(ids, attention_mask=mask, labels=labels, use_cache=False).loss
    torch.testing.assert_close(loss, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_of_embeddings_are_the_models_own(name: str, loaded: Any) -> None:
    llm, (ids, mask) = loaded(name), prompts()
    x = llm.embed(ids).detach().clone().requires_grad_()
    llm.forward_embeds(x, mask, ids).backward()
    assert x.grad is not None
    assert (x.grad[:, :-1][mask[:, :-1] == 1].abs().amax(-1) > 0).all()
    model = stock(name)
    y = llm.embed(ids).detach().clone().requires_grad_()
    model(inputs_embeds=y, attention_mask=mask, labels=ids, use_cache=False).loss.backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)


def test_text_written_from_embeddings_is_what_ids_give(name: str, loaded: Any) -> None:
    llm, (ids, mask) = loaded(name), prompts()
    got = generate(llm, llm.embed(ids), mask, max_new_tokens=7)
    wanted = stock(name).generate(
        ids,
        attention_mask=mask,
        max_new_tokens=7,
        do_sample=False,
        suppress_tokens=llm.unused_ids().nonzero()[:, 0].tolist(),
    )[:, ids.shape[1] :]
    for text, row in zip(got, wanted.tolist(), strict=True):
        end = row.index(llm.eos_id) if llm.eos_id in row else len(row)
        assert list(text.tokens) == row[:end]
    assert len({t for text in got for t in text.tokens}) > 2
