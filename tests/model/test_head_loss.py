"""Cross-entropy a chunk of logits at a time, against PyTorch's on all logits at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from ctscribe.model import head_loss
from ctscribe.model.head_loss import IGNORED, head_cross_entropy


def case(rows: int, width: int, words: int, ignored: float, seed: int) -> tuple[Tensor, ...]:
    """Hidden states, the head's weight, and targets of which a share is ignored, never all."""
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=g)
    weight = torch.randn(words, width, generator=g)
    targets = torch.randint(0, words, (rows,), generator=g)
    left_out = torch.rand(rows, generator=g) < ignored
    left_out[int(torch.randint(0, rows, (), generator=g))] = False
    return hidden, weight, targets.masked_fill(left_out, IGNORED)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy((hidden @ weight.T).float(), targets, ignore_index=IGNORED)


def both(loss_of: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of three times the loss."""
    x = hidden.clone().requires_grad_()
    loss = loss_of(x, weight, targets)
    (3 * loss).backward()
    assert x.grad is not None
    return loss.detach(), x.grad


@given(
    rows=st.integers(1, 20),
    width=st.integers(1, 40),
    words=st.integers(1, 300),
    ignored=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    chunk=st.sampled_from([1, 3, 7, head_loss.CHUNK]),
    seed=st.integers(0, 1000),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_loss_and_gradient_are_those_of_all_logits_at_once(
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    width: int,
    words: int,
    ignored: float,
    chunk: int,
    seed: int,
) -> None:
    monkeypatch.setattr(head_loss, "CHUNK", chunk)
    args = case(rows, width, words, ignored, seed)
    loss, grad = both(head_cross_entropy, *args)
    exact = both(plain, args[0].double(), args[1].double(), args[2])
    torch.testing.assert_close(loss, exact[0].float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, exact[1].float(), rtol=1e-4, atol=1e-5)
    assert not grad[args[2] == IGNORED].any()
    assert torch.equal(head_cross_entropy(*args), loss)  # without a gradient


def test_sums_of_16_bits_are_taken_in_fp32() -> None:
    hidden, weight, targets = case(700, 32, 500, 0.2, 0)
    half = hidden.bfloat16(), weight.bfloat16(), targets
    loss, grad = both(head_cross_entropy, *half)
    assert (loss.dtype, grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(loss, plain(*half), rtol=1e-6, atol=0)
    _, exact = both(plain, half[0].float(), half[1].float(), targets)
    assert (grad - exact).norm() / exact.norm() < 0.01


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, targets = case(5, 8, 30, 0.0, 2)
    args = hidden * 1e3, weight * 1e3, targets
    for got, exact in zip(both(head_cross_entropy, *args), both(plain, *args), strict=True):
        assert got.isfinite().all()
        torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-3)


def test_nothing_to_predict_is_nan_as_in_pytorch() -> None:
    hidden, weight, targets = case(4, 8, 30, 0.0, 2)
    nothing = torch.full_like(targets, IGNORED)
    assert head_cross_entropy(hidden, weight, nothing).isnan()
    assert plain(hidden, weight, nothing).isnan()
    assert head_cross_entropy(hidden[:0], weight, targets[:0]).isnan()


class Largest(TorchDispatchMode):
    """The largest result of any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_never_more_than_a_chunk_of_logits(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(head_loss, "CHUNK", chunk)
    words = 1000
    hidden, weight, targets = case(50, 1, words, 0.2, 0)  # the weight is no larger than a row
    x = hidden.requires_grad_()
    with Largest() as seen:
        loss = head_cross_entropy(x, weight, targets)
        loss.backward()
    assert seen.numbers == chunk * words
    step: Any = loss.grad_fn
    kept = [v for v in vars(step).values() if isinstance(v, Tensor)]
    assert sum(t.numel() for t in kept) <= x.numel() + 1  # its gradient, and a count
    with Largest() as everything:
        plain(x, weight, targets)
    assert everything.numbers == 50 * words  # the count does see logits


def test_a_weight_that_learns_is_refused() -> None:
    hidden, weight, targets = case(4, 8, 30, 0.0, 2)
    with pytest.raises(ValueError, match="weight must be frozen"):
        head_cross_entropy(hidden, weight.requires_grad_(), targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("words", [1, 7, 709, 1024, 50_280])
def test_kernels_give_the_same_loss_and_gradient(
    kernels_on: str, dtype: torch.dtype, words: int
) -> None:
    hidden, weight, targets = case(37, 24, words, 0.3, 0)
    half = hidden.to(dtype), weight.to(dtype), targets
    loss, grad = both(head_cross_entropy, *(t.to(kernels_on) for t in half))
    exact = both(plain, half[0].double(), half[1].double(), targets)
    near = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(loss.cpu(), exact[0].float(), rtol=near, atol=near)
    assert (grad.cpu().double() - exact[1]).norm() <= near * exact[1].norm() + 1e-6
