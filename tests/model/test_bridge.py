from dataclasses import replace

import pytest
import torch

from ctscribe.model.bridge import Bridge, BridgeConfig, VimBlock
from ctscribe.model.pooling import Pooled

CONFIG = BridgeConfig(input_width=30, width=32, layers=2, tokens=6, llm_width=24, dropout=0.0)


def pooled(batch: int = 3, seed: int = 0) -> Pooled:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, CONFIG.tokens, CONFIG.input_width, generator=generator)
    return Pooled(features, torch.randn(batch, CONFIG.tokens, 3, generator=generator) * 80)


@pytest.mark.parametrize("kind", ["vim", "transformer", "mlp"])
def test_every_kind_trains_every_parameter(kind: str) -> None:
    torch.manual_seed(0)
    bridge = Bridge(BridgeConfig(**{**CONFIG.__dict__, "kind": kind}))
    tokens, hidden = bridge(pooled())
    assert tokens.shape == (3, 6, 24)
    assert hidden.shape == (3, 6, 32)
    (tokens.square().mean() + (tokens * torch.randn_like(tokens)).sum()).backward()
    still = [n for n, p in bridge.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_a_query_a_slot_reads_rows_that_are_none() -> None:
    """Slots stand first, each finds the row that matters to it, wherever that lies."""
    torch.manual_seed(0)
    bridge = Bridge(replace(CONFIG, slots=4, kind="mlp"))
    seen = pooled()
    tokens, hidden = bridge(seen)
    assert tokens.shape == (3, 4 + CONFIG.tokens, 24)
    assert torch.equal(hidden[:, 4:], without(bridge)(seen)[1])
    assert bridge.slots is not None
    (tokens * torch.randn_like(tokens)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in bridge.slots.parameters())
    with torch.no_grad():
        bridge.slots.queries.copy_(50 * hidden[0, 4:8])
        bridge.slots.row.zero_()
    found = bridge(seen)[1]
    norm = torch.nn.functional.normalize
    torch.testing.assert_close(norm(found[0, :4], dim=-1), norm(hidden[0, 4:8], dim=-1))


def without(bridge: Bridge) -> Bridge:
    """The same bridge, without the rows of slots."""
    plain = Bridge(replace(bridge.config, slots=0))
    plain.load_state_dict({k: v for k, v in bridge.state_dict().items() if k[:5] != "slots"})
    return plain


def test_information_flows_both_ways() -> None:
    torch.manual_seed(0)
    block = VimBlock(16, 8).double()
    x = torch.randn(1, 7, 16, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(block(x)[0, 3].sum(), x)[0][0]
    assert (gradient.abs().sum(1) > 0).all()


def test_tokens_start_at_the_language_models_scale() -> None:
    bridge = Bridge(CONFIG)
    bridge.fit_scale(0.013)
    tokens, _ = bridge(pooled())
    assert tokens.square().mean().sqrt().item() == pytest.approx(0.013, rel=0.05)


def test_position_in_millimetres_matters() -> None:
    torch.manual_seed(0)
    bridge = Bridge(CONFIG)
    here = pooled()
    there = Pooled(here.features, here.position_mm + 15)
    assert not torch.allclose(bridge(here)[0], bridge(there)[0], atol=1e-3)


def test_every_row_is_standardised_by_itself() -> None:
    """A litre in one row and a millimetre in another weigh the same; an outlier cannot blow up."""
    torch.manual_seed(0)
    bridge = Bridge(CONFIG)
    train = pooled(50)
    unit = torch.logspace(-2, 4, CONFIG.tokens)[None, :, None]
    bridge.fit_input(train)
    expected = bridge(train)[0]
    scaled = Pooled(train.features * unit + 7, train.position_mm)
    bridge.fit_input(scaled)
    assert torch.allclose(bridge(scaled)[0], expected, atol=1e-2)
    far = Pooled(train.features + 1e9, train.position_mm)
    farther = Pooled(train.features + 2e9, train.position_mm)
    assert torch.equal(bridge(far)[0], bridge(farther)[0])
