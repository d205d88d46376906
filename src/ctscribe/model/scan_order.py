"""In which order the cells of a grid become a sequence: what is near in space, near in it too.

- row: as they lie in memory; at the end of each row it jumps back.
- snake: every other row, and every other plane, backwards: each step goes to a face neighbour.
- hilbert: the generalised Hilbert curve for boxes of any size (Červený's "gilbert", from its
  description): a box is cut into smaller ones, each walked from corner to corner along one side.
  Each step goes to a face neighbour, or, in some boxes with odd sides, across an edge or a corner.

Of row, snake and hilbert in 16 x 16 x 16 cells: half of all face neighbours are within 16, 15 and 3
places of each other, and an eighth of the sequence lies on average 6.2, 6.2 and 4.3 cells around
its middle. The mean distance of neighbours (91, 91, 98) is set by the few that every curve parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ScanOrder = Literal["row", "snake", "hilbert"]
_Vector = NDArray[np.int64]


@cache
def scan_order(size: tuple[int, ...], kind: ScanOrder) -> Tensor:
    """(prod(size),) row-major numbers of the cells, in the order of the sequence.

    size: cells (Z, Y, X) or (Y, X).
    """
    cells = torch.arange(torch.Size(size).numel()).reshape(size)
    if kind == "row":
        return cells.flatten()
    if kind == "snake":
        return _snake(cells)
    # The longest side first: the curve runs along it, from one end to the other.
    a, b, c = sorted(np.diag((1, *size)[-3:]), key=lambda side: -int(side.sum()))
    path = np.concatenate(list(_walk(np.zeros(3, np.int64), a, b, c)))
    return cells.reshape((1, *size)[-3:])[tuple(path.T)]


def _snake(cells: Tensor) -> Tensor:
    if cells.dim() == 1:
        return cells
    parts = [_snake(part) for part in cells]
    return torch.cat([part.flip(0) if i % 2 else part for i, part in enumerate(parts)])


def _walk(at: _Vector, a: _Vector, b: _Vector, c: _Vector) -> Iterator[_Vector]:
    """Cells (n, 3) of the box at the cell `at` with sides a, b, c: from there to the end of a."""
    w, h, d = (int(abs(side.sum())) for side in (a, b, c))
    da, db, dc = np.sign(a), np.sign(b), np.sign(c)
    if w * h * d == max(w, h, d):  # a line
        yield at + np.arange(w * h * d)[:, None] * (da * (w > 1) + db * (h > 1) + dc * (d > 1))
        return
    if w * h * d == 0:
        return
    a2, b2, c2 = _half(w) * da, _half(h) * db, _half(d) * dc
    if 2 * w > 3 * h and 2 * w > 3 * d:  # long: one half after the other
        yield from _walk(at, a2, b, c)
        yield from _walk(at + a2, a - a2, b, c)
    elif 3 * h > 4 * d:  # flat: up, along and down again
        yield from _walk(at, b2, c, a2)
        yield from _walk(at + b2, a, b - b2, c)
        yield from _walk(at + a - da + b2 - db, -b2, c, a2 - a)
    elif 3 * d > 4 * h:
        yield from _walk(at, c2, a2, b)
        yield from _walk(at + c2, a, b, c - c2)
        yield from _walk(at + a - da + c2 - dc, -c2, a2 - a, b)
    else:  # about a cube: five parts
        yield from _walk(at, b2, c2, a2)
        yield from _walk(at + b2, c, a2, b - b2)
        yield from _walk(at + b2 - db + c - dc, a, -b2, c2 - c)
        yield from _walk(at + a - da + b2 + c - dc, -c, a2 - a, b - b2)
        yield from _walk(at + a - da + b2 - db, -b2, c2, a2 - a)


def _half(length: int) -> int:
    """An even number of cells where there are more than two: then the parts join face to face."""
    half = length // 2
    return half + 1 if half % 2 and length > 2 else half
