"""Decoding with Mamba: one state, updated in place, whatever the length.

The layers run without transformers' cache. Frozen plain weights run on the kernels of
`ops.decode_cuda` where there is a GPU for them; anything else (Falcon-Mamba, LoRA, 8 and 4 bits, a
CPU) runs layer by layer through the mixers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ctscribe.model.frozen import FrozenMamba, backend_of, residual_of
from ctscribe.ops import decode_cuda
from ctscribe.ops.rms_norm import norm_forward

PREFILL_CHUNK = 8192  # positions run together: memory does not grow with the prompt


@dataclass
class MambaState:
    """What decoding carries: per layer the last K - 1 conv inputs and the scan's state."""

    conv: list[Tensor]  # (B, K - 1, D) each
    scan: list[Tensor]  # (B, D, N) each, fp32

    def allocate(self, rows: int) -> MambaState:
        """Zeros for `rows` texts, shaped and placed as this state."""
        return MambaState(
            [t.new_zeros(rows, *t.shape[1:]) for t in self.conv],
            [t.new_zeros(rows, *t.shape[1:]) for t in self.scan],
        )

    def take_(self, other: MambaState, index: Tensor) -> None:
        """Row i becomes row index[i] of `other`, in place; `other` may be this state itself."""
        for mine, theirs in ((self.conv, other.conv), (self.scan, other.scan)):
            for a, b in zip(mine, theirs, strict=True):
                a.copy_(b.index_select(0, index))


class MambaDecoder:
    """Runs a MambaForCausalLM whose mixers are ours, with its own state. No gradients.

    frozen: the model's blocks as one function, if they have been read already (`LLM.frozen`).
    """

    def __init__(self, model: nn.Module, frozen: FrozenMamba | None = None) -> None:
        causal: Any = model
        self._backbone, self._head = causal.backbone, causal.lm_head
        self._frozen: FrozenMamba | None = None
        plain_head = type(self._head) is nn.Linear and self._head.bias is None
        if plain_head and FrozenMamba.takes(model):
            self._frozen = frozen or FrozenMamba(model)
        if self._frozen is not None:
            self._A = [block.A for block in self._frozen.blocks]
        else:
            self._A = [layer.mixer.decay_rates() for layer in self._backbone.layers]

    @torch.no_grad()
    def prefill(
        self, embeds_BLW: Tensor, mask_BL: Tensor | None, state: MambaState | None = None
    ) -> tuple[Tensor, MambaState]:
        """Logits (B, V) after the last position, and the state. Padding must be at the left.

        state: to go on from (a second part of a prompt); it is not changed.
        """
        hidden = embeds_BLW[:, :0]
        for start in range(0, embeds_BLW.shape[1], PREFILL_CHUNK):
            part = slice(start, start + PREFILL_CHUNK)
            mask = None if mask_BL is None else mask_BL[:, part]
            hidden, state = self._advance(embeds_BLW[:, part], mask, state)
        assert state is not None
        return self._logits(hidden), state

    @torch.no_grad()
    def step(self, embeds_BW: Tensor, state: MambaState) -> Tensor:
        """Logits (B, V) after one more token; the state is updated in place."""
        frozen = self._frozen
        if frozen is not None and backend_of(embeds_BW, frozen.blocks[0]) == "cuda":
            return self._step_by_kernels(frozen, embeds_BW, state)
        hidden = embeds_BW
        for i, layer in enumerate(self._backbone.layers):
            normed, residual = self._enter(layer, hidden)
            out = layer.mixer.step(normed, state.conv[i], state.scan[i], self._A[i])
            hidden = residual + out
        return self._logits(hidden)

    def _advance(
        self, embeds: Tensor, mask: Tensor | None, past: MambaState | None
    ) -> tuple[Tensor, MambaState]:
        """The last position's hidden state (B, W) before the last norm, and the state after it."""
        state = MambaState([], [])
        if self._frozen is not None:
            states = (None, None) if past is None else (past.conv, past.scan)
            hidden, state.conv, state.scan = self._frozen.prefill(embeds, mask, *states)
            return hidden, state
        hidden = embeds
        for i, layer in enumerate(self._backbone.layers):
            normed, residual = self._enter(layer, hidden)
            before = (None, None) if past is None else (past.conv[i], past.scan[i])
            out, conv, scan = layer.mixer.scan(normed, mask, *before)
            state.conv.append(conv.clone())
            state.scan.append(scan.contiguous())
            hidden = residual + out
        return hidden[:, -1], state

    def _step_by_kernels(self, frozen: FrozenMamba, embeds: Tensor, state: MambaState) -> Tensor:
        batch = len(embeds)
        residual = residual_of(embeds)
        first = frozen.blocks[0]
        u, z, y = (embeds.new_empty(batch, len(first.D)) for _ in range(3))
        low_bc = embeds.new_empty(batch, len(first.x_proj))
        parts = [first.rank, first.states, first.states]
        low, B, C = low_bc.split_with_sizes(parts, -1)
        few = self._few(frozen, batch)
        delta: Tensor | None = None
        for block, conv, scan in zip(frozen.blocks, state.conv, state.scan, strict=True):
            last = (block.dt_bias, block.A, block.D)
            if few:
                decode_cuda.step_in(
                    residual, block.norm, block.eps, block.in_proj,
                    block.conv, block.conv_bias, conv, u, z,
                )  # fmt: skip
                decode_cuda.step_x(u, block.x_proj, low_bc)
                decode_cuda.step_scan(u, B, C, block.dt_proj, *last, z, scan, y, low=low)
                decode_cuda.step_out(y, block.out_proj, residual)
                continue
            normed, _, _ = norm_forward(
                residual, delta, block.norm, block.eps, embeds.dtype,
                rounds=True, keep=False, backend="cuda",
            )  # fmt: skip
            x, gate = linear(normed, block.in_proj).chunk(2, -1)
            decode_cuda.step_conv(x, block.conv, block.conv_bias, conv, u)
            low, B, C = linear(u, block.x_proj).split_with_sizes(parts, -1)
            dt = linear(low, block.dt_proj)
            decode_cuda.step_scan(u, B, C, dt, *last, gate, scan, y)
            delta = linear(y, block.out_proj)
        if few:
            logits = residual.new_empty(batch, len(self._head.weight))
            decode_cuda.step_head(residual, frozen.norm, frozen.eps, self._head.weight, logits)
            return logits
        normed, _, _ = norm_forward(
            residual, delta, frozen.norm, frozen.eps, embeds.dtype,
            rounds=False, keep=False, backend="cuda",
        )  # fmt: skip
        return linear(normed, self._head.weight).float()

    def _few(self, frozen: FrozenMamba, batch: int) -> bool:
        """Whether the kernels do the products themselves."""
        block = frozen.blocks[0]
        takes = decode_cuda.takes_products
        return (
            block.rank * block.in_proj.element_size() % 16 == 0
            and all(takes(batch, m, 2) for m in (block.in_proj, self._head.weight))
            and all(takes(batch, m, 1) for m in (block.x_proj, block.out_proj))
        )

    @staticmethod
    def _enter(layer: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        normed = layer.norm(hidden.to(layer.norm.weight.dtype))
        return normed, hidden.float() if layer.residual_in_fp32 else hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        normed = self._backbone.norm_f(hidden)
        return self._head(normed.to(self._head.weight.dtype)).float()  # type: ignore[no-any-return]
