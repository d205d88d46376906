"""Writing: from the embeddings of a prompt to text, a batch at a time.

Mamba runs on a static state, one step a token, with constant memory; other families go through
transformers' own `generate`. Nothing is ever filled in: no text is an empty text that says so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ctscribe.errors import ConfigError
from ctscribe.model.llm import LLM
from ctscribe.model.mamba import MambaDecoder, is_mamba

FinishReason = Literal["stop", "length", "empty"]
_STEPS_BETWEEN_CHECKS = 16  # asking a GPU whether all texts have ended waits for it


@dataclass(frozen=True)
class Generated:
    """One text: `tokens` without the end token, and why it ended.

    stop: the model ended it. length: max_new_tokens did. empty: no text, whatever ended it.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason


@torch.no_grad()
def generate(
    llm: LLM,
    prefix_embeds_BLD: Tensor,
    attention_mask: Tensor,
    *,
    max_new_tokens: int,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
) -> list[Generated]:
    """Write on from each prompt of the batch; greedy unless `do_sample`.

    prefix_embeds_BLD: (B, L, width), shorter prompts padded at the LEFT (see `pad_left`).
    attention_mask: (B, L), 0 at padding. repetition_penalty: divides the scores of tokens already
    written (prompts are embeddings and do not count), as in transformers. seed: of sampling; the
    same seed, batch and device give the same texts.

    Raises ConfigError on a setting out of range, ValueError if padding is not at the left.
    """
    _check(max_new_tokens, temperature, top_p, repetition_penalty)
    mask = attention_mask.to(prefix_embeds_BLD.device)
    left = mask.shape == prefix_embeds_BLD.shape[:2] and bool((mask[:, -1:] == 1).all())
    if not left or bool((mask.diff(dim=1) < 0).any()):
        raise ValueError("attention_mask must be (B, L), with padding at the left only")
    embeds = prefix_embeds_BLD.to(llm.embed(mask.new_zeros(1, dtype=torch.long)).dtype)
    if embeds.shape[0] == 0:
        return []
    if is_mamba(llm.base):
        pick = _Picker(llm, do_sample, temperature, top_p, repetition_penalty, seed, embeds.device)
        ids = _decode_mamba(llm, embeds, mask, max_new_tokens, pick)
    else:
        sampling: dict[str, Any] = {
            "do_sample": do_sample,
            "repetition_penalty": repetition_penalty,
        }
        if do_sample:
            sampling |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
        ids = _decode_transformers(llm, embeds, mask, max_new_tokens, sampling, seed)
    return [_finish(llm, row) for row in ids.tolist()]


def pad_left(prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts (L_i, width) of different lengths to embeddings (B, L, width) and mask (B, L)."""
    length = max(len(p) for p in prompts)
    embeds = prompts[0].new_zeros(len(prompts), length, prompts[0].shape[1])
    mask = torch.zeros(len(prompts), length, dtype=torch.long, device=embeds.device)
    for b, prompt in enumerate(prompts):
        embeds[b, length - len(prompt) :] = prompt
        mask[b, length - len(prompt) :] = 1
    return embeds, mask


class _Picker:
    """Scores (B, V) to the next token (B,), with what has been written so far in mind."""

    def __init__(
        self,
        llm: LLM,
        do_sample: bool,
        temperature: float,
        top_p: float,
        penalty: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self.banned = llm.unused_ids().to(device)
        self.do_sample, self.temperature, self.top_p = do_sample, temperature, top_p
        self.penalty = penalty
        self.generator = torch.Generator(device).manual_seed(seed)
        self.written: Tensor | None = None  # (B, V) bool, only kept for the penalty

    def __call__(self, logits: Tensor) -> Tensor:
        scores = logits.masked_fill(self.banned, float("-inf"))
        if self.written is not None:
            punished = torch.where(scores > 0, scores / self.penalty, scores * self.penalty)
            scores = torch.where(self.written, punished, scores)
        token = self._draw(scores) if self.do_sample else scores.argmax(-1)
        if self.penalty != 1:
            if self.written is None:
                self.written = torch.zeros_like(scores, dtype=torch.bool)
            self.written.scatter_(1, token[:, None], True)
        return token

    def _draw(self, scores: Tensor) -> Tensor:
        probability, order = (scores / self.temperature).softmax(-1).sort(-1, descending=True)
        # The smallest set of tokens that holds top_p; the likeliest is always in it.
        outside = probability.cumsum(-1) - probability >= self.top_p
        probability = probability.masked_fill(outside, 0)
        drawn = torch.multinomial(probability, 1, generator=self.generator)
        return order.gather(1, drawn)[:, 0]


def _decode_mamba(
    llm: LLM, embeds: Tensor, mask: Tensor, max_new_tokens: int, pick: _Picker
) -> Tensor:
    """Token ids (B, T); after a text's end token comes padding."""
    decoder = MambaDecoder(llm.base)
    logits, state = decoder.prefill(embeds, mask)
    done = torch.zeros(len(embeds), dtype=torch.bool, device=embeds.device)
    every = 1 if embeds.device.type == "cpu" else _STEPS_BETWEEN_CHECKS
    columns = []
    for step in range(1, max_new_tokens + 1):
        token = pick(logits).masked_fill(done, llm.pad_id)
        columns.append(token)
        done = done | (token == llm.eos_id)
        if step == max_new_tokens or (step % every == 0 and bool(done.all())):
            break
        logits = decoder.step(llm.embed(token), state)
    return torch.stack(columns, 1)


def _decode_transformers(
    llm: LLM, embeds: Tensor, mask: Tensor, max_new_tokens: int, sampling: dict[str, Any], seed: int
) -> Tensor:
    unused = torch.nonzero(llm.unused_ids())[:, 0].tolist()
    devices = [embeds.device] if embeds.device.type == "cuda" else []
    with torch.random.fork_rng(devices), warnings.catch_warnings():
        # That a repetition penalty spares prompts of embeddings is what `generate` promises.
        warnings.filterwarnings("ignore", message="Passing `repetition_penalty`")
        torch.manual_seed(seed)
        return llm.base.generate(  # type: ignore[no-any-return]
            inputs_embeds=embeds,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            eos_token_id=llm.eos_id,
            pad_token_id=llm.pad_id,
            suppress_tokens=unused or None,
            **sampling,
        )


def _finish(llm: LLM, row: list[int]) -> Generated:
    ended = llm.eos_id in row
    tokens = row[: row.index(llm.eos_id)] if ended else row
    text = llm.decode(tokens).strip()
    reason: FinishReason = "empty" if not text else "stop" if ended else "length"
    return Generated(text, tuple(tokens), reason)


def _check(
    max_new_tokens: int, temperature: float, top_p: float, repetition_penalty: float
) -> None:
    for name, value, good in (
        ("max_new_tokens", max_new_tokens, max_new_tokens >= 1),
        ("temperature", temperature, temperature > 0),
        ("top_p", top_p, 0 < top_p <= 1),
        ("repetition_penalty", repetition_penalty, repetition_penalty > 0),
    ):
        if not good:
            raise ConfigError(f"{name} is {value}, out of range", fix=f"give a {name} that can be")
