"""The selective scan of Mamba (Gu & Dao 2023, arXiv:2312.00752, algorithm 2), forward and backward.

    dt_t = softplus(dt_t + dt_bias)                     (B, D)
    h_t  = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t         (B, D, N), in fp32
    y_t  = (h_t . C_t + D u_t) silu(z_t)                (B, D)

`selective_scan_reference` is these lines and nothing else: the spec that every backend is tested
against. `selective_scan` is the fast one, a registered operator of PyTorch (to torch.compile,
autocast, checkpointing, DDP and FSDP one operator with a gradient): by CUDA kernels (scan_cuda.py),
by compiled loops on a CPU (scan_cpu.py), by PyTorch's operations (scan_torch.py) or by the official
extension (scan_official.py), as `backend` says.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from ctscribe.ops import backend as backends
from ctscribe.ops import decode_cuda, scan_cuda, scan_official, scan_torch

NAMES = scan_torch.NAMES  # of the tensors, in the order of the gradients


@overload
def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = ...,
    z: Tensor | None = ...,
    dt_bias: Tensor | None = ...,
    dt_softplus: bool = ...,
    initial_state: Tensor | None = ...,
    return_final_state: Literal[False] = ...,
    reverse: bool = ...,
) -> Tensor: ...


@overload
def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = ...,
    z: Tensor | None = ...,
    dt_bias: Tensor | None = ...,
    dt_softplus: bool = ...,
    initial_state: Tensor | None = ...,
    *,
    return_final_state: Literal[True],
    reverse: bool = ...,
) -> tuple[Tensor, Tensor]: ...


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = True,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan along L; differentiable in every tensor, and only what requires a gradient gets one.

    u, dt, z: (B, L, D). A: (D, N), negative. B, C: (B, L, N). D, dt_bias: (D,).
    initial_state: (B, D, N), zero if not given. L is at least 1; any strides. reverse: from the
    last step to the first, as if u, dt, B, C, z and y were flipped along L.
    Returns y (B, L, D) in u's dtype, and with `return_final_state` the state (B, D, N) after the
    last step. State and sums are fp32 (fp64 if u is), whatever the inputs and autocast say.

    Raises ValueError, naming the argument, on a wrong shape, dtype or device.
    """
    _check(u, dt, A, B, C, D, z, dt_bias, initial_state)
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    name = backends.pick(u.device, _kernel_dtype(u, dt, B, C, z), A.shape[1])
    y, state, _ = _scan(*tensors, dt_softplus, reverse, keep, name)
    return (y, state) if return_final_state else y


@torch.library.custom_op("ctscribe::selective_scan", mutates_args=())
def _scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last state, and (with `keep`) what the backward pass starts from."""
    if u.numel() == 0:
        fake: tuple[Tensor, Tensor, Tensor] = _scan_fake(
            u, dt, A, B, C, D, z, dt_bias, initial_state, dt_softplus, reverse, keep, backend
        )
        return fake
    inputs: scan_torch.Inputs
    if backend == "cuda":
        inputs = _for_kernels(u, dt, A, B, C, D, z, dt_bias)
        start = None if initial_state is None else initial_state.float().contiguous()
        y, state, starts = scan_cuda.scan_forward(
            inputs, dt_softplus, start, keep=keep, reverse=reverse
        )
        return y.to(u.dtype), state, starts
    inputs = _turned(reverse, u, dt, A, B, C, D, z, dt_bias)
    if backend == "torch":
        plain = scan_torch.module_for(u)
        y, state, starts = plain.scan_forward(*inputs, dt_softplus, initial_state, keep)
        starts = starts if keep else starts.new_empty(0)
    else:
        y, state, starts = scan_official.scan_forward(inputs, dt_softplus, initial_state)
    return backends.turned(y, reverse), state, starts


@_scan.register_fake
def _scan_fake(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, width = u.shape
    n = A.shape[1]
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    state = u.new_empty(batch, width, n, dtype=wide)
    shape: tuple[int, ...] = (0,)
    if backend == "torch" and keep:
        shape = (scan_torch.module_for(u).chunk_count(A, batch, length), batch, n, width)
    elif backend == "mamba_ssm":
        shape = scan_official.kept_shape(u, n)
    elif keep:
        shape = (batch, -(-length // scan_cuda.KEEP), width, n)
    return u.new_empty(u.shape), state, u.new_empty(shape, dtype=wide)


@torch.library.custom_op("ctscribe::selective_scan_backward", mutates_args=())
def _scan_backward(
    gy: Tensor | None,
    gstate: Tensor | None,
    starts: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    needs: list[bool],
    backend: str,
) -> list[Tensor]:
    """The gradients that `needs` asks for, in their inputs' dtypes; the others are empty."""
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    if u.numel() == 0:
        grads = tuple(
            None if t is None or not n else torch.zeros_like(t)
            for t, n in zip(tensors, needs, strict=True)
        )
    elif backend != "cuda":
        inputs: scan_torch.Inputs = _turned(reverse, *tensors[:8])
        gy = backends.turned(gy, reverse)
        if backend == "torch":
            others = (dt_softplus, initial_state, tuple(needs))
            plain = scan_torch.module_for(u)
            grads = plain.scan_backward(gy, gstate, starts, *inputs, *others)
        else:
            grads = scan_official.scan_backward(gy, gstate, starts, inputs, dt_softplus)
        grads = (*_turned(reverse, *grads[:8]), grads[8])
    else:
        inputs = _for_kernels(*tensors[:8])
        gy = torch.zeros_like(u) if gy is None else gy
        gy = _last_contiguous(gy).to(inputs[0].dtype)
        gstate = None if gstate is None else gstate.contiguous()
        grads = scan_cuda.scan_backward(
            gy, gstate, starts, inputs, dt_softplus, needs, reverse=reverse
        )
    return [
        u.new_empty(0) if g is None or t is None or not n else g.to(t.dtype)
        for g, t, n in zip(grads, tensors, needs, strict=True)
    ]


@_scan_backward.register_fake
def _scan_backward_fake(
    gy: Tensor | None,
    gstate: Tensor | None,
    starts: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    needs: list[bool],
    backend: str,
) -> list[Tensor]:
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    return [
        u.new_empty(0) if t is None or not n else t.new_empty(t.shape)
        for t, n in zip(tensors, needs, strict=True)
    ]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, dt_softplus, reverse, _, backend = inputs
    ctx.save_for_backward(output[2], *tensors)
    ctx.dt_softplus, ctx.reverse, ctx.backend = dt_softplus, reverse, backend
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, gy: Tensor | None, gstate: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    starts, *tensors = ctx.saved_tensors  # once: checkpointing recomputes them when asked
    needs = [bool(n) for n in ctx.needs_input_grad[:9]]
    grads = _scan_backward(
        gy, gstate, starts, *tensors, ctx.dt_softplus, ctx.reverse, needs, ctx.backend
    )
    wanted = (
        g if n and t is not None else None for g, n, t in zip(grads, needs, tensors, strict=True)
    )
    return (*wanted, None, None, None, None)


_scan.register_autograd(_differentiate, setup_context=_keep_for_backward)


def selective_scan_reference(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = True,
    initial_state: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The spec, one step at a time: y (B, L, D) in u's dtype and the final state (B, D, N)."""
    _check(u, dt, A, B, C, D, z, dt_bias, initial_state)
    u, dt, A, B, C, D, z, dt_bias = _turned(reverse, u, dt, A, B, C, D, z, dt_bias)
    wide = _wide(u)
    u_w, A, B, C = u.to(wide), A.to(wide), B.to(wide), C.to(wide)
    step = _step_size(dt, dt_bias, dt_softplus, wide)
    state = u_w.new_zeros(u.shape[0], *A.shape) if initial_state is None else initial_state.to(wide)
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(step[:, t, :, None] * A)
        state = decay * state + (step[:, t] * u_w[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1))
    y = _finish(torch.stack(outputs, 1), u_w, D, z).to(u.dtype)
    return backends.turned(y, reverse), state


def selective_scan_step(
    state: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = True,
) -> Tensor:
    """One step of decoding: updates `state` (B, D, N) in place and returns y (B, D) in u's dtype.

    u, dt, z: (B, D). A: (D, N). B, C: (B, N). D, dt_bias: (D,). Computed in the state's dtype; any
    strides. What is to be differentiated runs in plain PyTorch, whose autograd sees to it.

    Raises ValueError, naming the argument, on a wrong shape, dtype or device.
    """
    tensors = (u, dt, A, B, C, D, z, dt_bias)
    _check(*tensors, state, step=True)
    name = backends.pick(u.device, _kernel_dtype(u, dt, B, C, z), A.shape[1])
    takes = name == "cuda" and state.dtype == torch.float32
    if not (takes and decode_cuda.takes_step(state, *tensors)):
        return plain_step(state, *tensors, dt_softplus)
    u_k, dt, A, B, C, D, z, dt_bias = _for_kernels(*tensors)
    y = u_k.new_empty(u.shape)
    last = (dt_bias, A, D, z, state, y)
    decode_cuda.step_scan(u_k.contiguous(), B, C, dt.contiguous(), *last, softplus=dt_softplus)
    torch.autograd.graph.increment_version(state)
    return y.to(u.dtype)


def plain_step(
    state: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> Tensor:
    """`selective_scan_step` in PyTorch operations: its spec."""
    wide = state.dtype
    step = _step_size(dt, dt_bias, dt_softplus, wide)
    u_w = u.to(wide)
    state.mul_(torch.exp(step[..., None] * A.to(wide)))
    state.addcmul_((step * u_w)[..., None], B.to(wide)[:, None])
    y = torch.bmm(state, C.to(wide)[..., None])[..., 0]
    return _finish(y, u_w, D, z).to(u.dtype)


def _turned(reverse: bool, *tensors: Tensor | None) -> Any:
    """Inputs of a scan, or their gradients: with `reverse` those of (B, L, ...) flipped along L."""
    along = (True, True, False, True, True, False, True, False)
    return tuple(
        backends.turned(t, reverse and flips) for t, flips in zip(tensors, along, strict=True)
    )


def _for_kernels(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
) -> scan_torch.Inputs:
    """As the kernels want them: activations in one dtype, the rest fp32, D and N contiguous."""
    dtype = _kernel_dtype(u, dt, B, C, z)
    return (
        _last_contiguous(u.to(dtype)),
        _last_contiguous(dt.to(dtype)),
        A.float().contiguous(),
        _last_contiguous(B.to(dtype)),
        _last_contiguous(C.to(dtype)),
        None if D is None else D.float().contiguous(),
        None if z is None else _last_contiguous(z.to(dtype)),
        None if dt_bias is None else dt_bias.float().contiguous(),
    )


def _kernel_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The widest of the activations' dtypes."""
    dtypes = [t.dtype for t in tensors if t is not None]
    widest = dtypes[0]
    for dtype in dtypes[1:]:
        widest = torch.promote_types(widest, dtype)
    return widest


def _last_contiguous(x: Tensor) -> Tensor:
    # The backward kernel counts within a tile of rows in 32 bits.
    return x if x.stride(-1) == 1 and x.stride(-2) < scan_cuda.FARTHEST_ROW else x.contiguous()


def _wide(u: Tensor) -> torch.dtype:
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def _step_size(dt: Tensor, bias: Tensor | None, plus: bool, wide: torch.dtype) -> Tensor:
    dt = dt.to(wide)
    if bias is not None:
        dt = dt + bias.to(wide)
    return softplus(dt) if plus else dt


def _finish(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    if D is not None:
        y = torch.addcmul(y, u, D.to(y.dtype))
    return y if z is None else y * silu(z.to(y.dtype))


def _check(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    state: Tensor | None,
    *,
    step: bool = False,
) -> None:
    """Of a whole sequence, or of one step of it."""
    if step and u.dim() != 2:
        raise ValueError(f"u must be (B, D), not {tuple(u.shape)}")
    if not step and (u.dim() != 3 or u.shape[1] < 1):
        raise ValueError(f"u must be (B, L, D) with L >= 1, not {tuple(u.shape)}")
    *rows, width = u.shape
    if A.dim() != 2 or A.shape[0] != width:
        raise ValueError(f"A must be (D, N) with D {width}, not {tuple(A.shape)}")
    n = A.shape[1]
    for name, tensor, shape in (
        ("u", u, (*rows, width)),
        ("dt", dt, (*rows, width)),
        ("A", A, (width, n)),
        ("B", B, (*rows, n)),
        ("C", C, (*rows, n)),
        ("D", D, (width,)),
        ("z", z, (*rows, width)),
        ("dt_bias", dt_bias, (width,)),
        ("state" if step else "initial_state", state, (rows[0], width, n)),
    ):
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape}, not {tuple(tensor.shape)}")
        if tensor.dtype not in backends.DTYPES:
            raise ValueError(f"{name} must be of floating point, not {tensor.dtype}")
        if tensor.device != u.device:
            raise ValueError(f"{name} is on {tensor.device}, but u is on {u.device}")
