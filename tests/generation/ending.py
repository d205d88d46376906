"""Random Mambas whose texts end: on transformers' own mixers, and the same weights on ours."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ctscribe.model.llm import LLM
from ctscribe.model.mamba import use_our_mixers
from tests.model.tiny import stock_mamba, tokenizer

WIDTH = 24


def ending_pair(
    seed: int,
    eagerness: float = 7.0,
    sharpness: float = 0.5,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> tuple[Any, LLM]:
    """(transformers' model, our LLM).

    eagerness: what the score of the end token gets on top; around 7 texts end anywhere.
    sharpness: scale of all scores.
    """
    model = stock_mamba()
    g = torch.Generator().manual_seed(seed)
    head = torch.nn.Linear(WIDTH, len(tokenizer()) + 9)
    head.weight.data = torch.randn(head.weight.shape, generator=g) * sharpness
    head.bias.data.zero_()
    head.bias.data[tokenizer().eos_token_id] = eagerness * sharpness
    model.lm_head, model.config.tie_word_embeddings = head, False
    model.requires_grad_(False).to(device, dtype)
    ours = copy.deepcopy(model)
    use_our_mixers(ours)
    return model, LLM(ours, tokenizer())


def random_prompts(seed: int, texts: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts without padding."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(texts, length, dtype=torch.long)
    return torch.randn(texts, length, WIDTH, generator=g), mask


def theirs(model: Any, llm: LLM, embeds: torch.Tensor, mask: torch.Tensor, **options: Any) -> Any:
    """Tokens that transformers' generate writes, without end token and padding."""
    eos = llm.eos_id
    rows = model.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        eos_token_id=eos,
        pad_token_id=llm.pad_id,
        suppress_tokens=llm.unused_ids().nonzero()[:, 0].tolist(),
        **options,
    ).tolist()
    return [tuple(row[: row.index(eos)] if eos in row else row) for row in rows]
