"""The frozen Mamba as one function: transformers' own hidden states and gradient of the input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import Tensor

from ctscribe.model import decoder as decoders
from ctscribe.model import frozen as frozen_module
from ctscribe.model.decoder import MambaDecoder
from ctscribe.model.frozen import FrozenMamba
from ctscribe.model.llm import LLM
from ctscribe.model.mamba import use_our_mixers
from ctscribe.ops import causal_conv, cuda
from tests.model.tiny import stock_mamba, tokenizer
from tests.ops.emulator import emulated, needs_emulator

WIDTH = 24
MASKS = ("none", "left", "right", "both")
SHAPES = [(1, 1), (1, 2), (3, 3), (1, 19), (3, 40), (2, 70)]
PLACES = [
    "cpu",
    pytest.param("emulated", marks=needs_emulator),
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not cuda.available(), reason=f"{cuda.why_not()}")
    ),
]


def frozen_pair(**options: Any) -> tuple[Any, Any]:
    """transformers' own and ours, same weights, frozen."""
    stock = stock_mamba(**options).requires_grad_(False)
    ours = copy.deepcopy(stock)
    use_our_mixers(ours)
    return stock, ours


pair = cache(frozen_pair)  # for those that change nothing


@cache
def on_device(place: str) -> FrozenMamba:
    return FrozenMamba(copy.deepcopy(pair()[1]).to(place))


def mask_of(kind: str, batch: int, length: int) -> Tensor | None:
    """Every sequence is padded otherwise; `both`: on both sides."""
    if kind == "none":
        return None
    mask = torch.ones(batch, length, dtype=torch.long)
    for b, row in enumerate(mask):
        few = (b + 1) * length // (batch + 2)
        if kind in ("left", "both"):
            row[: few // (1 + (kind == "both"))] = 0
        if kind in ("right", "both"):
            row[length - few // (1 + (kind == "both")) :] = 0
    return mask


def inputs(
    batch: int, length: int, kind: str, seed: int = 1
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Embeddings, mask, and what the hidden states are weighed with: zero at padding."""
    g = torch.Generator().manual_seed(seed)
    embeds, weigh = (torch.randn(batch, length, WIDTH, generator=g) for _ in range(2))
    mask = mask_of(kind, batch, length)
    return embeds, mask, weigh if mask is None else weigh * mask[..., None]


def run(hidden_of: Callable[[Tensor], Tensor], embeds: Tensor, weigh: Tensor) -> list[Tensor]:
    x = embeds.clone().requires_grad_()
    hidden = hidden_of(x)
    (grad,) = torch.autograd.grad((hidden * weigh).sum(), x)
    return [hidden.detach(), grad]


def away(got: Tensor, wanted: Tensor) -> float:
    """Relative, in norm."""
    return float((got.double().cpu() - wanted.double()).norm() / wanted.double().norm())


def theirs(model: Any, embeds: Tensor, mask: Tensor | None, weigh: Tensor) -> list[Tensor]:
    return run(
        lambda x: (
            model.backbone(inputs_embeds=x, attention_mask=mask, use_cache=False).last_hidden_state
        ),
        embeds,
        weigh,
    )


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device; with `emulated` the CPU, with its tensors going to the kernels."""
    if request.param == "emulated":
        with emulated():
            yield "cpu"
    else:
        yield request.param


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize(("batch", "length"), SHAPES)
def test_hidden_states_and_gradient_equal_transformers_own(
    place: str, batch: int, length: int, kind: str
) -> None:
    embeds, mask, weigh = inputs(batch, length, kind)
    seen = torch.ones(batch, length, 1) if mask is None else mask[..., None]
    wanted = theirs(pair()[0], embeds, mask, weigh)
    where = None if mask is None else mask.to(place)
    for lean in (False, True):
        got = run(
            lambda x, lean=lean: on_device(place)(x, where, lean=lean),
            embeds.to(place),
            weigh.to(place),
        )
        near = 1e-5 if place == "cpu" else 5e-5  # the kernels' exp is good to 2^-22
        assert away(got[0].cpu() * seen, wanted[0] * seen) < near
        assert away(got[1], wanted[1]) < 2 * near
        assert got[1].isfinite().all()


@given(batch=st.integers(1, 4), length=st.integers(1, 90), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_any_padding_is_as_if_each_sequence_stood_alone(batch: int, length: int, seed: int) -> None:
    embeds, _, weigh = inputs(batch, length, "none", seed)
    g = torch.Generator().manual_seed(seed)
    bounds = torch.randint(0, length + 1, (batch, 2), generator=g).sort(1)[0].tolist()
    mask = torch.zeros(batch, length, dtype=torch.bool)
    for b, (start, stop) in enumerate(bounds):
        mask[b, start:stop] = True
    model = on_device("cpu")
    hidden, grad = run(lambda x: model(x, mask), embeds, weigh * mask[..., None])
    for b, (start, stop) in enumerate(bounds):
        if start == stop:
            assert not grad[b].any()
            continue
        part = slice(start, stop)
        alone = run(lambda x: model(x, None), embeds[b : b + 1, part], weigh[b : b + 1, part])
        torch.testing.assert_close(hidden[b, part], alone[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(grad[b, part], alone[1][0], rtol=1e-4, atol=1e-5)
        grad[b, part] = 0
    assert not grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("batch", "length"), [(1, 5), (2, 37), (2, 600)])
def test_lean_is_the_default_bit_by_bit(
    place: str, batch: int, length: int, dtype: torch.dtype
) -> None:
    model = FrozenMamba(copy.deepcopy(pair()[1]).to(place, dtype))
    embeds, mask, weigh = inputs(batch, length, "left")
    embeds, weigh = (x.to(place, dtype) for x in (embeds, weigh))
    where = None if mask is None else mask.to(place)
    kept, again = (
        run(lambda x, lean=lean: model(x, where, lean=lean), embeds, weigh)
        for lean in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_bf16_is_as_near_fp32_as_transformers_own(place: str) -> None:
    embeds, mask, weigh = inputs(2, 50, "right")
    wanted = theirs(pair()[0], embeds, mask, weigh)
    seen = mask[..., None]
    narrow = [m.bfloat16() for m in frozen_pair()]
    model = FrozenMamba(narrow[1].to(place))
    half = [embeds.bfloat16(), weigh.bfloat16()]
    stock = theirs(narrow[0], half[0], mask, half[1])
    got = run(lambda x: model(x, mask.to(place)), half[0].to(place), half[1].to(place))
    for mine, other, exact in zip(got, stock, wanted, strict=True):
        error = away(mine.float().cpu() * seen, exact * seen)
        assert error < 1.2 * away(other.float() * seen, exact * seen)
        assert 0 < error < 0.05


def test_without_a_gradient_nothing_is_kept_and_inputs_stay_as_they_were(place: str) -> None:
    model = on_device(place)
    embeds, _, weigh = inputs(2, 30, "none")
    embeds = embeds.to(place)
    before = embeds.clone()
    plain = model(embeds, None)
    assert not plain.requires_grad
    with torch.no_grad():
        assert torch.equal(model(embeds.clone().requires_grad_(), None), plain)
    hidden, _ = run(lambda x: model(x, None), embeds, weigh.to(place))
    assert torch.equal(hidden, plain)
    assert torch.equal(embeds, before)


def test_only_the_embeddings_get_a_gradient_and_a_part_of_them_may_be_fixed() -> None:
    _, ours = frozen_pair()
    model = FrozenMamba(ours)
    embeds, _, weigh = inputs(2, 12, "none")
    visual = embeds[:, :5].clone().requires_grad_()
    hidden = model(torch.cat([visual, embeds[:, 5:]], 1), None)
    (hidden * weigh).sum().backward()
    whole = run(lambda x: model(x, None), embeds, weigh)[1]
    assert torch.equal(visual.grad, whole[:, :5])
    assert all(p.grad is None for p in ours.parameters())


def transposed(x: Tensor) -> Tensor:
    """The same values, W in the slowest place."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("batch", [1, 2])
def test_inputs_and_gradients_of_another_layout(place: str, batch: int) -> None:
    model = on_device(place)
    embeds, mask, weigh = (x.to(place) for x in inputs(batch, 21, "left"))
    wanted = run(lambda x: model(x, mask), embeds, weigh)
    x = transposed(embeds).requires_grad_()
    room = torch.zeros(batch, 40, dtype=torch.bool, device=place)
    room[:, 9:30] = mask
    hidden = model(x, room[:, 9:30])
    hidden.backward(transposed(weigh))
    assert torch.equal(hidden.detach(), wanted[0])
    torch.testing.assert_close(x.grad, wanted[1], rtol=1e-5, atol=1e-6)
    last = model.prefill(embeds, mask)[0]
    assert torch.equal(model.prefill(transposed(embeds), room[:, 9:30])[0], last)


def test_what_the_kernels_get_is_contiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take addresses: on a CPU another layout would go unnoticed."""
    seen = []

    def checked(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            tensors = [a for a in args if isinstance(a, Tensor)]
            seen.append(len(tensors))
            assert all(t.is_contiguous() for t in tensors)
            return function(*args, **options)

        return call

    plain = causal_conv.plain

    def conv(x: Tensor, w: Tensor, b: Any, initial: Any, mask: Any, active: bool) -> Tensor:
        assert mask.is_contiguous()
        return plain(x, w, b, initial, mask, active)

    for name in ("norm_forward", "norm_backward"):
        monkeypatch.setattr(frozen_module, name, checked(getattr(frozen_module, name)))
    monkeypatch.setattr(causal_conv, "plain", conv)
    model = on_device("cpu")
    embeds, mask, weigh = inputs(1, 21, "left")
    room = torch.zeros(3, 40, dtype=torch.bool)
    room[:, 9:30] = mask
    for layout in (transposed(embeds), embeds.expand(3, 21, WIDTH)):
        x = layout.detach().requires_grad_()
        model(x, room[: len(x), 9:30]).backward(transposed(weigh.expand_as(x)))
        model.prefill(x, room[: len(x), 9:30])
    assert len(seen) > 10


# What is taken.


def test_takes_a_frozen_mamba_only() -> None:
    stock, ours = frozen_pair()
    assert FrozenMamba.takes(ours)
    assert not FrozenMamba.takes(stock)  # its mixers are not ours
    assert not FrozenMamba.takes(torch.nn.Linear(2, 2))
    assert FrozenMamba.takes(copy.deepcopy(ours).bfloat16())
    assert not FrozenMamba.takes(frozen_pair(use_bias=True)[1])
    assert not FrozenMamba.takes(frozen_pair(name="FalconMamba")[1])


@pytest.mark.parametrize(
    "name",
    ["backbone.embeddings.weight", "backbone.norm_f.weight", "backbone.layers.1.mixer.A_log"],
)
def test_takes_no_model_that_learns(name: str) -> None:
    _, ours = frozen_pair()
    ours.get_parameter(name).requires_grad_()
    assert not FrozenMamba.takes(ours)


def test_takes_no_block_that_computes_otherwise() -> None:
    _, ours = frozen_pair()
    ours.backbone.layers[1].residual_in_fp32 = False
    assert not FrozenMamba.takes(ours)
    _, ours = frozen_pair()
    ours.backbone.layers[0].mixer.dt_proj.float()
    ours.backbone.layers[0].mixer.x_proj.bfloat16()
    assert not FrozenMamba.takes(ours)
    _, ours = frozen_pair()
    ours.backbone.layers[1].mixer.x_proj = torch.nn.Sequential(ours.backbone.layers[1].mixer.x_proj)
    assert not FrozenMamba.takes(ours)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own call
@pytest.mark.parametrize("fixed", [False, True])
def test_takes_no_lora_learning_or_not(fixed: bool) -> None:
    _, ours = frozen_pair()
    get_peft_model(ours, LoraConfig(r=2, target_modules=["in_proj"]))
    if fixed:
        ours.requires_grad_(False)
    assert not FrozenMamba.takes(ours)


# The LLM's own: read anew when something changes.


@pytest.fixture
def llm() -> LLM:
    return LLM(frozen_pair()[1], tokenizer())


def hidden_of(llm: LLM) -> list[Tensor]:
    """By the frozen function, and by the layers themselves."""
    embeds, mask, _ = inputs(2, 9, "left")
    embeds = embeds.to(llm.base.lm_head.weight.dtype)
    with torch.no_grad():
        found = llm._hidden(embeds, mask)
        output = llm.base.backbone(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    return [found * mask[..., None], output.last_hidden_state * mask[..., None]]


def assign(llm: LLM) -> None:
    state = {k: v + 0.1 for k, v in llm.base.state_dict().items()}
    llm.base.load_state_dict(state, assign=True)
    llm.base.requires_grad_(False)


CHANGES: dict[str, Callable[[LLM], Any]] = {
    "A": lambda llm: llm.base.backbone.layers[1].mixer.A_log.add_(0.3),
    "norm": lambda llm: llm.base.backbone.layers[0].norm.weight.mul_(2),
    "last norm": lambda llm: llm.base.backbone.norm_f.weight.mul_(2),
    "in_proj": lambda llm: llm.base.backbone.layers[0].mixer.in_proj.weight.mul_(2),
    "conv bias": lambda llm: llm.base.backbone.layers[0].mixer.conv1d.bias.add_(1),
    "moved": lambda llm: setattr(
        llm.base.backbone.layers[0].mixer.D, "data", llm.base.backbone.layers[0].mixer.D.data + 1
    ),
    "loaded": lambda llm: llm.base.load_state_dict(
        {k: v + 0.1 for k, v in llm.base.state_dict().items()}
    ),
    "assigned": assign,
    "bf16": lambda llm: llm.base.bfloat16(),
    "another model": lambda llm: setattr(llm, "model", frozen_pair(layers=1)[1]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_llms_own_is_kept_until_something_changes(llm: LLM, change: str) -> None:
    known = llm.frozen
    assert known is not None
    assert llm.frozen is known
    before, _ = hidden_of(llm)
    assert llm.frozen is known
    CHANGES[change](llm)
    assert llm.frozen is not None
    assert llm.frozen is not known
    after, plain = hidden_of(llm)
    assert away(after.float(), plain.float()) < (0.02 if change == "bf16" else 1e-5)
    assert away(after.float(), before) > 1e-4
    assert llm.frozen is llm.frozen


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own call
@pytest.mark.parametrize("how", ["wrapped", "injected"])
@pytest.mark.parametrize("fixed", [False, True])
def test_lora_that_comes_later_is_not_missed(llm: LLM, how: str, fixed: bool) -> None:
    assert llm.frozen is not None
    before, _ = hidden_of(llm)
    config = LoraConfig(r=2, target_modules=["in_proj", "x_proj"])
    if how == "wrapped":
        llm.model = get_peft_model(llm.model, config)
    else:
        inject_adapter_in_model(config, llm.model)
    for name, parameter in llm.base.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
        if fixed:
            parameter.requires_grad_(False)
    assert llm.frozen is None
    after, plain = hidden_of(llm)
    assert torch.equal(after, plain)
    assert away(after, before) > 1e-3


def test_a_weight_that_learns_later_is_not_missed(llm: LLM) -> None:
    assert llm.frozen is not None
    weight = llm.base.backbone.layers[0].norm.weight.requires_grad_()
    assert llm.frozen is None
    weight.requires_grad_(False)
    assert llm.frozen is not None


# Memory.


def tensors_in(thing: Any) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from tensors_in(part)
    elif hasattr(thing, "__dict__"):
        yield from tensors_in(list(vars(thing).values()))


def size_of(tensors: Iterator[Tensor]) -> int:
    """Bytes of the memory behind them, each once."""
    return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}.values())


def kept_by(hidden: Tensor) -> int:
    step: Any = hidden.grad_fn
    return size_of(tensors_in([step.kept, step.last]))


def test_less_is_kept_than_autograd_keeps_and_lean_keeps_the_norms_alone(place: str) -> None:
    layers, batch, length = 3, 2, 700
    _, ours = frozen_pair(layers=layers)
    ours.to(place)
    embeds = inputs(batch, length, "none")[0].to(place)
    x = embeds.clone().requires_grad_()
    saved: list[Tensor] = []
    weights = {p.data_ptr() for p in ours.parameters()}

    def keep(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in weights:
            saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        ours.backbone(inputs_embeds=x, use_cache=False)
    plain = size_of(iter(saved))
    model = FrozenMamba(ours)
    default, lean = (kept_by(model(x, None, lean=lean)) for lean in (False, True))
    assert lean == (layers + 1) * batch * length * (WIDTH + 1) * 4
    block = model.blocks[0]
    wide, states, rank = len(block.D), block.states, block.rank
    a_token = 4 * (WIDTH + 1 + 3 * wide + rank + 2 * states) + 4 * wide * states // 16
    assert default < 1.1 * (layers * a_token + 4 * (WIDTH + 1)) * batch * length
    assert lean < default / 3
    assert default < 0.85 * plain


def test_what_is_kept_goes_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model = on_device("cpu")
    left: list[int] = []
    hidden = model(inputs(2, 30, "none")[0].requires_grad_(), None)
    step: Any = hidden.grad_fn
    real = frozen_module._unmix
    monkeypatch.setattr(
        frozen_module, "_unmix", lambda *args: left.append(len(step.kept)) or real(*args)
    )
    hidden.sum().backward()
    assert left == [1, 0]


# The prompt.


@cache
def decoder(place: str) -> MambaDecoder:
    made = MambaDecoder(copy.deepcopy(pair()[1]).to(place))
    assert made._frozen is not None
    return made


def close(one: Any, two: Any) -> None:
    """Logits and states."""
    for a, b in zip(
        tensors_in([one[0], vars(one[1])["conv"], vars(one[1])["scan"]]),
        tensors_in([two[0], vars(two[1])["conv"], vars(two[1])["scan"]]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("masked", [None, torch.long, torch.bool], ids=str)
def test_a_prompt_in_chunks_equals_one_piece(
    place: str, chunk: int, masked: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeds = inputs(3, 23, "none")[0].to(place)
    mask = torch.ones(3, 23, device=place)
    mask[1, :9], mask[2, :20] = 0, 0  # longer than most chunks
    where = None if masked is None else mask.to(masked)
    whole = decoder(place).prefill(embeds, where)
    monkeypatch.setattr(decoders, "PREFILL_CHUNK", chunk)
    close(decoder(place).prefill(embeds, where), whole)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize("padded", [0, 1, 6])
def test_prompts_shorter_than_the_filter(place: str, length: int, padded: int) -> None:
    stock = pair()[0]
    embeds = inputs(2, length + 2, "none")[0]
    with torch.no_grad():
        wanted = stock(inputs_embeds=embeds, use_cache=False).logits
    left = torch.cat([torch.full((2, padded, WIDTH), 9.0), embeds], 1).to(place)
    mask = torch.ones(2, length + padded, dtype=torch.long, device=place)
    mask[:, :padded] = 0
    logits, state = decoder(place).prefill(left[:, :-2], mask)
    torch.testing.assert_close(logits.cpu(), wanted[:, length - 1], rtol=1e-4, atol=1e-4)
    for t in (-2, -1):
        logits = decoder(place).step(left[:, t], state)
        torch.testing.assert_close(logits.cpu(), wanted[:, t], rtol=1e-4, atol=1e-4)
