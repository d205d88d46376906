"""The selective scan in PyTorch operations: on a GPU without kernels, and in fp64 on a CPU.

    s_t = softplus(dt_t + dt_bias)                       (B, D)
    h_t = exp(s_t A) h_{t-1} + (s_t u_t) B_t             (B, D, N)
    y_t = (h_t . C_t + D u_t) silu(z_t)                  (B, D)

In fp32 and less a CPU runs the loops of scan_cpu.py (see `module_for`), three times as fast.

Time goes in chunks small enough to stay in the cache. The forward pass keeps the state before each
chunk, the backward pass computes the chunk's states again: memory never holds L D N states.

Buffers are (T, B, N, D): a time step is contiguous, and so is D, which the wide elementwise
operations run along; sums over N or D are matrix products. Only the recurrence itself is a Python
loop, of one in-place operation a step. exp(s A) is taken as 2^(s A log2 e), half the price of exp.
"""

from __future__ import annotations

import importlib
import logging
import math
import sys
from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

# Numbers of one (T, B, N, D) chunk buffer. On a CPU the buffers should fit in the last-level cache;
# on a GPU, where a launch costs more than its work, a chunk should be large.
CPU_CHUNK = 1 << 20
CUDA_CHUNK = 1 << 26
LONGEST_CHUNK = 32  # time steps
SHORTEST_CHUNK = 8  # time steps: keeping the states before ever fewer steps would hold them all
NAMES = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state")
ALONG_L = ("u", "dt", "B", "C", "z")
Inputs = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None
]  # u, dt, A, B, C, D, z, dt_bias
_aten: Any = torch.ops.aten
_log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


def _without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Autocast would take the matrix products, which are our sums, in half precision."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return run


def module_for(u: Tensor) -> ModuleType:
    """What scans tensors like u without kernels: scan_cpu or this module, of the same functions."""
    if u.device.type != "cpu" or u.dtype == torch.float64:
        return sys.modules[__name__]
    return loops() or sys.modules[__name__]


@cache
def loops() -> ModuleType | None:
    """scan_cpu if Numba works; imported when needed, since what runs on a GPU has no use for it."""
    try:
        return importlib.import_module("ctscribe.ops.scan_cpu")
    except (ImportError, OSError) as error:  # Numba refuses a numpy newer than it knows
        _log.warning("scans on the CPU take three times as long: Numba cannot be used: %s", error)
        return None


@_without_autocast
def scan_forward(
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
    keep: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, L, D) in u's dtype, the last state (B, D, N), and what `scan_backward` starts from.

    Shapes as in `selective_scan`. The state and all sums are fp32 (fp64 if u is). The third result
    is the state before each chunk, (chunks, B, N, D); without `keep` it is the first alone.
    """
    wide = _wide(u)
    batch, length, width = u.shape
    chunks = _Chunks(A, batch, length, chunk_count(A, batch, length), wide)
    starts = chunks.A_ND.new_empty(len(chunks.parts) if keep else 1, batch, A.shape[1], width)
    if initial_state is None:
        starts[:1].zero_()
    else:
        starts[0].copy_(initial_state.transpose(1, 2))
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    before_BND, last_BND = starts[0], torch.empty_like(starts[0])
    skip = None if D is None else D.to(wide)
    for index, part in enumerate(chunks.parts, 1):
        u_TBD, B_TBN, C_TBN = (_time_first(x, part, wide) for x in (u, B, C))
        step_TBD = _step_size(_time_first(dt, part, wide), dt_bias, dt_softplus)[1]
        _, states = chunks.states(step_TBD, step_TBD * u_TBD, B_TBN, before_BND)
        y_TBD = _sum_over_n(C_TBN, states)
        before_BND = starts[index] if index < len(starts) else last_BND
        before_BND.copy_(states[-1])
        if skip is not None:
            y_TBD.addcmul_(u_TBD, skip)
        if z is not None:
            y_TBD *= silu(_time_first(z, part, wide))
        y[:, part] = y_TBD.transpose(0, 1)
    return y, last_BND.transpose(1, 2).contiguous(), starts


@_without_autocast
def scan_backward(
    gy: Tensor | None,
    gfinal: Tensor | None,
    starts: Tensor,
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
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of u, dt, A, B, C, D, z, dt_bias and initial_state, each in its input's dtype.

    gy (B, L, D), gfinal (B, D, N): gradients of y and of the last state; None is zero. starts: from
    `scan_forward` of the same inputs. needs: which of the nine are wanted; the others are None.
    """
    need = dict(zip(NAMES, needs, strict=True))
    inputs = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    wide = _wide(u)
    batch, length, width = u.shape
    chunks = _Chunks(A, batch, length, len(starts), wide)
    # Along L a gradient is written chunk by chunk, the others are sums over the chunks.
    grads: dict[str, Tensor | None] = {
        name: torch.empty_like(x, memory_format=torch.contiguous_format)
        for name, x in zip(NAMES, inputs, strict=True)
        if x is not None and need[name] and name in ALONG_L
    }
    gA_ND = torch.zeros_like(chunks.A_ND) if need["A"] else None
    gD, gbias = (
        starts.new_zeros(width) if x is not None and need[name] else None
        for name, x in (("D", D), ("dt_bias", dt_bias))
    )
    need_step = need["dt"] or gbias is not None
    skip = None if D is None else D.to(wide)
    carry_BND = starts.new_zeros(starts.shape[1:])
    if gfinal is not None:
        carry_BND.copy_(gfinal.transpose(1, 2))
    gstates = chunks.buffer()
    for part, before in zip(reversed(chunks.parts), reversed(starts.unbind(0)), strict=True):
        u_TBD, B_TBN, C_TBN = (_time_first(x, part, wide) for x in (u, B, C))
        raw_TBD, step_TBD = _step_size(_time_first(dt, part, wide), dt_bias, dt_softplus)
        drive_TBD = step_TBD * u_TBD
        a, h = chunks.states(step_TBD, drive_TBD, B_TBN, before)

        # Through the gate and the skip.
        g_TBD = torch.zeros_like(u_TBD) if gy is None else _time_first(gy, part, wide)
        if z is not None:
            z_TBD = _time_first(z, part, wide)
            if need["z"]:
                y_TBD = _sum_over_n(C_TBN, h)
                if skip is not None:
                    y_TBD.addcmul_(u_TBD, skip)
                _write(grads["z"], part, y_TBD.mul_(_aten.silu_backward(g_TBD, z_TBD)))
            g_TBD = g_TBD * silu(z_TBD)
        if gD is not None:
            gD += (g_TBD * u_TBD).sum((0, 1))
        if need["C"]:
            _write(grads["C"], part, _sum_over_d(h, g_TBD))

        # The gradient of each state: from its own output, and from the state after it.
        gh = torch.mul(C_TBN[..., None], g_TBD[:, :, None], out=gstates[: len(g_TBD)])
        each_a, each_gh = a.unbind(0), gh.unbind(0)
        each_gh[-1].add_(carry_BND)
        for t in range(len(each_gh) - 2, -1, -1):
            each_gh[t].addcmul_(each_a[t + 1], each_gh[t + 1])
        torch.mul(each_a[0], each_gh[0], out=carry_BND)

        # Through what drives the state.
        if need["B"]:
            _write(grads["B"], part, _sum_over_d(gh, drive_TBD))
        if need["u"] or need_step:
            gdrive_TBD = _sum_over_n(B_TBN, gh)
        if need["u"]:
            gu_TBD = gdrive_TBD * step_TBD
            if skip is not None:
                gu_TBD.addcmul_(g_TBD, skip)
            _write(grads["u"], part, gu_TBD)
        if not need_step and gA_ND is None:
            continue

        # Through the decay exp(s A), whose exponent has the gradient gh h_{t-1} exp(s A).
        a.mul_(gh)
        a[1:].mul_(h[:-1])
        a[0].mul_(before)
        if gA_ND is not None:
            gA_ND += torch.mul(a, step_TBD[:, :, None], out=h).sum((0, 1))
        if need_step:
            gstep_TBD = a.mul_(chunks.A_ND).sum(2).addcmul_(gdrive_TBD, u_TBD)
            if dt_softplus:
                gstep_TBD = _aten.softplus_backward(gstep_TBD, raw_TBD, 1, 20)
            if need["dt"]:
                _write(grads["dt"], part, gstep_TBD)
            if gbias is not None:
                gbias += gstep_TBD.sum((0, 1))
    grads |= {"A": None if gA_ND is None else gA_ND.t(), "D": gD, "dt_bias": gbias}
    if need["initial_state"]:
        grads["initial_state"] = carry_BND.transpose(1, 2)
    return tuple(
        None if x is None or (g := grads.get(name)) is None else g.to(x.dtype).contiguous()
        for name, x in zip(NAMES, inputs, strict=True)
    )


class _Chunks:
    """The chunks of one scan, and the buffers that all of them share."""

    def __init__(self, A: Tensor, batch: int, length: int, count: int, wide: torch.dtype) -> None:
        width, n = A.shape
        self.A_ND = A.to(wide).t().contiguous()
        self._A_log2e = self.A_ND * math.log2(math.e)
        steps = math.ceil(length / count)
        self.parts = [slice(t, min(t + steps, length)) for t in range(0, length, steps)]
        self._shape = (steps, batch, n, width)
        self._decay, self._states = self.buffer(), self.buffer()
        # Each step's view once: making them costs a fifth of the recurrence itself.
        self._each = list(zip(self._states.unbind(0), self._decay.unbind(0), strict=True))

    def buffer(self) -> Tensor:
        """(T, B, N, D), of any values."""
        return self.A_ND.new_empty(self._shape)

    def states(
        self, step: Tensor, drive: Tensor, B_TBN: Tensor, before_BND: Tensor
    ) -> tuple[Tensor, Tensor]:
        """exp(s A) and h of one chunk, both (T, B, N, D), in buffers that the next chunk reuses."""
        a, h = self._decay[: len(step)], self._states[: len(step)]
        torch.mul(step[:, :, None], self._A_log2e, out=a).exp2_()
        torch.mul(B_TBN[..., None], drive[:, :, None], out=h)
        for now, decay in self._each[: len(step)]:
            now.addcmul_(decay, before_BND)
            before_BND = now
        return a, h


def chunk_count(A: Tensor, batch: int, length: int) -> int:
    """How many chunks."""
    budget = CUDA_CHUNK if A.is_cuda else CPU_CHUNK
    steps = max(SHORTEST_CHUNK, budget // max(1, batch * A.numel()))
    return math.ceil(length / min(LONGEST_CHUNK, steps))


def _sum_over_n(rows_TBN: Tensor, states_TBND: Tensor) -> Tensor:
    """Sum over N of rows times states, (T, B, D)."""
    steps, batch, n, width = states_TBND.shape
    states = states_TBND.view(steps * batch, n, width)
    return torch.bmm(rows_TBN.reshape(steps * batch, 1, n), states).view(steps, batch, width)


def _sum_over_d(states_TBND: Tensor, columns_TBD: Tensor) -> Tensor:
    """Sum over D of states times columns, (T, B, N)."""
    steps, batch, n, width = states_TBND.shape
    states = states_TBND.view(steps * batch, n, width)
    # As row times matrix: the library's matrix times column is 14 times slower.
    rows = columns_TBD.reshape(steps * batch, 1, width)
    return torch.bmm(rows, states.transpose(1, 2)).view(steps, batch, n)


def _wide(u: Tensor) -> torch.dtype:
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def _time_first(x: Tensor, part: slice, wide: torch.dtype) -> Tensor:
    """The steps `part` of (B, L, W) as (T, B, W), maybe a view."""
    return x[:, part].transpose(0, 1).to(wide)


def _write(out: Tensor | None, part: slice, x_TBW: Tensor) -> None:
    if out is not None:
        out[:, part] = x_TBW.transpose(0, 1)


def _step_size(raw: Tensor, bias: Tensor | None, plus: bool) -> tuple[Tensor, Tensor]:
    """dt + bias before and after the softplus."""
    if bias is not None:
        raw = raw + bias.to(raw.dtype)
    return raw, softplus(raw) if plus else raw
