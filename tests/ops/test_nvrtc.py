from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

from ctscribe.errors import KernelError
from ctscribe.ops import nvrtc

TOY = Path(__file__).parent / "kernels"
SILU = TOY / "silu.cu"
FLOAT = {"TYPE": "float"}

SPILLS = """
extern "C" __global__ void __launch_bounds__(1024, 2) crowded(float* x) {
  float kept[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) kept[i] = x[threadIdx.x * 64 + i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; ++i) x[threadIdx.x * 64 + i] = kept[63 - i] * kept[i];
}
extern "C" __global__ void shared(float* x) {
  __shared__ float tile[300];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = tile[299 - threadIdx.x];
}
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(SILU, tmp_path)
    shutil.copy(TOY / "common.cuh", tmp_path)
    return tmp_path / "silu.cu"


@pytest.fixture
def fresh() -> None:
    """Looks for NVRTC anew, in this test and after it."""
    nvrtc.load_nvrtc.cache_clear()
    nvrtc.version.cache_clear()
    yield
    nvrtc.load_nvrtc.cache_clear()
    nvrtc.version.cache_clear()


def test_registers_spills_and_shared_memory_are_those_of_the_entry(tmp_path: Path) -> None:
    file = tmp_path / "spills.cu"
    file.write_text(SPILLS, encoding="utf-8")
    crowded = nvrtc.compile_for(file, "crowded", {}, 90)
    assert crowded.registers <= 32  # 65,536 for 2 x 1024 threads
    assert crowded.spill_bytes > 0
    assert crowded.stack_bytes > 0
    assert crowded.shared_bytes == 0
    shared = nvrtc.compile_for(file, "shared", {}, 90)
    assert (shared.spill_bytes, shared.stack_bytes, shared.shared_bytes) == (0, 0, 1200)
    assert shared.registers < crowded.registers
    assert crowded.cubin.startswith(b"\x7fELF")


def test_the_key_changes_with_all_that_the_code_depends_on(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(entry: str = "scaled_silu", target: str = "sm_90", **defines: str | int) -> str:
        return nvrtc.key(nvrtc.read_source(copy), entry, defines, target)

    first = key(TYPE="float")
    assert key(TYPE="float") == first
    keys = {first, key("other", TYPE="float"), key(target="sm_80", TYPE="float")}
    keys |= {key(target="compute_90", TYPE="float"), key(TYPE="double"), key(TYPE="float", N=1)}
    keys |= {key(TYPE="float", N=2), key()}
    assert key(N=1, TYPE="float") == key(TYPE="float", N=1)
    copy.write_bytes(copy.read_bytes() + b"\n")
    keys.add(key(TYPE="float"))
    header = copy.with_name("common.cuh")
    header.write_bytes(header.read_bytes() + b"\n")
    keys.add(key(TYPE="float"))
    copy.with_name("more.cuh").touch()
    keys.add(key(TYPE="float"))
    monkeypatch.setattr(nvrtc, "version", lambda: "99.0")
    keys.add(key(TYPE="float"))
    monkeypatch.setattr(nvrtc, "_OPTIONS", ("--std=c++17",))
    keys.add(key(TYPE="float"))
    assert len(keys) == 13


def test_a_byte_moved_from_one_part_to_the_next_is_another_key(tmp_path: Path) -> None:
    def key(a: bytes, b: bytes) -> str:
        source = nvrtc.Source(tmp_path / "k.cu", b"", (("a.cuh", a), ("b.cuh", b)))
        return nvrtc.key(source, "entry", {}, "sm_90")

    assert key(b"xb.cuh", b"y") != key(b"x", b"b.cuhy")


def test_the_same_source_gives_the_same_code() -> None:
    first, second = (nvrtc.compile_for(SILU, "scaled_silu", FLOAT, 90) for _ in range(2))
    assert first == second


def test_a_compile_error_is_one_line_that_names_file_line_entry_and_target(copy: Path) -> None:
    with pytest.raises(KernelError) as caught:
        nvrtc.compile_for(copy, "scaled_silu", {"TYPE": "flaot"}, 86)
    said = str(caught.value)
    assert "\n" not in said
    for part in (str(copy), "scaled_silu", "sm_86", "silu.cu(5): error", '"flaot" is undefined'):
        assert part in said
    copy.with_name("common.cuh").write_text("#error not for this GPU\n", encoding="utf-8")
    with pytest.raises(KernelError, match=r"common\.cuh\(1\): catastrophic error.*not for this"):
        nvrtc.compile_for(copy, "scaled_silu", FLOAT, 86)


def test_a_broken_installation_is_not_the_kernels_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    real = nvrtc.load_nvrtc()
    broken = real.nvrtcResult.NVRTC_ERROR_BUILTIN_OPERATION_FAILURE
    monkeypatch.setattr(real, "nvrtcCompileProgram", lambda *_: (broken,))
    with pytest.raises(KernelError, match=r"BUILTIN_OPERATION_FAILURE\. Fix: pip install"):
        nvrtc.compile_for(SILU, "scaled_silu", FLOAT, 86)


def test_a_warning_that_speaks_of_errors_is_not_taken_for_one(copy: Path) -> None:
    text = copy.read_text(encoding="utf-8").replace("if (i < n", "int unused_error; if (i < n")
    copy.write_text(text.replace("silu(scale", "nothing(scale"), encoding="utf-8")
    with pytest.raises(KernelError, match=r"silu\.cu\(\d+\): error: identifier .nothing."):
        nvrtc.compile_for(copy, "scaled_silu", FLOAT, 86)


def test_what_cannot_be_read_or_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"absent\.cu: kernel source cannot be read"):
        nvrtc.compile_for(tmp_path / "absent.cu", "entry", {}, 90)
    with pytest.raises(KernelError, match="does not name the entry scaled_sil"):
        nvrtc.compile_for(SILU, "scaled_sil", FLOAT, 90)  # a part of the name is another name
    with pytest.raises(KernelError, match=r"sm_13: .*invalid value for --gpu-architecture"):
        nvrtc.compile_for(SILU, "scaled_silu", FLOAT, 13)


@pytest.mark.parametrize(
    ("capability", "target"),
    [
        ((7, 5), "sm_75"),
        ((9, 0), "sm_90"),
        ((12, 0), "sm_120"),
        ((12, 1), "compute_120"),
        ((13, 0), "compute_120"),
        ((8, 7), "compute_86"),
    ],
)
def test_a_gpu_gets_its_own_code_or_ptx_of_the_newest_older_one(
    capability: tuple[int, int], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = (50, 75, 80, 86, 89, 90, 100, 120)
    monkeypatch.setattr(nvrtc, "supported_architectures", lambda: known)
    assert nvrtc.target_for(capability) == target


def test_a_gpu_that_is_too_old_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "supported_architectures", lambda: (50, 60, 70, 75, 80))
    with pytest.raises(KernelError, match=r"7\.5, this one has 7\.0"):
        nvrtc.target_for((7, 0))


def test_ptx_is_made_for_what_nvrtc_does_not_know() -> None:
    code, _ = nvrtc.compile_source(nvrtc.read_source(SILU), "scaled_silu", FLOAT, "compute_90")
    assert b".target sm_90" in code
    assert b".entry scaled_silu" in code


@pytest.mark.parametrize(
    ("built_for", "bindings", "compiler"),
    [
        ("13.0", '"cuda-bindings>=13,<14"', '"nvidia-cuda-nvrtc>=13,<14"'),
        ("12.9", '"cuda-bindings>=12.9,<13"', '"nvidia-cuda-nvrtc-cu12"'),
        (None, '"cuda-bindings>=13,<14"', '"nvidia-cuda-nvrtc>=13,<14"'),
    ],
)
def test_missing_packages_give_the_pip_command_for_pytorchs_cuda(
    built_for: str | None,
    bindings: str,
    compiler: str,
    monkeypatch: pytest.MonkeyPatch,
    fresh: None,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(KernelError) as caught:
        nvrtc.version()
    assert f'pip install "cuda-core>=1.2,<2" {bindings} {compiler}' in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("no libnvrtc.so\nlooked in: a, b"), OSError("bad")])
def test_bindings_without_the_library_give_the_pip_command(
    error: Exception, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    def fail() -> None:
        raise error

    bindings = types.ModuleType("cuda.bindings")
    bindings.nvrtc = types.SimpleNamespace(nvrtcVersion=fail)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    with pytest.raises(
        KernelError, match=r'NVRTC is not found.*Fix: pip install "cuda-core'
    ) as got:
        nvrtc.compile_for(SILU, "scaled_silu", FLOAT, 90)
    assert "\n" not in str(got.value)


def test_the_exact_version_is_the_wheels_only_if_that_is_what_is_loaded(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    exact = nvrtc.version()
    major, minor = exact.split(".")[:2]
    nvrtc.version.cache_clear()
    monkeypatch.setattr(nvrtc.importlib.metadata, "version", lambda wheel: "11.8.89")
    assert nvrtc.version() == f"{major}.{minor}"


def test_on_windows_pytorchs_own_library_is_loaded_first_and_its_builtins_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    for name in (
        "nvrtc64_130_0.dll",
        "nvrtc64_130_0.alt.dll",
        "nvrtc-builtins64_130.dll",
        "c10.dll",
    ):
        (tmp_path / "lib" / name).touch()
    loaded: list[str] = []
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(
        nvrtc.ctypes, "WinDLL", lambda path: loaded.append(Path(path).name), raising=False
    )
    nvrtc._preload_torchs_own()
    assert loaded == ["nvrtc-builtins64_130.dll", "nvrtc64_130_0.dll"]

    def broken(path: str) -> None:
        raise OSError(path)

    monkeypatch.setattr(nvrtc.ctypes, "WinDLL", broken, raising=False)
    nvrtc._preload_torchs_own()  # the wheel's is tried next
