from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv1d, silu

from ctscribe.ops.causal_conv import causal_conv1d, causal_conv1d_step


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(1, 12),
    st.integers(1, 7),
    st.integers(2, 4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_equals_pytorchs_depthwise_convolution(
    batch: int, length: int, width: int, kernel: int, active: bool, biased: bool, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    x, weight, bias = leaf(batch, length, width), leaf(width, kernel), leaf(width)
    past = leaf(batch, kernel - 1, width)
    leaves = [x, weight, past] + ([bias] if biased else [])
    y, state = causal_conv1d(
        x,
        weight,
        bias if biased else None,
        "silu" if active else None,
        past,
        return_final_state=True,
    )
    whole = torch.cat([past, x], 1).transpose(1, 2)
    wanted = conv1d(whole, weight[:, None], bias if biased else None, groups=width).transpose(1, 2)
    wanted = silu(wanted) if active else wanted
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(state, whole.transpose(1, 2)[:, length:])
    scale = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    got = torch.autograd.grad((y * scale).sum(), leaves)
    exact = torch.autograd.grad((wanted * scale).sum(), leaves)
    for a, b in zip(got, exact, strict=True):
        torch.testing.assert_close(a, b)


def test_steps_and_splits_equal_the_whole() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 9, 5), torch.randn(5, 4), torch.randn(5)
    whole, end = causal_conv1d(x, weight, bias, return_final_state=True)
    first, state = causal_conv1d(x[:, :2], weight, bias, return_final_state=True)
    torch.testing.assert_close(first, whole[:, :2])
    for t in range(2, 9):
        torch.testing.assert_close(causal_conv1d_step(state, x[:, t], weight, bias), whole[:, t])
    torch.testing.assert_close(state, end)


def test_output_never_sees_the_future() -> None:
    x = torch.randn(1, 6, 3, requires_grad=True)
    causal_conv1d(x, torch.randn(3, 4))[:, 2].sum().backward()
    assert x.grad is not None
    assert (x.grad[:, 3:] == 0).all()
