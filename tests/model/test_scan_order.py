"""Every order is a permutation; how well each keeps neighbours together is measured."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.model.scan_order import ScanOrder, scan_order

SIZES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
KINDS: list[ScanOrder] = ["row", "snake", "hilbert"]


def steps(size: tuple[int, ...], kind: ScanOrder) -> Tensor:
    """(n - 1, dims): cells moved along each axis, step by step."""
    axes = [torch.arange(n) for n in size]
    cells = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).T
    return cells[scan_order(size, kind)].diff(dim=0).abs()


def apart(size: tuple[int, ...], kind: ScanOrder) -> Tensor:
    """|i - j| in the sequence, of all pairs of face neighbours in space."""
    order = scan_order(size, kind)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    grid = place.reshape(size)
    return torch.cat([grid.diff(dim=i).abs().flatten() for i in range(len(size))]).double()


def unit_share(size: tuple[int, ...], kind: ScanOrder) -> float:
    return float((steps(size, kind).sum(1) == 1).double().mean())


@settings(max_examples=80, deadline=None)
@given(SIZES, st.sampled_from(KINDS))
def test_every_order_is_a_permutation(size: tuple[int, ...], kind: ScanOrder) -> None:
    order = scan_order(size, kind)
    assert order[0] == 0
    assert torch.equal(order.sort().values, torch.arange(torch.Size(size).numel()))


@settings(max_examples=80, deadline=None)
@given(SIZES)
def test_a_snake_never_jumps_and_hilbert_goes_round_a_corner_at_most(size: tuple[int, ...]) -> None:
    assert (steps(size, "snake").sum(1) == 1).all()
    walked = steps(size, "hilbert")
    assert (walked <= 1).all()
    if len(size) == 2:
        assert (walked.sum(1) > 1).sum() <= 1  # parity may ask for one diagonal
    if all(n & (n - 1) == 0 for n in size):
        assert (walked.sum(1) == 1).all()


def test_rows_are_rows() -> None:
    assert scan_order((2, 3), "row").tolist() == [0, 1, 2, 3, 4, 5]
    assert scan_order((2, 3), "snake").tolist() == [0, 1, 2, 5, 4, 3]
    assert scan_order((2, 2, 2), "snake").tolist() == [0, 1, 3, 2, 6, 7, 5, 4]
    assert scan_order((2, 2), "hilbert").tolist() in ([0, 1, 3, 2], [0, 2, 3, 1])


@pytest.mark.parametrize("size", [(4, 4, 4), (8, 8, 8), (6, 7, 5), (16, 16, 16), (12, 16)])
def test_hilbert_keeps_more_neighbours_near(size: tuple[int, ...]) -> None:
    """The mean is set by the few pairs that every curve must part; most pairs come closer."""
    row, hilbert = apart(size, "row"), apart(size, "hilbert")
    assert float(hilbert.median()) <= min(3, float(row.median()))
    assert float(hilbert.mean()) < 1.2 * float(row.mean())
    assert unit_share(size, "hilbert") > 0.95
    assert unit_share(size, "row") < unit_share(size, "hilbert")
    assert radius(size, "hilbert") < 0.9 * min(radius(size, "row"), radius(size, "snake"))


def radius(size: tuple[int, ...], kind: ScanOrder) -> float:
    """Mean distance in space from its middle of what stands in an eighth of the sequence."""
    axes = [torch.arange(n) for n in size]
    cells = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).T.double()
    windows = cells[scan_order(size, kind)].unfold(0, len(cells) // 8, 1)
    away = windows - windows.mean(-1, keepdim=True)
    return float(away.norm(dim=1).mean())


def test_the_figures_of_the_docstring() -> None:
    cube = (16, 16, 16)
    assert [float(apart(cube, k).median()) for k in KINDS] == [16, 15, 3]
    assert [round(float(apart(cube, k).mean())) for k in KINDS] == [91, 91, 98]
    assert [round(radius(cube, k), 1) for k in KINDS] == [6.2, 6.2, 4.3]
