"""The convolution of each backend against PyTorch's own, in fp64 on the same rounded inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d, silu

from ctscribe.ops.causal_conv import causal_conv1d
from tests.ops.cases import (
    FLOATS,
    LAYOUTS,
    QUICK,
    assert_equal,
    assert_near,
    laid_out,
    lengths,
    poisoned,
    widths,
)

NAMES = ("x", "weight", "bias", "initial_state")
WIDE = ("weight", "bias")  # fp32 whatever x is


def conv_inputs(
    batch: int,
    length: int,
    width: int,
    taps: int,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    left_out: Any = (),
    layouts: dict[str, str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "x": (batch, length, width),
        "weight": (width, taps),
        "bias": (width,),
        "initial_state": (batch, taps - 1, width),
    }
    return {
        name: laid_out(
            torch.randn(shape, generator=g).to(torch.float32 if name in WIDE else dtype),
            (layouts or {}).get(name, "contiguous"),
            device,
        )
        for name, shape in shapes.items()
        if name not in left_out
    }


def padding(batch: int, lengths_of: list[int], length: int, left: bool) -> Tensor:
    """A mask (B, L) of sequences of these lengths, padded at one side."""
    mask = torch.zeros(batch, length, dtype=torch.bool)
    for row, real in zip(mask, lengths_of, strict=True):
        row[length - real if left else 0 : length if left else real] = True
    return mask


def spec(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    active: bool = True,
    mask: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """y and the last inputs, by PyTorch's depthwise convolution."""
    if reverse:
        mask = None if mask is None else mask.flip(1)
        y, state = spec(x.flip(1), weight, bias, initial_state, active=active, mask=mask)
        return y.flip(1), state
    batch, length, width = x.shape
    past = weight.shape[1] - 1
    seen = torch.ones(batch, length, 1) if mask is None else mask.bool()[..., None]
    before = x.new_zeros(batch, past, width) if initial_state is None else initial_state
    whole = torch.cat([before, x.where(seen.bool(), 0)], 1)
    y = conv1d(whole.transpose(1, 2), weight[:, None], bias, groups=width).transpose(1, 2)
    return (silu(y) if active else y) * seen, whole[:, length:]


def run(
    values: dict[str, Tensor],
    needs: Any = NAMES,
    gy: Tensor | None = None,
    gstate: Tensor | None = None,
    *,
    active: bool = True,
    mask: Tensor | None = None,
    reverse: bool = False,
    exact: bool = False,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and gradients by name. exact: of the spec, in fp64 on the CPU."""
    if exact:
        values = {k: v.detach().double().cpu() for k, v in values.items()}
        mask, gy, gstate = (None if t is None else t.cpu() for t in (mask, gy, gstate))
    leaves = {k: v.detach().requires_grad_(exact or k in needs) for k, v in values.items()}
    if exact:
        y, state = spec(**leaves, active=active, mask=mask, reverse=reverse)
    else:
        activation: Any = "silu" if active else None
        y, state = causal_conv1d(
            **leaves, activation=activation, mask=mask, return_final_state=True, reverse=reverse
        )
    gy = torch.ones_like(y) if gy is None else gy.to(y.dtype)
    outputs, grads = (y, state), (gy, torch.zeros_like(state) if gstate is None else gstate)
    if not exact and not state.requires_grad:
        outputs, grads = (y,), (gy,)
    wanted = {k: v for k, v in leaves.items() if k in needs}
    found = torch.autograd.grad(outputs, list(wanted.values()), grads)
    return {"y": y.detach(), "state": state.detach()}, dict(zip(wanted, found, strict=True))


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@settings(QUICK, max_examples=60)
@given(data=st.data())
def test_equals_pytorchs_convolution_forward_and_backward(
    place: torch.device, dtype: torch.dtype, data: st.DataObject
) -> None:
    batch, length, width = data.draw(st.integers(0, 3)), data.draw(lengths), data.draw(widths)
    left_out = data.draw(st.sets(st.sampled_from(["bias", "initial_state"])))
    values = conv_inputs(
        batch,
        length,
        width,
        data.draw(st.sampled_from([2, 3, 4])),
        dtype=dtype,
        seed=data.draw(st.integers(0, 2**31)),
        left_out=left_out,
        layouts=data.draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(LAYOUTS))),
        device=place,
    )
    mask = None
    if data.draw(st.booleans()):
        mask = torch.randint(2, (batch, length), generator=torch.Generator().manual_seed(2))
        mask = mask.bool().to(place)
        # As a tokenizer gives it, or a part of a longer one.
        kind = data.draw(st.sampled_from(["bool", "int", "float", "part"]))
        if kind == "part":
            mask = torch.cat([~mask, mask], 1)[:, length:]
        else:
            mask = mask.to({"bool": torch.bool, "int": torch.int64, "float": torch.float32}[kind])
    names = st.sampled_from([name for name in NAMES if name in values])
    needs = data.draw(st.one_of(st.just(set(values)), st.sets(names, min_size=1)))
    options = {"active": data.draw(st.booleans()), "reverse": data.draw(st.booleans())}
    g = torch.Generator().manual_seed(1)
    gy = torch.randn(batch, length, width, generator=g).to(dtype)
    gy = laid_out(gy, data.draw(st.sampled_from(LAYOUTS)), place)
    gstate = None
    if data.draw(st.booleans()):
        gstate = torch.randn(batch, values["weight"].shape[1] - 1, width, generator=g)
        gstate = gstate.to(place, dtype)
    with poisoned():
        outputs, grads = run(values, needs, gy, gstate, mask=mask, **options)
    if not needs & {"x", "initial_state"}:
        gstate = None  # reaches nothing that is asked for
    wanted = run(values, needs, gy, gstate, mask=mask, exact=True, **options)
    assert_near(outputs, wanted[0], dtype)
    # A gradient of x that comes through the state too is rounded on either way.
    assert_near(grads, wanted[1], dtype, factor=1 if gstate is None else 2)
    for name, grad in grads.items():
        assert grad.dtype == values[name].dtype, name
    assert outputs["y"].dtype == outputs["state"].dtype == dtype


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("taps", [2, 3, 4])
def test_padding_equals_no_padding(place: torch.device, taps: int, left: bool) -> None:
    real = [17, 1, 40, 33]
    values = conv_inputs(4, 40, 19, taps, left_out=("initial_state",), device=place)
    mask = padding(4, real, 40, left).to(place)
    garbage = {**values, "x": values["x"].where(mask[..., None], 1e4)}
    gy = torch.randn_like(values["x"])
    outputs, grads = run(garbage, ("x", "weight", "bias"), gy, mask=mask)
    total = {name: torch.zeros_like(values[name]) for name in ("weight", "bias")}
    for i, length in enumerate(real):
        part = slice(40 - length, 40) if left else slice(length)
        alone = {**values, "x": values["x"][i : i + 1, part]}
        y, one = run(alone, ("x", "weight", "bias"), gy[i : i + 1, part])
        # Not bit by bit: vectorised loops round their last few elements otherwise.
        close(outputs["y"][i : i + 1, part], y["y"])
        close(grads["x"][i : i + 1, part], one["x"])
        if left:
            assert torch.equal(outputs["state"][i : i + 1], y["state"])
        for name in total:
            total[name] += one[name]
    assert (outputs["y"][~mask] == 0).all()
    assert (grads["x"][~mask] == 0).all()
    assert_near({name: grads[name] for name in total}, total, torch.float32)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_bit_equal_from_run_to_run_and_in_half_of_a_projection(
    place: torch.device, dtype: torch.dtype
) -> None:
    values = conv_inputs(2, 37, 33, 4, dtype=dtype, layouts={"x": "half"}, device=place)
    gy = torch.randn_like(values["x"])
    whole = run(values, NAMES, gy)
    for _ in range(3):
        assert_equal(whole, run(values, NAMES, gy))
    assert_equal(whole, run({**values, "x": values["x"].contiguous()}, NAMES, gy))


@pytest.mark.parametrize("cut", [1, 2, 3, 16, 17, 36])
@pytest.mark.parametrize("taps", [2, 3, 4])
def test_a_sequence_split_anywhere_gives_the_same_result(
    place: torch.device, taps: int, cut: int
) -> None:
    values = conv_inputs(2, 37, 33, taps, device=place)
    gy, gstate = torch.randn_like(values["x"]), torch.randn_like(values["initial_state"])
    whole = run(values, NAMES, gy, gstate)
    leaves = {k: v.detach().requires_grad_() for k, v in values.items()}
    outputs, state = [], leaves["initial_state"]
    for x in leaves["x"].split([cut, 37 - cut], 1):
        y, state = causal_conv1d(
            **{**leaves, "x": x, "initial_state": state}, return_final_state=True
        )
        outputs.append(y)
    joined = torch.cat(outputs, 1)
    grads = torch.autograd.grad((joined, state), list(leaves.values()), (gy, gstate))
    assert torch.equal(state, whole[0]["state"])
    close(joined, whole[0]["y"])
    assert_near(dict(zip(leaves, grads, strict=True)), whole[1], torch.float32)


def test_extreme_inputs_give_no_nan(place: torch.device) -> None:
    extremes = torch.tensor([-1e30, -1e4, -100.0, -88.5, 0.0, 88.5, 100.0, 1e4, 1e30])
    x = extremes.expand(2, 30, 9).contiguous()
    x[1] = x[1].roll(1, 0).flip(-1)
    weight = torch.ones(9, 2)
    got = run({"x": x.to(place), "weight": weight.to(place)}, ("x", "weight"))
    wanted = run({"x": x, "weight": weight}, ("x", "weight"), exact=True)
    for results, exacts in zip(got, wanted, strict=True):
        for name, exact in exacts.items():
            torch.testing.assert_close(
                results[name].double().cpu(), exact, rtol=1e-4, atol=1e-6, msg=name
            )


@pytest.mark.parametrize("length", [1, 2, 20])
def test_inputs_of_several_dtypes(place: torch.device, length: int) -> None:
    # The state kept in fp32, parameters in 16 bits: x says what the result is in.
    values = conv_inputs(2, length, 9, 4, dtype=torch.bfloat16, device=place)
    gy = torch.randn_like(values["x"])
    wanted = run(values, NAMES, gy)
    values["initial_state"] = values["initial_state"].float()
    outputs, _ = run(values, NAMES, gy)
    assert outputs["state"].dtype == torch.bfloat16
    assert_equal((outputs, {}), (wanted[0], {}))
    for name in ("weight", "bias"):
        values[name] = values[name].bfloat16()
    outputs, grads = run(values, NAMES, gy)
    assert all(grads[name].dtype == values[name].dtype for name in NAMES)
    exact = run(values, NAMES, gy, exact=True)
    grads["initial_state"] = grads["initial_state"].bfloat16()  # as precise as x
    assert_near(outputs, exact[0], torch.bfloat16)
    assert_near(grads, exact[1], torch.bfloat16, factor=2)


def test_wider_filters_than_the_kernels_take(place: torch.device) -> None:
    values = conv_inputs(2, 20, 9, 7, device=place)
    gy = torch.randn_like(values["x"])
    outputs, grads = run(values, NAMES, gy)
    wanted = run(values, NAMES, gy, exact=True)
    assert_near(outputs, wanted[0], torch.float32)
    assert_near(grads, wanted[1], torch.float32)
