"""`ctscribe doctor`: what Mamba's operators run on here, whether they are right, and how fast.

Every operator runs on this machine's backend with small inputs, forward and backward, beside a
plain reference in float64, and with large ones against the clock.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu

from ctscribe.errors import KernelError
from ctscribe.ops import backend, code_cache, cuda, nvrtc, scan_torch
from ctscribe.ops.causal_conv import causal_conv1d
from ctscribe.ops.selective_scan import selective_scan, selective_scan_reference

# Far above what rounding gives (of the state in float32; of inputs and outputs in bfloat16), far
# below what a wrong operator gives.
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
SMALL = (2, 77, 72)  # batch, length, width: none a multiple of a tile
STATES, FILTER = 16, 4

Operator = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Op:
    """An operator, its plain reference, and inputs for a batch, length, width and dtype."""

    name: str
    run: Operator
    reference: Operator
    inputs: Callable[[tuple[int, int, int], torch.dtype], list[Tensor]]


@dataclass(frozen=True)
class Check:
    """What came of one operator in one direction and dtype."""

    op: str
    direction: str  # forward or backward
    dtype: torch.dtype
    error: float = float("nan")  # largest difference over the reference's largest value
    ms: float = float("nan")  # of one call with the large inputs
    said: str | None = None  # the exception, if it raised one

    @property
    def right(self) -> bool:
        """Whether it ran, and the error, NaN neither, is within the dtype's limit."""
        return self.said is None and self.error <= LIMITS[self.dtype]


def run_doctor() -> bool:
    """Print the diagnosis; False if an operator is wrong or fails."""
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(soft_wrap=True, markup=False, highlight=False)
    device = torch.device("cuda", torch.cuda.current_device()) if _has_gpu() else None
    for label, value in facts(device or torch.device("cpu")):
        console.print(f"{label}: {value}")
    checks = check_ops(device or torch.device("cpu"))
    table = Table(Column("算子 / op", no_wrap=True), "", "误差 / error", "ms", "")
    for check in checks:
        table.add_row(
            f"{check.op} {check.direction}",
            str(check.dtype).removeprefix("torch."),
            f"{check.error:.1e}, max {LIMITS[check.dtype]:.0e}",
            f"{check.ms:.3g}",
            "对 / right" if check.right else "错 / WRONG",
        )
    console.print(table)
    for check in checks:
        if check.said is not None:
            console.print(f"{check.op}, {check.direction}: {check.said}")
    console.print(f"需要安装 / to install: {to_install(device)}")
    wrong = sorted({check.op for check in checks if not check.right})
    if wrong:
        names = ", ".join(wrong)
        console.print(f"结论：{names} 有误，不要使用 / verdict: {names} wrong here, do not use it")
    else:
        console.print("结论：算子全部正确 / verdict: every operator is right")
    return not wrong


def facts(device: torch.device) -> list[tuple[str, str]]:
    """What is in use, as labels and values; copies memory to time it."""
    try:
        compiler = f"{nvrtc.version()}, code kept in {code_cache.folder()}"
    except (KernelError, RuntimeError) as error:  # RuntimeError: there is no home folder
        compiler = f"none: {error}"
    name = "CPU：没有可用的 NVIDIA 显卡 / no NVIDIA GPU that PyTorch can use"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        name = f"{torch.cuda.get_device_name(device)}, sm_{major}{minor}, {memory:.0f} GiB"
    numba = []
    if device.type == "cpu":
        found = "无，扫描慢三倍 / none, scans take three times as long"
        numba = [("Numba", version("numba") if scan_torch.loops() else found)]
    return [
        ("PyTorch", f"{torch.__version__}, CUDA {torch.version.cuda or 'not in this build'}"),
        ("设备 / device", name),
        ("驱动 / driver", driver_version() or "无 / none"),
        ("NVRTC", compiler),
        *numba,
        ("后端 / backend", backend.pick(device)),
        ("内存带宽 / memory bandwidth", f"{bandwidth(device):.0f} GB/s (copy, read + written)"),
    ]


def driver_version() -> str | None:
    """The NVIDIA driver's version, as its own tool gives it, which comes with every driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = run.stdout.split()
    return lines[0] if lines else None


def to_install(device: torch.device | None) -> str:
    """What would make it faster here, as a command where there is one."""
    if device is not None:
        reason = cuda.why_not(device)
        return reason or "无 / nothing"
    if driver_version() is None:
        return "无 / nothing (no NVIDIA driver on this machine: all runs on the CPU)"
    if torch.version.cuda is None:
        return (
            "这台机器有 NVIDIA 驱动，但 PyTorch 是 CPU 版：请换成 CUDA 版 / this machine has an "
            "NVIDIA driver, but this PyTorch is the CPU build: install the CUDA build of "
            f"{torch.__version__.split('+')[0]} with PyTorch's install selector"
        )
    return (
        f"更新显卡驱动 / a newer GPU driver: PyTorch is built for CUDA {torch.version.cuda}, "
        "but finds no GPU"
    )


def check_ops(device: torch.device) -> list[Check]:
    """Every operator, forward and backward, in float32 and on a GPU in bfloat16 too."""
    large = (1, 2048, 5120) if device.type == "cuda" else (1, 256, 768)
    dtypes = [torch.float32, torch.bfloat16] if device.type == "cuda" else [torch.float32]
    return [check for op in OPS for dtype in dtypes for check in _check(op, dtype, device, large)]


def bandwidth(device: torch.device) -> float:
    """GB/s that a copy within the device's memory reads and writes."""
    size = 1 << (29 if device.type == "cuda" else 27)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / 1e6 / _ms(lambda: target.copy_(source), device)


def _check(
    op: Op, dtype: torch.dtype, device: torch.device, large: tuple[int, int, int]
) -> list[Check]:
    done: list[Check] = []
    try:
        inputs = [x.to(device).requires_grad_() for x in op.inputs(SMALL, dtype)]
        exact = [x.detach().cpu().double().requires_grad_() for x in inputs]
        outputs, truth = op.run(*inputs), op.reference(*exact)
        timed = [x.to(device).requires_grad_() for x in op.inputs(large, dtype)]
        with torch.no_grad():
            ms = _ms(lambda: op.run(*timed), device)
        done.append(Check(op.name, "forward", dtype, _error(outputs, truth), ms))
        seeds = [torch.linspace(-1, 1, x.numel()).view(x.shape).to(x.dtype) for x in outputs]
        grads = torch.autograd.grad(outputs, inputs, [seed.to(device) for seed in seeds])
        true_grads = torch.autograd.grad(truth, exact, [seed.double() for seed in seeds])
        results = op.run(*timed)
        ones = [torch.ones_like(x) for x in results]
        ms = _ms(lambda: torch.autograd.grad(results, timed, ones, retain_graph=True), device)
        done.append(Check(op.name, "backward", dtype, _error(grads, true_grads), ms))
    except Exception as error:  # whatever it is, the other operators are still worth a look
        direction = "backward" if done else "forward"
        said = " ".join(f"{type(error).__name__}: {error}".split())
        done.append(Check(op.name, direction, dtype, said=said))
    return done


def _error(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The worst tensor's largest difference, over the largest value that it should hold."""
    worst = [
        (a.detach().cpu().double() - b.detach()).abs().max() / b.detach().abs().max()
        for a, b in zip(got, wanted, strict=True)
    ]
    return float(torch.stack(worst).max())  # NaN if any is


def _ms(run: Callable[[], object], device: torch.device) -> float:
    """Median time of a call; on a GPU of several at once, so that launching does not count."""
    calls = 10 if device.type == "cuda" else 1
    run()
    times = []
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            run()
        _wait(device)
        times.append((time.perf_counter() - start) / calls)
    return 1000 * statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def _scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    dt_bias: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    return selective_scan(u, dt, A, B, C, D, z, dt_bias, True, state, return_final_state=True)


def _scan_reference(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    dt_bias: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    return selective_scan_reference(u, dt, A, B, C, D, z, dt_bias, True, state)


def _scan_inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> list[Tensor]:
    batch, length, width = shape
    normal = _normal()
    A = -normal(width, STATES).exp()
    activations = [normal(batch, length, n).to(dtype) for n in (width, width, STATES, STATES)]
    u, dt, B, C = activations
    z = normal(batch, length, width).to(dtype)
    return [u, dt, A, B, C, normal(width), z, normal(width) - 1, normal(batch, width, STATES)]


def _conv(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return causal_conv1d(x, weight, bias, "silu", state, return_final_state=True)


def _conv_reference(
    x: Tensor, weight: Tensor, bias: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    past = torch.cat([state, x], 1)
    y = conv1d(past.transpose(1, 2), weight[:, None], bias, groups=weight.shape[0])
    return silu(y).transpose(1, 2), past[:, x.shape[1] :]


def _conv_inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> list[Tensor]:
    batch, length, width = shape
    normal = _normal()
    sizes = ((batch, length, width), (width, FILTER), (width,), (batch, FILTER - 1, width))
    return [normal(*size).to(dtype) for size in sizes]


def _normal() -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *size: torch.randn(*size, generator=generator)


OPS = (
    Op("selective_scan", _scan, _scan_reference, _scan_inputs),
    Op("causal_conv1d", _conv, _conv_reference, _conv_inputs),
)
