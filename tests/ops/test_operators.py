"""To PyTorch the scan and the convolution are operators: opcheck, compile, autocast, checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ctscribe.model.bridge import VimBlock
from ctscribe.ops import backend, causal_conv, selective_scan
from tests.ops.cases import NAMES, laid_out, scan_inputs

OPTIONS: list[dict[str, Any]] = [
    {},
    {"left_out": ("D", "z", "dt_bias", "initial_state")},
    {"left_out": ("initial_state",), "layouts": {"u": "half", "B": "offset", "A": "transposed"}},
    {"dtype": torch.bfloat16},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("batch", [2, 0])
def test_opcheck_of_the_scan(place: torch.device, options: dict[str, Any], batch: int) -> None:
    given = {"dtype": torch.float32, "device": place, **options}
    values = scan_inputs(batch, 19, 12, 16, **given)
    name = backend.pick(place)
    tensors = [values.get(name) for name in NAMES]
    for required in (NAMES, ("u",), ()):
        leaves = [
            None if t is None else t.detach().requires_grad_(n in required)
            for n, t in zip(NAMES, tensors, strict=True)
        ]
        torch.library.opcheck(selective_scan._scan, (*leaves, True, False, bool(required), name))
    y, state, starts = selective_scan._scan(*tensors, True, False, True, name)
    # Gradients of y alone, of the state alone, of all and of few.
    all_of_them, few = [t is not None for t in tensors], [True] + [False] * 8
    for gy, gstate, needs in ((y, None, few), (None, state, all_of_them), (y, state, all_of_them)):
        args = (gy, gstate, starts, *tensors, True, False, needs, name)
        torch.library.opcheck(selective_scan._scan_backward, args)


@pytest.mark.parametrize("batch", [2, 0])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck_of_the_convolution(
    place: torch.device, batch: int, full: bool, dtype: torch.dtype
) -> None:
    x = laid_out(torch.randn(batch, 19, 12).to(dtype), "contiguous" if full else "half", place)
    weight = torch.randn(12, 4, device=place)
    bias = torch.randn(12, device=place) if full else None
    initial = torch.randn(batch, 3, 12, device=place).to(dtype) if full else None
    mask = torch.ones(batch, 19, device=place).bool() if full else None
    name = backend.pick(place)
    leaves = [
        None if t is None else t.detach().requires_grad_() for t in (x, weight, bias, initial)
    ]
    torch.library.opcheck(causal_conv._conv, (*leaves, mask, full, not full, name))
    gy = torch.randn_like(x)
    for needs in ([True, True, bias is not None, initial is not None], [True, False, False, False]):
        args = (gy, x, weight, bias, initial, mask, full, not full, needs, name)
        torch.library.opcheck(causal_conv._conv_backward, args)


def both(x: Tensor, weight: Tensor, A: Tensor, state: Tensor, past: Tensor) -> tuple[Tensor, ...]:
    """A layer of both operators, states in and out."""
    u, last = causal_conv.causal_conv1d(x, weight, initial_state=past, return_final_state=True)
    B, C = u[..., :16], u[..., 16:32]
    y, state = selective_scan.selective_scan(
        u, u * 0.1, A, B, C, z=x, initial_state=state, return_final_state=True
    )
    return y, state, last


def leaves_of_both(place: torch.device, length: int = 21) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    shapes = ((2, length, 40), (40, 4), (40, 16), (2, 40, 16), (2, 3, 40))
    leaves = [torch.randn(shape, generator=g) for shape in shapes]
    leaves[2] = -leaves[2].exp()
    return [leaf.to(place).requires_grad_() for leaf in leaves]


def results(function: Callable[..., tuple[Tensor, ...]], leaves: list[Tensor]) -> list[Tensor]:
    outputs = function(*leaves)
    for leaf in leaves:
        leaf.grad = None
    torch.stack([out.square().sum() for out in outputs]).sum().backward()
    return [*outputs, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def close(one: list[Tensor], two: list[Tensor]) -> None:
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_graph_break_equals_eager(place: torch.device, dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for length in (21, 34, 35):
        leaves = leaves_of_both(place, length)
        close(results(compiled, leaves), results(both, leaves))
    with torch.no_grad():
        leaves = leaves_of_both(place)
        close(list(compiled(*leaves)), list(both(*leaves)))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_equals_plain(place: torch.device, reentrant: bool) -> None:
    def again(*leaves: Tensor) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = checkpoint(both, *leaves, use_reentrant=reentrant)
        return out

    leaves = leaves_of_both(place)
    for one, two in zip(results(again, leaves), results(both, leaves), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("reentrant", [False, True])
def test_autocast_and_checkpoint_of_a_block(place: torch.device, reentrant: bool) -> None:
    torch.manual_seed(0)
    block = VimBlock(24, 16).to(place)
    x = torch.randn(2, 19, 24, device=place, requires_grad=True)
    parameters = [x, *block.parameters()]
    plain = torch.autograd.grad(block(x).square().sum(), parameters)
    with torch.autocast(place.type, dtype=torch.bfloat16):
        half = torch.autograd.grad(block(x).float().square().sum(), parameters)
        y = checkpoint(block, x, use_reentrant=True) if reentrant else block(x)
        y.float().square().sum().backward()
    for wanted, got, leaf in zip(plain, half, parameters, strict=True):
        error = (got - wanted).norm() / wanted.norm()
        assert error < 0.05
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, got)


def test_a_second_derivative_is_refused(place: torch.device) -> None:
    leaves = leaves_of_both(place)
    y, _, _ = both(*leaves)
    (grad,) = torch.autograd.grad(y.sum(), leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r"ctscribe.*(autograd|backward|formula)"):
        grad.sum().backward()


def test_inputs_stay_and_results_are_no_views_of_them(place: torch.device) -> None:
    leaves = leaves_of_both(place)
    before = [leaf.detach().clone() for leaf in leaves]
    y, state, _ = both(*leaves)
    grads = torch.autograd.grad((y.sum(), state.sum()), leaves)
    assert all(torch.equal(leaf, old) for leaf, old in zip(leaves, before, strict=True))
    storages = {leaf.untyped_storage().data_ptr() for leaf in leaves}
    for out in (y, state, *grads):
        assert out.untyped_storage().data_ptr() not in storages
