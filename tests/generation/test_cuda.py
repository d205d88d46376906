"""On a GPU: the captured step writes what the plain loop writes, without waiting for the host."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ctscribe.generation import graph
from ctscribe.generation.decode import generate, stream
from ctscribe.generation.graph import Runner, forget_graphs
from ctscribe.model.llm import LLM
from tests.generation.ending import ending_pair, random_prompts

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

OPTIONS: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "temperature": 1.3, "seed": 3},
    {"do_sample": True, "top_p": 0.8, "seed": 4},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 5},
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 2.0, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    {"do_sample": True, "top_p": 0.9, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
]


@pytest.fixture
def llm() -> Iterator[LLM]:
    llm = ending_pair(0, device="cuda")[1]
    yield llm
    forget_graphs(llm)


def on_gpu(seed: int, texts: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    embeds, mask = random_prompts(seed, texts, length)
    return embeds.cuda(), mask.cuda()


def captured(llm: LLM) -> int:
    kept = [running for _, running in graph._idle.get(llm, [])]
    assert all(running.graph is not None for running in kept)
    return len(kept)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_graph_writes_what_the_plain_loop_writes(llm: LLM, options: dict[str, Any]) -> None:
    for seed in (1, 2):  # the second time on the kept graph
        prompts = on_gpu(seed, 4, 6)
        for limit in (1, 2, 40):
            loop = generate(llm, *prompts, max_new_tokens=limit, cuda_graph=False, **options)
            assert generate(llm, *prompts, max_new_tokens=limit, **options) == loop
    assert captured(llm) == 1


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_stream_reads_along(llm: LLM, options: dict[str, Any]) -> None:
    if "num_beams" in options:
        pytest.skip("beams are known only at the end")
    prompt = on_gpu(5, 1, 4)
    plain = generate(llm, *prompt, max_new_tokens=40, cuda_graph=False, **options)[0]
    assert "".join(stream(llm, *prompt, max_new_tokens=40, **options)) == plain.text


def test_a_text_is_known_a_few_steps_after_it_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ending_pair(0, eagerness=-99, device="cuda")[1]
    steps: list[int] = []
    real = Runner.step

    def step(self: Runner) -> None:
        steps.append(1)
        real(self)

    monkeypatch.setattr(Runner, "step", step)
    pieces = stream(llm, *on_gpu(5, 1, 4), max_new_tokens=400)
    next(pieces)
    assert len(steps) < 40
    pieces.close()


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_step_makes_the_device_wait(llm: LLM, options: dict[str, Any]) -> None:
    prompts = on_gpu(1, 3, 6)
    options = {"max_new_tokens": 64} | options
    generate(llm, *prompts, **options)
    ((_, running),) = graph._idle[llm]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in running.follow(64, 16):
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_does_not_grow_with_the_length() -> None:
    llm = ending_pair(0, eagerness=-99, device="cuda")[1]
    prompts = on_gpu(1, 2, 6)
    peaks = []
    for limit in (256, 256, 8192):  # the first also loads what is loaded at first use
        forget_graphs(llm)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        out = generate(llm, *prompts, max_new_tokens=limit)
        assert [len(text.tokens) for text in out] == [limit, limit]
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[2] - peaks[1] < 1 << 20  # the tokens themselves are 128 KiB


def test_a_changed_weight_is_seen(llm: LLM) -> None:
    prompts = on_gpu(1, 3, 6)
    before = generate(llm, *prompts, max_new_tokens=20)
    llm.base.lm_head.weight.neg_()
    after = generate(llm, *prompts, max_new_tokens=20)
    assert after != before
    assert after == generate(llm, *prompts, max_new_tokens=20, cuda_graph=False)
    assert captured(llm) == 1


def test_other_streams_take_turns_on_one_graph(llm: LLM) -> None:
    prompts = [on_gpu(seed, 2, 6) for seed in range(6)]
    plain = [generate(llm, *p, max_new_tokens=30, cuda_graph=False) for p in prompts]
    torch.cuda.synchronize()
    for prompt, expected in zip(prompts, plain, strict=True):
        with torch.cuda.stream(torch.cuda.Stream()):
            assert generate(llm, *prompt, max_new_tokens=30) == expected
    assert captured(llm) == 1


def test_the_end_is_seen_within_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ending_pair(0, eagerness=10, device="cuda")[1]
    prompts = on_gpu(0, 3, 4)
    longest = max(len(t.tokens) for t in generate(llm, *prompts, max_new_tokens=64)) + 1
    assert longest < 64
    steps: list[int] = []
    real = Runner.step

    def step(self: Runner) -> None:
        steps.append(1)
        real(self)

    monkeypatch.setattr(Runner, "step", step)
    generate(llm, *prompts, max_new_tokens=256)
    assert len(steps) < longest + 32
