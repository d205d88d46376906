"""Which backend runs, what is said about it, and what it refuses."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ctscribe.errors import ConfigError, KernelError
from ctscribe.ops import backend, cuda
from ctscribe.ops.causal_conv import causal_conv1d
from ctscribe.ops.selective_scan import NAMES, selective_scan
from tests.ops.cases import scan_inputs

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
gpu = pytest.mark.skipif(not cuda.available(), reason=f"no kernel: {cuda.why_not()}")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing chosen, nothing said."""
    monkeypatch.delenv(backend.VARIABLE, raising=False)
    backend.choose(None)
    backend._say_once.cache_clear()
    yield
    backend.choose(None)
    backend._say_once.cache_clear()


def kernels(monkeypatch: pytest.MonkeyPatch, reason: str | None) -> None:
    """As if kernels could run, or could not for a reason."""
    monkeypatch.setattr(cuda, "why_not", lambda device=None: reason)


def one_line(error: Exception) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_choice_goes_before_the_environment_before_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend.chosen() == "auto"
    monkeypatch.setenv(backend.VARIABLE, "torch")
    assert backend.chosen() == "torch"
    backend.choose("cuda")
    assert backend.chosen() == "cuda"
    backend.choose(None)
    assert backend.chosen() == "torch"
    monkeypatch.setenv(backend.VARIABLE, "")
    assert backend.chosen() == "auto"


def test_unknown_names_list_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"triton.*auto, cuda, torch, mamba_ssm"):
        backend.choose("triton")
    assert backend.chosen() == "auto"
    monkeypatch.setenv(backend.VARIABLE, "Cuda")
    with pytest.raises(ConfigError, match=f"{backend.VARIABLE} is Cuda"):
        selective_scan(**scan_inputs(1, 2, 3, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [8, 16, 32, 64, None])
def test_auto_takes_the_kernels_where_they_fit(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, n: int | None
) -> None:
    kernels(monkeypatch, None)
    assert backend.pick(GPU, dtype, n) == "cuda"
    assert backend.pick(CPU, dtype, n) == "torch"
    assert backend.pick(GPU, torch.float64, n) == "torch"
    assert backend.pick(GPU, dtype, 7) == "torch"
    backend.choose("torch")
    assert backend.pick(GPU, dtype, n) == "torch"


def test_auto_says_once_that_it_has_no_kernels_and_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels(monkeypatch, "NVRTC is not installed. Fix: pip install it")
    for _ in range(3):
        assert backend.pick(GPU, torch.float32, 16) == "torch"
        assert backend.pick(GPU, torch.bfloat16) == "torch"
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in warnings] == [
        "GPUs run on torch, many times slower than kernels: "
        "NVRTC is not installed. Fix: pip install it"
    ]


def test_the_backend_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels(monkeypatch, None)
    caplog.set_level(logging.INFO)
    for _ in range(3):
        backend.pick(GPU)
    assert [r.getMessage().endswith(": cuda") for r in caplog.records] == [True]
    caplog.clear()
    backend.pick(CPU)
    assert not caplog.records  # nothing to choose there


@pytest.mark.parametrize(
    ("name", "device", "dtype", "n", "reason", "says"),
    [
        ("cuda", CPU, torch.float32, 16, None, "the backend cuda needs a GPU, not cpu"),
        ("mamba_ssm", CPU, torch.float32, 16, None, "the backend mamba_ssm needs a GPU, not cpu"),
        ("cuda", GPU, torch.float32, 4, None, "the backend cuda does not take A of 4 columns"),
        ("cuda", GPU, torch.float64, 16, None, "does not take inputs of torch.float64"),
        ("cuda", GPU, torch.float32, 16, "no driver", "the backend cuda cannot run: no driver"),
        ("mamba_ssm", GPU, torch.float32, 16, None, "selective_scan_cuda is not installed"),
    ],
)
def test_what_a_backend_asked_for_by_name_cannot_do(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    n: int,
    reason: str | None,
    says: str,
) -> None:
    kernels(monkeypatch, reason)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    backend.choose(name)
    with pytest.raises(KernelError) as error:
        backend.pick(device, dtype, n)
    assert says in one_line(error.value)
    assert error.value.fix == "use --backend auto"


@pytest.mark.parametrize("reason", [None, "no driver"])
def test_the_choice_is_made_while_compiling(
    monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    # Logging and the look for a driver are nothing that torch.compile can trace.
    kernels(monkeypatch, reason)

    def scaled(x: Tensor, A: Tensor) -> Tensor:
        return x * (3 if backend.pick(GPU, x.dtype, A.shape[1]) == "cuda" else 2)

    torch._dynamo.reset()
    compiled = torch.compile(scaled, fullgraph=True, backend="eager", dynamic=True)
    for dtype, n in ((torch.float32, 16), (torch.float32, 17), (torch.float64, 16)):
        x, A = torch.ones(2, dtype=dtype), torch.ones(2, n)
        assert torch.equal(compiled(x, A), scaled(x, A))


# What is wrong with a tensor, and what the error says after its name.
SHORT: Callable[[Tensor], Tensor] = lambda t: t[..., :-1]  # noqa: E731
WRONG: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda t: t[..., None], "must be"),
    (lambda t: t.long(), "must be of floating point, not torch.int64"),
    (lambda t: t.bool(), "must be of floating point, not torch.bool"),
    (lambda t: t.to(torch.complex64), "must be of floating point, not torch.complex64"),
    (lambda t: t.to("meta"), "is on meta, but"),
]


def refused(call: Callable[..., object], values: dict[str, Any], name: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} {says}") as error:
        call(**values)
    one_line(error.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("change", "says"), [*WRONG, (SHORT, "must be")])
def test_a_wrong_argument_of_the_scan_is_named(
    place: torch.device, name: str, change: Callable[[Tensor], Tensor], says: str
) -> None:
    values = scan_inputs(2, 5, 6, 8, dtype=torch.float32, device=place)
    values[name] = change(values[name])
    if change is SHORT:
        name = {"u": "A", "A": "B"}.get(name, name)  # the first that no longer fits
    if name == "u" and says == "is on meta, but":
        name = "dt"
        says = f"is on {values['dt'].device}, but u is on meta"
    refused(selective_scan, values, name, says)


@pytest.mark.parametrize("name", ["x", "weight", "bias", "initial_state", "mask"])
@pytest.mark.parametrize(("change", "says"), WRONG)
def test_a_wrong_argument_of_the_convolution_is_named(
    place: torch.device, name: str, change: Callable[[Tensor], Tensor], says: str
) -> None:
    shapes = {"x": (2, 5, 6), "weight": (6, 4), "bias": (6,), "initial_state": (2, 3, 6)}
    values = {k: torch.ones(shape, device=place) for k, shape in shapes.items()}
    values["mask"] = torch.ones(2, 5, device=place)
    values[name] = change(values[name])
    if name == "mask" and "floating" in says:
        return  # any number will do
    if name == "x" and "meta" in says:
        name, says = "weight", f"is on {values['weight'].device}, but x is on meta"
    refused(causal_conv1d, values, name, says)


def test_empty_sequences_and_short_filters_are_refused(place: torch.device) -> None:
    refused(selective_scan, scan_inputs(2, 0, 3, 8, device=place), "u", "must be .* L >= 1")
    x, weight = torch.ones(2, 5, 6, device=place), torch.ones(6, 1, device=place)
    refused(causal_conv1d, {"x": x[:, :0], "weight": weight}, "x", "must be .* L >= 1")
    refused(causal_conv1d, {"x": x, "weight": weight}, "weight", "must be .* K >= 2")
    values = {"x": x, "weight": torch.ones(6, 4, device=place), "activation": "relu"}
    refused(causal_conv1d, values, "activation", "must be silu or None, not relu")


@gpu
def test_sizes_that_the_kernels_do_not_take_run_in_plain_pytorch_only_under_auto() -> None:
    values = scan_inputs(2, 5, 6, 4, dtype=torch.float32, device="cuda")
    wanted = selective_scan(**{k: v.cpu() for k, v in values.items()})
    torch.testing.assert_close(selective_scan(**values).cpu(), wanted, rtol=1e-4, atol=1e-5)
    backend.choose("cuda")
    with pytest.raises(KernelError, match="A of 4 columns"):
        selective_scan(**values)
    with pytest.raises(KernelError, match=r"inputs of torch\.float64"):
        selective_scan(**scan_inputs(2, 5, 6, 8, device="cuda"))
    mixed = {**scan_inputs(2, 5, 6, 4, dtype=torch.float32), "A": values["A"]}
    with pytest.raises(ValueError, match=r"^A is on cuda:0, but u is on cpu"):
        selective_scan(**mixed)
