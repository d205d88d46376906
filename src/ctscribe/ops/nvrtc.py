"""CUDA C++ to machine code by NVRTC, NVIDIA's run-time compiler: no nvcc, no driver, no GPU.

NVRTC comes in PyTorch's own Windows wheels and in the nvidia-cuda-nvrtc wheel; cuda-bindings calls
it. A kernel is a file of `kernels/`, an entry (`extern "C" __global__`) and its -D defines; the
`.cuh` files beside it can be included.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ctscribe.errors import KernelError

KERNELS = Path(__file__).with_name("kernels")
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)  # what the kernels are written and compiled for

Defines = Mapping[str, str | int]

# -v makes ptxas report registers and spills in the log; it changes nothing in the code.
_OPTIONS = ("--std=c++17", "-default-device", "--ptxas-options=-v")


@dataclass(frozen=True)
class Compiled:
    """Machine code of one entry, and what it costs a thread (registers, spills) and a block."""

    cubin: bytes
    registers: int
    spill_bytes: int  # stored and loaded, of the entry and of what it calls
    stack_bytes: int
    shared_bytes: int  # static, of a block


@dataclass(frozen=True)
class Source:
    """A kernel file and the headers beside it, read once, so that key and code agree."""

    path: Path
    text: bytes
    headers: tuple[tuple[str, bytes], ...]


def read_source(file: str | Path) -> Source:
    """Read a kernel file, of `kernels/` unless the path is absolute. Raises KernelError."""
    path = KERNELS / file
    try:
        headers = sorted(path.parent.glob("*.cuh"))
        return Source(path, path.read_bytes(), tuple((h.name, h.read_bytes()) for h in headers))
    except OSError as error:
        reason = f"kernel source cannot be read ({error.strerror or error})"
        raise KernelError(reason, file=path, fix="install ctscribe again") from None


def compile_for(file: str | Path, entry: str, defines: Defines, arch: int) -> Compiled:
    """Compile for one architecture (90 is sm_90), without a driver; nothing is cached.

    Raises KernelError: NVRTC missing, or the first error line of its log.
    """
    target = f"sm_{arch}"
    code, log = compile_source(read_source(file), entry, defines, target)
    return Compiled(code, *_usage(log, entry, target))


def compile_source(source: Source, entry: str, defines: Defines, target: str) -> tuple[bytes, str]:
    """Code and log: a cubin for a target `sm_90`, PTX for `compute_90`. Raises KernelError."""
    nvrtc = load_nvrtc()
    names = [name.encode() for name, _ in source.headers]
    texts = [text for _, text in source.headers]
    options = [option.encode() for option in _options(defines, target)]
    name = source.path.name.encode()
    program = _checked(
        nvrtc.nvrtcCreateProgram(source.text, name, len(names), texts, names), "nvrtcCreateProgram"
    )
    try:
        (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
        shown = log.decode(errors="replace").rstrip("\0").strip()
        if int(result) != 0:
            ours = result == nvrtc.nvrtcResult.NVRTC_ERROR_COMPILATION
            raise KernelError(
                f"{entry} does not compile for {target}: {_first_error(shown) or result.name}",
                file=source.path,
                # Anything else, such as a part of NVRTC that is not found, is the installation's.
                fix="use --backend torch, which needs no kernel, and report this"
                if ours
                else pip_command(),
            )
        if target.startswith("sm_"):
            return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program), shown
        return _text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program), shown
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def key(source: Source, entry: str, defines: Defines, target: str) -> str:
    """SHA-256 of all that the code depends on: sources, entry, defines, target, NVRTC, options."""
    parts = [source.path.name.encode(), source.text, entry.encode(), version().encode()]
    parts += [option.encode() for option in _options(defines, target)]
    for name, text in source.headers:
        parts += [name.encode(), text]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def target_for(capability: tuple[int, int]) -> str:
    """`sm_XY` where NVRTC knows this GPU, else `compute_XY` of the newest older one: PTX, which
    the driver finishes. Raises KernelError for a GPU older than sm_75."""
    device = capability[0] * 10 + capability[1]
    known = [arch for arch in supported_architectures() if ARCHITECTURES[0] <= arch <= device]
    if not known:
        raise KernelError(
            f"the kernels need a GPU of compute capability 7.5, this one has {device / 10}",
            fix="use --backend torch",
        )
    return f"sm_{device}" if device in known else f"compute_{max(known)}"


def supported_architectures() -> tuple[int, ...]:
    """What the NVRTC in use compiles for."""
    nvrtc = load_nvrtc()
    return tuple(_checked(nvrtc.nvrtcGetSupportedArchs(), "nvrtcGetSupportedArchs"))


@functools.cache
def version() -> str:
    """NVRTC's version, `13.0.88` where its wheel says so, else `13.0`. Raises KernelError."""
    nvrtc = load_nvrtc()
    result, major, minor = nvrtc.nvrtcVersion()
    _checked((result, None), "nvrtcVersion")
    short = f"{major}.{minor}"
    for wheel in ("nvidia-cuda-nvrtc", f"nvidia-cuda-nvrtc-cu{major}"):
        try:
            exact = importlib.metadata.version(wheel)
        except importlib.metadata.PackageNotFoundError:
            continue
        if exact.startswith(f"{short}."):
            return exact
    return short


@functools.cache
def load_nvrtc() -> Any:
    """cuda.bindings.nvrtc with its library loaded. Raises KernelError with the pip command."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise KernelError(f"cuda-bindings is missing ({error})", fix=pip_command()) from None
    _preload_torchs_own()
    try:
        nvrtc.nvrtcVersion()
    # RuntimeError: not found, or too old to have a function; OSError: found, but it does not load.
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise KernelError(f"NVRTC is not found ({reason})", fix=pip_command()) from None
    return nvrtc


def pip_command() -> str:
    """What installs all that the kernels need, for the CUDA that this PyTorch was built with."""
    major = 12 if (torch.version.cuda or "13").startswith("12.") else 13
    bindings = "cuda-bindings>=12.9,<13" if major == 12 else "cuda-bindings>=13,<14"
    compiler = "nvidia-cuda-nvrtc-cu12" if major == 12 else "nvidia-cuda-nvrtc>=13,<14"
    return f'pip install "cuda-core>=1.2,<2" "{bindings}" "{compiler}"'


def _preload_torchs_own() -> None:
    """On Windows: NVRTC out of PyTorch's wheel, so that it is found as loaded already.

    Its builtins go first: NVRTC asks for them by name alone.
    """
    if sys.platform != "win32":
        return
    folder = Path(torch.__file__).parent / "lib"
    for pattern in ("nvrtc-builtins64_*.dll", "nvrtc64_*_0.dll"):
        for library in sorted(folder.glob(pattern)):
            try:
                ctypes.WinDLL(str(library))
            except OSError:  # then the nvidia-cuda-nvrtc wheel's, if it is there
                return


def _options(defines: Defines, target: str) -> list[str]:
    named = [f"-D{name}={value}" for name, value in sorted(defines.items())]
    return [f"--gpu-architecture={target}", *_OPTIONS, *named]


def _checked(returned: tuple[Any, ...], call: str) -> Any:
    result, value = returned
    if int(result) != 0:
        raise KernelError(f"{call} failed: {result.name}", fix=pip_command())
    return value


def _text(size: Any, read: Any, program: Any) -> bytes:
    length = _checked(size(program), size.__name__)
    buffer = bytes(length)
    _checked((*read(program, buffer), None), read.__name__)
    return buffer


def _first_error(log: str) -> str:
    lines = log.splitlines()
    return next(
        (line.strip() for line in lines if re.search(r"\berror\b", line)), "".join(lines[:1])
    )


def _usage(log: str, entry: str, target: str) -> tuple[int, int, int, int]:
    """Registers, spilled bytes, stack and shared bytes, from what ptxas reports of an entry."""
    about = re.search(
        rf"Compiling entry function '{re.escape(entry)}'.*?(?=Compiling entry function|\Z)",
        log,
        re.DOTALL,
    )
    used = re.search(r"Used (\d+) registers", about[0]) if about else None
    if about is None or used is None:
        raise KernelError(
            f"NVRTC's log for {target} does not name the entry {entry}",
            fix='the entry must be extern "C" __global__ in this file with these defines',
        )

    def numbers(pattern: str) -> list[int]:
        return [int(number) for number in re.findall(pattern, about[0])]

    spilled = sum(numbers(r"(\d+) bytes spill (?:stores|loads)"))
    stack = max(numbers(r"(\d+) bytes (?:cumulative stack size|stack frame)"), default=0)
    return int(used[1]), spilled, stack, max(numbers(r"(\d+) bytes smem"), default=0)
