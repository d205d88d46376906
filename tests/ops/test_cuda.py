from __future__ import annotations

import contextlib
import ctypes
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import silu

from ctscribe.errors import KernelError
from ctscribe.ops import code_cache, cuda, nvrtc

TOY = Path(__file__).parent / "kernels"
FLOAT = {"TYPE": "float"}
DEVICE = torch.device("cuda", 0)

gpu = pytest.mark.skipif(not cuda.available(), reason=f"no kernel can run: {cuda.why_not()}")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this test's own, on disk and in the process."""
    monkeypatch.setenv(code_cache.ENV, str(tmp_path / "kept"))
    monkeypatch.setattr(cuda, "_kernels", {})
    cached = (cuda._why_not, cuda._cuda_core)
    for function in cached:
        function.cache_clear()
    yield tmp_path / "kept"
    for function in cached:
        function.cache_clear()


class Driver:
    """Stands in for cuda-core and a GPU: keeps what is launched, and fails when told to."""

    def __init__(self) -> None:
        self.launched: list[tuple[Any, ...]] = []
        self.errors: list[Exception] = []
        self.calls: list[str] = []
        self.device, self.stream = 0, 0x77

    def launch(self, stream: Any, config: Any, handle: Any, *values: Any) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.launched.append((self.device, stream, config, handle, values))

    def LaunchConfig(self, grid: tuple[int, int, int], block: int) -> tuple[Any, ...]:  # noqa: N802
        self.calls.append("LaunchConfig")
        return grid, block

    @property
    def Stream(self) -> Any:  # noqa: N802
        return self

    def from_handle(self, raw: int) -> str:
        self.calls.append("Stream")
        return f"stream {raw:#x}"

    def Device(self, index: int) -> Any:  # noqa: N802
        self.calls.append(f"Device {index}")
        return self

    def set_current(self) -> None:
        self.calls.append("set_current")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()

    @contextlib.contextmanager
    def on(index: int) -> Iterator[None]:
        before, made.device = made.device, index
        yield
        made.device = before

    monkeypatch.setattr(cuda, "_cuda_core", lambda: made)
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: made.device, raising=False)
    monkeypatch.setattr(
        torch._C, "_cuda_getCurrentRawStream", lambda index: made.stream + index, raising=False
    )
    monkeypatch.setattr(torch.cuda, "device", on)
    return made


def test_arguments_are_passed_by_kind(driver: Driver) -> None:
    x = torch.zeros(8)
    weight = torch.nn.Parameter(torch.zeros(3))
    cuda.Kernel("k", 0, "handle")((4, 1, 2), 256, x, x[3:], weight, None, -(2**62), 1.5)
    ((_, stream, config, handle, values),) = driver.launched
    assert (stream, config, handle) == ("stream 0x77", ((4, 1, 2), 256), "handle")
    at = x.data_ptr()
    assert values[:-1] == (at, at + 12, weight.data_ptr(), 0, -(2**62))
    assert isinstance(values[-1], ctypes.c_float)
    assert values[-1].value == 1.5


def test_streams_and_configurations_are_made_once(driver: Driver) -> None:
    kernel = cuda.Kernel("k", 0, "handle")
    for _ in range(3):
        kernel((4, 1, 1), 256)
        kernel((4, 1, 1), 128)
    assert sorted(driver.calls) == ["LaunchConfig", "LaunchConfig", "Stream"]
    driver.stream = 0x99
    kernel((4, 1, 1), 256)
    assert driver.launched[-1][1] == "stream 0x99"
    for blocks in range(1, 3 * cuda._KEPT_CONFIGS):
        kernel((blocks, 1, 1), 256)
    assert len(kernel._configs) <= cuda._KEPT_CONFIGS


def test_a_kernel_runs_on_its_own_device_and_stream_whatever_is_current(driver: Driver) -> None:
    cuda.Kernel("k", 1, "handle")((1, 1, 1), 32, 5)
    ((device, stream, _, _, values),) = driver.launched
    assert (device, stream, values) == (1, "stream 0x78", (5,))
    assert driver.device == 0


def test_a_refused_launch_is_one_line_that_names_kernel_grid_and_block(driver: Driver) -> None:
    driver.errors = [RuntimeError("CUDA_ERROR_INVALID_VALUE:\n something")]
    with pytest.raises(KernelError) as caught:
        cuda.Kernel("scan_forward", 0, "handle")((7, 1, 1), 4096)
    said = str(caught.value)
    assert all(part in said for part in ("scan_forward", "(7, 1, 1)", "4096", "INVALID_VALUE"))
    assert "\n" not in said
    assert not driver.launched


def test_a_thread_without_a_context_gets_one_and_launches_once(driver: Driver) -> None:
    lost = RuntimeError("CUDA_ERROR_INVALID_CONTEXT: no context is current")
    driver.errors = [lost]
    kernel = cuda.Kernel("k", 0, "handle")
    kernel((1, 1, 1), 32)
    assert driver.calls[-2:] == ["Device 0", "set_current"]
    assert len(driver.launched) == 1
    driver.errors = [lost, lost]
    with pytest.raises(KernelError, match="INVALID_CONTEXT"):
        kernel((1, 1, 1), 32)


def test_a_kernel_is_loaded_once_for_each_name_defines_and_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads: list[tuple[Any, ...]] = []
    started = threading.Barrier(4)

    def slowly(file: Any, entry: str, defines: Any, device: torch.device) -> Any:
        loads.append((file, entry, dict(defines), device))
        threading.Event().wait(0.05)
        return object()

    monkeypatch.setattr(cuda, "_load", slowly)
    got: list[Any] = []

    def work() -> None:
        started.wait()
        got.append(cuda.load("a.cu", "one", {"N": 16}, DEVICE))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == len(loads) == 1
    others = [
        cuda.load("a.cu", "two", {"N": 16}, DEVICE),
        cuda.load("b.cu", "one", {"N": 16}, DEVICE),
        cuda.load("a.cu", "one", {"N": 32}, DEVICE),
        cuda.load("a.cu", "one", {"N": 16}, torch.device("cuda", 1)),
    ]
    assert len(loads) == 5
    assert len({id(kernel) for kernel in [*got, *others]}) == 5


def test_code_is_compiled_once_and_again_if_the_cache_is_damaged(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    whole = nvrtc.compile_source

    def counted(source: nvrtc.Source, entry: str, defines: Any, target: str) -> tuple[bytes, str]:
        compiled.append(target)
        return whole(source, entry, defines, target)

    monkeypatch.setattr(nvrtc, "compile_source", counted)

    def code() -> bytes:
        return cuda._code(TOY / "silu.cu", "scaled_silu", FLOAT, "sm_90")

    first = code()
    assert first.startswith(b"\x7fELF")
    assert code() == first
    assert len(compiled) == 1
    (file,) = kept.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert code() == first
    assert code() == first
    assert len(compiled) == 2
    file.unlink()
    kept.rmdir()
    kept.write_bytes(b"in the way")
    assert code() == first


def test_why_not_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert cuda.why_not() == "this PyTorch is built without CUDA"
    with pytest.raises(KernelError, match="built without CUDA"):
        cuda.load("a.cu", "one", {}, torch.device("cuda"))
    with pytest.raises(KernelError, match="built without CUDA"):
        cuda.load("a.cu", "one", {}, DEVICE)
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda.why_not() == "PyTorch, built for CUDA 12.9, finds no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    said = cuda.why_not(DEVICE)
    assert said is not None
    assert said.startswith("cuda-core cannot be used")
    assert '"cuda-bindings>=12.9,<13" "nvidia-cuda-nvrtc-cu12"' in said
    assert not cuda.available(DEVICE)


def test_why_not_is_answered_once_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def capability(index: int) -> tuple[int, int]:
        asked.append(index)
        return (9, 0) if index == 0 else (7, 0)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(cuda, "_cuda_core", object)
    monkeypatch.setattr(nvrtc, "supported_architectures", lambda: (75, 80, 90))
    for _ in range(3):
        assert cuda.available(DEVICE)
        said = cuda.why_not(torch.device("cuda", 1))
        assert said is not None
        assert "7.5" in said
    assert asked == [0, 1]


# On a GPU.


def scaled_silu(x: torch.Tensor, scale: float) -> torch.Tensor:
    y = torch.empty_like(x)
    kernel = cuda.load(TOY / "silu.cu", "scaled_silu", FLOAT, x.device)
    kernel(((x.numel() + 255) // 256, 1, 1), 256, x, y, x.numel(), scale)
    return y


@gpu
def test_a_kernel_computes(kept: Path) -> None:
    x = torch.randn(10_001, device="cuda")
    torch.testing.assert_close(scaled_silu(x, 0.5), silu(0.5 * x))
    assert len(list(kept.iterdir())) == 1
    cuda._kernels.clear()
    torch.testing.assert_close(scaled_silu(x, 0.5), silu(0.5 * x))  # out of the cache on disk


@gpu
def test_arguments_arrive_as_they_were_given() -> None:
    out = torch.full((5,), 99, device="cuda", dtype=torch.int64)
    tensor = torch.empty(10, device="cuda", dtype=torch.bfloat16)[3:]
    kernel = cuda.load(TOY / "arguments.cu", "arguments", {}, out.device)
    kernel((1, 1, 1), 1, out, tensor, None, 2**40 + 1, -0.1, -(2**50))
    (bits,) = struct.unpack("i", struct.pack("f", -0.1))
    assert out.tolist() == [tensor.data_ptr(), 0, 2**40 + 1, bits, -(2**50)]


@gpu
def test_a_launch_is_ordered_on_the_current_stream() -> None:
    x = torch.zeros(1 << 20, device="cuda")
    scaled_silu(x, 1.0)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        x.fill_(3.0)
        y = scaled_silu(x, 1.0)  # on another stream it would run during the sleep, and see zeros
    assert not stream.query()
    stream.synchronize()
    torch.testing.assert_close(y, silu(torch.full_like(x, 3.0)))


@gpu
def test_launches_are_captured_in_a_graph() -> None:
    x = torch.randn(5000, device="cuda")
    scaled_silu(x, 2.0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = scaled_silu(scaled_silu(x, 2.0), 3.0)
    for seed in range(3):
        x.copy_(torch.randn(5000, generator=torch.Generator().manual_seed(seed)))
        y.zero_()
        graph.replay()
        torch.testing.assert_close(y, silu(3 * silu(2 * x)))


@gpu
@pytest.mark.parametrize(
    ("grid", "block"), [((1, 1, 1), 4096), ((0, 1, 1), 32), ((1, 1, 70_000), 32)]
)
def test_a_wrong_launch_raises_and_the_next_one_runs(
    grid: tuple[int, int, int], block: int
) -> None:
    x = torch.randn(64, device="cuda")
    kernel = cuda.load(TOY / "silu.cu", "scaled_silu", FLOAT, x.device)
    with pytest.raises(KernelError, match="scaled_silu was not launched"):
        kernel(grid, block, x, x, 0, 1.0)
    torch.testing.assert_close(scaled_silu(x, 0.5), silu(0.5 * x))


@gpu
def test_a_new_thread_can_launch() -> None:
    x = torch.randn(64, device="cuda")
    y = torch.empty_like(x)
    kernel = cuda.load(TOY / "silu.cu", "scaled_silu", FLOAT, x.device)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            kernel((1, 1, 1), 64, x, y, 64, 1.0)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed
    torch.cuda.synchronize()
    torch.testing.assert_close(y, silu(x))


@gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_kernel_runs_on_its_tensors_device() -> None:
    for index in (1, 0):
        x = torch.randn(1000, device=f"cuda:{index}")
        torch.testing.assert_close(scaled_silu(x, 0.5), silu(0.5 * x))
        assert torch.cuda.current_device() == 0


@gpu
def test_ptx_is_finished_by_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "supported_architectures", lambda: (75,))
    x = torch.randn(1000, device="cuda")
    torch.testing.assert_close(scaled_silu(x, 0.5), silu(0.5 * x))


@gpu
def test_code_that_the_driver_refuses_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_code", lambda *_: b"\x7fELF" + bytes(1000))
    with pytest.raises(KernelError, match="not accepted by the driver") as caught:
        cuda.load(TOY / "silu.cu", "scaled_silu", FLOAT, DEVICE)
    assert "\n" not in str(caught.value)
