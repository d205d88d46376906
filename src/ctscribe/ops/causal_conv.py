"""The short causal convolution of Mamba, one filter a channel, with SiLU, in (B, L, D) layout.

A registered operator of PyTorch, run by CUDA kernels (conv_cuda.py) or by plain PyTorch (the
functions at the end of this file, which are the spec), as `backend` says.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from ctscribe.ops import backend as backends
from ctscribe.ops import conv_cuda, decode_cuda

Activation = Literal["silu"] | None


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    activation: Activation = ...,
    initial_state: Tensor | None = ...,
    return_final_state: Literal[False] = ...,
    mask: Tensor | None = ...,
    reverse: bool = ...,
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
    mask: Tensor | None = ...,
    reverse: bool = ...,
) -> tuple[Tensor, Tensor]: ...


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = "silu",
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    mask: Tensor | None = None,
    reverse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Every channel's own filter over the last K inputs; differentiable in every tensor.

    x: (B, L, D), L >= 1. weight: (D, K), its last column meets the newest input. bias: (D,).
    initial_state: (B, K - 1, D), the inputs before x, zero if not given. mask: (B, L), 0 or False
    at padding, where inputs count as zero and outputs are zero. reverse: from the last row to the
    first, as if x, mask and result were flipped along L; the initial state is then what follows x.
    Returns (B, L, D) in x's dtype, and with `return_final_state` the last K - 1 inputs.
    Computed in fp32 (fp64 if x is).

    Raises ValueError, naming the argument, on a wrong shape, dtype or device.
    """
    _check(x, weight, bias, activation, initial_state, mask)
    name = backends.pick(x.device, x.dtype)
    if name != "cuda" or weight.shape[1] not in conv_cuda.TAPS:
        name = "torch"
    if initial_state is not None:
        initial_state = initial_state.to(x.dtype)
    seen = None if mask is None else mask.bool()
    y: Tensor = _conv(x, weight, bias, initial_state, seen, activation == "silu", reverse, name)
    if not return_final_state:
        return y
    x, seen = backends.turned(x, reverse), backends.turned(seen, reverse)
    if seen is not None:
        x = x * seen[..., None]
    past = weight.shape[1] - 1
    if x.shape[1] >= past:
        return y, x[:, x.shape[1] - past :]
    before = x.new_zeros(len(x), past, x.shape[2]) if initial_state is None else initial_state
    return y, torch.cat([before, x], 1)[:, x.shape[1] :]


@torch.library.custom_op("ctscribe::causal_conv1d", mutates_args=())
def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    mask: Tensor | None,
    active: bool,
    reverse: bool,
    backend: str,
) -> Tensor:
    if backend == "torch" or x.numel() == 0:
        x, mask = backends.turned(x, reverse), backends.turned(mask, reverse)
        return backends.turned(plain(x, weight, bias, initial, mask, active), reverse)
    return conv_cuda.conv_forward(
        *_for_kernels(x, weight, bias),
        active,
        _contiguous(initial),
        _contiguous(mask),
        reverse=reverse,
    )


@_conv.register_fake
def _conv_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    mask: Tensor | None,
    active: bool,
    reverse: bool,
    backend: str,
) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("ctscribe::causal_conv1d_backward", mutates_args=())
def _conv_backward(
    gy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    mask: Tensor | None,
    active: bool,
    reverse: bool,
    needs: list[bool],
    backend: str,
) -> list[Tensor]:
    """The gradients of x, weight, bias and initial that `needs` asks for; the others are empty."""
    tensors = (x, weight, bias, initial)
    grads: tuple[Tensor | None, ...]
    if backend == "torch" or x.numel() == 0:
        gy, x = backends.turned(gy, reverse), backends.turned(x, reverse)
        mask = backends.turned(mask, reverse)
        gx, *others = plain_backward(gy, x, weight, bias, initial, mask, active)
        grads = (backends.turned(gx, reverse), *others)
    else:
        grads = conv_cuda.conv_backward(
            gy.contiguous(),
            *_for_kernels(x, weight, bias),
            active,
            _contiguous(initial),
            _contiguous(mask),
            need_weight=needs[1] or needs[2],
            need_initial=needs[3],
            reverse=reverse,
        )
    return [
        x.new_empty(0) if g is None or t is None or not n else g.to(t.dtype).contiguous()
        for g, t, n in zip(grads, tensors, needs, strict=True)
    ]


@_conv_backward.register_fake
def _conv_backward_fake(
    gy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    mask: Tensor | None,
    active: bool,
    reverse: bool,
    needs: list[bool],
    backend: str,
) -> list[Tensor]:
    tensors = (x, weight, bias, initial)
    return [
        x.new_empty(0) if t is None or not n else t.new_empty(t.shape)
        for t, n in zip(tensors, needs, strict=True)
    ]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.active, ctx.reverse, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    needs = [bool(n) for n in ctx.needs_input_grad[:4]]
    grads = _conv_backward(gy, *tensors, ctx.active, ctx.reverse, needs, ctx.backend)
    wanted = (
        g if n and t is not None else None for g, n, t in zip(grads, needs, tensors, strict=False)
    )
    return (*wanted, None, None, None, None)


_conv.register_autograd(_differentiate, setup_context=_keep_for_backward)


def _for_kernels(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    return (
        x if x.stride(-1) == 1 else x.contiguous(),
        weight.float().contiguous(),
        None if bias is None else bias.float().contiguous(),
    )


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def plain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    mask: Tensor | None,
    active: bool,
) -> Tensor:
    """The convolution in PyTorch operations, in fp32 (fp64 if x is)."""
    length, taps = x.shape[1], weight.shape[1]
    inputs = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    if mask is not None:
        inputs = inputs * mask[..., None]
    filters = _filters(weight, inputs.dtype)
    if bias is None:
        y = inputs * filters[-1]
    else:
        y = torch.addcmul(bias.to(inputs.dtype), inputs, filters[-1])
    for back in range(1, min(taps, length)):
        y[:, back:].addcmul_(inputs[:, :-back], filters[-1 - back])
    if initial is not None:
        before = initial.to(inputs.dtype)
        for t in range(min(taps - 1, length)):
            for back in range(t + 1, taps):
                y[:, t].addcmul_(before[:, taps - 1 + t - back], filters[-1 - back])
    y = silu(y, inplace=True) if active else y
    if mask is not None:
        y = y * mask[..., None]
    return y.to(x.dtype)


def plain_backward(
    gy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    mask: Tensor | None,
    active: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias and initial."""
    length, taps = x.shape[1], weight.shape[1]
    inputs = _with_past(x, weight, initial, mask)
    g = gy.to(inputs.dtype)
    if mask is not None:
        g = g * mask[..., None]
    if active:
        g = torch.ops.aten.silu_backward(g, _filtered(inputs, weight, bias))
    filters = _filters(weight, inputs.dtype)
    ginputs = torch.zeros_like(inputs)
    for k in range(taps):
        ginputs[:, k : k + length].addcmul_(g, filters[k])
    gweight = torch.stack([(g * inputs[:, k : k + length]).sum((0, 1)) for k in range(taps)], 1)
    gx = ginputs[:, taps - 1 :].clone()
    if mask is not None:
        gx *= mask[..., None]
    return gx, gweight, g.sum((0, 1)), ginputs[:, : taps - 1].clone()


def _filters(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What each tap multiplies, K of (D,): contiguous, because strided ones double the time."""
    return weight.to(dtype).t().contiguous().unbind(0)


def _with_past(x: Tensor, weight: Tensor, initial: Tensor | None, mask: Tensor | None) -> Tensor:
    """x with the K - 1 inputs before it, (B, K - 1 + L, D), in the dtype of the sums."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    inputs = x.to(wide)
    if mask is not None:
        inputs = inputs * mask[..., None]
    if initial is None:
        return pad(inputs, (0, 0, weight.shape[1] - 1, 0))
    return torch.cat([initial.to(wide), inputs], 1)


def _filtered(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    length = inputs.shape[1] - weight.shape[1] + 1
    filters = _filters(weight, inputs.dtype)
    y = inputs[:, :length] * filters[0]
    for k in range(1, len(filters)):
        y.addcmul_(inputs[:, k : k + length], filters[k])
    return y if bias is None else y.add_(bias.to(y.dtype))


def causal_conv1d_step(
    state: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation = "silu",
) -> Tensor:
    """One step of decoding: shifts x (B, D) into `state` (B, K - 1, D) in place; returns (B, D).

    weight: (D, K), its last column meets x. bias: (D,). Any strides. x is rounded to the state's
    dtype; computed in fp32 (fp64 if x is), and the result is in x's dtype. What is to be
    differentiated runs in plain PyTorch, whose autograd sees to it.

    Raises ValueError, naming the argument, on a wrong shape, dtype or device.
    """
    _check(x, weight, bias, activation, state, None, step=True)
    takes = backends.pick(x.device, x.dtype) == "cuda" and state.dtype == x.dtype
    takes = takes and weight.shape[1] in conv_cuda.TAPS
    if not (takes and decode_cuda.takes_step(state, x, weight, bias)):
        return plain_step(state, x, weight, bias, activation == "silu")
    y = x.new_empty(x.shape)
    x, weight, bias = _for_kernels(x, weight, bias)
    decode_cuda.step_conv(x, weight, bias, state, y, silu=activation == "silu")
    torch.autograd.graph.increment_version(state)
    return y


def plain_step(
    state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, active: bool
) -> Tensor:
    """`causal_conv1d_step` in PyTorch operations: its spec."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    window = torch.cat([state, x[:, None].to(state.dtype)], 1)
    y = (window.to(wide) * weight.to(wide).t()).sum(1)
    if bias is not None:
        y += bias.to(wide)
    state.copy_(window[:, 1:])
    return (silu(y) if active else y).to(x.dtype)


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation,
    state: Tensor | None,
    mask: Tensor | None,
    *,
    step: bool = False,
) -> None:
    """Of a whole sequence, or of one step of it."""
    if step and x.dim() != 2:
        raise ValueError(f"x must be (B, D), not {tuple(x.shape)}")
    if not step and (x.dim() != 3 or x.shape[1] < 1):
        raise ValueError(f"x must be (B, L, D) with L >= 1, not {tuple(x.shape)}")
    batch, width = x.shape[0], x.shape[-1]
    if weight.dim() != 2 or weight.shape[0] != width or weight.shape[1] < 2:
        raise ValueError(f"weight must be ({width}, K) with K >= 2, not {tuple(weight.shape)}")
    if bias is not None and tuple(bias.shape) != (width,):
        raise ValueError(f"bias must be ({width},), not {tuple(bias.shape)}")
    if activation not in ("silu", None):
        raise ValueError(f"activation must be silu or None, not {activation}")
    past = (batch, weight.shape[1] - 1, width)
    state_name = "state" if step else "initial_state"
    if state is not None and tuple(state.shape) != past:
        raise ValueError(f"{state_name} must be {past}, not {tuple(state.shape)}")
    if mask is not None and tuple(mask.shape) != (batch, x.shape[1]):
        raise ValueError(f"mask must be {(batch, x.shape[1])}, not {tuple(mask.shape)}")
    for name, tensor in (
        ("x", x),
        ("weight", weight),
        ("bias", bias),
        (state_name, state),
        ("mask", mask),
    ):
        if tensor is None:
            continue
        if name != "mask" and tensor.dtype not in backends.DTYPES:
            raise ValueError(f"{name} must be of floating point, not {tensor.dtype}")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, but x is on {x.device}")
