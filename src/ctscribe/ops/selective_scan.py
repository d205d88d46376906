"""The selective scan of Mamba (Gu & Dao 2023, arXiv:2312.00752, algorithm 2), forward and backward.

    dt_t = softplus(dt_t + dt_bias)                     (B, D)
    h_t  = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t         (B, D, N), in fp32
    y_t  = (h_t . C_t + D u_t) silu(z_t)                (B, D)

`selective_scan_reference` is these lines and nothing else: the spec that every backend is tested
against. `selective_scan` is the fast one in plain PyTorch, for CPU and CUDA tensors alike. It works
through chunks of time small enough to stay in the cache, keeps the state at the start of each chunk
and computes the rest again in the backward pass: memory does not hold L D N states.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

# Numbers of one (T, B, N, D) chunk buffer. On a CPU the buffers of a chunk should fit in the
# last-level cache; on a GPU a chunk should be large enough that its few large kernels pay.
_CPU_CHUNK = 1 << 21
_CUDA_CHUNK = 1 << 26


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
    with torch.autocast(u.device.type, enabled=False):
        wide = _wide(u)
        u_w = u.to(wide)
        step = _step_size(dt, dt_bias, dt_softplus, wide)
        y, state_BND = _Scan.apply(  # type: ignore[no-untyped-call]
            u_w,
            step,
            A.to(wide),
            B.to(wide),
            C.to(wide),
            None if initial_state is None else initial_state.to(wide).transpose(1, 2),
        )
        y = _finish(y, u_w, D, z).to(u.dtype)
        return (y, state_BND.transpose(1, 2)) if return_final_state else y


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
    """h_t = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t, y_t = h_t . C_t; dt is already a step size.

    Buffers are (T, B, N, D): a time step is contiguous, and so is D, which all the wide
    elementwise operations run along.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        batch, length, width = u.shape
        n = A.shape[1]
        A_ND = A.t().contiguous()
        state = u.new_zeros(batch, n, width) if initial is None else initial.contiguous().clone()
        chunk = _chunk_steps(u, n)
        decay, states = (u.new_empty(min(chunk, length), batch, n, width) for _ in range(2))
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        starts = []
        for start in range(0, length, chunk):
            part = slice(start, min(start + chunk, length))
            starts.append(state.clone())
            _, h = _states(u, dt, B, A_ND, state, part, decay, states)
            y[:, part] = _over_n(h, C[:, part])
            state = h[-1].clone()
        ctx.save_for_backward(u, dt, A_ND, B, C, torch.stack(starts))
        ctx.chunk, ctx.has_initial = chunk, initial is not None
        ctx.set_materialize_grads(False)
        return y, state

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gy: Tensor | None, gstate: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing recomputes them when they are asked for
        with torch.autocast(saved[0].device.type, enabled=False):
            return _backward(ctx, saved, gy, gstate)


def _backward(
    ctx: Any, saved: tuple[Tensor, ...], gy: Tensor | None, gstate: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Chunks from the last to the first; in each, states forward again and their gradients back."""
    u, dt, A_ND, B, C, starts = saved
    need_u, need_dt, need_A, need_B, need_C, need_initial = ctx.needs_input_grad
    batch, length, width = u.shape
    n, chunk = A_ND.shape[0], ctx.chunk
    if gy is None:
        gy = torch.zeros_like(u)
    gu, gdt = (torch.empty_like(u) if need else None for need in (need_u, need_dt))
    gB, gC = (B.new_empty(B.shape) if need else None for need in (need_B, need_C))
    gA = torch.zeros_like(A_ND) if need_A else None
    buffers = [u.new_empty(min(chunk, length), batch, n, width) for _ in range(3)]
    carry = u.new_zeros(batch, n, width) if gstate is None else gstate.contiguous().clone()
    for index in reversed(range(len(starts))):
        part = slice(index * chunk, min((index + 1) * chunk, length))
        a, h = _states(u, dt, B, A_ND, starts[index], part, buffers[0], buffers[1])
        g = gy[:, part]
        if gC is not None:
            gC[:, part] = _over_d(h, g)
        # The gradient of each state: from its own output, and from the state after it.
        gh = torch.mul(_rows(C, part)[..., None], _rows(g)[:, :, None], out=buffers[2][: len(a)])
        gh[-1] += carry
        for t in range(len(a) - 2, -1, -1):
            torch.addcmul(gh[t], a[t + 1], gh[t + 1], out=gh[t])
        torch.mul(a[0], gh[0], out=carry)
        inner = _over_n(gh, B[:, part]) if gu is not None or gdt is not None else None
        if gu is not None and inner is not None:
            torch.mul(inner, dt[:, part], out=gu[:, part])
        if gB is not None:
            gB[:, part] = _over_d(gh, dt[:, part] * u[:, part])
        if gdt is None and gA is None:
            continue
        # q = gradient of dt A, through exp: gh * h_{t-1} * exp(dt A).
        a.mul_(gh)
        a[1:].mul_(h[:-1])
        a[0].mul_(starts[index])
        if gA is not None:
            gA += torch.mul(a, _rows(dt, part)[:, :, None], out=h).sum((0, 1))
        if gdt is not None and inner is not None:
            a.mul_(A_ND)
            gdt[:, part] = a.sum(2).transpose(0, 1).addcmul_(inner, u[:, part])
    return (
        gu,
        gdt,
        None if gA is None else gA.t(),
        gB,
        gC,
        carry if need_initial and ctx.has_initial else None,
    )


def _states(
    u: Tensor,
    dt: Tensor,
    B: Tensor,
    A_ND: Tensor,
    before: Tensor,
    part: slice,
    decay: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor]:
    """exp(dt A) and h of the steps `part`, both (T, B, N, D) in the given buffers."""
    steps = part.stop - part.start
    a, h = decay[:steps], states[:steps]
    torch.mul(_rows(dt, part)[:, :, None], A_ND, out=a).exp_()
    drive = _rows(dt[:, part] * u[:, part])
    torch.mul(_rows(B, part)[..., None], drive[:, :, None], out=h)
    for t in range(steps):
        torch.addcmul(h[t], a[t], h[t - 1] if t else before, out=h[t])
    return a, h


def _rows(x: Tensor, part: slice | None = None) -> Tensor:
    """(B, L, W) to (T, B, W), contiguous."""
    return (x if part is None else x[:, part]).transpose(0, 1).contiguous()


def _over_n(h_TBND: Tensor, C_BTN: Tensor) -> Tensor:
    """Sum over N of states times C: (B, T, D)."""
    steps, batch, n, width = h_TBND.shape
    rows = _rows(C_BTN).view(steps * batch, 1, n)
    y = torch.bmm(rows, h_TBND.view(steps * batch, n, width))
    return y.view(steps, batch, width).transpose(0, 1)


def _over_d(h_TBND: Tensor, g_BTD: Tensor) -> Tensor:
    """Sum over D of states times g: (B, T, N)."""
    steps, batch, n, width = h_TBND.shape
    columns = _rows(g_BTD).view(steps * batch, width, 1)
    y = torch.bmm(h_TBND.view(steps * batch, n, width), columns)
    return y.view(steps, batch, n).transpose(0, 1)


def _chunk_steps(u: Tensor, n: int) -> int:
    budget = _CUDA_CHUNK if u.is_cuda else _CPU_CHUNK
    row = max(1, u.shape[0] * u.shape[2] * n)
    return max(1, min(32, u.shape[1], budget // row))


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
