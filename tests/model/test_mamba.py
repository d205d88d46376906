from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from ctscribe.model.decoder import MambaDecoder
from ctscribe.model.mamba import ScanMixer, is_mamba, use_our_mixers
from tests.model import tiny_families
from tests.model.tiny import stock_mamba


def both(**options: Any) -> tuple[Any, Any]:
    stock = stock_mamba(**options)
    ours = copy.deepcopy(stock)
    assert use_our_mixers(ours) == 2
    return stock, ours


pair = cache(lambda name: both(name=name))  # for those that change nothing


@pytest.fixture(params=["Mamba", "FalconMamba"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def chunked(model: Any, ids: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    """Logits (B, L, V), computed piece by piece through transformers' cache."""
    names: dict[str, Any] = {"use_cache": True}
    parts = []
    with torch.no_grad():
        for part in torch.tensor_split(ids, cuts, dim=1):
            out = model(part, **names)
            # Before 5.20 it was called cache_params.
            key = "cache" if getattr(out, "cache", None) is not None else "cache_params"
            names = {key: out[key], "use_cache": True}
            parts.append(out.logits)
    return torch.cat(parts, 1)


@pytest.mark.parametrize("use_bias", [False, True])
def test_logits_and_gradients_equal_transformers_own_with_left_padding(
    use_bias: bool, name: str
) -> None:
    stock, ours = both(use_bias=use_bias, name=name)
    torch.manual_seed(1)
    embeds = torch.randn(3, 19, 24)
    mask = torch.ones(3, 19, dtype=torch.long)
    mask[0, :7], mask[2, :1] = 0, 0
    results = []
    for model in (stock, ours):
        x = embeds.clone().requires_grad_()
        logits = model(inputs_embeds=x, attention_mask=mask, use_cache=False).logits
        (logits * mask[..., None]).square().mean().backward()
        results.append((logits * mask[..., None], x.grad, dict(model.named_parameters())))
    (a, ga, pa), (b, gb, pb) = results
    torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gb, ga, rtol=1e-4, atol=1e-7)
    assert pa.keys() == pb.keys()
    for name in pa:
        torch.testing.assert_close(pb[name].grad, pa[name].grad, rtol=1e-3, atol=1e-6)


@given(cuts=st.sets(st.integers(1, 16)).map(sorted))
@hypothesis_settings(max_examples=12, deadline=None)
@pytest.mark.parametrize("family", ["Mamba", "FalconMamba"])
def test_a_prompt_cut_anywhere_goes_on_from_its_state(family: str, cuts: list[int]) -> None:
    stock, ours = pair(family)
    ids = torch.randint(2, 200, (2, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = stock(ids, use_cache=False).logits
    torch.testing.assert_close(chunked(ours, ids, cuts), whole, rtol=1e-5, atol=1e-5)


def test_cached_steps_after_a_padded_prompt_equal_transformers_own(name: str) -> None:
    stock, ours = both(name=name)
    ids = torch.randint(2, 200, (2, 9), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "output_logits": True}
    options |= {"return_dict_in_generate": True, "attention_mask": mask, "eos_token_id": None}
    wanted, got = (model.generate(ids, **options) for model in (stock, ours))
    assert torch.equal(got.sequences, wanted.sequences)
    torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-5, atol=1e-5)


def test_decoder_equals_the_whole_sequence(name: str) -> None:
    stock, ours = both(name=name)
    torch.manual_seed(2)
    embeds = torch.randn(2, 12, 24)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, :4] = 0
    decoder = MambaDecoder(ours)
    with torch.no_grad():
        whole = stock(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
    logits, state = decoder.prefill(embeds[:, :8], mask[:, :8])
    torch.testing.assert_close(logits, whole[:, 7], rtol=1e-5, atol=1e-5)
    for t in range(8, 12):
        logits = decoder.step(embeds[:, t], state)
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own call
def test_lora_gives_transformers_logits_and_gradients(name: str) -> None:
    ids = torch.arange(2, 12)[None]
    stock, ours = both(name=name)
    before = ours(ids, use_cache=False).logits.detach()
    results = []
    for model in (stock, ours):
        logits, learned = through_lora(model, ["in_proj", "x_proj"], ids, before)
        results.append((logits, learned))
    (a, ga), (b, gb) = results
    torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)
    assert len(gb) == 2 * 2 * 2
    for key in gb:
        torch.testing.assert_close(gb[key], ga[key], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own call
def test_lora_on_dt_proj_learns_too(name: str) -> None:
    """transformers' own mixer takes the wrapped layer's weight alone, and leaves LoRA out."""
    _, ours = both(name=name)
    ids = torch.arange(2, 12)[None]
    before = ours(ids, use_cache=False).logits.detach()
    _, learned = through_lora(ours, ["dt_proj"], ids, before)
    assert len(learned) == 2 * 2


def through_lora(
    model: Any, parts: list[str], ids: torch.Tensor, before: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits with a random LoRA, the same at every call, and the gradients it gets."""
    lora: Any = get_peft_model(model, LoraConfig(r=2, target_modules=parts))
    with torch.no_grad():  # a fresh one changes nothing
        torch.testing.assert_close(lora(ids, use_cache=False).logits, before)
    torch.manual_seed(5)
    for key, parameter in lora.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    logits = lora(ids, use_cache=False).logits
    assert (logits - before).abs().max() > 1e-3
    logits.square().mean().backward()
    learned = {n: p.grad for n, p in lora.named_parameters() if p.grad is not None}
    assert all("lora" in key and grad.abs().max() > 0 for key, grad in learned.items())
    return logits, learned


def test_bf16_stays_near_fp32_and_near_transformers_own(name: str) -> None:
    stock, ours = both(name=name)
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        wanted = ours(ids, use_cache=False).logits
        got, theirs = (m.bfloat16()(ids, use_cache=False).logits for m in (ours, stock))
    assert (got - wanted).norm() / wanted.norm() < 0.03
    assert (got - theirs).norm() / theirs.norm() < 0.03


def test_only_mamba_is_taken_for_mamba_and_other_activations_are_refused(name: str) -> None:
    stock = stock_mamba(name=name)
    assert is_mamba(stock)
    assert not is_mamba(tiny_families.stock("Mamba2"))
    assert not is_mamba(torch.nn.Linear(1, 1))
    stock.backbone.layers[0].mixer.activation = "gelu"
    with pytest.raises(ValueError, match="hidden_act must be silu"):
        ScanMixer(stock.backbone.layers[0].mixer)
