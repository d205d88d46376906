"""The selective scan by the official CUDA extension (mamba-ssm), where somebody has built it.

It works in (B, D, L) layout, so tensors are transposed on the way in and out, and it knows no
initial state. For comparison: our own kernels are faster and need no compiler.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor

from ctscribe.errors import KernelError
from ctscribe.ops.scan_torch import Inputs

_CHUNK = 2048  # steps between the states that the extension keeps


def scan_forward(
    inputs: Inputs,
    dt_softplus: bool,
    initial_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, L, D), the last state (B, D, N), and the states that the extension keeps.

    Raises KernelError if there is an initial state.
    """
    if initial_state is not None:
        raise KernelError("the backend mamba_ssm takes no initial state", fix="use --backend auto")
    y, kept, *gated = _extension().fwd(*_for_extension(inputs), dt_softplus)
    out = gated[0] if gated else y
    return out.transpose(1, 2).contiguous(), kept[:, :, -1, 1::2].contiguous(), kept


def scan_backward(
    gy: Tensor | None,
    gstate: Tensor | None,
    kept: Tensor,
    inputs: Inputs,
    dt_softplus: bool,
) -> tuple[Tensor | None, ...]:
    """All gradients in the order of `scan_torch.NAMES`; the extension leaves none out.

    Raises KernelError if the last state has a gradient, which the extension does not take.
    """
    if gstate is not None or gy is None:
        raise KernelError(
            "the backend mamba_ssm gives no gradient of the last state", fix="use --backend auto"
        )
    u, _, _, _, _, D, z, dt_bias = inputs
    ready = _for_extension(inputs)
    gy_BDL = gy.to(u.dtype).transpose(1, 2).contiguous()
    y: Tensor | None = None
    if z is not None:
        y = _extension().fwd(*ready, dt_softplus)[0]
    du, ddt, dA, dB, dC, dD, dbias, *dz = _extension().bwd(
        *ready, gy_BDL, kept, y, None, dt_softplus, False
    )
    return (
        du.transpose(1, 2),
        ddt.transpose(1, 2),
        dA,
        dB.flatten(1, 2).transpose(1, 2),
        dC.flatten(1, 2).transpose(1, 2),
        dD if D is not None else None,
        dz[0].transpose(1, 2) if z is not None else None,
        dbias if dt_bias is not None else None,
        None,
    )


def kept_shape(u: Tensor, states: int) -> tuple[int, ...]:
    """Shape of the states that the extension keeps."""
    batch, length, width = u.shape
    return (batch, width, -(-length // _CHUNK), 2 * states)


def _for_extension(inputs: Inputs) -> tuple[Any, ...]:
    u, dt, A, B, C, D, z, dt_bias = inputs

    def channels_first(x: Tensor) -> Tensor:
        return x.to(u.dtype).transpose(1, 2).contiguous()

    return (
        channels_first(u),
        channels_first(dt),
        A.float().contiguous(),
        channels_first(B)[:, None],
        channels_first(C)[:, None],
        None if D is None else D.float().contiguous(),
        None if z is None else channels_first(z),
        None if dt_bias is None else dt_bias.float().contiguous(),
    )


def _extension() -> Any:
    return importlib.import_module("selective_scan_cuda")
