"""Where the tests of the operators run: the CPU, the kernels on the CPU, a GPU if there is one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import pytest
import torch

from ctscribe.ops import backend, code_cache, conv_cuda, cuda, nvrtc, scan_cuda
from tests.ops.emulator import emulated, needs_emulator

PLACES = [
    pytest.param("torch", id="cpu-torch"),
    pytest.param("emulated", id="emulated", marks=needs_emulator),
    pytest.param(
        "cuda",
        id="cuda",
        marks=pytest.mark.skipif(not cuda.available(), reason=f"no kernel: {cuda.why_not()}"),
    ),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device to put tensors on; its backend is chosen by name."""
    if request.param == "emulated":
        with emulated():
            yield torch.device("cpu")
        return
    if request.param == "cuda":
        request.getfixturevalue("compiled")
    backend.choose(request.param)
    yield torch.device("cuda" if request.param == "cuda" else "cpu")
    backend.choose(None)


@pytest.fixture(scope="session")
def compiled() -> None:
    """Compiles what is not kept on disk yet, on all cores: one by one it takes a minute."""
    target = nvrtc.target_for(torch.cuda.get_device_capability())
    sources = {f: nvrtc.read_source(f) for f, _, _ in _variants()}
    missing = [
        (file, entry, defines, target)
        for file, entry, defines in _variants()
        if code_cache.read(nvrtc.key(sources[file], entry, defines, target)) is None
    ]
    if len(missing) < 4:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(16, len(missing)), mp_context=context) as pool:
        list(pool.map(cuda._code, *zip(*missing, strict=True)))


def _variants() -> list[tuple[Any, ...]]:
    """Of each kernel all dtypes, aligned and not, with and without the parameters' gradients."""
    found: dict[str, tuple[Any, ...]] = {}
    choices = {"ELEMENT": (0, 1, 2), "VECTOR": (0, 1), "WITH_PARAMETERS": (0, 1), "TAPS": (2, 3, 4)}
    choices |= {name: (0, 1) for name in ("REVERSE", "WITH_WEIGHT", "WITH_INITIAL", "SILU")}
    for file, entry, defines in (*scan_cuda.variants(), *conv_cuda.variants()):
        here = [key for key in choices if key in defines]
        for values in product(*(choices[key] for key in here)):
            chosen = {**defines, **dict(zip(here, values, strict=True))}
            found[f"{file} {entry} {chosen}"] = file, entry, chosen
    return list(found.values())
