"""The selective scan on a CPU in fp32: loops that Numba compiles at run time, forward and backward.

    s_t = softplus(dt_t + dt_bias)                       (B, D)
    h_t = exp(s_t A) h_{t-1} + (s_t u_t) B_t             (B, D, N)
    y_t = (h_t . C_t + D u_t) silu(z_t)                  (B, D)

A thread scans blocks of WIDE channels of one sequence: their states stay in its first cache, and
each activation is read once. The innermost loops run along D and become vector instructions; exp
and log are polynomials there, since a call of the C library would keep them from it. The backward
pass computes a chunk's states again from the one before it. Results do not depend on the number of
threads.

What the compiler needs to see, or it falls back to one number at a time: innermost loops of a
constant length (D is padded to whole blocks), and buffers made in the function itself, which
nothing else can point to.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

import numba
import numba.core.caching
import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor
from torch.nn.functional import pad

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Task = tuple[int, int, int, int]  # of the batch, of its shares; its channels from, to
Along = tuple[Floats, ...]  # memory of u, dt, z, B, C
Parameters = tuple[Floats, ...]  # A log2(e) (N, D), D (D,), dt_bias (D,)

WIDE = 64  # channels of a block
STEPS = 32  # time steps from one kept state to the next
SHARES = 32  # of a sequence's channels at most: each has sums over D of its own, added up last
ALONE = 1 << 18  # updates of a state: with fewer, a second thread costs more than it saves
ONE = np.float32(1)
LOG2E, LN2 = np.float32(math.log2(math.e)), np.float32(math.log(2))
LOWEST, HIGHEST = np.float32(-127), np.float32(128)  # the exponents of zero and of infinity
ROUND = np.float32(1.5 * 2**23)  # added to a float, it leaves the nearest integer in the low bits


def _polynomial(function: Callable[[Any], Any], low: float, high: float, degree: int) -> Any:
    """Coefficients in fp32, the highest power's first."""
    fitted = Chebyshev.interpolate(function, degree, domain=[low, high]).convert(kind=Polynomial)
    return tuple(np.float32(c) for c in fitted.coef[::-1])


EXP2 = _polynomial(np.exp2, -0.5, 0.5, 6)  # off by 3e-9 of the value
LOG1P = _polynomial(lambda t: np.log1p(t) / t, 1e-12, 1, 9)  # by 6e-9


_NumbaCache: Any = numba.core.caching.FunctionCache


class _Cache(_NumbaCache):  # type: ignore[misc]
    """Numba's folder of compiled code, of which a broken file costs time only."""

    def load_overload(self, *args: Any) -> Any:
        with suppress(Exception):
            return super().load_overload(*args)
        with suppress(Exception):
            self.flush()
        return None

    def save_overload(self, *args: Any) -> None:
        with suppress(Exception):
            super().save_overload(*args)


def _kernel(function: Callable[..., None]) -> Any:
    """Compiled when first called. Products may be fused with sums; NaN and infinity stay such."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    with suppress(RuntimeError):  # there is no folder to write to
        compiled._cache = _Cache(function)
    return compiled


def _inlined(function: Callable[..., Any]) -> Any:
    """Part of the kernel that calls it."""
    return numba.njit(inline="always", fastmath={"contract"})(function)


@_inlined
def _exp2(x: Any) -> Any:
    """2^x to its last bit or so, below 2^-126 to that; zero, infinity and NaN where it is that."""
    x = LOWEST if x < LOWEST else x
    x = HIGHEST if x > HIGHEST else x
    rounded = np.float32(x + ROUND)
    rest = x - (rounded - ROUND)
    p = EXP2[0]
    for c in EXP2[1:]:
        p = p * rest + c
    exponent = rounded.view(np.int32) << np.int32(23)
    return np.int32(np.float32(p).view(np.int32) + exponent).view(np.float32)


@_inlined
def _softplus(x: Any) -> Any:
    t = _exp2(-abs(x) * LOG2E)
    p = LOG1P[0]
    for c in LOG1P[1:]:
        p = p * t + c
    return (np.float32(0) if x < 0 else x) + p * t


@_inlined
def _sigmoid(x: Any) -> Any:
    return ONE / (ONE + _exp2(-x * LOG2E))


@numba.njit(fastmath={"contract", "reassoc", "nsz"})
def _dot(x: Floats, y: Floats) -> Any:
    total = np.float32(0)
    for d in range(WIDE):
        total += x[d] * y[d]
    return total


@_inlined
def _place(strides: Ints, b: int, t: int) -> int:
    """Where row t of sequence b begins."""
    return b * strides[0] + t * strides[1]  # type: ignore[no-any-return]


@_inlined
def _row(x: Floats, strides: Ints, b: int, t: int, left: int) -> Floats:
    """The block of row t of sequence b."""
    start = _place(strides, b, t) + left
    return x[start : start + WIDE]


@_inlined
def _copy(x: Floats, out: Floats) -> None:
    for d in range(WIDE):
        out[d] = x[d]


@_inlined
def _step_sizes(dt: Floats, bias: Floats, plus: bool, steps: Floats) -> None:
    for d in range(WIDE):
        steps[d] = dt[d] + bias[d]
    if plus:
        for d in range(WIDE):
            steps[d] = _softplus(steps[d])


@_kernel
def _forward(
    task: Task,
    along: Along,
    where: Ints,
    parameters: Parameters,
    gated: bool,
    plus: bool,
    starts: Floats,
    last: Floats,
    y: Floats,
) -> None:
    """starts (chunks or 1, B, N, D) but the first, last (B, N, D) and y (B, L, D)."""
    b, _, low, high = task
    (u, dt, z, B, C), (A, skip, bias) = along, parameters
    states = len(A)
    h, rates = np.empty((states, WIDE), np.float32), np.empty((states, WIDE), np.float32)
    steps, drive = np.empty(WIDE, np.float32), np.empty(WIDE, np.float32)
    sums = np.empty(WIDE, np.float32)
    for left in range(low, high, WIDE):
        right = left + WIDE
        skips, biases = skip[left:right], bias[left:right]
        for n in range(states):
            _copy(A[n, left:right], rates[n])
            _copy(starts[0, b, n, left:right], h[n])
        for t in range(y.shape[1]):
            if len(starts) > 1 and t % STEPS == 0:
                for n in range(states):
                    _copy(h[n], starts[t // STEPS, b, n, left:right])
            u_t, dt_t = _row(u, where[0], b, t, left), _row(dt, where[1], b, t, left)
            B_t, C_t = _place(where[3], b, t), _place(where[4], b, t)
            _step_sizes(dt_t, biases, plus, steps)
            for d in range(WIDE):
                drive[d] = steps[d] * u_t[d]
                sums[d] = skips[d] * u_t[d]
            for n in range(states):
                B_n, C_n, h_n, rate = B[B_t + n], C[C_t + n], h[n], rates[n]
                for d in range(WIDE):
                    new = _exp2(steps[d] * rate[d]) * h_n[d] + drive[d] * B_n
                    h_n[d] = new
                    sums[d] += new * C_n
            out = y[b, t, left:right]
            if gated:
                z_t = _row(z, where[2], b, t, left)
                for d in range(WIDE):
                    out[d] = sums[d] * z_t[d] * _sigmoid(z_t[d])
            else:
                _copy(sums, out)
        for n in range(states):
            _copy(h[n], last[b, n, left:right])


@_kernel
def _backward(
    task: Task,
    along: Along,
    where: Ints,
    parameters: Parameters,
    gated: bool,
    plus: bool,
    starts: Floats,
    gy: Floats,
    gstate: Floats,
    grads: tuple[Floats, ...],
) -> None:
    """gstate (B, N, D): in the last state's gradient, out the first's.

    grads: of u, dt, z (B, L, D), B, C (shares, B, L, N), A (B, N, D), D and dt_bias (B, D).
    """
    b, share, low, high = task
    (u, dt, z, B, C), (A, skip, bias) = along, parameters
    gu, gdt, gz, gB, gC, gA, gD, gbias = grads
    states = len(A)
    rates, carry = np.empty((states, WIDE), np.float32), np.empty((states, WIDE), np.float32)
    gA_own = np.empty((states, WIDE), np.float32)
    decays = np.empty((STEPS, states, WIDE), np.float32)
    h = np.empty((STEPS + 1, states, WIDE), np.float32)  # one before each step, and the last
    steps, sums = np.empty((STEPS, WIDE), np.float32), np.empty((STEPS, WIDE), np.float32)
    drive, g = np.empty(WIDE, np.float32), np.empty(WIDE, np.float32)
    g_drive, g_exponent = np.empty(WIDE, np.float32), np.empty(WIDE, np.float32)
    for left in range(low, high, WIDE):
        right = left + WIDE
        skips, biases = skip[left:right], bias[left:right]
        gD_own, gbias_own = gD[b, left:right], gbias[b, left:right]
        for n in range(states):
            _copy(A[n, left:right], rates[n])
            _copy(gstate[b, n, left:right], carry[n])
            for d in range(WIDE):
                gA_own[n, d] = 0
        for chunk in range(len(starts) - 1, -1, -1):
            first = chunk * STEPS
            count = min(STEPS, gy.shape[1] - first)
            for n in range(states):
                _copy(starts[chunk, b, n, left:right], h[0, n])
            for i in range(count):  # what the forward pass did, with all of it kept
                t = first + i
                u_t, dt_t = _row(u, where[0], b, t, left), _row(dt, where[1], b, t, left)
                B_t, C_t = _place(where[3], b, t), _place(where[4], b, t)
                steps_t, sums_t = steps[i], sums[i]
                _step_sizes(dt_t, biases, plus, steps_t)
                for d in range(WIDE):
                    drive[d] = steps_t[d] * u_t[d]
                    sums_t[d] = skips[d] * u_t[d]
                for n in range(states):
                    B_n, C_n, rate = B[B_t + n], C[C_t + n], rates[n]
                    before, after, decay = h[i, n], h[i + 1, n], decays[i, n]
                    for d in range(WIDE):
                        factor = _exp2(steps_t[d] * rate[d])
                        new = factor * before[d] + drive[d] * B_n
                        decay[d] = factor
                        after[d] = new
                        sums_t[d] += new * C_n
            for i in range(count - 1, -1, -1):
                t = first + i
                u_t, dt_t = _row(u, where[0], b, t, left), _row(dt, where[1], b, t, left)
                B_t, C_t = _place(where[3], b, t), _place(where[4], b, t)
                steps_t, sums_t, given = steps[i], sums[i], gy[b, t, left:right]
                for d in range(WIDE):
                    drive[d] = steps_t[d] * u_t[d]
                    g[d] = given[d]
                    g_drive[d] = 0
                    g_exponent[d] = 0
                if gated:
                    z_t, out = _row(z, where[2], b, t, left), gz[b, t, left:right]
                    for d in range(WIDE):
                        s = _sigmoid(z_t[d])
                        out[d] = g[d] * sums_t[d] * s * (ONE + z_t[d] * (ONE - s))
                        g[d] *= z_t[d] * s
                for n in range(states):
                    B_n, C_n, rate = B[B_t + n], C[C_t + n], rates[n]
                    before, after, decay = h[i, n], h[i + 1, n], decays[i, n]
                    carry_n, gA_n = carry[n], gA_own[n]
                    for d in range(WIDE):
                        gh = carry_n[d] + g[d] * C_n
                        carry_n[d] = gh
                        g_drive[d] += gh * B_n
                    gB[share, b, t, n] += _dot(carry_n, drive)
                    gC[share, b, t, n] += _dot(g, after)
                    for d in range(WIDE):
                        back = carry_n[d] * decay[d]
                        carry_n[d] = back
                        through = back * before[d]  # the gradient of the exponent s A
                        gA_n[d] += through * steps_t[d]
                        g_exponent[d] += through * rate[d]
                out = gu[b, t, left:right]
                for d in range(WIDE):
                    out[d] = g_drive[d] * steps_t[d] + g[d] * skips[d]
                out = gdt[b, t, left:right]
                for d in range(WIDE):
                    out[d] = g_drive[d] * u_t[d] + g_exponent[d] * LN2
                if plus:
                    for d in range(WIDE):
                        out[d] *= _sigmoid(dt_t[d] + biases[d])
                for d in range(WIDE):
                    gD_own[d] += g[d] * u_t[d]
                    gbias_own[d] += out[d]
        for n in range(states):
            _copy(carry[n], gstate[b, n, left:right])
            _copy(gA_own[n], gA[b, n, left:right])


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
    """As `scan_torch.scan_forward`, of tensors on a CPU; computed in fp32."""
    batch, length, width = u.shape
    memory = _memory(u, dt, A, B, C, D, z, dt_bias)
    whole = _whole(width)
    starts = torch.empty(chunk_count(A, batch, length) if keep else 1, batch, A.shape[1], whole)
    starts[0].zero_()
    if initial_state is not None:
        starts[0, ..., :width] = initial_state.transpose(1, 2)
    last, y = torch.empty_like(starts[0]), torch.empty(batch, length, whole)
    rest = (*memory, z is not None, dt_softplus, starts.numpy(), last.numpy(), y.numpy())
    _share_out(lambda task: _forward(task, *rest), u, A)
    state = last[..., :width].transpose(1, 2).contiguous()
    return y[..., :width].to(u.dtype).contiguous(), state, starts[..., :width].contiguous()


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
    """As `scan_torch.scan_backward`, of tensors on a CPU; `starts` from this file's forward."""
    batch, length, width = u.shape
    n, whole, shares = A.shape[1], _whole(width), len(_shares(width))
    gstate = torch.zeros(batch, n, whole)
    if gfinal is not None:
        gstate[..., :width] = gfinal.transpose(1, 2)
    gy_whole = torch.zeros(batch, length, whole) if gy is None else _padded(gy, whole).contiguous()
    gu, gdt = (torch.empty(batch, length, whole) for _ in range(2))
    gz = gu if z is None else torch.empty_like(gu)
    gB, gC = torch.zeros(2, shares, batch, length, n)
    gA, (gD, gbias) = torch.empty_like(gstate), torch.zeros(2, batch, whole)
    grads = tuple(g.numpy() for g in (gu, gdt, gz, gB, gC, gA, gD, gbias))
    memory = _memory(u, dt, A, B, C, D, z, dt_bias)
    states = (_padded(starts, whole).numpy(), gy_whole.numpy(), gstate.numpy())
    rest = (*memory, z is not None, dt_softplus, *states, grads)
    _share_out(lambda task: _backward(task, *rest), u, A)
    inputs = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    gA = gA.sum(0).t()
    found = (gu, gdt, gA, gB.sum(0), gC.sum(0), gD.sum(0), gz, gbias.sum(0), gstate.transpose(1, 2))
    return tuple(
        None if x is None or not need else g[tuple(map(slice, x.shape))].to(x.dtype).contiguous()
        for x, g, need in zip(inputs, found, needs, strict=True)
    )


def chunk_count(A: Tensor, batch: int, length: int) -> int:
    """How many states `scan_forward` keeps of each sequence."""
    return -(-length // STEPS)


def _whole(width: int) -> int:
    return -(-width // WIDE) * WIDE


def _padded(x: Tensor, width: int) -> Tensor:
    """In fp32, with zeros after the last dimension's values."""
    x = x.detach().float()
    return x if x.shape[-1] == width else pad(x, (0, width - x.shape[-1]))


def _memory(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
) -> tuple[Along, Ints, Parameters]:
    """What the kernels read, and the strides of B and L of each of the first five."""
    width, n = A.shape
    whole = _whole(width)
    rows = [_rows(x, whole) for x in (u, dt, u if z is None else z)] + [_rows(x, n) for x in (B, C)]
    none = A.new_zeros(width)
    A_ND, *per_channel = (
        _padded(x, whole).contiguous().numpy()
        for x in (
            A.t().float() * float(LOG2E),
            none if D is None else D,
            none if dt_bias is None else dt_bias,
        )
    )
    where = np.array([strides for _, strides in rows], np.int64)
    return tuple(x for x, _ in rows), where, (A_ND, *per_channel)


def _rows(x: Tensor, width: int) -> tuple[Floats, tuple[int, int]]:
    """The memory of (B, L, width) from its first value on, and its strides of B and L."""
    x = _padded(x, width)
    x = x if x.stride(-1) == 1 else x.contiguous()
    batch, row, _ = x.stride()
    size = (x.shape[0] - 1) * batch + (x.shape[1] - 1) * row + width
    return x.as_strided((size,), (1,)).numpy(), (batch, row)


def _shares(width: int) -> list[tuple[int, int]]:
    """Of a sequence's channels: whole blocks, from and to."""
    each = -(-width // (WIDE * SHARES)) * WIDE
    return [(low, min(low + each, _whole(width))) for low in range(0, width, each)]


def _share_out(kernel: Callable[[Task], None], u: Tensor, A: Tensor) -> None:
    """Every sequence's every share, on as many threads as PyTorch's own operations."""
    shares = _shares(u.shape[2])
    tasks = [(b, i, *channels) for b in range(len(u)) for i, channels in enumerate(shares)]
    left, failures = iter(tasks), []

    def work(_: object = None) -> None:
        try:
            for task in left:  # each thread takes the next, as soon as it can
                kernel(task)
        except BaseException as failure:  # would end in a thread that nobody asks
            failures.append(failure)

    threads = min(torch.get_num_threads(), len(tasks))
    if threads == 1 or u.numel() * A.shape[1] < ALONE:
        work()
    elif (parallel := _openmp()) is not None:
        parallel(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work), None, threads, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for _ in range(threads):
                pool.submit(work)
    if failures:
        raise failures[0]


@cache
def _openmp() -> Any:
    """On Linux what calls a function on PyTorch's own threads, GOMP_parallel(f, data, threads, 0).

    They wait for their next operation in a busy loop, for milliseconds. Other threads have to share
    a core with that: two of them take 12 ms for what takes these two 5, and one alone 9.
    """
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "GOMP_parallel", None)
