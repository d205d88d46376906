"""How often rows are drawn: by the column sample_weight, else each once."""

from pathlib import Path

import pytest
import torch

from ctscribe.errors import DataError
from ctscribe.tables.manifest import Row
from ctscribe.training.caption import _batches
from ctscribe.training.data import TokenizedRows, epoch_order, sample_weights


def rows(*cells: str | None) -> list[Row]:
    return [
        Row(f"c{i}", f"p{i}", Path("x"), "", "答", {} if c is None else {"sample_weight": c})
        for i, c in enumerate(cells)
    ]


def test_rows_without_weights_are_each_read_once() -> None:
    assert sample_weights(rows(None, None)) is None
    assert sample_weights(rows("", "")) is None
    torch.manual_seed(3)
    order = epoch_order(50, None)
    torch.manual_seed(3)
    assert torch.equal(order, torch.randperm(50))  # as runs of before were seeded


def test_rows_are_drawn_by_their_weights_and_the_seed() -> None:
    weights = sample_weights(rows(*["0.5"] * 90, *["5.5"] * 10))
    assert weights is not None
    assert weights.mean() == pytest.approx(1)
    torch.manual_seed(3)
    order = epoch_order(100, weights)
    assert len(order) == 100
    torch.manual_seed(3)
    assert torch.equal(order, epoch_order(100, weights))
    drawn = torch.cat([epoch_order(100, weights) for _ in range(50)])
    assert (drawn >= 90).float().mean() == pytest.approx(0.55, abs=0.03)


def test_batches_of_stage_2_follow_the_weights() -> None:
    tokens = TokenizedRows([[1]] * 8, [[2] * (i + 1) for i in range(8)], 0)
    torch.manual_seed(0)
    only = torch.tensor([0, 0, 0, 1.0, 0, 0, 0, 0])
    assert _batches(tokens, 4, only) == [[3] * 4] * 2
    assert sorted(i for batch in _batches(tokens, 4) for i in batch) == list(range(8))


@pytest.mark.parametrize("cell", ["", "x", "0", "-1", "nan", "inf"])
def test_a_weight_that_is_none(cell: str) -> None:
    with pytest.raises(DataError, match=r"case c1: sample_weight is .*, not a positive") as caught:
        sample_weights(rows("1.0", cell))
    assert caught.value.code == "bad-table"
