"""Beam search on static buffers: the same sequences as transformers' (`early_stopping=False`).

Each text keeps `num_beams` open beams and its `num_beams` best finished ones. A finished beam is
worth the sum of its log-probabilities over (its length, end token included) ** length_penalty. A
text is done when it has `num_beams` finished ones and its best open beam, at its present length,
is worth no more than the worst of them; at the limit open beams count as finished.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ctscribe.generation.picker import Picker, Rules

_NEVER = -1e9  # transformers' score of what cannot be taken


class BeamPicker(Picker):
    """The beams of B texts; row b * num_beams + i is beam i of text b.

    `parent` (R,) says which row each row goes on from: the model's state must follow it before the
    next step.
    """

    def __init__(self, rules: Rules, texts: int, room: int, unused: Tensor, eos: int, pad: int):
        beams, device = rules.num_beams, unused.device
        super().__init__(rules, texts * beams, room, unused, eos, pad)
        self.parent = torch.arange(texts * beams, device=device)
        self.limit = torch.full((1,), room, device=device)  # tokens that a text may hold
        self.done = torch.zeros(texts, dtype=torch.bool, device=device)
        self._scores = torch.zeros(texts, beams, device=device)
        self._best = torch.zeros(texts, beams, room, dtype=torch.long, device=device)
        self._best_scores = torch.zeros(texts, beams, device=device)
        self._first_row = torch.arange(texts, device=device)[:, None] * beams
        self._on_top = torch.arange(2 * beams, device=device) < beams

    def start(self, seed: int) -> None:
        """Forget everything written; the first choice is between continuations of the prompt."""
        super().start(seed)
        self._scores.fill_(_NEVER)
        self._scores[:, 0] = 0  # the others are still the same
        self._best.fill_(self.pad)
        self._best_scores.fill_(_NEVER)

    def written(self) -> list[list[int]]:
        """The best finished beam of each text, padded after its end; waits for the device."""
        return self._best[:, 0].tolist()

    def __call__(self, logits: Tensor) -> None:
        """Each text's 2 * num_beams best continuations, and which of them go on or are finished."""
        texts, beams = self._scores.shape
        vocabulary = len(self.unused)
        scores = self.adjusted(logits.log_softmax(-1)).view(texts, beams, vocabulary)
        scores = (scores + self._scores[..., None]).view(texts, -1)
        scores, flat = scores.topk(2 * beams)
        token = flat % vocabulary
        row = self._first_row + flat // vocabulary
        length = self.at + 1
        ended = (token == self.eos) | (length >= self.limit)
        self._finish(scores, row, token, ended)
        open_scores = scores + ended * _NEVER
        kept = open_scores.topk(beams).indices
        self._scores.copy_(open_scores.gather(1, kept))
        self.parent.copy_(row.gather(1, kept).view(-1))
        self.tokens.copy_(self.tokens.index_select(0, self.parent))
        if self.seen is not None:
            self.seen.copy_(self.seen.index_select(0, self.parent))
        self.write(token.gather(1, kept).view(-1))
        promise = self._scores[:, 0] / self._divisor(length)
        worst = self._best_scores.amin(1)  # below any promise while a place is free
        self.done.logical_or_(promise <= worst)

    def _finish(self, scores: Tensor, row: Tensor, token: Tensor, ended: Tensor) -> None:
        """Merge the continuations (B, 2 * num_beams) that have ended into the finished beams."""
        texts, beams = self._scores.shape
        just = ended & self._on_top
        worth = scores / self._divisor(self.at + 1)
        worth = worth + self.done[:, None] * _NEVER + ~just * _NEVER
        longer = self.tokens.index_select(0, row.view(-1))
        longer.index_copy_(1, self.at, token.view(-1, 1))
        longer = longer.view(texts, 2 * beams, -1)
        worth, kept = torch.cat([self._best_scores, worth], 1).topk(beams)
        self._best_scores.copy_(worth)
        at = kept[..., None].expand(-1, -1, longer.shape[2])
        self._best.copy_(torch.cat([self._best, longer], 1).gather(1, at))

    def _divisor(self, length: Tensor) -> Tensor:
        # In fp64, as Python computes it.
        return (length.double() ** self.rules.length_penalty).float()
