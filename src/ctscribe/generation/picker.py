"""Choosing the next token of every text, as a fixed sequence of tensor operations.

Shapes never change, nothing asks the device for a value and where to write is itself a tensor, so
that one CUDA graph can hold the choice together with the step of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ctscribe.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """How tokens are chosen. Raises ConfigError on a value out of range."""

    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0  # 0: any may repeat
    min_new_tokens: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, good in (
            ("temperature", 0 < self.temperature < math.inf),
            ("top_p", 0 < self.top_p <= 1),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0),
            ("min_new_tokens", self.min_new_tokens >= 0),
            ("num_beams", self.num_beams >= 1),
            ("length_penalty", math.isfinite(self.length_penalty)),
        ):
            if not good:
                value = getattr(self, name)
                raise ConfigError(
                    f"{name} is {value}, out of range", fix=f"give a {name} that can be"
                )
        if self.do_sample and self.num_beams > 1:
            raise ConfigError(
                f"num_beams is {self.num_beams} while sampling, but beam search draws nothing",
                fix="leave do_sample or num_beams out",
            )


class Picker:
    """Scores (R, V) to the next token of each row, greedily or drawn; a row is a text.

    unused: (V,) bool, never chosen. room: most tokens a row can hold.
    """

    def __init__(self, rules: Rules, rows: int, room: int, unused: Tensor, eos: int, pad: int):
        device, vocabulary = unused.device, len(unused)
        self.rules, self.unused, self.eos, self.pad = rules, unused, eos, pad
        self.is_eos = torch.arange(vocabulary, device=device) == eos
        self.tokens = torch.full((rows, room), pad, device=device)  # after its end, padding
        self.at = torch.zeros(1, dtype=torch.long, device=device)  # how many are written
        self.token = torch.full((rows,), pad, device=device)  # the last one of each row
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.seen: Tensor | None = None  # (R, V) bool: what a row holds
        if rules.repetition_penalty != 1:
            self.seen = torch.zeros(rows, vocabulary, dtype=torch.bool, device=device)
        self.generator = torch.Generator(device)
        n = max(1, rules.no_repeat_ngram_size)
        self._back = torch.arange(1 - n, 0, device=device)  # where the last n - 1 tokens are
        self._last = torch.arange(n - 1, max(room, n - 1), device=device)  # ends of n-grams

    def start(self, seed: int) -> None:
        """Forget everything written."""
        self.tokens.fill_(self.pad)
        self.at.zero_()
        self.done.zero_()
        if self.seen is not None:
            self.seen.zero_()
        self.generator.manual_seed(seed)

    def written(self) -> list[list[int]]:
        """The tokens of each text, padded after its end; waits for the device."""
        return self.tokens.tolist()

    def __call__(self, logits: Tensor) -> None:
        """Choose and write one token a row; logits: (R, V) fp32."""
        scores = self.adjusted(logits)
        chosen = self._draw(scores) if self.rules.do_sample else scores.argmax(-1)
        self.write(chosen.masked_fill(self.done, self.pad))
        self.done.logical_or_(self.token == self.eos)

    def write(self, token: Tensor) -> None:
        """Append one token (R,) a row."""
        self.token.copy_(token)
        self.tokens.index_copy_(1, self.at, token[:, None])
        self.at.add_(1)
        if self.seen is not None:
            self.seen.scatter_(1, token[:, None], True)

    def adjusted(self, scores: Tensor) -> Tensor:
        """Scores after penalty and bans, in transformers' order."""
        rules = self.rules
        if self.seen is not None:
            penalty = rules.repetition_penalty
            punished = torch.where(scores > 0, scores / penalty, scores * penalty)
            scores = torch.where(self.seen, punished, scores)
        if rules.no_repeat_ngram_size:
            scores = scores.masked_fill(self._would_repeat(), float("-inf"))
        banned = self.unused
        if rules.min_new_tokens:
            banned = banned | (self.is_eos & (self.at < rules.min_new_tokens))
        return scores.masked_fill(banned, float("-inf"))

    def _would_repeat(self) -> Tensor:
        """(R, V): tokens that would write an n-gram for the second time in a row."""
        ends = len(self._last)
        suffix = self.tokens.index_select(1, (self.at + self._back).clamp_min(0))
        same = (self._last < self.at).expand(len(self.tokens), -1)
        for i in range(len(self._back)):
            same = same & (self.tokens[:, i : i + ends] == suffix[:, i : i + 1])
        vocabulary = len(self.unused)
        last = self.tokens[:, len(self._back) :]
        column = torch.where(same, last, vocabulary)  # one column more takes what is no repeat
        hit = last.new_zeros(len(last), vocabulary + 1, dtype=torch.bool)
        return hit.scatter_(1, column, True)[:, :vocabulary]

    def _draw(self, scores: Tensor) -> Tensor:
        """Exponential races: the first of V clocks of rate p rings for token i with chance p_i."""
        probability = (scores / self.rules.temperature).softmax(-1)
        order = None
        if self.rules.top_p < 1:
            probability, order = probability.sort(-1, descending=True)
            # The smallest set of tokens that holds top_p; the likeliest is always in it.
            # In fp64, since a GPU may add in another order each time.
            before = probability.cumsum(-1, dtype=torch.float64) - probability
            outside = before >= self.rules.top_p
            probability = probability.masked_fill(outside, 0)
        time = torch.empty_like(probability).exponential_(generator=self.generator)
        # A clock that rings at 0 would make 0 / 0 of a token that is not to be drawn.
        drawn = (probability / time.clamp_min_(torch.finfo(time.dtype).tiny)).argmax(-1)
        return drawn if order is None else order.gather(1, drawn[:, None])[:, 0]
