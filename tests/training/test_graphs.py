"""The captured step gives the loss and gradient of the plain one.

Without a GPU a stand-in replays the captured function; what only a GPU can show is skipped.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM
from ctscribe.model.mamba import use_our_mixers
from ctscribe.training import graphs
from ctscribe.training.graphs import GraphedStep, bucket
from tests.model.tiny import stock_mamba, tokenizer

WIDTH = 24
LONGEST = 3000


class Captured:
    """Stands in for a CUDA graph, and for the context that captures one."""

    def __init__(self, graph: Captured | None = None, *, pool: Any = None, **options: Any) -> None:
        self.graph = graph or self
        # PyTorch refuses a pool whose graphs are all gone.
        gc.collect()  # a stand-in and what it captured know each other
        assert pool is None or len(pool) > 0
        self.of_pool: Any = weakref.WeakSet() if pool is None else pool
        self.step: Any = None
        self.owner: Any = None

    def __enter__(self) -> None:
        frame = sys._getframe(1).f_locals
        self.graph.step, self.graph.owner = frame["step"], weakref.ref(frame["self"])
        self.graph.of_pool = self.of_pool
        self.of_pool.add(self.graph)

    def __exit__(self, *error: object) -> None:
        pass

    def pool(self) -> Any:
        return self.of_pool

    def replay(self) -> None:
        """As a graph does: the results go where the first ones are."""
        owner = self.owner()
        with torch.enable_grad():
            loss, grad = self.step()
        owner.loss.copy_(loss)
        owner.grad.copy_(grad)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treats the CPU as a device with graphs."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Captured)
    monkeypatch.setattr(torch.cuda, "graph", Captured)


PLACES = [
    "stand-in",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    ),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "cuda":
        yield "cuda"
        return
    with monkeypatch.context() as patch:
        stand_in(patch)
        gc.freeze()  # collecting is quick where only what a test makes is looked at
        yield "cpu"
        gc.unfreeze()


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The keys of the graphs captured."""
    made: list[tuple[int, ...]] = []
    real = graphs._Graph.__init__

    def init(self: Any, key: tuple[int, ...], *args: Any) -> None:
        made.append(key)
        real(self, key, *args)

    monkeypatch.setattr(graphs._Graph, "__init__", init)
    return made


def llm_on(place: str, dtype: torch.dtype = torch.float32) -> LLM:
    model = stock_mamba()
    use_our_mixers(model)
    return LLM(model.requires_grad_(False).to(place, dtype), tokenizer())


def batch(
    lengths: list[int], answers: list[int], place: str, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, mask and labels of sequences that end with their answers, padded at the right."""
    g = torch.Generator().manual_seed(seed)
    length = max(lengths)
    embeds = torch.randn(len(lengths), length, WIDTH, generator=g)
    mask = torch.zeros(len(lengths), length, dtype=torch.long)
    labels = torch.full(mask.shape, IGNORED)
    for b, (real, few) in enumerate(zip(lengths, answers, strict=True)):
        mask[b, :real] = 1
        labels[b, real - few : real] = torch.randint(0, 700, (few,), generator=g)
    return embeds.to(place), mask.to(place), labels.to(place)


def run(loss_of: Any, embeds: Tensor, mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of twice the loss."""
    x = embeds.clone().requires_grad_()
    loss = loss_of(x, mask, labels)
    (2 * loss).backward()
    assert x.grad is not None
    return loss.detach(), x.grad


def assert_same(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(one[0], two[0], rtol=1e-5, atol=1e-5)
    assert one[1].shape == two[1].shape
    assert (one[1] - two[1]).norm() < 1e-4 * two[1].norm()


CASES = [
    ([32], [10]),  # the bucket itself
    ([20], [3]),
    ([31], [30]),  # all but the first
    ([2], [1]),
    ([40], [39]),
    ([20, 32, 7], [3, 31, 2]),
    ([50, 33, 64], [20, 7, 1]),
]


@pytest.mark.parametrize(("lengths", "answers"), CASES, ids=str)
@pytest.mark.parametrize("lean", [False, True])
def test_loss_and_gradient_are_those_of_the_plain_step(
    place: str,
    captures: list[tuple[int, ...]],
    lengths: list[int],
    answers: list[int],
    lean: bool,
) -> None:
    llm = llm_on(place)
    llm.lean = lean
    inputs = batch(lengths, answers, place)
    step = GraphedStep(llm)
    wanted = run(llm.forward_embeds, *inputs)
    for _ in range(2):
        assert_same(run(step, *inputs), wanted)
    assert captures == [(len(lengths), bucket(max(lengths)), bucket(sum(answers)))]


def test_one_graph_serves_every_length_and_number_of_answers_of_its_bucket(
    place: str, captures: list[tuple[int, ...]]
) -> None:
    llm = llm_on(place)
    step = GraphedStep(llm)
    # Long and short by turns: nothing of the one before may be seen.
    for seed, (length, answers) in enumerate([(32, 31), (20, 3), (32, 9), (2, 1), (25, 24)]):
        inputs = batch([length], [answers], place, seed)
        assert_same(run(step, *inputs), run(llm.forward_embeds, *inputs))
    assert len(captures) == 1
    for seed, lengths in enumerate([[32, 5, 9], [10, 31, 3], [4, 4, 4]]):
        inputs = batch(lengths, [3, 2, 1], place, seed)
        assert_same(run(step, *inputs), run(llm.forward_embeds, *inputs))
    assert len(captures) == 2
    assert len(step._graphs) == 2


def test_padding_changes_neither_loss_nor_gradient(place: str) -> None:
    step = GraphedStep(llm_on(place))
    embeds, mask, labels = batch([20, 13], [5, 4], place)
    loss, grad = run(step, embeds, mask, labels)
    for length in (25, 32, 60):
        more = length - 20
        pad = torch.nn.functional.pad
        padded = (
            pad(embeds, (0, 0, 0, more), value=5.0),
            pad(mask, (0, more)),
            pad(labels, (0, more), value=IGNORED),
        )
        again = run(step, *padded)
        assert_same((again[0], again[1][:, :20]), (loss, grad))
        assert not again[1][:, 20:].any()


def test_a_batch_that_is_not_finite_leaves_nothing_behind(place: str) -> None:
    llm = llm_on(place)
    step = GraphedStep(llm)
    bad = batch([32], [31], place)
    assert run(step, bad[0] * float("nan"), *bad[1:])[0].isnan()
    inputs = batch([20], [3], place)
    assert_same(run(step, *inputs), run(llm.forward_embeds, *inputs))


def test_losses_may_be_summed_before_they_go_back(place: str) -> None:
    llm = llm_on(place)
    step = GraphedStep(llm)
    inputs = [batch([30 - i], [4 + i], place, i) for i in range(3)]
    results = []
    for loss_of in (step, llm.forward_embeds):
        leaves = [x.clone().requires_grad_() for x, _, _ in inputs]
        losses = [
            loss_of(x, mask, labels) for x, (_, mask, labels) in zip(leaves, inputs, strict=True)
        ]
        (losses[0] + 2 * losses[1] - losses[2]).backward()
        results.append([(loss.detach(), x.grad) for loss, x in zip(losses, leaves, strict=True)])
    for one, two in zip(*results, strict=True):
        assert_same(one, two)


def test_the_gradient_goes_on_to_what_made_the_embeddings(place: str) -> None:
    llm = llm_on(place)
    step = GraphedStep(llm)
    embeds, mask, labels = batch([30, 22], [4, 3], place)
    found = []
    for loss_of in (step, llm.forward_embeds):
        visual = embeds[:, :8].clone().requires_grad_()
        loss_of(torch.cat([visual, embeds[:, 8:]], 1), mask, labels).backward()
        found.append(visual.grad)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("change", ["A", "norm", "in_proj", "head", "lean"])
def test_a_changed_model_gets_new_graphs(
    place: str, captures: list[tuple[int, ...]], change: str
) -> None:
    llm = llm_on(place)
    step = GraphedStep(llm)
    inputs = batch([20], [5], place)
    before = run(step, *inputs)
    layer = llm.base.backbone.layers[1]
    with torch.no_grad():
        if change == "lean":
            llm.lean = True
        else:
            {
                "A": layer.mixer.A_log,
                "norm": layer.norm.weight,
                "in_proj": layer.mixer.in_proj.weight,
                "head": llm.base.lm_head.weight,
            }[change].mul_(-1)
    after = run(step, *inputs)
    assert_same(after, run(llm.forward_embeds, *inputs))
    assert ((after[0] - before[0]).abs() < 1e-4) == (change == "lean")
    assert len(captures) == 2
    assert len(step._graphs) == 1


def test_what_a_graph_reads_lives_as_long_as_the_graph(place: str) -> None:
    """Else a later function at the same address would be taken for the one that was captured."""
    llm = llm_on(place)
    step = GraphedStep(llm)
    run(step, *batch([20], [5], place))
    read = weakref.ref(llm.frozen)
    for kept in step._graphs.values():
        if isinstance(kept.graph, Captured):
            kept.graph.step = None  # a graph keeps no Python object
    llm._frozen = None
    gc.collect()
    assert read() is not None


def test_graphs_are_few(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_MOST_GRAPHS", 2)
    llm = llm_on(place)
    step = GraphedStep(llm)
    for length in (20, 40, 70, 20, 70):
        inputs = batch([length], [5], place)
        assert_same(run(step, *inputs), run(llm.forward_embeds, *inputs))
        assert len(step._graphs) <= 2
    assert {key[1] for key in step._graphs} == {32, 96}


# Where there is no graph.


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the calls of the plain step."""
    calls: list[int] = []
    real = LLM.forward_embeds

    def counted(self: LLM, *args: Tensor) -> Tensor:
        calls.append(1)
        return real(self, *args)

    monkeypatch.setattr(LLM, "forward_embeds", counted)
    return calls


def test_a_cpu_takes_the_plain_step(plain: list[int], captures: list[tuple[int, ...]]) -> None:
    llm = llm_on("cpu")
    inputs = batch([20, 9], [5, 2], "cpu")
    got, wanted = run(GraphedStep(llm), *inputs), run(llm.forward_embeds, *inputs)
    assert torch.equal(got[0], wanted[0])
    assert torch.equal(got[1], wanted[1])
    assert (len(plain), captures) == (2, [])


def test_without_a_gradient_the_plain_step_runs(
    place: str, plain: list[int], captures: list[tuple[int, ...]]
) -> None:
    loss = GraphedStep(llm_on(place))(*batch([20], [5], place))
    assert not loss.requires_grad
    assert (len(plain), captures) == (1, [])


@pytest.mark.parametrize("kind", ["learning", "fixed", "fixed, on the head", "bias"])
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")  # peft's, of a tied head
def test_adapters_or_another_head_take_the_plain_step(
    place: str, plain: list[int], captures: list[tuple[int, ...]], kind: str
) -> None:
    llm = llm_on(place)
    step = GraphedStep(llm)
    inputs = batch([20], [5], place)
    before = run(step, *inputs)
    assert (len(plain), len(captures)) == (0, 1)
    if kind == "bias":
        bias = torch.randn(llm.base.lm_head.out_features, device=place)
        llm.base.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    else:
        target = "lm_head" if "head" in kind else "in_proj"
        inject_adapter_in_model(LoraConfig(r=2, target_modules=[target]), llm.model)
        for name, parameter in llm.base.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
            if "fixed" in kind:
                parameter.requires_grad_(False)
    after = run(step, *inputs)
    assert len(plain) == 1
    assert (after[0] - before[0]).abs() > 1e-3
    if kind == "learning":
        learned = [p.grad for n, p in llm.base.named_parameters() if "lora_A" in n]
        assert all(g is not None and g.abs().max() > 0 for g in learned)


# Buckets.


@given(st.integers(1, 100_000), st.integers(0, 3000))
def test_buckets_hold_their_length_in_order_and_waste_little(length: int, more: int) -> None:
    size = bucket(length)
    assert size >= length
    assert bucket(length + more) >= size
    assert bucket(size) == size
    assert size % 32 == 0
    assert size - length < max(32, length / 8)


def test_few_buckets_hold_all_lengths() -> None:
    assert len({bucket(n) for n in range(1, 1024)}) == 32
    assert len({bucket(n) for n in range(1024, 65_536)}) < 200
    assert bucket(0) == 32  # no answer at all
