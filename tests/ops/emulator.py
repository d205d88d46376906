"""The CUDA kernels on a CPU: compiled by g++ as C++, so that CI, which has no GPU, runs their code.

What is checked is what they compute, through the same Python as on a GPU; alignment of every access
(g++'s sanitizer); and that all threads of a block meet at every barrier. Not checked: speed, races,
and launches before the previous kernel has ended. Kernels of a few blocks only: this is slow.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ctscribe.ops import backend, cuda, nvrtc, scan_cuda

HEADER = Path(__file__).with_suffix(".h")
# Some g++ check by default that jumps go to a frame below: threads that take turns jump elsewhere.
UNCHECKED = "-U_FORTIFY_SOURCE"
FLAGS = ("-O1", "-std=c++17", "-w", "-shared", "-fPIC", "-fno-strict-aliasing", UNCHECKED)
SANITIZE = ("-fsanitize=alignment", "-fno-sanitize-recover=alignment")
# PTX that the kernels use, in C++; operands by number.
PTX = {
    "": "",
    "griddepcontrol": "",
    "cvt.rn.bf16.f32": "{0} = bf16_of({1})",
    "cvt.rn.bf16x2.f32": "{0} = (unsigned)bf16_of({1}) << 16 | bf16_of({2})",
    "cvt.rn.f16.f32": "{0} = fp16_of({1})",
    "cvt.rn.f16x2.f32": "{0} = (unsigned)fp16_of({1}) << 16 | fp16_of({2})",
    "cvt.f32.f16": "{0} = of_fp16({1})",
    "ex2.approx.ftz.f32": "{0} = exp2f({1})",
    "lg2.approx.ftz.f32": "{0} = log2f({1})",
    "rcp.approx.ftz.f32": "{0} = 1.f / ({1})",
    "movmatrix": "{0} = transposed_8x8({1})",
    "mma": "matrix_product({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10})",
}


def why_not() -> str | None:
    """Why kernels cannot be emulated here, or None."""
    if sys.platform != "linux":
        return "the emulator switches contexts as Linux does"
    return None if shutil.which("g++") else "g++ is not installed"


needs_emulator = pytest.mark.skipif(why_not() is not None, reason=f"no emulator: {why_not()}")


@contextmanager
def emulated() -> Iterator[None]:
    """Tensors on the CPU go to the kernels, as on a GPU of 132 multiprocessors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "load", load)
        patch.setattr(backend, "_usable", lambda _: "cuda")
        patch.setattr(scan_cuda, "_multiprocessors", lambda _: 132)
        yield


def load(file: str | Path, entry: str, defines: dict[str, Any], device: Any) -> Any:
    """As `cuda.load`: a kernel to call with grid, threads of a block, and its arguments."""
    of_elem = next(d for d, number in scan_cuda.ELEMENTS.items() if number == defines["ELEMENT"])
    dtypes = {"elem*": of_elem, "float*": torch.float32}
    library, kinds = _library(Path(file).name, entry, tuple(defines.items()))

    def launch(grid: tuple[int, int, int], block: int, *args: Any) -> None:
        assert len(args) == len(kinds), f"{entry} has {len(kinds)} parameters, not {len(args)}"
        assert min(grid) > 0, f"{entry}: grid {grid}"
        words = [_word(kind, value, dtypes) for kind, value in zip(kinds, args, strict=True)]
        library.launch(*grid, block, (ctypes.c_longlong * len(words))(*words))

    return launch


def _word(kind: str, value: Any, dtypes: dict[str, torch.dtype]) -> int:
    if kind.endswith("*"):
        if value is None:
            return 0
        assert isinstance(value, torch.Tensor), f"{value} for {kind}"
        assert value.dtype == dtypes.get(kind, value.dtype), f"{value.dtype} for {kind}"
        return int(value.data_ptr())
    if kind == "float":
        assert type(value) is float, f"{value} for a float"
        return int(struct.unpack("i", struct.pack("f", value))[0])
    assert type(value) is int, f"{value} for an i64"
    return value


@cache
def _library(file: str, entry: str, defines: tuple[tuple[str, Any], ...]) -> tuple[Any, list[str]]:
    source, kinds = _translated(file, entry)
    macros = [f"-D{name}={value}" for name, value in defines]
    text = "\n".join([source, HEADER.read_text(encoding="utf-8"), *macros, *FLAGS, *SANITIZE])
    place = Path(tempfile.gettempdir()) / "ctscribe-emulated"
    place.mkdir(exist_ok=True)
    built = place / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=place) as folder:
            code, fresh = Path(folder) / f"{entry}.cpp", Path(folder) / "fresh.so"
            code.write_text(source, encoding="utf-8")
            command = ["g++", *FLAGS, *SANITIZE, *macros, f"-I{HEADER.parent}"]
            subprocess.run([*command, str(code), "-o", str(fresh)], check=True)
            os.replace(fresh, built)
    return ctypes.CDLL(str(built)), kinds


@cache
def _translated(file: str, entry: str) -> tuple[str, list[str]]:
    """C++ of a kernel, with a function `launch`, and the kinds of its parameters."""
    kernels = nvrtc.KERNELS
    common = (kernels / "common.cuh").read_text(encoding="utf-8").replace("#pragma once", "")
    source = (kernels / file).read_text(encoding="utf-8").replace('#include "common.cuh"', common)
    source = re.sub(r"asm\s*(?:volatile)?\s*\((.*?)\);", _instruction, source, flags=re.DOTALL)
    found = re.search(rf'extern "C" __global__[^;{{]*?\b{entry}\(([^)]*)\)\s*{{', source)
    assert found is not None, f"{file} has no kernel {entry}"
    kinds, values = [], []
    for i, parameter in enumerate(found[1].split(",")):
        of_type = re.sub(r"__restrict__|\w+\s*$", "", parameter.strip()).strip()
        kinds.append(of_type.removeprefix("const "))
        values.append(
            f"bits<float>((int)args[{i}])" if of_type == "float" else f"({of_type})args[{i}]"
        )
    return (
        f'#include "{HEADER.name}"\n{source}\n'
        f"static const long long* args;\n"
        f'extern "C" void launch(int x, int y, int z, int block, const long long* given) {{\n'
        f"    args = given;\n"
        f"    run_blocks({{x, y, z}}, block, [] {{ {entry}({', '.join(values)}); }});\n"
        f"}}\n"
    ), kinds


def _instruction(found: re.Match[str]) -> str:
    template, *operands = re.split(r":", found[1].replace("::", ": :"))
    text = "".join(re.findall(r'"([^"]*)"', template)).strip()
    values = re.findall(r'"=?\+?[a-z]"\s*\((.*?)\)(?=\s*(?:,\s*"|$))', ",".join(
        part.strip() for part in operands if "(" in part
    ))  # fmt: skip
    name = max((name for name in PTX if text.startswith(name)), key=len)
    assert name or not text, f"no C++ for {text}"
    return PTX[name].format(*values) + ";"
