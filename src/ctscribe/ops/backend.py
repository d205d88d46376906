"""Which code runs our operations: chosen by name, said once.

    cuda       the kernels in `kernels/`, compiled at run time: no compiler to install
    torch      plain PyTorch operations, on any device
    mamba_ssm  the official CUDA extension, where somebody has built it
    auto       cuda on a GPU where it can run, else torch

The name comes from `choose`, or from the environment variable CTSCRIBE_BACKEND.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from typing import Literal, get_args

import torch

from ctscribe.errors import ConfigError, KernelError
from ctscribe.ops import cuda

BackendName = Literal["auto", "cuda", "torch", "mamba_ssm"]
NAMES: tuple[str, ...] = get_args(BackendName)
VARIABLE = "CTSCRIBE_BACKEND"
STATES = (8, 16, 32, 64)  # N that the CUDA kernels are written for
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
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
    name = chosen()
    if name == "torch" or device.type != "cuda":
        if name in ("cuda", "mamba_ssm"):
            raise KernelError(f"the backend {name} needs a GPU, not {device}", fix="use auto")
        return "torch"
    fits = dtype in KERNEL_DTYPES and (states is None or states in STATES)
    if name == "auto":
        reason = cuda.why_not(device)
        _say_once("cuda" if reason is None else "torch", reason)
        return "cuda" if reason is None and fits else "torch"
    if not fits:
        raise KernelError(
            f"the backend {name} does not take {dtype} with a state of {states}", fix="use auto"
        )
    if name == "mamba_ssm" and importlib.util.find_spec("selective_scan_cuda") is None:
        raise KernelError("the extension selective_scan_cuda is not installed", fix="use auto")
    if name == "cuda" and (reason := cuda.why_not(device)) is not None:
        raise KernelError(f"the backend cuda cannot run: {reason}", fix="use auto")
    _say_once(name, None)
    return name


@functools.cache
def _say_once(name: str, reason: str | None) -> None:
    if reason is None:
        _log.info("selective scan and convolution on GPUs run on: %s", name)
    else:
        _log.warning("GPUs run on %s, many times slower than kernels: %s", name, reason)
