"""The others that benchmarks/mamba.py measures beside us, each in the layout it likes best."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mamba_model import Batch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.models.mamba import modeling_mamba

from ctscribe.model.bridge import VimBlock
from ctscribe.model.llm import IGNORED
from ctscribe.ops import backend
from ctscribe.ops.selective_scan import selective_scan

OURS, TORCH = "ours", "ours_torch"
OFFICIAL, TRANSFORMERS, MAMBAPY = "official", "transformers", "mambapy"
TIME_LAST = ("u", "dt", "B", "C", "z")
TRAINED = ("u", "dt", "B", "C", "z")  # what a frozen model's input gradient needs
_WRAPPED = (
    "mamba_inner_fn",
    "mamba_selective_scan",
    "mamba_selective_state_update",
    "causal_conv1d_fn",
    "causal_conv1d_update",
)


def missing(peer: str) -> str | None:
    """Why a peer cannot be measured here, or None."""
    modules = {
        OFFICIAL: ("mamba_ssm.ops.selective_scan_interface", "causal_conv1d"),
        MAMBAPY: ("mambapy.pscan",),
    }
    for name in modules.get(peer, ()):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"{name} cannot be imported: {' '.join(str(error).split())[:120]}"
    if peer == OFFICIAL and not torch.cuda.is_available():
        return "needs a GPU"
    return None


@contextmanager
def plain_torch() -> Iterator[None]:
    """Our own operations in plain PyTorch, whatever backend runs else."""
    before = backend.chosen()
    backend.choose("torch")
    try:
        yield
    finally:
        backend.choose(before)


@contextmanager
def without_extensions() -> Iterator[None]:
    """transformers' own PyTorch code, even where the official extension is installed."""
    module: Any = modeling_mamba
    before = {name: getattr(module, name) for name in _WRAPPED if hasattr(module, name)}
    for name, function in before.items():
        setattr(module, name, getattr(function, "__wrapped__", function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)


def scan_of(peer: str, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], Callable[..., Any]]:
    """The peer's own inputs, and its scan, called with them by name."""
    if peer in (OURS, TORCH):
        return dict(values), selective_scan
    theirs = {k: v.transpose(1, 2).contiguous() if k in TIME_LAST else v for k, v in values.items()}
    for name in ("D", "dt_bias"):  # as transformers gives them
        theirs[name] = theirs[name].float()
    if peer == OFFICIAL:
        theirs |= {"B": theirs["B"][:, None], "C": theirs["C"][:, None]}
        interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")

        def official(dt_bias: Tensor, dt: Tensor, u: Tensor, **rest: Any) -> Any:
            return interface.selective_scan_fn(
                u, dt, **rest, delta_bias=dt_bias, delta_softplus=True
            )

        return theirs, official
    module: Any = modeling_mamba
    function = getattr(module.mamba_selective_scan, "__wrapped__", module.mamba_selective_scan)

    def loop(dt_bias: Tensor, dt: Tensor, u: Tensor, **rest: Any) -> Any:
        return function(
            u, dt, **rest, delta_bias=dt_bias, delta_softplus=True, use_mambapy=peer == MAMBAPY
        )

    return theirs, loop


def forward_call(peer: str, values: dict[str, Tensor]) -> Callable[[], Any]:
    """One forward pass without gradients."""
    theirs, function = scan_of(peer, values)

    def call() -> Any:
        with torch.no_grad():
            return function(**theirs)

    return call


def training_call(
    peer: str, values: dict[str, Tensor], names: tuple[str, ...] = TRAINED
) -> Callable[[], Any]:
    """Forward and backward, to the gradients of the named inputs."""
    theirs, function = scan_of(peer, values)
    leaves = {k: v.detach().requires_grad_(k in names) for k, v in theirs.items()}
    with torch.no_grad():
        gy = torch.randn_like(theirs["u"])

    def call() -> Any:
        y = function(**leaves)
        return torch.autograd.grad(y, [leaves[k] for k in names], gy.to(y.dtype))

    return call


def transformers_step(model: Any, batch: Batch) -> Tensor:
    """Stage 2's loss by transformers' model, logits at the answer only; backward to the tokens."""
    hidden = model.backbone(
        inputs_embeds=batch.embeds(), attention_mask=batch.mask, use_cache=False
    )[0]
    targets = batch.labels[:, 1:].to(hidden.device)
    wanted = targets != IGNORED
    logits = model.lm_head(hidden[:, :-1][wanted].to(model.lm_head.weight.dtype))
    loss = cross_entropy(logits.float(), targets[wanted])
    batch.visual.grad = None
    loss.backward()
    return loss.detach()


def transformers_write(model: Any, embeds: Tensor, mask: Tensor, count: int) -> Any:
    """`count` tokens by transformers' own greedy generation."""
    return model.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        min_new_tokens=count,
        max_new_tokens=count,
        do_sample=False,
    )


class OfficialVimBlock(nn.Module):
    """`VimBlock`, its weights and its function, on the official convolution and scan in (B, D, L).

    As the official block does it, one product makes (B, 2D, L) from (B, L, W): no transposes.
    """

    def __init__(self, block: VimBlock) -> None:
        super().__init__()
        self.block = block
        interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
        self._scan = interface.selective_scan_fn
        self._conv = importlib.import_module("causal_conv1d").causal_conv1d_fn

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        block = self.block
        xz_BEL = block.in_proj.weight @ block.norm(x_BLD).transpose(1, 2)
        x_BEL, z_BEL = xz_BEL.chunk(2, 1)
        ahead, back = block.directions
        y_BEL = self._direction(ahead, x_BEL, z_BEL)
        y_BEL = y_BEL + self._direction(back, x_BEL.flip(2), z_BEL.flip(2)).flip(2)
        return block.out_proj(y_BEL.transpose(1, 2) / 2)  # type: ignore[no-any-return]

    def _direction(self, part: Any, x_BEL: Tensor, z_BEL: Tensor) -> Tensor:
        u_BEL = self._conv(x_BEL, part.conv_weight, part.conv_bias, activation="silu")
        sizes = [part.rank, part.state, part.state]
        dt, B, C = (part.x_proj.weight @ u_BEL).split(sizes, 1)
        return self._scan(  # type: ignore[no-any-return]
            u_BEL,
            part.dt_proj.weight @ dt,
            -part.A_log.float().exp(),
            B[:, None].contiguous(),
            C[:, None].contiguous(),
            part.D.float(),
            z=z_BEL,
            delta_bias=part.dt_bias.float(),
            delta_softplus=True,
        )
