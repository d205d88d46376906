"""The step through a frozen Mamba as one CUDA graph: launching it costs as much as one kernel.

At batch 1 launching the kernels one by one takes longer than running them. A graph is captured for
each bucket of length and number of answer tokens; what is shorter is padded at the right, which a
causal model does not see. Where there is no graph to be had, the plain path runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.model.frozen import FrozenMamba
from ctscribe.model.head_loss import IGNORED, head_cross_entropy
from ctscribe.model.llm import LLM
from ctscribe.ops.cuda import side_stream

_BUCKET = 32  # positions; longer sequences share wider buckets, so that few graphs serve many
_MOST_GRAPHS = 24


class GraphedStep:
    """`LLM.forward_embeds` with the same arguments and result, differentiable in embeds."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self._graphs: dict[tuple[int, ...], _Graph] = {}
        self._of: tuple[Any, ...] = ()
        self._pool: Any = None

    def __call__(self, embeds: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the labels that are not IGNORED; see `LLM.forward_embeds`.

        With labels on the CPU nothing waits for the GPU.
        """
        llm, head = self.llm, self.llm.base.get_output_embeddings()
        if not embeds.is_cuda or not embeds.requires_grad or type(head) is not nn.Linear:
            return llm.forward_embeds(embeds, attention_mask, labels)
        batch, length, _ = embeds.shape
        answers = int((labels[:, 1:] != IGNORED).sum())
        key = (batch, bucket(length), bucket(answers))
        inputs = (embeds.to(head.weight.dtype), attention_mask, labels)
        if key in self._graphs:
            loss = _replay(*inputs, self._graphs[key])
            # Whether the weights are still the ones captured is looked up while the graph runs.
            if self._current() == self._of:
                return loss
        frozen = llm.frozen
        if frozen is None or head.bias is not None:
            return llm.forward_embeds(embeds, attention_mask, labels)
        return _replay(*inputs, self._graph(key, frozen, head))

    def _current(self) -> tuple[Any, ...]:
        """What the graphs were captured with: they read the tensors of the frozen function."""
        head = self.llm.base.get_output_embeddings()
        return (self.llm.frozen, head.weight.data_ptr(), self.llm.lean)

    def _graph(self, key: tuple[int, ...], frozen: FrozenMamba, head: Any) -> _Graph:
        of = self._current()
        if of != self._of:
            self._graphs, self._of = {}, of
            self._pool = None  # PyTorch refuses a pool whose graphs are all gone
        if key not in self._graphs:
            while len(self._graphs) >= _MOST_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            graph = _Graph(key, frozen, head.weight, self.llm.lean, self._pool)
            self._pool = graph.graph.pool()
            self._graphs[key] = graph
        return self._graphs[key]


def bucket(length: int) -> int:
    """The least bucket that holds a length: multiples of 32, wider from 1,024 on."""
    step = _BUCKET << (length // 1024).bit_length()
    return step * max(1, math.ceil(length / step))


@dataclass
class _Buffers:
    embeds: Tensor  # (B, L, W)
    mask: Tensor  # (B, L) bool
    targets: Tensor  # (B, L), the labels of the next positions


class _Graph:
    """One captured step: copy the inputs in, replay, read loss and gradient."""

    def __init__(
        self, key: tuple[int, ...], frozen: FrozenMamba, head: Tensor, lean: bool, pool: Any
    ) -> None:
        batch, length, answers = key
        device = head.device
        self.length = length
        self.head = head.detach()  # kept alive: a graph may be replayed before it is found stale
        self.inputs = _Buffers(
            embeds=head.new_zeros(batch, length, head.shape[1]).requires_grad_(),
            mask=torch.ones(batch, length, dtype=torch.bool, device=device),
            targets=torch.full((batch, length), IGNORED, device=device),
        )

        def step() -> tuple[Tensor, Tensor]:
            inputs = self.inputs
            targets = inputs.targets.flatten()
            # As many as the bucket holds: -1 where there are fewer answers.
            found = torch.nonzero_static(targets != IGNORED, size=answers, fill_value=-1)[:, 0]
            at = found.clamp(min=0)
            hidden = frozen(inputs.embeds, inputs.mask, lean=lean)
            loss = head_cross_entropy(
                hidden.flatten(0, 1).index_select(0, at),
                head,
                targets[at].where(found >= 0, IGNORED),
            )
            (grad,) = torch.autograd.grad(loss, inputs.embeds)
            return loss.detach(), grad

        # Once outside: libraries and kernels load, which a capture does not allow.
        stream = side_stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream), torch.enable_grad():
            step()
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.enable_grad(), torch.cuda.graph(self.graph, pool=pool, stream=stream):
            self.loss, self.grad = step()

    def run(self, embeds: Tensor, mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, and gradient of embeds (B, L, W)."""
        length, inputs = embeds.shape[1], self.inputs
        with torch.no_grad():
            inputs.embeds[:, :length].copy_(embeds)
            inputs.mask[:, :length].copy_(mask)
            inputs.targets[:, : length - 1].copy_(labels[:, 1:])
            # What a longer batch left; a NaN among it would reach every gradient.
            inputs.embeds[:, length:].zero_()
            inputs.mask[:, length:].zero_()
            inputs.targets[:, length - 1 :].fill_(IGNORED)
        self.graph.replay()
        return self.loss.clone(), self.grad[:, :length].clone()


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeds: Tensor, mask: Tensor, labels: Tensor, graph: _Graph) -> Tensor:
        loss, ctx.grad = graph.run(embeds, mask, labels)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.grad * g, None, None, None


def _replay(embeds: Tensor, mask: Tensor, labels: Tensor, graph: _Graph) -> Tensor:
    loss: Tensor = _Replay.apply(embeds, mask, labels, graph)  # type: ignore[no-untyped-call]
    return loss
