"""Do the slices of a volume belong together, and is every one of them whole?

A header that is sound says nothing of a copy that broke off and was filled with zeros, of a decoder
that gave the slice before once more, or of one slice that lost its slope. All of it leaves a volume
that looks like a chest. Slices are compared with those beside them: anatomy changes little there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TISSUE_HU = -300.0
AIR_HU = -900.0  # a line of one value below it may be padding, or air that was clipped
SAMPLED = 128  # pixels along each axis at most that are compared between slices
JUMP_HU = 100.0  # of the median between neighbours; thick slices and 120 HU of noise stay below 40
FEW_PIXELS = 200  # less tissue says nothing
LEAST_LINES = 4  # lost lines of one slice; resampling may leave a few at an edge
MOST_REPEATED = 0.25  # of all slices; more is a volume resampled to finer slices by its nearest
LISTED = 4


class SliceFault(NamedTuple):
    """A code of `problems.KINDS` and what was found; slices are counted from 1, at the feet."""

    code: str
    detail: str


def slice_fault(hu_zyx: NDArray[Any]) -> SliceFault | None:
    """What is wrong between slices, or None: lines lost, values that jump, a slice that repeats.

    hu_zyx: (z, y, x) in HU, z to the head.
    """
    return _lost(hu_zyx) or _jump(hu_zyx) or _repeated(hu_zyx)


def _lost(hu: NDArray[Any]) -> SliceFault | None:
    """Lines of exactly one value where there should be tissue: what a broken copy is filled with.

    Above air no scanner fills a whole line with one value. At air it does, outside the field of
    view: there the line must cross tissue in a neighbouring slice. A slice that is air throughout
    is padding.
    """
    for axis in (2, 1):
        first = hu[:, :, 0] if axis == 2 else hu[:, 0]
        constant = (hu == np.expand_dims(first, axis)).all(axis)
        tissue = (hu > TISSUE_HU).mean(axis) > 0.2
        beside = np.zeros_like(constant)
        beside[1:] |= tissue[:-1] & ~constant[:-1]
        beside[:-1] |= tissue[1:] & ~constant[1:]
        padding = (constant & (first <= AIR_HU)).all(1)
        lost = constant & ~padding[:, None] & ((first > AIR_HU) | beside)
        at = np.flatnonzero(lost.sum(1) >= LEAST_LINES)
        if at.size:
            value = first[at[0]][lost[at[0]]][0]
            most = int(lost[at].sum(1).max())
            lines = "rows" if axis == 2 else "columns"
            return SliceFault(
                "blank",
                f"up to {most} whole {lines} of {_numbered(at)} hold nothing but {value:g} HU: "
                "they were not copied or decoded",
            )
    return None


def _jump(hu: NDArray[Any]) -> SliceFault | None:
    """Neighbours between which most values differ alike: one has another slope or intercept."""
    step = [max(1, n // SAMPLED) for n in hu.shape[1:]]
    coarse = hu[:, :: step[0], :: step[1]].reshape(len(hu), -1).astype(np.float32)
    jumps = []
    for at in range(len(coarse) - 1):
        here, there = coarse[at], coarse[at + 1]
        if here.max() <= AIR_HU or there.max() <= AIR_HU:
            continue  # padding
        by = there - here
        tissue = (here > TISSUE_HU) & (there > TISSUE_HU)
        steps = [float(np.median(by))]
        if tissue.sum() > FEW_PIXELS:
            steps.append(float(np.median(by[tissue])))
        largest = max(steps, key=abs)
        if abs(largest) > JUMP_HU:
            jumps.append((at, largest))
    if not jumps:
        return None
    listed = ", ".join(f"{at + 1} to {at + 2} by {by:+.0f} HU" for at, by in jumps[:LISTED])
    more = f" and {len(jumps) - LISTED} more" if len(jumps) > LISTED else ""
    return SliceFault(
        "not-hu",
        f"values jump between slices ({listed}{more}): slope or intercept of some is lost or wrong",
    )


def _repeated(hu: NDArray[Any]) -> SliceFault | None:
    """The same pixels at two neighbouring places, which noise alone forbids."""
    same = [
        at
        for at in range(len(hu) - 1)
        if hu[at].max() > AIR_HU and np.array_equal(hu[at], hu[at + 1])
    ]
    if not same or len(same) > MOST_REPEATED * len(hu):
        return None
    pairs = ", ".join(f"{at + 1} and {at + 2}" for at in same[:LISTED])
    more = f" and {len(same) - LISTED} more pairs" if len(same) > LISTED else ""
    return SliceFault(
        "slices-missing",
        f"slices {pairs}{more} are equal to the last pixel: one stands in the place of another",
    )


def _numbered(at: NDArray[np.intp]) -> str:
    listed = ", ".join(str(int(index) + 1) for index in at[:LISTED])
    more = f" and {at.size - LISTED} more" if at.size > LISTED else ""
    return f"slice{'s' * (at.size > 1)} {listed}{more}"
