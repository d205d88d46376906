"""One step of the scan and of the convolution, of each backend, against plain PyTorch in fp64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.ops import backend, causal_conv, cuda, decode_cuda, selective_scan
from ctscribe.ops.causal_conv import causal_conv1d_step
from ctscribe.ops.selective_scan import selective_scan_step
from tests.ops.cases import (
    FLOATS,
    LAYOUTS,
    NAMES,
    QUICK,
    ROWS,
    assert_near,
    laid_out,
    poisoned,
    scan_inputs,
    widths,
)

gpu = pytest.mark.skipif(not cuda.available(), reason=f"no kernel can run: {cuda.why_not()}")
# Layouts that can be written to; the kernels take the first.
OWN = st.sampled_from(("contiguous",) * 6 + ("offset", "strided", "transposed"))
CONV = ("x", "weight", "bias")
Values = dict[str, Tensor]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that ran."""
    names: list[str] = []

    def counted(name: str) -> Any:
        real = getattr(decode_cuda, name)

        def call(*args: Any, **options: Any) -> None:
            names.append(name)
            real(*args, **options)

        return call

    for name in ("step_scan", "step_conv"):
        monkeypatch.setattr(decode_cuda, name, counted(name))
    return names


def has_kernels(place: torch.device) -> bool:
    return backend.pick(place) == "cuda"


def scan_values(
    batch: int, width: int, n: int, state_layout: str = "contiguous", **options: Any
) -> tuple[Tensor, Values]:
    """A state, and the other arguments of a step by name."""
    options["layouts"] = {**options.get("layouts", {}), "initial_state": state_layout}
    values = scan_inputs(batch, 1, width, n, **options)
    values = {k: v[:, 0] if k in ROWS else v for k, v in values.items()}
    return values.pop("initial_state"), values


def conv_values(
    batch: int,
    width: int,
    taps: int,
    state_layout: str = "contiguous",
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    biased: bool = True,
    layouts: dict[str, str] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Values]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=g).to(of)

    state = laid_out(normal(batch, taps - 1, width, of=dtype), state_layout, device)
    given = {"x": normal(batch, width, of=dtype), "weight": normal(width, taps)}
    if biased:
        given["bias"] = normal(width)
    where = layouts or {}
    return state, {k: laid_out(v, where.get(k, "contiguous"), device) for k, v in given.items()}


def exact_scan(state: Tensor, values: Values, plus: bool = True) -> Values:
    exact = {k: v.detach().double().cpu() for k, v in values.items()}
    full = {name: exact.get(name) for name in NAMES[:8]}
    after = state.detach().to("cpu", torch.float64, copy=True)
    return {"y": selective_scan.plain_step(after, **full, dt_softplus=plus), "state": after}


def exact_conv(state: Tensor, values: Values, active: bool = True) -> Values:
    exact = {k: v.detach().double().cpu() for k, v in values.items()}
    after = state.detach().to("cpu", torch.float64, copy=True)
    y = causal_conv.plain_step(after, exact["x"], exact["weight"], exact.get("bias"), active)
    return {"y": y, "state": after}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [8, 16, 32, 64])
@settings(QUICK, max_examples=25)
@given(data=st.data())
def test_a_step_of_the_scan(
    place: torch.device, ran: list[str], n: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    plus = data.draw(st.booleans())
    state, values = scan_values(
        data.draw(st.integers(0, 3)),
        data.draw(widths),
        n,
        data.draw(OWN),
        seed=data.draw(st.integers(0, 2**31)),
        dtype=dtype,
        left_out=data.draw(st.sets(st.sampled_from(["D", "z", "dt_bias"]))),
        positive=not plus,
        layouts=data.draw(st.dictionaries(st.sampled_from(NAMES[:8]), st.sampled_from(LAYOUTS))),
        device=place,
    )
    wanted, before = exact_scan(state, values, plus), state._version
    ran.clear()
    with poisoned():
        y = selective_scan_step(state, **values, dt_softplus=plus)
    by_kernel = has_kernels(place) and state.is_contiguous() and state.numel() > 0
    assert ran == ["step_scan"] * by_kernel
    assert y.dtype == dtype
    assert state._version > before or not state.numel()
    assert_near({"y": y, "state": state}, wanted, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("taps", [2, 3, 4, 7])
@settings(QUICK, max_examples=25)
@given(data=st.data())
def test_a_step_of_the_convolution(
    place: torch.device, ran: list[str], taps: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    state, values = conv_values(
        data.draw(st.integers(0, 3)),
        data.draw(st.one_of(widths, st.integers(126, 260))),
        taps,
        data.draw(OWN),
        dtype=dtype,
        seed=data.draw(st.integers(0, 2**31)),
        biased=data.draw(st.booleans()),
        layouts=data.draw(st.dictionaries(st.sampled_from(CONV), st.sampled_from(LAYOUTS))),
        device=place,
    )
    active = data.draw(st.booleans())
    wanted, before = exact_conv(state, values, active), state._version
    ran.clear()
    with poisoned():
        y = causal_conv1d_step(state, **values, activation="silu" if active else None)
    by_kernel = has_kernels(place) and taps < 7 and state.is_contiguous() and state.numel() > 0
    assert ran == ["step_conv"] * by_kernel
    assert y.dtype == dtype
    assert state._version > before or not state.numel()
    assert_near({"y": y}, {"y": wanted["y"]}, dtype)
    assert torch.equal(state.cpu(), wanted["state"].to(dtype))


@pytest.mark.parametrize("n", [8, 16])
def test_thousands_of_sequences(place: torch.device, ran: list[str], n: int) -> None:
    state, values = scan_values(3001, 5, n, dtype=torch.bfloat16, device=place)
    wanted = exact_scan(state, values)
    assert_near({"y": selective_scan_step(state, **values), "state": state}, wanted, torch.bfloat16)
    state, values = conv_values(3001, 5, 4, dtype=torch.bfloat16, device=place)
    wanted = exact_conv(state, values)
    assert_near({"y": causal_conv1d_step(state, **values)}, {"y": wanted["y"]}, torch.bfloat16)
    assert ran == ["step_scan", "step_conv"] * has_kernels(place)


def test_many_steps_do_not_drift(place: torch.device) -> None:
    state, values = scan_values(2, 37, 16, dtype=torch.float32, device=place)
    exact = state.to("cpu", torch.float64, copy=True)
    full = {name: values[name].double().cpu() for name in NAMES[:8]}
    # The kernels' exp is good to 2^-22, always to the same side where the exponent is the same.
    factor = 10 if place.type == "cuda" else 2
    for _ in range(200):
        y = selective_scan_step(state, **values)
        wanted = selective_scan.plain_step(exact, **full, dt_softplus=True)
    assert_near({"y": y, "state": state}, {"y": wanted, "state": exact}, torch.float32, factor)


def test_inputs_of_several_dtypes(place: torch.device, ran: list[str]) -> None:
    state, values = scan_values(2, 20, 16, dtype=torch.float32, device=place)
    for name in ("u", "z", "D", "A", "dt_bias"):
        values[name] = values[name].bfloat16()
    wanted = exact_scan(state, values)
    y = selective_scan_step(state, **values)
    assert y.dtype == torch.bfloat16
    assert_near({"y": y, "state": state}, wanted, torch.bfloat16)
    state, values = conv_values(2, 20, 4, dtype=torch.float16, device=place)
    values |= {name: values[name].half() for name in ("weight", "bias")}
    wanted = exact_conv(state, values)
    assert_near({"y": causal_conv1d_step(state, **values)}, {"y": wanted["y"]}, torch.float16)
    assert ran == ["step_scan", "step_conv"] * has_kernels(place)


def test_states_that_the_kernels_do_not_take(place: torch.device, ran: list[str]) -> None:
    state, values = scan_values(2, 20, 16, dtype=torch.float32, device=place)
    state = state.double()
    wanted = exact_scan(state, values)
    assert_near({"y": selective_scan_step(state, **values)}, {"y": wanted["y"]}, torch.float32)
    torch.testing.assert_close(state.cpu(), wanted["state"])
    state, values = conv_values(2, 20, 4, dtype=torch.bfloat16, device=place)
    state = state.float() * 1.001
    wanted = exact_conv(state, values)
    assert_near({"y": causal_conv1d_step(state, **values)}, {"y": wanted["y"]}, torch.bfloat16)
    assert torch.equal(state.cpu(), wanted["state"].float())
    assert not ran


@pytest.mark.parametrize("learns", ["u", "A", "state", "weight"])
def test_a_gradient_is_not_lost(place: torch.device, ran: list[str], learns: str) -> None:
    of_conv = learns == "weight"
    state, values = (conv_values if of_conv else scan_values)(2, 20, 4 if of_conv else 16,
        dtype=torch.float32, device=place)  # fmt: skip
    step: Any = causal_conv1d_step if of_conv else selective_scan_step
    leaf = (state if learns == "state" else values[learns]).detach().requires_grad_()
    rest = {k: leaf if k == learns else v for k, v in values.items()}
    carried = (leaf if learns == "state" else state).clone()
    y = step(carried, **rest)
    (grad,) = torch.autograd.grad(y.square().sum() + carried.square().sum(), leaf)
    assert (grad != 0).all()
    assert not ran
    plain = state.detach().clone()
    with torch.no_grad():
        assert_near({"y": step(plain, **rest), "state": plain},
            {"y": y.detach(), "state": carried.detach()}, torch.float32)  # fmt: skip
    assert len(ran) == has_kernels(place)


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_traces_the_plain_step(place: torch.device, ran: list[str]) -> None:
    torch._dynamo.reset()
    compiled: Any = torch.compile(selective_scan_step, fullgraph=True, backend="eager")
    state, values = scan_values(2, 20, 16, dtype=torch.float32, device=place)
    wanted = exact_scan(state, values)
    assert_near({"y": compiled(state, **values), "state": state}, wanted, torch.float32)
    compiled = torch.compile(causal_conv1d_step, fullgraph=True, backend="eager")
    state, values = conv_values(2, 20, 4, device=place)
    wanted = exact_conv(state, values)
    assert_near({"y": compiled(state, **values), "state": state}, wanted, torch.float32)
    assert not ran


@pytest.mark.parametrize("name", ["state", *NAMES[:8]])
def test_a_wrong_argument_of_a_step_of_the_scan_is_named(place: torch.device, name: str) -> None:
    for change, says in ((lambda t: t[None], "must be"), (lambda t: t.long(), "must be of float")):
        state, values = scan_values(2, 20, 16, dtype=torch.float32, device=place)
        values["state"] = state
        values[name] = change(values[name])
        with pytest.raises(ValueError, match=f"^{name} {says}"):
            selective_scan_step(**values)


@pytest.mark.parametrize("name", ["state", *CONV])
def test_a_wrong_argument_of_a_step_of_the_convolution_is_named(
    place: torch.device, name: str
) -> None:
    for change, says in ((lambda t: t[None], "must be"), (lambda t: t.long(), "must be of float")):
        state, values = conv_values(2, 20, 4, device=place)
        values["state"] = state
        values[name] = change(values[name])
        with pytest.raises(ValueError, match=f"^{name} {says}"):
            causal_conv1d_step(**values)


@gpu
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_steps_in_a_graph(ran: list[str], dtype: torch.dtype) -> None:
    scan_state, scan = scan_values(3, 77, 16, dtype=dtype, device="cuda")
    conv_state, conv = conv_values(3, 77, 4, dtype=dtype, device="cuda")
    # Parameters that are converted on the way: just before the kernels that read them.
    scan |= {name: scan[name].bfloat16() for name in ("A", "D", "dt_bias")}

    def step(conv_state: Tensor, scan_state: Tensor) -> Tensor:
        u = causal_conv1d_step(conv_state, **conv)
        return selective_scan_step(scan_state, **{**scan, "u": u})

    eager = conv_state.clone(), scan_state.clone()
    wanted = [step(*eager) for _ in range(5)]
    own = conv_state.clone(), scan_state.clone()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = step(*own)
    assert len(ran) == 12
    for exact in wanted:
        graph.replay()
        assert torch.equal(y, exact)
    assert torch.equal(own[0], eager[0])
    assert torch.equal(own[1], eager[1])
