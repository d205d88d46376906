"""Which code runs our operations: chosen by name, said once.

    cuda       the kernels in `kernels/`, compiled at run time: no compiler to install
    torch      PyTorch operations, on any device; the scan on a CPU is compiled by Numba
    mamba_ssm  the official CUDA extension, where somebody has built it
    auto       cuda on a GPU where it can run, else torch

The name comes from `choose` (commands: `--backend`), or from the environment's CTSCRIBE_BACKEND.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from typing import TypeVar, get_args

import torch

from ctscribe.config import BACKEND_VARIABLE, Backend
from ctscribe.errors import ConfigError, KernelError
from ctscribe.ops import cuda

NAMES: tuple[str, ...] = get_args(Backend)
VARIABLE = BACKEND_VARIABLE
STATES = (8, 16, 32, 64)  # N that the CUDA kernels are written for
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = (*KERNEL_DTYPES, torch.float64)  # that our operations take at all
T = TypeVar("T", bound=torch.Tensor | None)
_log = logging.getLogger(__name__)
_chosen: str | None = None


def choose(name: str | None) -> None:
    """Use this backend from now on; None: what the environment says, or auto.

    Raises ConfigError on an unknown name.
    """
    global _chosen
    if name is not None and name not in NAMES:
        raise ConfigError(f"backend is {name}", fix=f"give one of {', '.join(NAMES)}")
    _chosen = name


def chosen() -> str:
    """The name in force. Raises ConfigError if the environment names an unknown one."""
    name = _chosen or os.environ.get(VARIABLE) or "auto"
    if name not in NAMES:
        raise ConfigError(f"{VARIABLE} is {name}", fix=f"set one of {', '.join(NAMES)}")
    return name


def pick(
    device: torch.device, dtype: torch.dtype = torch.float32, states: int | None = None
) -> str:
    """The backend for tensors of this device and dtype, and a state of this size: never `auto`.

    Raises KernelError if a backend asked for by name cannot run there.
    """
    name: str = _usable(device)
    if name == "torch" or (dtype in KERNEL_DTYPES and (states is None or states in STATES)):
        return name
    if chosen() == "auto":
        return "torch"
    what = f"inputs of {dtype}" if dtype not in KERNEL_DTYPES else f"A of {states} columns"
    raise KernelError(f"the backend {name} does not take {what}", fix="use --backend auto")


def turned(x: T, reverse: bool) -> T:
    """x (B, L, ...), with `reverse` flipped along L."""
    return x if x is None or not reverse else x.flip(1)  # type: ignore[return-value]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _usable(device: torch.device) -> str:
    """The backend in force on a device. What torch.compile has compiled keeps to its answer."""
    name = chosen()
    if name == "torch" or device.type != "cuda":
        if name in ("cuda", "mamba_ssm"):
            raise KernelError(
                f"the backend {name} needs a GPU, not {device}", fix="use --backend auto"
            )
        return "torch"
    if name == "mamba_ssm" and importlib.util.find_spec("selective_scan_cuda") is None:
        raise KernelError(
            "the extension selective_scan_cuda is not installed", fix="use --backend auto"
        )
    reason = None if name == "mamba_ssm" else cuda.why_not(device)
    if name == "cuda" and reason is not None:
        raise KernelError(f"the backend cuda cannot run: {reason}", fix="use --backend auto")
    if name == "auto":
        name = "cuda" if reason is None else "torch"
    _say_once(name, reason)
    return name


@functools.cache
def _say_once(name: str, reason: str | None) -> None:
    if reason is None:
        _log.info("selective scan and convolution on GPUs run on: %s", name)
    else:
        _log.warning("GPUs run on %s, many times slower than kernels: %s", name, reason)
