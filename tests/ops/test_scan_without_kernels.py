"""The two modules that scan where no kernel does, called directly."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.ops import scan_cpu, scan_torch
from ctscribe.ops.scan_torch import NAMES, scan_backward, scan_forward
from ctscribe.ops.selective_scan import selective_scan, selective_scan_reference
from tests.ops.cases import scan_inputs

each_module = pytest.mark.parametrize("module", [scan_torch, scan_cpu])


def call(values: dict[str, Tensor]) -> tuple[Tensor | bool | None, ...]:
    """The arguments in order, softplus on."""
    ordered = [values.get(name) for name in NAMES]
    return (*ordered[:8], True, ordered[8])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.booleans(), min_size=9, max_size=9),
    st.sets(st.sampled_from(["D", "z", "dt_bias", "initial_state"])),
    st.booleans(),
    st.booleans(),
    st.integers(1, 1000),
    st.integers(1, 23),
)
def test_each_subset_of_gradients_equals_the_references(
    needs: list[bool], left_out: set[str], of_y: bool, of_final: bool, budget: int, length: int
) -> None:
    values = scan_inputs(2, length, 5, 8, left_out=left_out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_torch, "CPU_CHUNK", budget)
        patch.setattr(scan_torch, "SHORTEST_CHUNK", 1)
        y, final, starts = scan_forward(*call(values))  # type: ignore[arg-type]
    gy = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y) if of_y else None
    gfinal = final.cos() if of_final else None
    # Not under the patch: the chunks of the backward pass are those of `starts`.
    grads = scan_backward(gy, gfinal, starts, *call(values), tuple(needs))  # type: ignore[arg-type]
    leaves = {k: v.clone().requires_grad_() for k, v in values.items()}
    wanted_y, wanted_final = selective_scan_reference(**leaves)
    loss = (wanted_y * (0 if gy is None else gy)).sum()
    (loss + (wanted_final * (0 if gfinal is None else gfinal)).sum()).backward()
    for name, need, grad in zip(NAMES, needs, grads, strict=True):
        if not need or name not in leaves:
            assert grad is None, name
            continue
        assert grad is not None
        assert grad.is_contiguous(), name
        torch.testing.assert_close(grad, leaves[name].grad, rtol=1e-9, atol=1e-9, msg=name)


@each_module
def test_one_state_is_held_where_no_gradient_is_wanted(module: ModuleType) -> None:
    dtype = torch.float64 if module is scan_torch else torch.float32
    values = scan_inputs(2, 40, 5, 8, dtype=dtype)  # two chunks, the last one short
    y, final, starts = module.scan_forward(*call(values))
    again_y, again_final, first = module.scan_forward(*call(values), keep=False)
    wanted_y, wanted_final = selective_scan_reference(**values)
    assert torch.equal(y, again_y)
    assert torch.equal(final, again_final)
    assert (len(starts), len(first)) == (2, 1)
    near = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {}
    torch.testing.assert_close(y, wanted_y, **near)
    torch.testing.assert_close(final, wanted_final, **near)


@each_module
def test_nothing_that_comes_out_is_a_view_of_what_went_in_and_inputs_stay(
    module: ModuleType,
) -> None:
    values = scan_inputs(1, 40, 6, 8, dtype=torch.float32)  # batch 1: time first is a view
    before = {k: v.clone() for k, v in values.items()}
    outputs = module.scan_forward(*call(values))
    gy, gfinal = torch.ones(1, 40, 6), torch.ones(1, 6, 8)
    grads = module.scan_backward(gy, gfinal, outputs[2], *call(values), (True,) * 9)
    storages = {v.untyped_storage().data_ptr() for v in (*values.values(), gy, gfinal)}
    for out in (*outputs, *grads):
        assert out is not None
        assert out.untyped_storage().data_ptr() not in storages
    assert all(torch.equal(values[k], before[k]) for k in values)
    assert torch.equal(gy, torch.ones(1, 40, 6))
    assert torch.equal(gfinal, torch.ones(1, 6, 8))


@each_module
def test_gradients_have_the_dtype_of_their_input(module: ModuleType) -> None:
    values = scan_inputs(2, 9, 4, 8, dtype=torch.float32)
    for name in ("u", "dt", "B", "z"):
        values[name] = values[name].bfloat16()
    values["initial_state"] = values["initial_state"].double()
    y, final, starts = module.scan_forward(*call(values))
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    grads = module.scan_backward(y, final, starts, *call(values), (True,) * 9)
    for name, grad in zip(NAMES, grads, strict=True):
        assert grad is not None
        assert (name, grad.dtype) == (name, values[name].dtype)


@each_module
def test_bit_equal_from_run_to_run_and_under_autocast(module: ModuleType) -> None:
    values = scan_inputs(2, 70, 33, 16, dtype=torch.float32)
    runs = []
    for half in (False, False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y, final, starts = module.scan_forward(*call(values))
            grads = module.scan_backward(y, final, starts, *call(values), (True,) * 9)
        runs.append([y, final, *grads])
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


def test_a_cpu_without_numba_scans_with_pytorchs_operations(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = scan_inputs(2, 40, 70, 8, dtype=torch.float32)
    wanted = selective_scan(**values)
    assert scan_torch.module_for(values["u"]) is scan_cpu
    assert scan_torch.module_for(values["u"].double()) is scan_torch
    scan_torch.loops.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ctscribe.ops.scan_cpu", None)  # an import of it fails
        got = selective_scan(**values)
        assert scan_torch.module_for(values["u"]) is scan_torch
    scan_torch.loops.cache_clear()
    torch.testing.assert_close(got, wanted)
    assert len(caplog.records) == 1
    assert "three times as long" in caplog.text
