"""Writing: from the embeddings of a prompt to text, a batch at a time or as it comes.

Mamba runs on a static state, one step a token, with constant memory; other families go through
transformers' own `generate`. Nothing is ever filled in: no text is an empty text that says so.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from ctscribe.errors import ConfigError
from ctscribe.generation import families
from ctscribe.generation.graph import runner
from ctscribe.generation.picker import Rules
from ctscribe.generation.text import FinishReason, Generated, Writing
from ctscribe.model.decoder import MambaDecoder
from ctscribe.model.llm import LLM
from ctscribe.model.mamba import is_mamba

__all__ = ["FinishReason", "Generated", "generate", "pad_left", "stream"]

# Steps between two looks of the host at what a GPU has written.
_EVERY = 16
_EVERY_SHOWN = 2  # where someone is reading


@torch.no_grad()
def generate(
    llm: LLM,
    prefix_embeds_BLD: Tensor,
    attention_mask: Tensor,
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    stop: Sequence[str] = (),
    seed: int = 0,
    cuda_graph: bool = True,
) -> list[Generated]:
    """Write on from each prompt of the batch; greedy unless `do_sample` or `num_beams` > 1.

    prefix_embeds_BLD: (B, L, width), shorter prompts padded at the LEFT (see `pad_left`).
    attention_mask: (B, L), 0 at padding. Every option means what it means in transformers; prompts
    are embeddings, so repetition_penalty and no_repeat_ngram_size (0: off) see only what has been
    written. num_beams: beam search with transformers' `early_stopping=False` (beam.py says when a
    text is done); length_penalty above 0 favours longer beams. stop: strings that end a text and
    are cut off it; beam search goes on past them, and only the text is cut. seed: of sampling; the
    same seed, batch and device give the same texts. cuda_graph: False runs Mamba's steps on CUDA
    one operation at a time (slower; the same tokens).

    Raises ConfigError on a setting out of range, ValueError if padding is not at the left.
    """
    rules = Rules(
        do_sample,
        temperature,
        top_p,
        repetition_penalty,
        no_repeat_ngram_size,
        min_new_tokens,
        num_beams,
        length_penalty,
    )
    stop = _checked(stop, max_new_tokens)
    embeds, mask = _prompts(llm, prefix_embeds_BLD, attention_mask)
    if embeds.shape[0] == 0:
        return []
    texts = [Writing(llm, stop) for _ in embeds]
    if is_mamba(llm.base):
        blocks = _mamba(llm, embeds, mask, max_new_tokens, rules, seed, _EVERY, cuda_graph)
    else:
        whole = families.write(llm, embeds, mask, max_new_tokens, rules, stop, seed)
        blocks = (rows for rows in [whole])
    with closing(blocks):
        for block in blocks:
            for text, tokens in zip(texts, block, strict=True):
                text.take(tokens)
            if all(text.ended for text in texts):
                break
    return [text.result() for text in texts]


@torch.no_grad()
def stream(
    llm: LLM,
    prefix_embeds_BLD: Tensor,
    attention_mask: Tensor,
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    stop: Sequence[str] = (),
    seed: int = 0,
    cuda_graph: bool = True,
) -> Generator[str, None, Generated]:
    """Write on from one prompt, giving out text as soon as it cannot change any more.

    Takes what `generate` takes, for a batch of one and without beams, which are known only at the
    end. The pieces joined are the text that `generate` returns; the `Generated` itself is the
    generator's return value (`written = yield from stream(...)`). Closing it ends the writing.

    Raises ConfigError on a setting out of range, ValueError if the prompt is not one.
    """
    rules = Rules(
        do_sample, temperature, top_p, repetition_penalty, no_repeat_ngram_size, min_new_tokens
    )
    stop = _checked(stop, max_new_tokens)
    embeds, mask = _prompts(llm, prefix_embeds_BLD, attention_mask)
    if embeds.shape[0] != 1:
        raise ValueError(f"prefix_embeds_BLD must hold one prompt, not {embeds.shape[0]}")
    text = Writing(llm, stop)
    if is_mamba(llm.base):
        blocks = _mamba(llm, embeds, mask, max_new_tokens, rules, seed, _EVERY_SHOWN, cuda_graph)
    else:
        blocks = families.follow(llm, embeds, mask, max_new_tokens, rules, stop, seed)
    with closing(blocks):
        for block in blocks:
            text.take(block[0])
            if piece := text.show():
                yield piece
            if text.ended:
                break
    if rest := text.rest():
        yield rest
    return text.result()


def pad_left(prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts (L_i, width) of different lengths to embeddings (B, L, width) and mask (B, L)."""
    length = max(len(p) for p in prompts)
    embeds = prompts[0].new_zeros(len(prompts), length, prompts[0].shape[1])
    mask = torch.zeros(len(prompts), length, dtype=torch.long, device=embeds.device)
    for b, prompt in enumerate(prompts):
        embeds[b, length - len(prompt) :] = prompt
        mask[b, length - len(prompt) :] = 1
    return embeds, mask


def _mamba(
    llm: LLM,
    embeds: Tensor,
    mask: Tensor,
    limit: int,
    rules: Rules,
    seed: int,
    every: int,
    graph: bool,
) -> Generator[list[list[int]], None, None]:
    """The next tokens of every text, block after block; of beams the best at the end."""
    decoder = MambaDecoder(llm.base, llm.frozen)
    logits, state = decoder.prefill(embeds, mask)
    with runner(llm, decoder, state, rules, limit, graph=graph) as running:
        running.start(logits, state, seed=seed, limit=limit)
        del logits, state
        with closing(running.follow(limit, every)) as blocks:
            if rules.num_beams == 1:
                yield from blocks
            else:
                for _ in blocks:
                    pass
                yield [row[:limit] for row in running.picker.written()]


def _prompts(llm: LLM, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    mask = mask.to(embeds.device)
    left = mask.shape == embeds.shape[:2] and bool((mask[:, -1:] == 1).all())
    if not left or bool((mask.diff(dim=1) < 0).any()):
        raise ValueError("attention_mask must be (B, L), with padding at the left only")
    return embeds.to(llm.embed(mask.new_zeros(1, dtype=torch.long)).dtype), mask


def _checked(stop: Sequence[str], max_new_tokens: int) -> tuple[str, ...]:
    if max_new_tokens < 1:
        raise ConfigError(
            f"max_new_tokens is {max_new_tokens}, out of range",
            fix="give a max_new_tokens that can be",
        )
    if isinstance(stop, str):
        raise ConfigError("stop is one string", fix="give a list of strings")
    if "" in stop:
        raise ConfigError("stop holds an empty string", fix="leave it out")
    return tuple(stop)
