"""Mamba, token after token: the model's step and the choice of the token on one static state.

`Runner.step` is a fixed sequence of tensor operations. On CUDA it is captured once in a graph and
then replayed; elsewhere the same function runs in a plain loop. The host reads what was written in
blocks, one block behind, so that the device never waits for it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.generation.beam import BeamPicker
from ctscribe.generation.picker import Picker, Rules
from ctscribe.model.decoder import MambaDecoder, MambaState
from ctscribe.model.llm import LLM
from ctscribe.ops.cuda import side_stream

_ROOM = 256  # the token buffer's length is a multiple, so that graphs serve many lengths
_KEPT = 2  # idle graphs kept for each model: the full batch and the last, smaller one
_Key = tuple[Rules, int, int, int]  # rules, texts, room, fingerprint of the model
_idle: weakref.WeakKeyDictionary[LLM, list[tuple[_Key, Runner]]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Runner:
    """Writes `texts` texts at once, each with at most `room` tokens.

    The LLM is held weakly: runners are kept for as long as their LLM lives, not the other way.
    """

    def __init__(
        self,
        llm: LLM,
        decoder: MambaDecoder,
        like: MambaState,
        rules: Rules,
        texts: int,
        room: int,
        *,
        graph: bool,
    ) -> None:
        self._llm, self._decoder = weakref.ref(llm), decoder
        self.device = llm.device
        rows = texts * rules.num_beams
        kind = BeamPicker if rules.num_beams > 1 else Picker
        unused = llm.unused_ids().to(self.device)
        self.picker = kind(rules, texts, room, unused, llm.eos_id, llm.pad_id)
        self.state = like.allocate(rows)
        self._row_of = torch.arange(texts, device=self.device).repeat_interleave(rules.num_beams)
        self._used: Any = None  # when the last use of the buffers ends
        self.graph: torch.cuda.CUDAGraph | None = None
        if graph:
            self._capture()

    def start(self, logits: Tensor, state: MambaState, *, seed: int, limit: int) -> None:
        """Take over after a prefill of the texts, logits (B, V), and choose the first token."""
        if self._used is not None:
            with self._on_device():
                self._used.wait()
        self.picker.start(seed)
        if isinstance(self.picker, BeamPicker):
            self.picker.limit.fill_(limit)
        self.state.take_(state, self._row_of)
        self.picker(logits.index_select(0, self._row_of))

    def step(self) -> None:
        """Run the model on the last token of each row, and choose the next."""
        if self.graph is None:
            self._operations()
        else:
            self.graph.replay()

    def follow(self, limit: int, every: int) -> Generator[list[list[int]], None, None]:
        """Write up to `limit` tokens, or until all texts have ended; yields each next block (R, n).

        On CUDA the host looks every `every` steps, and at the block before the last one enqueued.
        """
        every, behind = _pace(self.device, every)
        blocks: deque[_Block] = deque()
        for start in range(0, limit, every):
            stop = min(start + every, limit)
            with self._on_device():
                for _ in range(max(start, 1), stop):  # `start` has chosen the first
                    self.step()
                blocks.append(_Block(self.picker, start, stop))
            self._used = blocks[-1].ready
            if len(blocks) > behind:
                tokens, ended = blocks.popleft().read()
                yield tokens
                if ended:
                    return
        while blocks:
            yield blocks.popleft().read()[0]

    @torch.no_grad()
    def _operations(self) -> None:
        if isinstance(self.picker, BeamPicker):
            self.state.take_(self.state, self.picker.parent)
        llm = self._llm()
        assert llm is not None  # whoever steps holds it
        self.picker(self._decoder.step(llm.embed(self.picker.token), self.state))

    def _on_device(self) -> Any:
        """Graphs and events go to the current device's stream; nothing happens without CUDA."""
        return torch.cuda.device_of(self.picker.tokens)  # type: ignore[no-untyped-call]

    def _capture(self) -> None:
        """Record one step; before it, real ones load what is loaded at first use."""
        with self._on_device():
            self.picker.start(0)
            side = side_stream(self.device)
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    self._operations()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            if self.picker.rules.do_sample:
                graph.register_generator_state(self.picker.generator)
            # Other threads may go on using the device.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self._operations()
            self.graph = graph


def _pace(device: torch.device, every: int) -> tuple[int, int]:
    """Steps between two looks of the host, and how many blocks behind it looks."""
    return (every, 1) if device.type == "cuda" else (1, 0)


class _Block:
    """The tokens [start, stop) of every row, on their way to the host."""

    def __init__(self, picker: Picker, start: int, stop: int) -> None:
        self.ready: Any = None
        parts = picker.tokens[:, start:stop], picker.done
        if picker.tokens.is_cuda:
            # Pinned memory comes from PyTorch's cache of it; the copies wait for nothing.
            self._parts = [torch.empty(p.shape, dtype=p.dtype, pin_memory=True) for p in parts]
            for mine, theirs in zip(self._parts, parts, strict=True):
                mine.copy_(theirs, non_blocking=True)
            self.ready = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self.ready.record()
        else:
            self._parts = [p.clone() for p in parts]  # the next steps write on

    def read(self) -> tuple[list[list[int]], bool]:
        """The tokens, and whether all texts had ended; waits until they are here."""
        if self.ready is not None:
            self.ready.synchronize()
        tokens, done = self._parts
        return tokens.tolist(), all(done.tolist())


@contextmanager
def runner(
    llm: LLM,
    decoder: MambaDecoder,
    like: MambaState,
    rules: Rules,
    limit: int,
    *,
    graph: bool = True,
) -> Iterator[Runner]:
    """A runner for the texts of the state `like`, to use alone; on CUDA one used before, if idle.

    graph: False runs the same step without a graph, as happens where there is no CUDA, and with
    8-bit layers, which ask the device for values.
    """
    texts, room = len(like.conv[0]), -(-limit // _ROOM) * _ROOM
    if not (graph and _can_capture(llm)):
        yield Runner(llm, decoder, like, rules, texts, room, graph=False)
        return
    key = (rules, texts, room, fingerprint(llm.model))
    found = _take(llm, key)
    if found is None:
        found = Runner(llm, decoder, like, rules, texts, room, graph=True)
    try:
        yield found
    finally:
        _keep(llm, key, found)


def _can_capture(llm: LLM) -> bool:
    return llm.device.type == "cuda" and not getattr(llm.base, "is_loaded_in_8bit", False)


def fingerprint(model: nn.Module) -> int:
    """Changes with whatever a captured step cannot follow.

    That is: weights moved, replaced or written to (decay rates are computed beforehand), adapters
    added, merged or switched, training mode.
    """
    weights = tuple(
        (t.data_ptr(), t.dtype, 0 if t.is_inference() else t._version)
        for t in (*model.parameters(), *model.buffers())
    )
    switches = ("disable_adapters", "merged_adapters", "active_adapters", "scaling")
    modules = tuple(
        (id(m), m.training, *(str(getattr(m, name, None)) for name in switches))
        for m in model.modules()
    )
    return hash((weights, modules))


def forget_graphs(llm: LLM) -> None:
    """Free the idle graphs of an LLM, and with them their memory on the device."""
    with _lock:
        _idle.pop(llm, None)


def _take(llm: LLM, key: _Key) -> Runner | None:
    with _lock:
        kept = _idle.get(llm, [])
        for i, (at, _) in enumerate(kept):
            if at == key:
                return kept.pop(i)[1]
    return None


def _keep(llm: LLM, key: _Key, used: Runner) -> None:
    with _lock:
        kept = _idle.setdefault(llm, [])
        kept.append((key, used))
        # Of other weights or switches than now: never to be found again.
        kept[:] = [entry for entry in kept if entry[0][-1] == key[-1]][-_KEPT:]
