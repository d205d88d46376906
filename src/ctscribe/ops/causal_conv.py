"""The short causal convolution of Mamba, one filter a channel, with SiLU, in (B, L, D) layout."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

Activation = Literal["silu"] | None


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    activation: Activation = ...,
    initial_state: Tensor | None = ...,
    return_final_state: Literal[False] = ...,
) -> Tensor: ...


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    activation: Activation = ...,
    initial_state: Tensor | None = ...,
    *,
    return_final_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = "silu",
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Every channel's own filter over the last K inputs; differentiable in every tensor.

    x: (B, L, D), L >= 1. weight: (D, K), its last column meets the newest input. bias: (D,).
    initial_state: (B, K - 1, D), the inputs before x, zero if not given.
    Returns (B, L, D) in x's dtype, and with `return_final_state` the last K - 1 inputs.
    Computed in fp32 (fp64 if x is). Raises ValueError, naming the argument, on a wrong shape.
    """
    _check(x, weight, bias, activation, initial_state)
    length, kernel = x.shape[1], weight.shape[1]
    if initial_state is None:
        past_BLD = pad(x, (0, 0, kernel - 1, 0))
    else:
        past_BLD = torch.cat([initial_state.to(x.dtype), x], 1)
    with torch.autocast(x.device.type, enabled=False):
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        taps = weight.to(wide).unbind(1)
        inputs = past_BLD.to(wide)
        y = inputs[:, :length] * taps[0]
        for k in range(1, kernel):
            y = torch.addcmul(y, inputs[:, k : k + length], taps[k])
        if bias is not None:
            y = y + bias.to(wide)
        y = (silu(y) if activation else y).to(x.dtype)
    return (y, past_BLD[:, length:]) if return_final_state else y


def causal_conv1d_step(
    state: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = "silu",
) -> Tensor:
    """One step of decoding: shifts x (B, D) into `state` (B, K - 1, D) in place; returns (B, D)."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    window = torch.cat([state, x[:, None].to(state.dtype)], 1)
    y = (window.to(wide) * weight.to(wide).t()).sum(1)
    if bias is not None:
        y += bias.to(wide)
    state.copy_(window[:, 1:])
    return (silu(y) if activation else y).to(x.dtype)


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation,
    initial_state: Tensor | None,
) -> None:
    if x.dim() != 3 or x.shape[1] < 1:
        raise ValueError(f"x must be (B, L, D) with L >= 1, not {tuple(x.shape)}")
    batch, _, width = x.shape
    if weight.dim() != 2 or weight.shape[0] != width or weight.shape[1] < 2:
        raise ValueError(f"weight must be ({width}, K) with K >= 2, not {tuple(weight.shape)}")
    if bias is not None and tuple(bias.shape) != (width,):
        raise ValueError(f"bias must be ({width},), not {tuple(bias.shape)}")
    if activation not in ("silu", None):
        raise ValueError(f"activation must be silu or None, not {activation}")
    past = (batch, weight.shape[1] - 1, width)
    if initial_state is not None and tuple(initial_state.shape) != past:
        raise ValueError(f"initial_state must be {past}, not {tuple(initial_state.shape)}")
