"""CUDA C++ kernels, compiled at first use and launched on PyTorch's current stream.

    kernel = load("selective_scan_forward.cu", "scan_forward", {"STATES": 16}, x.device)
    kernel((blocks, 1, 1), 128, x, y, None, length, 1e-5)

`nvrtc.py` compiles, `code_cache.py` keeps the result on disk, and cuda-core loads and launches it.
"""

from __future__ import annotations

import functools
import threading
from ctypes import c_float
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctscribe.errors import KernelError
from ctscribe.ops import code_cache, nvrtc
from ctscribe.ops.nvrtc import Defines

Arg = Tensor | int | float | None

_kernels: dict[tuple[Any, ...], Kernel] = {}
_lock = threading.Lock()
_KEPT_CONFIGS = 1024  # of one kernel: a grid for each length met


def load(file: str | Path, entry: str, defines: Defines, device: torch.device) -> Kernel:
    """The kernel `entry` of a file in `kernels/`, ready to launch on a CUDA device.

    Compiled once for the user (a disk cache) and loaded once for the process; after that a look-up.
    Must not first be called while a CUDA graph is captured: loading is not allowed there.
    Raises KernelError: no CUDA, no NVRTC, a compile error.
    """
    if device.index is None:
        _require(device)
        device = torch.device("cuda", torch.cuda.current_device())
    name = (file, entry, tuple(defines.items()), device)
    kernel = _kernels.get(name)
    if kernel is None:
        with _lock:
            kernel = _kernels.get(name)
            if kernel is None:
                kernel = _kernels[name] = _load(file, entry, defines, device)
    return kernel


def available(device: torch.device | None = None) -> bool:
    """Whether kernels can run here: a CUDA device, cuda-core, cuda-bindings and NVRTC."""
    return why_not(device) is None


def why_not(device: torch.device | None = None) -> str | None:
    """Why kernels cannot run on a CUDA device (the current one if None), with the remedy; or None.

    Compiles nothing. After the first call for a device it costs nothing.
    """
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA"
    if not torch.cuda.is_available():
        return f"PyTorch, built for CUDA {torch.version.cuda}, finds no CUDA device"
    index = None if device is None else device.index
    return _why_not(torch.cuda.current_device() if index is None else index)


@functools.cache
def _why_not(index: int) -> str | None:
    try:
        _cuda_core()
        nvrtc.target_for(torch.cuda.get_device_capability(index))
    except KernelError as error:
        return str(error)
    return None


class Kernel:
    """A loaded kernel: call it with grid (x, y, z), threads of a block, and its arguments.

    A tensor is passed as its address, None as a null pointer, an int as a 64-bit integer and a
    float as a 32-bit one: nothing compares them with the kernel's own parameters. Runs on the
    current stream of the kernel's device. Raises KernelError when the driver refuses the launch.
    """

    def __init__(self, name: str, index: int, handle: Any) -> None:
        core = _cuda_core()
        self.name, self.index = name, index
        self._handle, self._launch, self._config = handle, core.launch, core.LaunchConfig
        self._stream, self._device = core.Stream.from_handle, core.Device
        # From Hopper on a kernel may start while the one before still runs; the kernels wait for
        # it where they must (`wait_for_previous` in common.cuh).
        early = torch.cuda.get_device_capability(index) >= (9, 0)
        self._options = {"programmatic_stream_serialization": True} if early else {}
        self._configs: dict[tuple[tuple[int, int, int], int], Any] = {}
        self._streams: dict[int, Any] = {}

    def __call__(self, grid: tuple[int, int, int], block: int, *args: Arg) -> None:
        """Launch; returns before it has run."""
        if torch._C._cuda_getDevice() != self.index:
            with torch.cuda.device(self.index):
                self(grid, block, *args)
            return
        raw = torch._C._cuda_getCurrentRawStream(self.index)
        # By exact type: isinstance with Tensor takes most of a microsecond where the answer is no.
        values = [
            a if type(a) is int
            else 0 if a is None
            else c_float(a) if type(a) is float
            else a.data_ptr()  # type: ignore[union-attr]
            for a in args
        ]  # fmt: skip
        try:
            stream = self._streams.get(raw)
            if stream is None:
                stream = self._streams[raw] = self._stream(raw)
            config = self._configs.get((grid, block))
            if config is None:
                if len(self._configs) >= _KEPT_CONFIGS:
                    self._configs.clear()
                config = self._configs[grid, block] = self._config(
                    grid=grid, block=block, **self._options
                )
            try:
                self._launch(stream, config, self._handle, *values)
            except Exception as error:
                if "CUDA_ERROR_INVALID_CONTEXT" not in str(error):
                    raise
                # A thread that has not used the device yet: PyTorch's memory pool needs no context.
                self._device(self.index).set_current()
                self._launch(stream, config, self._handle, *values)
        except Exception as error:
            raise KernelError(
                f"{self.name} was not launched with grid {grid} and block {block}: {error}",
                fix="use --backend torch, and report this",
            ) from error


def _require(device: torch.device) -> None:
    reason = why_not(device)
    if reason is not None:
        raise KernelError(f"no kernel can run: {reason}", fix="use --backend torch")


def _load(file: str | Path, entry: str, defines: Defines, device: torch.device) -> Kernel:
    _require(device)
    index = device.index
    core = _cuda_core()
    from cuda.bindings import driver

    target = nvrtc.target_for(torch.cuda.get_device_capability(index))
    code = _code(file, entry, defines, target)
    wrap = core.ObjectCode.from_cubin if target.startswith("sm_") else core.ObjectCode.from_ptx
    with torch.cuda.device(index):
        core.Device(index).set_current()
        try:
            handle = wrap(code).get_kernel(entry)
            # Loads it now, not at the first launch: that may be inside a graph's capture.
            result, _ = driver.cuKernelGetFunction(handle.handle)
            if int(result) != 0:
                raise RuntimeError(result.name)
        except Exception as error:
            raise KernelError(
                f"{entry} for {target} is not accepted by the driver: {error}",
                file=nvrtc.KERNELS / file,
                fix="update the GPU's driver, or use --backend torch",
            ) from error
    return Kernel(entry, index, handle)


def _code(file: str | Path, entry: str, defines: Defines, target: str) -> bytes:
    """Machine code (PTX for a `compute_` target) out of the cache, or compiled and kept there."""
    source = nvrtc.read_source(file)
    key = nvrtc.key(source, entry, defines, target)
    code = code_cache.read(key)
    if code is None:
        code, _ = nvrtc.compile_source(source, entry, defines, target)
        code_cache.write(key, code)
    return code


@functools.cache
def _cuda_core() -> Any:
    try:
        import cuda.core as core
    except (ImportError, RuntimeError) as error:  # RuntimeError: cuda-bindings of another CUDA
        reason = f"cuda-core cannot be used ({error})"
        raise KernelError(reason, fix=nvrtc.pip_command()) from None
    return core
