"""The selective scan of Mamba (Gu & Dao 2023, arXiv:2312.00752, algorithm 2), forward and backward.

    dt_t = softplus(dt_t + dt_bias)                     (B, D)
    h_t  = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t         (B, D, N), in fp32
    y_t  = (h_t . C_t + D u_t) silu(z_t)                (B, D)

`selective_scan_reference` is these lines and nothing else: the spec that every backend is tested
against. `selective_scan` is the fast one, for CPU and CUDA tensors alike (see scan_torch).
"""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from ctscribe.ops.scan_torch import scan_backward, scan_forward


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
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan along L; differentiable in every tensor, and only what requires a gradient gets one.

    u, dt, z: (B, L, D). A: (D, N), negative. B, C: (B, L, N). D, dt_bias: (D,).
    initial_state: (B, D, N), zero if not given. L is at least 1; any strides.
    Returns y (B, L, D) in u's dtype, and with `return_final_state` the state (B, D, N) after the
    last step. State and sums are fp32 (fp64 if u is), whatever the inputs and autocast say.

    Raises ValueError, naming the argument, on a wrong shape or device.
    """
    _check(u, dt, A, B, C, D, z, dt_bias, initial_state)
    y, state = _Scan.apply(  # type: ignore[no-untyped-call]
        u, dt, A, B, C, D, z, dt_bias, dt_softplus, initial_state
    )
    return (y, state) if return_final_state else y


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
) -> tuple[Tensor, Tensor]:
    """The spec, one step at a time: y (B, L, D) in u's dtype and the final state (B, D, N)."""
    _check(u, dt, A, B, C, D, z, dt_bias, initial_state)
    wide = _wide(u)
    u_w, A, B, C = u.to(wide), A.to(wide), B.to(wide), C.to(wide)
    step = _step_size(dt, dt_bias, dt_softplus, wide)
    state = u_w.new_zeros(u.shape[0], *A.shape) if initial_state is None else initial_state.to(wide)
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(step[:, t, :, None] * A)
        state = decay * state + (step[:, t] * u_w[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1))
    return _finish(torch.stack(outputs, 1), u_w, D, z).to(u.dtype), state


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
    """One step of decoding: updates `state` (B, D, N) in place and returns y (B, D).

    u, dt, z: (B, D). A: (D, N). B, C: (B, N). D, dt_bias: (D,). No gradients.
    """
    wide = state.dtype
    step = _step_size(dt, dt_bias, dt_softplus, wide)
    u_w = u.to(wide)
    state.mul_(torch.exp(step[..., None] * A.to(wide)))
    state.addcmul_((step * u_w)[..., None], B.to(wide)[:, None])
    y = torch.bmm(state, C.to(wide)[..., None])[..., 0]
    return _finish(y, u_w, D, z).to(u.dtype)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        dt_bias: Tensor | None,
        dt_softplus: bool,
        initial_state: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        inputs = (u, dt, A, B, C, D, z, dt_bias)
        y, final, starts = scan_forward(*inputs, dt_softplus, initial_state)
        ctx.save_for_backward(starts, *inputs, initial_state)
        ctx.dt_softplus = dt_softplus
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gy: Tensor | None, gfinal: Tensor | None) -> tuple[Tensor | None, ...]:
        starts, u, dt, A, B, C, D, z, dt_bias, initial_state = ctx.saved_tensors
        needs = ctx.needs_input_grad
        grads = scan_backward(
            gy,
            gfinal,
            starts,
            *(u, dt, A, B, C, D, z, dt_bias),
            ctx.dt_softplus,
            initial_state,
            (*needs[:8], needs[9]),
        )
        return (*grads[:8], None, grads[8])


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
    initial_state: Tensor | None,
) -> None:
    if u.dim() != 3 or u.shape[1] < 1:
        raise ValueError(f"u must be (B, L, D) with L >= 1, not {tuple(u.shape)}")
    if A.dim() != 2 or A.shape[0] != u.shape[2]:
        raise ValueError(f"A must be (D, N) with D {u.shape[2]}, not {tuple(A.shape)}")
    batch, length, width = u.shape
    n = A.shape[1]
    for name, tensor, shape in (
        ("dt", dt, (batch, length, width)),
        ("A", A, (width, n)),
        ("B", B, (batch, length, n)),
        ("C", C, (batch, length, n)),
        ("D", D, (width,)),
        ("z", z, (batch, length, width)),
        ("dt_bias", dt_bias, (width,)),
        ("initial_state", initial_state, (batch, width, n)),
    ):
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape}, not {tuple(tensor.shape)}")
        if tensor.device != u.device:
            raise ValueError(f"{name} is on {tensor.device}, but u is on {u.device}")
