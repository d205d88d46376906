from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ctscribe.model.mamba import MambaDecoder, ScanMixer, is_mamba, use_our_mixers
from tests.model.tiny import stock_mamba


def both(**options: Any) -> tuple[Any, Any]:
    stock = stock_mamba(**options)
    ours = copy.deepcopy(stock)
    assert use_our_mixers(ours) == 2
    return stock, ours


@pytest.mark.parametrize("use_bias", [False, True])
def test_logits_and_gradients_equal_transformers_own_with_left_padding(use_bias: bool) -> None:
    stock, ours = both(use_bias=use_bias)
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


def test_chunked_prefill_goes_on_from_the_state_and_steps_follow() -> None:
    _, ours = both()
    ids = torch.randint(2, 200, (2, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = ours(ids, use_cache=False).logits
        names: dict[str, Any] = {"use_cache": True}
        parts = []
        for part in (ids[:, :6], ids[:, 6:8], ids[:, 8:15], ids[:, 15:16], ids[:, 16:]):
            out = ours(part, **names)
            key = "cache" if getattr(out, "cache", None) is not None else "cache_params"
            names = {key: out[key], "use_cache": True}
            parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


def test_decoder_equals_the_whole_sequence() -> None:
    _, ours = both()
    torch.manual_seed(2)
    embeds = torch.randn(2, 12, 24)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, :4] = 0
    decoder = MambaDecoder(ours)
    with torch.no_grad():
        whole = ours(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
    logits, state = decoder.prefill(embeds[:, :8], mask[:, :8])
    torch.testing.assert_close(logits, whole[:, 7], rtol=1e-5, atol=1e-5)
    for t in range(8, 12):
        logits = decoder.step(embeds[:, t], state)
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own call
def test_lora_changes_the_output_through_our_mixers() -> None:
    _, ours = both()
    ids = torch.arange(2, 12)[None]
    before = ours(ids, use_cache=False).logits.detach()
    lora = get_peft_model(ours, LoraConfig(r=2, target_modules=["in_proj", "x_proj", "dt_proj"]))
    torch.testing.assert_close(lora(ids, use_cache=False).logits, before)
    for name, parameter in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    logits = lora(ids, use_cache=False).logits
    assert (logits - before).abs().max() > 1e-3
    logits.sum().backward()
    learned = {n for n, p in lora.named_parameters() if p.grad is not None}
    for part in ("in_proj", "x_proj", "dt_proj"):
        assert any(f"{part}.lora_A" in name for name in learned), part
    assert all("lora" in name for name in learned)


def test_bf16_stays_near_fp32() -> None:
    _, ours = both()
    ids = torch.arange(2, 40)[None]
    wanted = ours(ids, use_cache=False).logits
    got = copy.deepcopy(ours).bfloat16()(ids, use_cache=False).logits
    assert (got - wanted).norm() / wanted.norm() < 0.03


def test_only_mamba_is_taken_for_mamba_and_other_activations_are_refused() -> None:
    stock = stock_mamba()
    assert is_mamba(stock)
    assert not is_mamba(torch.nn.Linear(1, 1))
    stock.backbone.layers[0].mixer.activation = "gelu"
    with pytest.raises(ValueError, match="hidden_act must be silu"):
        ScanMixer(stock.backbone.layers[0].mixer)
