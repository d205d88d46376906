"""The selective scan by the kernels in `kernels/selective_scan_*.cu`: tilings and launches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ctscribe.ops import cuda
from ctscribe.ops.scan_torch import Inputs

FORWARD_FILE, BACKWARD_FILE = "selective_scan_forward.cu", "selective_scan_backward.cu"
SUM_FILE, ENDS_FILE = "selective_scan_sum.cu", "selective_scan_ends.cu"
FARTHEST_ROW = 1 << 26  # elements between rows, at most: a tile's are counted in 32 bits
KEEP = 16  # steps between kept states: what the backward kernel holds in registers
ELEMENTS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_SEGMENTS = 8  # of a sequence, at most
_SPAN = 32  # a segment's steps are a multiple of it, so that every tile divides them
_MANY = 12288  # channels of all sequences: with fewer, a GPU is filled by smaller pieces of work


@dataclass(frozen=True)
class Tiling:
    """How a kernel cuts up its work; the names are the ones in the .cu files."""

    per_lane: int  # states of a channel that a thread holds
    per_thread: int  # channels of a thread
    channels: int  # channels of a block
    tile: int  # time steps
    min_blocks: int = 1  # on a multiprocessor: bounds the registers of a thread

    def threads(self, states: int) -> int:
        """Threads of a block."""
        return self.channels // self.per_thread * (states // self.per_lane)

    def wide(self, states: int) -> int:
        """Neighbouring channels that a thread loads at once."""
        return self.tile * self.channels // self.threads(states)

    def wide_bc(self, states: int) -> int:
        """Neighbouring values of B, and of C, that a thread loads at once."""
        return max(self.per_lane, self.tile * states // self.threads(states))

    def defines(self, states: int) -> dict[str, str | int]:
        """As preprocessor macros."""
        return {
            "STATES": states,
            "PER_LANE": self.per_lane,
            "PER_THREAD": self.per_thread,
            "CHANNELS": self.channels,
            "TILE": self.tile,
        }


# By N. Measured on an H100 and an H200 with D 5120, N 16 (benchmarks/mamba.py). Forward: for few
# channels, and for many: small pieces fill the GPU at batch 1, large ones load less a state.
FORWARD = {
    8: (Tiling(2, 1, 32, 32), Tiling(2, 1, 32, 32)),
    16: (Tiling(2, 1, 16, 16), Tiling(2, 2, 32, 32)),
    32: (Tiling(2, 2, 16, 32), Tiling(2, 2, 16, 32)),
    64: (Tiling(4, 2, 8, 32), Tiling(4, 2, 8, 32)),
}
BACKWARD = {
    8: Tiling(2, 1, 16, KEEP, 4),
    16: Tiling(4, 1, 32, KEEP, 3),
    32: Tiling(2, 2, 16, KEEP, 2),
    64: Tiling(4, 2, 8, KEEP, 2),
}


def scan_forward(
    inputs: Inputs,
    dt_softplus: bool,
    initial_state: Tensor | None,
    *,
    keep: bool = True,
    write_y: bool = True,
    write_final: bool = True,
    frozen: bool = False,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, L, D), the last state (B, D, N) fp32, and the states kept for `scan_backward`.

    inputs: u, dt, A, B, C, D, z, dt_bias, shapes as in `selective_scan`. u, dt, z, B and C share
    one dtype of fp32, bf16 and fp16, with their last dimension contiguous and rows no farther apart
    than FARTHEST_ROW; the rest is fp32 and contiguous. What is not to be written comes back empty.
    frozen: A, D and dt_bias are not being written by what was launched just before, and want no
    gradient. Then states are kept in the inputs' dtype instead of fp32, half as many bytes: enough
    for gradients in that dtype, not for A's, a sum over L. reverse: from the last step to the
    first.
    """
    u, dt, A, B, C, D, z, dt_bias = inputs
    batch, length, width = u.shape
    states = A.shape[1]
    y = u.new_empty((batch, length, width) if write_y else 0)
    final = A.new_empty((batch, width, states) if write_final else 0)
    starts = (u if frozen else A).new_empty(
        (batch, -(-length // KEEP), width, states) if keep else 0
    )
    tiling = FORWARD[states][many(u)]
    rows, tables = [u, dt] if z is None else [u, dt, z], [B, C]
    kernel = cuda.load(
        FORWARD_FILE,
        "scan_forward",
        _forward_defines(
            tiling,
            states,
            u.dtype,
            _vector(tiling, states, width, rows, tables),
            starts.dtype,
            int(reverse),
        ),
        u.device,
    )
    blocks = -(-width // tiling.channels)
    # Finding where segments start is half the work again: worth it with less than a block a
    # multiprocessor, of which eight fit.
    there = _multiprocessors(u.device)
    span, segments = _cut(length, batch * blocks, 8 * there if batch * blocks <= there else 0)
    flags = (int(dt_softplus), int(frozen), span)
    kernel(
        (blocks, batch, segments),
        tiling.threads(states),
        *(u, dt, A, B, C, D, z, dt_bias, initial_state),
        *_ends(segments, flags, A, dt_bias, dt, u, None, B, back=0, reverse=int(reverse)),
        y if write_y else None,
        final if write_final else None,
        starts if keep else None,
        *(length, width, *flags),
        *_strides(u, dt, B, C, z),
    )
    return y, final, starts


def scan_backward(
    gy: Tensor,
    gfinal: Tensor | None,
    starts: Tensor,
    inputs: Inputs,
    dt_softplus: bool,
    needs: Sequence[bool],
    *,
    dz: Tensor | None = None,
    dB: Tensor | None = None,
    dC: Tensor | None = None,
    beside: AbstractContextManager[None] | None = None,
    frozen: bool = False,
    reverse: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of u, dt, A, B, C, D, z, dt_bias and the initial state, those of `needs`.

    inputs, frozen, reverse: as in `scan_forward`. gy (B, L, D) in their dtype, gfinal (B, D, N)
    fp32. dz (B, L, D), dB and dC (B, L, N) may be views to write into, their last dimension
    contiguous. beside: where the last sums of dB and dC are launched, if not here (another stream).
    Gradients of activations have the dtype of u, the others are fp32. Sums have a fixed order:
    equal from run to run.
    """
    u, dt, A, B, C, D, z, dt_bias = inputs
    batch, length, width = u.shape
    states = A.shape[1]
    parameters = needs[2] or needs[5] or needs[7]
    tiling = BACKWARD[states]
    blocks = -(-width // tiling.channels)
    du, ddt = (
        torch.empty_like(gy, memory_format=torch.contiguous_format) if n else None
        for n in needs[:2]
    )
    if z is not None and needs[6] and dz is None:
        dz = u.new_empty(batch, length, width)
    # As common.cuh has it: states kept in bf16 are the sign.
    summand = u.dtype if starts.dtype == torch.bfloat16 else torch.float32
    partial = u.new_empty(blocks, batch, length, 2 * states, dtype=summand)
    # A block's registers bound how many fit.
    fit = max(tiling.min_blocks - parameters, 256 // tiling.threads(states))
    span, segments = _cut(length, batch * blocks, fit * _multiprocessors(u.device))
    flags = (int(dt_softplus), int(frozen), span)
    dA = A.new_empty(segments * batch, width, states) if parameters else None
    dD, dbias = (A.new_empty(segments * batch, width) if parameters else None for _ in range(2))
    dinitial = A.new_empty(batch, width, states) if needs[8] else None
    rows = [t for t in (gy, u, dt, z, dz) if t is not None]
    vector = _vector(tiling, states, width, rows, [B, C])
    kernel = cuda.load(
        BACKWARD_FILE,
        "scan_backward",
        _backward_defines(
            tiling, states, u.dtype, vector, starts.dtype, int(parameters), int(reverse)
        ),
        u.device,
    )
    kernel(
        (blocks, batch, segments),
        tiling.threads(states),
        *(gy, u, dt, A, B, C, D, z, dt_bias, starts, gfinal),
        *_ends(segments, flags, A, dt_bias, dt, gy, z, C, back=1, reverse=int(reverse)),
        *(du, ddt, dz, partial, dA, dD, dbias, dinitial),
        *(length, width, *flags),
        *_strides(gy, u, dt, B, C, z, dz),
    )
    if needs[3] or needs[4]:
        dB = u.new_empty(batch, length, states) if dB is None else dB
        dC = u.new_empty(batch, length, states) if dC is None else dC
        with beside or nullcontext():
            _sum_partial(partial, dB, dC)
    return (
        du,
        ddt,
        None if dA is None else dA.sum(0),
        dB,
        dC,
        None if dD is None else dD.sum(0),
        dz,
        None if dbias is None else dbias.sum(0),
        dinitial,
    )


def variants() -> Iterator[tuple[str, str, dict[str, str | int]]]:
    """File, entry and macros of each kernel: for each N, and with N 16 for each dtype.

    What needs checking for every architecture: alignment and dtype change little else.
    """
    common = [(n, torch.bfloat16, 1) for n in FORWARD]
    for n, dtype, vector in [*common, (16, torch.float32, 0), (16, torch.float16, 0)]:
        for tiling in dict.fromkeys(FORWARD[n]):
            defines = _forward_defines(tiling, n, dtype, vector, torch.float32, 0)
            yield FORWARD_FILE, "scan_forward", defines
        defines = _backward_defines(BACKWARD[n], n, dtype, vector, torch.float32, 1, 0)
        yield BACKWARD_FILE, "scan_backward", defines
    half = torch.bfloat16  # as a frozen model runs them
    for tiling in dict.fromkeys(FORWARD[16]):
        yield FORWARD_FILE, "scan_forward", _forward_defines(tiling, 16, half, 1, half, 0)
    yield BACKWARD_FILE, "scan_backward", _backward_defines(BACKWARD[16], 16, half, 1, half, 0, 0)
    kept = torch.float32  # the bridge's other direction
    yield FORWARD_FILE, "scan_forward", _forward_defines(FORWARD[16][0], 16, half, 1, kept, 1)
    yield BACKWARD_FILE, "scan_backward", _backward_defines(BACKWARD[16], 16, half, 1, kept, 1, 1)
    for summand in (torch.float32, half):
        yield SUM_FILE, "scan_sum", _sum_defines(half, summand)
    for n in FORWARD:
        for back in (0, 1):
            yield ENDS_FILE, "scan_ends", _ends_defines(n, half, 1, back, 0)


@cache
def _forward_defines(
    tiling: Tiling,
    states: int,
    dtype: torch.dtype,
    vector: int,
    kept: torch.dtype,
    reverse: int,
) -> dict[str, str | int]:
    return {**_of_tensors(dtype, vector, kept, reverse), "KEEP": KEEP, **tiling.defines(states)}


@cache
def _backward_defines(
    tiling: Tiling,
    states: int,
    dtype: torch.dtype,
    vector: int,
    kept: torch.dtype,
    parameters: int,
    reverse: int,
) -> dict[str, str | int]:
    options = {"WITH_PARAMETERS": parameters, "MIN_BLOCKS": tiling.min_blocks}
    return {**_of_tensors(dtype, vector, kept, reverse), **options, **tiling.defines(states)}


@cache
def _sum_defines(dtype: torch.dtype, summand: torch.dtype) -> dict[str, str | int]:
    return {"ELEMENT": ELEMENTS[dtype], "ROUND_KEPT": int(summand != torch.float32)}


def _of_tensors(
    dtype: torch.dtype, vector: int, kept: torch.dtype, reverse: int
) -> dict[str, str | int]:
    rounded = int(kept == dtype != torch.float32)
    return {
        "ELEMENT": ELEMENTS[dtype],
        "VECTOR": vector,
        "ROUND_KEPT": rounded,
        "REVERSE": reverse,
    }


@cache
def _multiprocessors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def many(u: Tensor) -> bool:
    """Whether (B, L, D) has so many channels that large pieces of work fill a GPU."""
    return u.shape[0] * u.shape[2] >= _MANY


@cache
def _cut(length: int, blocks: int, slots: int) -> tuple[int, int]:
    """Steps of a segment, and how many segments a sequence has, to be done soonest.

    blocks: of all sequences, uncut. slots: blocks that fit the GPU at once; with fewer slots than
    blocks nothing is cut. Segments must save a quarter of the time, for where they start costs too.
    """
    whole = -(-length // _SPAN) * _SPAN
    best, least = (whole, 1), 0.75 * whole
    if blocks > slots:
        return best
    for wanted in range(2, 1 + min(_SEGMENTS, length // (2 * _SPAN))):
        span = -(-length // wanted // _SPAN) * _SPAN
        segments = -(-length // span)
        time = -(-blocks * segments // slots) * span
        if time < least:
            best, least = (span, segments), time
    return best


def _ends(
    segments: int,
    flags: tuple[int, int, int],
    A: Tensor,
    dt_bias: Tensor | None,
    dt: Tensor,
    value: Tensor,
    gate: Tensor | None,
    table: Tensor,
    *,
    back: int,
    reverse: int,
) -> tuple[Tensor | None, Tensor | None]:
    """What the segments make of a state of zero, and the sums of their steps: see the .cu file."""
    if segments == 1:
        return None, None
    batch, length, width = value.shape
    states = A.shape[1]
    tiling = FORWARD[states][0]
    ends = A.new_empty(segments - 1, batch, width, states)
    steps = A.new_empty(segments - 1, batch, width)
    rows = [t for t in (dt, value, gate) if t is not None]
    vector = _vector(tiling, states, width, rows, [table])
    defines = _ends_defines(states, value.dtype, vector, back, reverse)
    kernel = cuda.load(ENDS_FILE, "scan_ends", defines, value.device)
    kernel(
        (-(-width // tiling.channels), batch, segments - 1),
        tiling.threads(states),
        *(dt, value, gate, table, A, dt_bias, ends, steps),
        *(length, width, *flags),
        *_strides(dt, value, gate, table),
    )
    return ends, steps


@cache
def _ends_defines(
    states: int, dtype: torch.dtype, vector: int, back: int, reverse: int
) -> dict[str, str | int]:
    of_tensors = {"ELEMENT": ELEMENTS[dtype], "VECTOR": vector, "REVERSE": reverse}
    return {**of_tensors, "BACK": back, **FORWARD[states][0].defines(states)}


def _sum_partial(partial: Tensor, dB: Tensor, dC: Tensor) -> None:
    blocks, batch, length, both = partial.shape
    values = batch * length * both
    kernel = cuda.load(SUM_FILE, "scan_sum", _sum_defines(dB.dtype, partial.dtype), partial.device)
    # One row stride serves all rows: the views of x_proj's gradient are (B L, width) underneath.
    kernel(
        (-(-values * partial.element_size() // 256), 1, 1),
        256,
        partial,
        dB,
        dC,
        blocks,
        values,
        both // 2,
        dB.stride(1),
        dC.stride(1),
    )


def _strides(*tensors: Tensor | None) -> list[int]:
    """Batch and row stride of each, in the order of the kernels' arguments."""
    strides: list[int] = []
    for tensor in tensors:
        strides += (0, 0) if tensor is None else tensor.stride()[:2]
    return strides


def _vector(
    tiling: Tiling, states: int, width: int, rows: Sequence[Tensor], tables: Sequence[Tensor]
) -> int:
    """1 if every address that a thread loads from is aligned to what it loads at once."""
    wide, wide_bc = tiling.wide(states), tiling.wide_bc(states)
    if width % wide:
        return 0
    size = rows[0].element_size()
    return int(aligned(rows, min(16, wide * size)) and aligned(tables, min(16, wide_bc * size)))


def aligned(rows: Sequence[Tensor], whole: int) -> bool:
    """Whether all rows of tensors (B, L, ...) of one dtype start at multiples of `whole` bytes."""
    size, bits = rows[0].element_size(), 0
    for tensor in rows:
        batch, row, _ = tensor.stride()
        bits |= tensor.data_ptr() | batch * size | row * size
    return bits % whole == 0
