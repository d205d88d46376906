"""A frozen Mamba between the visual tokens and the loss: its blocks forward, and back to its input.

Every weight is fixed, so only the gradient of the input is computed, and only what that needs is
kept. One autograd function covers all blocks: autograd sees one step, the residual sum goes into
the next norm, and each product is one library call. A block runs the operations of transformers'
MambaBlock in the same order and with the same roundings (residual in fp32).

Kept for a block of width W and D channels, in bytes a token at 16 bits: norm 2 W, in_proj 4 D,
step sizes 2 D, x_proj 2 (R + 2 N), and 2 D N / 16 of scan states; the convolution is cheapest to
have again. `lean` keeps the norm alone and runs the whole block again, for two fifths more time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ctscribe.model.mamba import ScanMixer, is_mamba
from ctscribe.ops import backend as backends
from ctscribe.ops import causal_conv, conv_cuda, cuda, scan_cuda, scan_torch
from ctscribe.ops.rms_norm import norm_backward, norm_forward

# Of u, dt, A, B, C, D, z, dt_bias, initial state: what leads on to the input.
_NEEDS = (True, True, False, True, True, False, True, False, False)


@dataclass(frozen=True)
class _Block:
    """The weights of one block: matrices as the model has them, the rest in fp32."""

    norm: Tensor  # (W,)
    eps: float
    in_proj: Tensor  # (2 D, W)
    conv: Tensor  # (D, K)
    conv_bias: Tensor | None  # (D,)
    x_proj: Tensor  # (R + 2 N, D)
    dt_proj: Tensor  # (D, R)
    dt_bias: Tensor  # (D,)
    A: Tensor  # (D, N), negative
    D: Tensor  # (D,)
    out_proj: Tensor  # (W, D)

    @property
    def rank(self) -> int:
        return self.dt_proj.shape[1]

    @property
    def states(self) -> int:
        return self.A.shape[1]


@dataclass
class _Kept:
    """What a block's backward pass starts from."""

    hat: Tensor  # (rows, W), the norm's output before its weight
    inv: Tensor  # (rows,), 1 / rms
    inner: _Inner | None  # None: to be computed again


@dataclass
class _Inner:
    xz: Tensor  # (B, L, 2 D)
    dt: Tensor  # (B, L, D), before bias and softplus
    low_bc: Tensor  # (B, L, R + 2 N)
    starts: Tensor  # of the scan


class FrozenMamba:
    """The blocks and the last norm of one frozen MambaForCausalLM whose mixers are ours."""

    def __init__(self, model: nn.Module) -> None:
        backbone: Any = model.get_submodule("backbone")
        self.blocks = [_block(layer) for layer in backbone.layers]
        self.norm = backbone.norm_f.weight.detach().float().contiguous()
        self.eps = float(backbone.norm_f.variance_epsilon)
        self._modules = list(model.modules())
        self._read = self._state()

    @staticmethod
    def takes(model: nn.Module) -> bool:
        """Whether a model is one: Mamba-1, plain frozen weights of one dtype, residual in fp32."""
        if not is_mamba(model):
            return False
        backbone: Any = model.get_submodule("backbone")
        plain = all(_takes(layer) for layer in backbone.layers)
        return plain and not any(p.requires_grad for p in model.parameters())

    def is_current(self) -> bool:
        """Whether modules and weights are still the ones read, where they were, and frozen."""
        return self._state() == self._read

    def _state(self) -> tuple[list[nn.Module | None], list[tuple[bool, int, int]]]:
        # It is asked at every step, and walking the model would take milliseconds. Adapters come by
        # replacing a child of a module, or by wrapping the model, which LLM.frozen sees.
        modules = self._modules
        weights = [w for m in modules for w in m._parameters.values() if w is not None]
        return (
            [child for m in modules for child in m._modules.values()],
            [(w.requires_grad, w._version, w.data_ptr()) for w in weights],
        )

    def __call__(self, embeds: Tensor, mask: Tensor | None, *, lean: bool = False) -> Tensor:
        """Input embeddings (B, L, W) to hidden states after the last norm (B, L, W).

        mask: (B, L), 0 at padding, left or right. Differentiable in embeds, once.
        """
        seen = None if mask is None else mask.bool().contiguous()
        hidden: Tensor = _Run.apply(embeds, seen, self, lean)  # type: ignore[no-untyped-call]
        return hidden

    @torch.no_grad()
    def prefill(
        self,
        embeds: Tensor,
        mask: Tensor | None,
        conv: list[Tensor] | None = None,
        scan: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The last position before the last norm (B, W) fp32, and each block's states after it.

        conv (B, K - 1, D) and scan (B, D, N) fp32: each block's states to go on from.
        """
        seen = None if mask is None else mask.bool().contiguous()
        name = backend_of(embeds, self.blocks[0])
        residual = residual_of(embeds)
        delta, convs, scans = None, [], []
        for i, block in enumerate(self.blocks):
            normed, _, _ = norm_forward(
                residual, delta, block.norm, block.eps, embeds.dtype,
                rounds=True, keep=False, backend=name,
            )  # fmt: skip
            before = (None if conv is None else conv[i], None if scan is None else scan[i])
            delta, after = _go_on(block, normed.view(embeds.shape), seen, name, *before)
            convs.append(after[0])
            scans.append(after[1])
        if delta is not None:
            residual += delta
        return residual.view(embeds.shape)[:, -1], convs, scans


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeds: Tensor, mask: Tensor | None, model: FrozenMamba, lean: bool
    ) -> Tensor:
        keep = ctx.needs_input_grad[0]
        name = backend_of(embeds, model.blocks[0])
        batch, length, width = embeds.shape
        residual = residual_of(embeds)
        delta, kept = None, []
        for block in model.blocks:
            normed, hat, inv = norm_forward(
                residual, delta, block.norm, block.eps, embeds.dtype,
                rounds=True, keep=keep, backend=name,
            )  # fmt: skip
            shape = (batch, length, -1)
            delta, inner = _mix(block, normed.view(shape), mask, name, keep and not lean)
            if hat is not None and inv is not None:
                kept.append(_Kept(hat, inv, inner))
        out, hat, inv = norm_forward(
            residual, delta, model.norm, model.eps, embeds.dtype,
            rounds=False, keep=keep, backend=name,
        )  # fmt: skip
        ctx.kept, ctx.last, ctx.model, ctx.mask, ctx.name = kept, (hat, inv), model, mask, name
        return out.view(batch, length, width)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        rows = g.reshape(-1, g.shape[-1]).contiguous()
        hat, inv = ctx.last
        g_residual = torch.zeros_like(rows, dtype=torch.float32)
        g_delta = norm_backward(rows, hat, inv, ctx.model.norm, g_residual, backend=ctx.name)
        beside = _Beside(g.device)
        for block in reversed(ctx.model.blocks):
            kept = ctx.kept.pop()  # each block's memory is free once it is done
            g_normed = _unmix(block, kept, g_delta.view(g.shape), ctx.mask, ctx.name, beside)
            g_delta = norm_backward(
                g_normed, kept.hat, kept.inv, block.norm, g_residual, backend=ctx.name
            )
        return g_delta.view(g.shape), None, None, None


def residual_of(embeds: Tensor) -> Tensor:
    """A copy of embeddings (..., W) as (rows, W) fp32, for the blocks to be summed up in."""
    rows = embeds.flatten(0, -2)
    return rows.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def backend_of(embeds: Tensor, block: _Block) -> str:
    """cuda or torch: the official extension has no part in this."""
    name = backends.pick(embeds.device, embeds.dtype, block.states)
    return "cuda" if name == "cuda" and block.conv.shape[1] in conv_cuda.TAPS else "torch"


def _mix(
    block: _Block, normed: Tensor, mask: Tensor | None, name: str, keep: bool
) -> tuple[Tensor, _Inner | None]:
    """What a block adds to the residual, (rows, W), and what its backward pass starts from."""
    xz = linear(normed, block.in_proj)
    u = _conv(block, xz, mask, name)
    low_bc = linear(u, block.x_proj)
    inputs = _scan_inputs(block, xz, u, low_bc)
    if name == "cuda":
        y, _, starts = scan_cuda.scan_forward(
            inputs, True, None, keep=keep, write_final=False, frozen=True
        )
    else:
        y, _, starts = scan_torch.module_for(u).scan_forward(*inputs, True, None, keep)
    delta = linear(y.flatten(0, 1), block.out_proj)
    return delta, _Inner(xz, inputs[1], low_bc, starts) if keep else None


def _go_on(
    block: _Block,
    normed: Tensor,
    mask: Tensor | None,
    name: str,
    conv: Tensor | None,
    scan: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`_mix` from the states before it, and the states after it."""
    xz = linear(normed, block.in_proj)
    u = _conv(block, xz, mask, name, conv)
    inputs = _scan_inputs(block, xz, u, linear(u, block.x_proj))
    if name == "cuda":
        y, after, _ = scan_cuda.scan_forward(inputs, True, scan, keep=False, frozen=True)
    else:
        y, after, _ = scan_torch.module_for(u).scan_forward(*inputs, True, scan, keep=False)
    past = block.conv.shape[1] - 1
    x = xz[:, -past:, : u.shape[-1]]
    if mask is not None:
        x = x * mask[:, -past:, None]
    if x.shape[1] < past:
        before = x.new_zeros(len(x), past, x.shape[2]) if conv is None else conv
        x = torch.cat([before, x], 1)[:, -past:]
    return linear(y.flatten(0, 1), block.out_proj), (x.contiguous().clone(), after)


class _Beside:
    """Work on a second stream, beside what follows on the first; only in a CUDA graph.

    Small kernels then fill what large ones leave. Launched one by one they would gain nothing.
    """

    def __init__(self, device: torch.device) -> None:
        graph = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        self._stream: Any = cuda.side_stream(device, 1) if graph else None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """What follows on the first stream waits for the second."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)


def _unmix(
    block: _Block,
    kept: _Kept,
    g: Tensor,
    mask: Tensor | None,
    name: str,
    beside: _Beside,
) -> Tensor:
    """Gradient of the norm's output (rows, W), from the one of what the block added (B, L, W)."""
    inner = kept.inner
    if inner is None:
        normed = (kept.hat * block.norm).to(kept.hat.dtype).view(g.shape)
        inner = _mix(block, normed, mask, name, True)[1]
        assert inner is not None
    xz, low_bc = inner.xz, inner.low_bc
    width, rank, states = xz.shape[-1] // 2, block.rank, block.states
    inputs = _scan_inputs(block, xz, _conv(block, xz, mask, name), low_bc, inner.dt)
    gy = (g.flatten(0, 1) @ block.out_proj).view(*g.shape[:2], width)
    g_xz, g_low_bc = torch.empty_like(xz), torch.empty_like(low_bc)
    dz, dB, dC = (
        g_xz[..., width:],
        g_low_bc[..., rank : rank + states],
        g_low_bc[..., rank + states :],
    )
    if name == "cuda":
        grads = scan_cuda.scan_backward(
            gy, None, inner.starts, inputs, True, _NEEDS,
            dz=dz, dB=dB, dC=dC, beside=beside(), frozen=True,
        )  # fmt: skip
    else:
        plain = scan_torch.module_for(gy)
        grads = plain.scan_backward(gy, None, inner.starts, *inputs, True, None, _NEEDS)
        for view, index in ((dz, 6), (dB, 3), (dC, 4)):
            part = grads[index]
            assert part is not None
            view.copy_(part)
    du, ddt = grads[0], grads[1]
    assert du is not None
    assert ddt is not None
    flat = g_low_bc.flatten(0, 1)
    torch.mm(ddt.flatten(0, 1), block.dt_proj, out=flat[:, :rank])
    beside.join()
    du.flatten(0, 1).addmm_(flat, block.x_proj)
    x, dx = xz[..., :width], g_xz[..., :width]
    if name == "cuda":
        conv_cuda.conv_backward(
            du, x, block.conv, block.conv_bias, True, None, mask,
            need_weight=False, need_initial=False, dx=dx, frozen=True,
        )  # fmt: skip
    else:
        dx.copy_(
            causal_conv.plain_backward(du, x, block.conv, block.conv_bias, None, mask, True)[0]
        )
    return g_xz.flatten(0, 1) @ block.in_proj


def _conv(
    block: _Block, xz: Tensor, mask: Tensor | None, name: str, past: Tensor | None = None
) -> Tensor:
    x = xz[..., : xz.shape[-1] // 2]
    if name == "cuda":
        return conv_cuda.conv_forward(x, block.conv, block.conv_bias, True, past, mask, frozen=True)
    return causal_conv.plain(x, block.conv, block.conv_bias, past, mask, True)


def _scan_inputs(
    block: _Block, xz: Tensor, u: Tensor, low_bc: Tensor, dt: Tensor | None = None
) -> scan_torch.Inputs:
    low, B, C = low_bc.split_with_sizes([block.rank, block.states, block.states], -1)
    if dt is None:
        dt = linear(low, block.dt_proj)
    return u, dt, block.A, B, C, block.D, xz[..., u.shape[-1] :], block.dt_bias


def _takes(layer: Any) -> bool:
    mixer = layer.mixer
    if not isinstance(mixer, ScanMixer) or mixer.rms_eps is not None or not layer.residual_in_fp32:
        return False
    products = (mixer.in_proj, mixer.x_proj, mixer.dt_proj, mixer.out_proj)
    if any(type(p) is not nn.Linear for p in products) or mixer.dt_proj.bias is None:
        return False
    if any(p.bias is not None for p in (mixer.in_proj, mixer.x_proj, mixer.out_proj)):
        return False
    return len({p.weight.dtype for p in products}) == 1


def _block(layer: Any) -> _Block:
    def wide(x: Tensor) -> Tensor:
        return x.detach().float().contiguous()

    mixer: Any = layer.mixer
    bias = mixer.conv1d.bias
    return _Block(
        norm=wide(layer.norm.weight),
        eps=float(layer.norm.variance_epsilon),
        in_proj=mixer.in_proj.weight.detach(),
        conv=wide(mixer.conv1d.weight[:, 0]),
        conv_bias=None if bias is None else wide(bias),
        x_proj=mixer.x_proj.weight.detach(),
        dt_proj=mixer.dt_proj.weight.detach(),
        dt_bias=wide(mixer.dt_proj.bias),
        A=mixer.decay_rates().detach().contiguous(),
        D=wide(mixer.D),
        out_proj=mixer.out_proj.weight.detach(),
    )
