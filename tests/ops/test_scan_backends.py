"""The scan of each backend against the spec: shapes, layouts, options, gradients, extremes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.model.frozen import _NEEDS
from ctscribe.ops import backend, scan_cuda
from ctscribe.ops.selective_scan import NAMES, selective_scan, selective_scan_reference
from tests.ops.cases import (
    FLOATS,
    LAYOUTS,
    OPTIONAL,
    QUICK,
    ROWS,
    assert_equal,
    assert_near,
    laid_out,
    lengths,
    pieces,
    poisoned,
    scan,
    scan_inputs,
    spec,
    states,
    widths,
)
from tests.ops.emulator import emulated, needs_emulator


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@settings(QUICK, max_examples=60)
@given(data=st.data())
def test_equals_the_spec_forward_and_backward(
    place: torch.device, dtype: torch.dtype, data: st.DataObject
) -> None:
    batch, length, width = data.draw(st.integers(0, 3)), data.draw(lengths), data.draw(widths)
    plus, reverse = data.draw(st.booleans()), data.draw(st.booleans())
    values = scan_inputs(
        batch,
        length,
        width,
        data.draw(states),
        seed=data.draw(st.integers(0, 2**31)),
        dtype=dtype,
        left_out=data.draw(st.sets(st.sampled_from(OPTIONAL))),
        positive=not plus,
        layouts=data.draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(LAYOUTS))),
        device=place,
    )
    needs = data.draw(st.one_of(st.just(set(NAMES)), st.sets(st.sampled_from(NAMES), min_size=1)))
    of_y, of_state = data.draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    g = torch.Generator().manual_seed(1)
    gy = torch.randn(batch, length, width, generator=g).to(dtype)
    gy = laid_out(gy, data.draw(st.sampled_from(LAYOUTS)), place) if of_y else None
    gstate = torch.randn(batch, width, values["A"].shape[1], generator=g)
    gstate = laid_out(gstate, data.draw(st.sampled_from(LAYOUTS)), place) if of_state else None
    with pieces(small=data.draw(st.booleans())), poisoned():
        outputs, grads = scan(values, needs, gy, gstate, plus=plus, reverse=reverse)
    wanted_outputs, wanted_grads = spec(values, needs, gy, gstate, plus=plus, reverse=reverse)
    assert_near(outputs, wanted_outputs, dtype)
    assert_near(grads, wanted_grads, dtype, rows=batch * length)
    for name, grad in grads.items():
        assert grad.dtype == values[name].dtype, name
    assert outputs["y"].dtype == dtype
    assert outputs["state"].dtype == torch.float32


def test_inputs_of_several_dtypes(place: torch.device) -> None:
    # As autocast leaves them: u and z in 16 bits, the others as they were; parameters in 16 bits.
    values = scan_inputs(2, 33, 20, 16, dtype=torch.float32, device=place)
    for name in ("u", "z", "D", "A", "initial_state"):
        values[name] = values[name].bfloat16()
    gy = torch.randn(2, 33, 20, device=place).bfloat16()
    gstate = torch.randn(2, 20, 16, device=place)
    outputs, grads = scan(values, NAMES, gy, gstate)
    wanted = spec(values, NAMES, gy, gstate)
    assert_near(outputs, wanted[0], torch.bfloat16)
    assert_near(grads, wanted[1], torch.bfloat16)
    assert all(grads[name].dtype == values[name].dtype for name in NAMES)


def test_a_large_gradient_of_one_channel_stays_in_its_channel(place: torch.device) -> None:
    values = scan_inputs(2, 20, 19, 16, dtype=torch.float32, device=place)
    gy = torch.zeros(2, 20, 19, device=place)
    gy[1, 13, 7] = 1.0
    _, grads = scan(values, NAMES, gy)
    for name, grad in grads.items():
        inside = torch.zeros_like(grad, dtype=torch.bool)
        channel = slice(None) if name in "BC" else 7
        if name in ROWS:
            inside[1, : 13 + 1, channel] = True
        elif name == "initial_state":
            inside[1, channel] = True
        else:
            inside[channel] = True
        assert (grad[~inside] == 0).all(), name
        assert (grad != 0).any(), name


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("many", [False, True])
def test_bit_equal_from_run_to_run(place: torch.device, dtype: torch.dtype, many: bool) -> None:
    # The width at which the backend cuda takes its larger tiling; smaller where nothing changes.
    width = 1000 if not many or place.type == "cpu" else scan_cuda._MANY // 2
    values = scan_inputs(2, 33, width, 16, dtype=dtype, device=place)
    gy, gstate = torch.randn_like(values["u"]), torch.randn_like(values["initial_state"])
    first = scan(values, NAMES, gy, gstate)
    for _ in range(3):
        junk = [torch.full_like(values["u"], float("nan")) for _ in range(3)]
        del junk  # what is allocated next lies elsewhere, and holds something else
        assert_equal(first, scan(values, NAMES, gy, gstate))


@settings(QUICK, max_examples=25)
@given(data=st.data())
def test_a_sequence_split_anywhere_gives_the_same_result(
    place: torch.device, data: st.DataObject
) -> None:
    length = data.draw(st.integers(2, 70))
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), min_size=1, max_size=3)))
    values = scan_inputs(2, length, 11, data.draw(states), dtype=torch.float32, device=place)
    gy, gstate = torch.randn_like(values["u"]), torch.randn_like(values["initial_state"])
    whole = scan(values, NAMES, gy, gstate)
    leaves = {k: v.detach().requires_grad_() for k, v in values.items()}
    outputs, state = [], leaves["initial_state"]
    for start, end in zip([0, *cuts], [*cuts, length], strict=True):
        part = {k: v[:, start:end] if k in ROWS else v for k, v in leaves.items()}
        part["initial_state"] = state
        y, state = selective_scan(**part, return_final_state=True)
        outputs.append(y)
    joined = torch.cat(outputs, 1)
    grads = torch.autograd.grad((joined, state), list(leaves.values()), (gy, gstate))
    assert_near({"y": joined.detach(), "state": state.detach()}, whole[0], torch.float32)
    assert_near(dict(zip(leaves, grads, strict=True)), whole[1], torch.float32)


@pytest.mark.parametrize("n", [8, 16, 32, 64])
@pytest.mark.parametrize("width", [1, 2, 37])
def test_one_step(place: torch.device, n: int, width: int) -> None:
    values = scan_inputs(1, 1, width, n, dtype=torch.float32, device=place)
    torch.manual_seed(n + width)  # a lone gradient may cancel to nearly nothing
    gy, gstate = torch.randn_like(values["u"]), torch.randn_like(values["initial_state"])
    outputs, grads = scan(values, NAMES, gy, gstate)
    wanted = spec(values, NAMES, gy, gstate)
    assert_near(outputs, wanted[0], torch.float32)
    assert_near(grads, wanted[1], torch.float32)


@pytest.mark.parametrize(("batch", "width"), [(0, 5), (2, 0), (0, 0)])
def test_nothing_to_scan(place: torch.device, batch: int, width: int) -> None:
    values = scan_inputs(batch, 7, width, 16, dtype=torch.bfloat16, device=place)
    values["A"] = laid_out(values["A"], "transposed", place)
    outputs, grads = scan(values, NAMES, values["u"], values["initial_state"])
    assert outputs["y"].shape == (batch, 7, width)
    assert outputs["state"].shape == (batch, width, 16)
    for name in NAMES:
        assert grads[name].shape == values[name].shape, name
        assert (grads[name] == 0).all(), name


STEPS = [-1e30, -1e4, -100.0, -88.0, -20.0, 0.0, 19.9, 20.1, 88.0, 89.0, 1e4, 1e6]


@pytest.mark.parametrize("rate", [-1e-30, -1e-6, -1.0, -1e4, -1e20])
@pytest.mark.parametrize("gate", [-1e30, -100.0, 0.0, 100.0])
def test_extreme_steps_rates_and_gates(place: torch.device, rate: float, gate: float) -> None:
    # No NaN where the spec has none, in the same precision; and the same values.
    width = len(STEPS)
    values = scan_inputs(2, 35, width, 16, dtype=torch.float32)
    values["A"] = torch.full((width, 16), rate)
    values["dt"] = torch.tensor(STEPS).expand(2, 35, width).contiguous()
    values["dt"][1, ::2] = -values["dt"][1, ::2].clamp(-1e6, 1e6)  # to and fro
    values["dt_bias"] = torch.zeros(width)
    values["z"] = torch.full_like(values["u"], gate)
    gy, gstate = torch.ones(2, 35, width), torch.ones(2, width, 16)
    on_device = {k: v.to(place) for k, v in values.items()}
    got = scan(on_device, NAMES, gy.to(place), gstate.to(place))
    wanted = spec(values, NAMES, gy, gstate, dtype=torch.float32)
    for results, exacts in zip(got, wanted, strict=True):
        for name, exact in exacts.items():
            result = results[name].cpu()
            fine = exact.isfinite()
            assert result[fine].isfinite().all(), f"{name}: not finite where the spec is"
            # Each channel has its own size: the largest steps would hide the others in one norm.
            axis = {"y": 2, "state": 1, "u": 2, "dt": 2, "z": 2, "initial_state": 1}.get(name, 0)
            count = 1 if name in ("B", "C") else width
            got_rows, rows = (
                x.double().movedim(axis, 0).reshape(count, -1) for x in (result, exact)
            )
            errors, sizes = (got_rows - rows).norm(dim=1), rows.norm(dim=1)
            known = sizes.isfinite()
            assert (errors <= 1e-3 * sizes + 1e-30)[known].all(), f"{name}: {errors} of {sizes}"


def test_a_long_sequence_stays_exact(place: torch.device) -> None:
    # Slow decays remember everything: errors of each step would add up.
    values = scan_inputs(1, 5000, 6, 16, dtype=torch.float32, device=place)
    values["A"] = values["A"] * torch.logspace(-3, 0, 16, device=place)
    values["dt_bias"] = values["dt_bias"] - 3
    gy, gstate = torch.randn_like(values["u"]), torch.randn_like(values["initial_state"])
    outputs, grads = scan(values, NAMES, gy, gstate)
    wanted = spec(values, NAMES, gy, gstate)
    # The kernels' exp is good to 2^-22, always to the same side where the exponent hardly changes.
    factor = 10 if place.type == "cuda" else 2
    assert_near(outputs, wanted[0], torch.float32, factor)
    assert_near(grads, wanted[1], torch.float32, factor)


def test_the_reference_itself_in_closed_form() -> None:
    # One state, constant input: a geometric series.
    one = torch.ones(1, 50, 1, dtype=torch.float64)
    A = torch.full((1, 1), -0.25, dtype=torch.float64)
    y, state = selective_scan_reference(one * 2, one * 0.4, A, one, one, dt_softplus=False)
    steps = torch.arange(1, 51, dtype=torch.float64)
    decay = torch.exp(torch.tensor(-0.1, dtype=torch.float64))
    torch.testing.assert_close(y[0, :, 0], 0.8 * (1 - decay**steps) / (1 - decay))
    assert state.item() == y[0, -1, 0].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_plain_pytorch_on_a_gpu_equals_the_kernels() -> None:
    values = scan_inputs(2, 70, 33, 16, dtype=torch.float32, device="cuda")
    gy, gstate = torch.randn_like(values["u"]), torch.randn_like(values["initial_state"])
    results = []
    for name in ("torch", "auto"):
        backend.choose(name)
        results.append(scan(values, NAMES, gy, gstate))
    backend.choose(None)
    for fast, plain in zip(*results[::-1], strict=True):
        assert_near(fast, plain, torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("width", [24, 19])
@pytest.mark.parametrize("n", [8, 16, 32, 64])
def test_gradients_written_into_views_leave_what_lies_around_them(n: int, width: int) -> None:
    values = scan_inputs(2, 37, width, n, dtype=torch.bfloat16, device="cuda")
    inputs = tuple(values[name] for name in NAMES[:8])
    gy = torch.randn_like(values["u"])
    _, _, starts = scan_cuda.scan_forward(inputs, True, None)
    whole = scan_cuda.scan_backward(gy, None, starts, inputs, True, [True] * 9)
    room = {"dz": torch.full((2, 37, 2 * width), float("nan"), device="cuda").bfloat16()}
    room["dBC"] = torch.full((2, 37, 2 * n + 5), float("nan"), device="cuda").bfloat16()
    views = {
        "dz": room["dz"][..., width:],
        "dB": room["dBC"][..., 5 : 5 + n],
        "dC": room["dBC"][..., 5 + n :],
    }
    scan_cuda.scan_backward(gy, None, starts, inputs, True, [True] * 9, **views)
    for name, index in (("dz", 6), ("dB", 3), ("dC", 4)):
        assert torch.equal(views[name], whole[index]), name
    assert room["dz"][..., :width].isnan().all()
    assert room["dBC"][..., :5].isnan().all()


def _frozen(inputs: Any, gy: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
    with emulated():
        y, _, starts = scan_cuda.scan_forward(inputs, True, None, frozen=True)
        return y, scan_cuda.scan_backward(gy, None, starts, inputs, True, _NEEDS, frozen=True)


@needs_emulator
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [8, 16, 64])
def test_what_a_frozen_scan_keeps_rounded_is_near_enough(dtype: torch.dtype, n: int) -> None:
    values = scan_inputs(2, 71, 600, n, dtype=dtype, left_out=["initial_state"])
    gy = torch.randn_like(values["u"])
    inputs = tuple(values.get(name) for name in NAMES[:8])
    y, grads = _frozen(inputs, gy)
    wanted_y, wanted = spec(values, [n for n, need in zip(NAMES, _NEEDS, strict=True) if need], gy)
    assert_near({"y": y}, {"y": wanted_y["y"]}, dtype)
    got = {name: grad for name, grad in zip(NAMES, grads, strict=True) if grad is not None}
    assert_near(got, wanted, dtype, factor=1.0 if dtype == torch.float32 else 1.5)


@needs_emulator
def test_small_gradients_of_many_channels_are_not_rounded_away() -> None:
    # Each block of channels sums up less than half of fp16's least number, all of them ten such.
    values = scan_inputs(1, 40, 1280, 16, dtype=torch.float16, left_out=OPTIONAL)
    values["u"], values["dt"] = values["u"] * 0 + 1, values["dt"] * 0 - 3
    values["A"], values["B"] = values["A"] * 0 - 1, values["B"] * 0 + 0.0125
    gy = torch.full_like(values["u"], 2**-24)
    inputs = tuple(values.get(name) for name in NAMES[:8])
    _, grads = _frozen(inputs, gy)
    exact = spec(values, ["C"], gy)[1]["C"]
    blocks = 1280 // scan_cuda.BACKWARD[16].channels
    assert exact[:, -1].max() / blocks < 2**-25
    assert (grads[4].double() - exact)[:, 10:].abs().max() < 2**-24
    assert (grads[4][:, 10:] > 0).all()
