"""Every kernel is compiled for every architecture; its registers and spills are those of the table.

`kernel_table.json` is written anew by deleting it and running this file, on purpose.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ctscribe.ops import conv_cuda, cross_entropy, decode_cuda, nvrtc, rms_norm, scan_cuda

TABLE = Path(__file__).with_name("kernel_table.json")
REGISTERS_APART = 8  # between two versions of NVRTC; a GPU gives registers out in eights

Variant = tuple[str | Path, str, dict[str, str | int]]
SOURCES = (scan_cuda, conv_cuda, rms_norm, decode_cuda, cross_entropy)

VARIANTS = {
    " ".join([Path(file).name, entry, *(f"{k}={v}" for k, v in sorted(defines.items()))]): (
        file,
        entry,
        defines,
    )
    for source in SOURCES
    for file, entry, defines in source.variants()
}


def architectures() -> list[int]:
    return [arch for arch in nvrtc.ARCHITECTURES if arch in nvrtc.supported_architectures()]


def compiled(variant: Variant) -> dict[str, list[int]]:
    """Registers and spilled bytes by architecture."""
    found = {}
    for arch in architectures():
        code = nvrtc.compile_for(*variant, arch)
        found[str(arch)] = [code.registers, code.spill_bytes]
    return found


def regressions(
    stored: dict[str, list[int]], now: dict[str, list[int]], same_nvrtc: bool
) -> list[str]:
    """What is worse than the table, or, with the same NVRTC, not what the table says."""
    wrong = []
    for arch, (registers, spilled) in now.items():
        if arch not in stored:
            wrong.append(f"sm_{arch} is not in the table")
            continue
        registers_then, spilled_then = stored[arch]
        room = 0 if same_nvrtc else REGISTERS_APART
        if registers > registers_then + room or (same_nvrtc and registers != registers_then):
            wrong.append(f"sm_{arch}: {registers} registers, {registers_then} in the table")
        if spilled > spilled_then or (same_nvrtc and spilled != spilled_then):
            wrong.append(f"sm_{arch}: {spilled} bytes spilled, {spilled_then} in the table")
    return wrong


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    if not TABLE.exists():
        rows = {name: compiled(variant) for name, variant in VARIANTS.items()}
        text = json.dumps({"nvrtc": nvrtc.version(), "kernels": rows}, indent=1)
        # One line a kernel.
        text = re.sub(r"\[\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2]", text)
        TABLE.write_text(text + "\n", encoding="utf-8")
        pytest.fail(f"{TABLE.name} was missing and has been written: commit it")
    stored: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return stored


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_registers_and_spills_are_those_of_the_table(name: str, table: dict[str, Any]) -> None:
    assert architectures(), "this NVRTC knows none of the architectures that the kernels are for"
    assert name in table["kernels"], f"delete {TABLE.name} to write it anew"
    same = nvrtc.version() == table["nvrtc"]
    wrong = regressions(table["kernels"][name], compiled(VARIANTS[name]), same)
    assert not wrong, f"{name}: {'; '.join(wrong)} (delete {TABLE.name} to write it anew)"


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_nothing_is_loaded_as_if_it_were_constant(name: str) -> None:
    # A kernel that starts before the previous one has ended would find old values in the cache.
    file, entry, defines = VARIANTS[name]
    ptx, _ = nvrtc.compile_source(nvrtc.read_source(file), entry, defines, "compute_90")
    assert b"griddepcontrol.wait" in ptx
    assert b"ld.global.nc" not in ptx


def test_the_table_holds_no_kernel_that_is_gone(table: dict[str, Any]) -> None:
    assert set(table["kernels"]) == set(VARIANTS)


def test_every_kernel_of_every_file_is_among_them() -> None:
    entry = re.compile(r'extern "C" __global__[^(]*(?:\([^)]*\))?\s*(\w+)\(')
    for file in nvrtc.KERNELS.glob("*.cu"):
        there = set(entry.findall(file.read_text(encoding="utf-8")))
        assert there
        assert there == {e for f, e, _ in VARIANTS.values() if Path(f).name == file.name}


@pytest.mark.parametrize(
    ("now", "same", "elsewhere"),
    [
        ([32, 0], True, True),
        ([33, 0], False, True),
        ([31, 0], False, True),
        ([40, 0], False, True),
        ([41, 0], False, False),
        ([32, 4], False, False),
        ([24, 4], False, False),
    ],
)
def test_what_counts_as_a_regression(now: list[int], same: bool, elsewhere: bool) -> None:
    stored = {"90": [32, 0]}
    assert (not regressions(stored, {"90": now}, True)) is same
    assert (not regressions(stored, {"90": now}, False)) is elsewhere
    assert regressions(stored, {"120": now}, False)
