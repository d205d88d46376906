"""Runners: kept for the next batch, used by one at a time, dropped when the model changes.

No graph is captured here: what is captured on CUDA is the function that these tests run.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from ctscribe.generation import graph
from ctscribe.generation.decode import generate, stream
from ctscribe.generation.graph import Runner, fingerprint, forget_graphs
from ctscribe.model.decoder import MambaState
from ctscribe.model.llm import LLM
from tests.generation.ending import ending_pair, random_prompts


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Runner]:
    """Treats the CPU as a device with graphs; lists the runners that are made."""
    made: list[Runner] = []
    monkeypatch.setattr(graph, "_can_capture", lambda llm: True)
    monkeypatch.setattr(Runner, "_capture", lambda self: made.append(self))
    return made


def idle(llm: LLM) -> list[Runner]:
    return [running for _, running in graph._idle.get(llm, [])]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "top_p": 0.9},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
    {"num_beams": 3, "repetition_penalty": 1.4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_runner_used_before_writes_as_a_new_one(
    kept: list[Runner], options: dict[str, Any]
) -> None:
    _, llm = ending_pair(2, eagerness=9)
    first, second = random_prompts(1, 3, 5), random_prompts(2, 3, 2)
    fresh = generate(llm, *second, max_new_tokens=25, cuda_graph=False, **options)
    assert not kept
    generate(llm, *first, max_new_tokens=30, **options)
    assert generate(llm, *second, max_new_tokens=25, **options) == fresh
    assert len(kept) == 1
    assert idle(llm) == kept


def test_runners_are_kept_for_two_shapes_and_forgotten_on_demand(kept: list[Runner]) -> None:
    _, llm = ending_pair(2)
    for texts in (3, 2, 3, 2, 1):
        generate(llm, *random_prompts(1, texts, 4), max_new_tokens=4)
    assert len(kept) == 3
    assert [len(r.state.conv[0]) for r in idle(llm)] == [2, 1]
    generate(llm, *random_prompts(1, 1, 4), max_new_tokens=256, seed=5)
    assert len(kept) == 3
    generate(llm, *random_prompts(1, 1, 4), max_new_tokens=257)
    assert len(kept) == 4
    forget_graphs(llm)
    assert idle(llm) == []


def test_a_runner_in_use_is_nobody_elses(kept: list[Runner]) -> None:
    _, llm = ending_pair(2, eagerness=-99)
    prompt, other = random_prompts(1, 1, 4), random_prompts(2, 1, 4)
    whole = generate(llm, *prompt, max_new_tokens=30)[0]
    pieces = stream(llm, *prompt, max_new_tokens=30)
    text = next(pieces)
    generate(llm, *other, max_new_tokens=30)
    assert len(kept) == 2
    assert text + "".join(pieces) == whole.text
    assert len(idle(llm)) == 2


@pytest.mark.parametrize("change", ["in place", "moved", "training"])
def test_a_changed_model_gets_new_runners(kept: list[Runner], change: str) -> None:
    _, llm = ending_pair(2)
    prompts = random_prompts(1, 2, 4)
    generate(llm, *prompts, max_new_tokens=8)
    weight = llm.base.backbone.layers[0].mixer.A_log
    if change == "in place":
        weight.add_(1.0)
    elif change == "moved":
        weight.data = weight.data + 1.0
    else:
        llm.base.backbone.layers[1].train()
    out = generate(llm, *prompts, max_new_tokens=8)
    assert len(kept) == 2
    assert idle(llm) == kept[1:]
    assert out == generate(llm, *prompts, max_new_tokens=8, cuda_graph=False)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own call
def test_adapters_change_the_fingerprint() -> None:
    import peft

    _, llm = ending_pair(2)
    seen = {fingerprint(llm.model)}
    config = peft.LoraConfig(r=2, target_modules=["in_proj"])
    llm.model = peft.get_peft_model(llm.base, config)
    seen.add(fingerprint(llm.model))
    with llm.model.disable_adapter():
        seen.add(fingerprint(llm.model))
    llm.model.merge_adapter()
    seen.add(fingerprint(llm.model))
    assert len(seen) == 4
    assert fingerprint(llm.model) in seen


def test_a_dropped_model_takes_its_runners_along(kept: list[Runner]) -> None:
    _, llm = ending_pair(2)
    generate(llm, *random_prompts(1, 2, 4), max_new_tokens=3)
    gone = weakref.ref(llm), weakref.ref(kept[0])
    kept.clear()
    del llm
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("every", [1, 2, 3, 16])
def test_looking_late_changes_no_token(
    monkeypatch: pytest.MonkeyPatch, every: int, options: dict[str, Any]
) -> None:
    """As on CUDA: the host sees a block only after the next one has been enqueued."""
    _, llm = ending_pair(0)
    prompts = random_prompts(5, 1 if every == 2 else 3, 4)
    limits = (1, 2, 3, 15, 16, 17, 33)
    plain = [generate(llm, *prompts, max_new_tokens=n, **options) for n in limits]
    monkeypatch.setattr(graph, "_pace", lambda device, _: (every, 1))
    assert [generate(llm, *prompts, max_new_tokens=n, **options) for n in limits] == plain


def test_the_host_stops_soon_after_the_last_text_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    _, llm = ending_pair(0, eagerness=10)
    prompts = random_prompts(0, 3, 4)
    longest = max(len(t.tokens) for t in generate(llm, *prompts, max_new_tokens=40)) + 1
    assert longest < 40
    steps = []
    real = Runner.step
    monkeypatch.setattr(Runner, "step", lambda self: steps.append(1) or real(self))
    generate(llm, *prompts, max_new_tokens=200)
    assert len(steps) == longest - 1
    steps.clear()
    monkeypatch.setattr(graph, "_pace", lambda device, every: (every, 1))
    generate(llm, *prompts, max_new_tokens=200)
    assert longest - 1 <= len(steps) < longest + 32
    steps.clear()
    generate(llm, *prompts, max_new_tokens=200, num_beams=2)
    assert len(steps) < 100


def test_rows_of_a_state_are_taken_in_any_order_also_from_itself() -> None:
    values = torch.arange(4.0)
    state = MambaState([values.reshape(4, 1, 1).clone()], [values.reshape(4, 1, 1).repeat(1, 2, 3)])
    state.take_(state, torch.tensor([3, 3, 0, 1]))
    assert state.conv[0].flatten().tolist() == [3, 3, 0, 1]
    assert state.scan[0][:, 1, 2].tolist() == [3, 3, 0, 1]
    wide = state.allocate(2)
    assert (wide.scan[0].shape, wide.scan[0].sum()) == ((2, 2, 3), 0)
    wide.take_(state, torch.tensor([2, 0]))
    assert wide.conv[0].flatten().tolist() == [0, 3]
