"""Does the anatomy agree with what the header says? Caught: flips, wrong slopes and offsets.

Measured on the lungs' coarse copy. Each question has several witnesses (for right and left: heart,
liver, stomach gas, aorta), because disease moves any one of them; a fault is named only where they
agree, and one witness alone is "unusual". Thresholds were set on three real CTs and 40 phantoms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctscribe.imaging.checks import ChestCheck, check_chest
from ctscribe.imaging.lungs import Lungs, find_lungs
from ctscribe.imaging.slices import slice_fault
from ctscribe.imaging.volume import Volume

SAMPLE = 100  # voxels along each axis at most that the histogram looks at
PADDING_HU = -1100.0  # one exact value below it fills what the scanner did not see
PADDING_SHARE = 0.002
AIR_HU = (-1060.0, -940.0)  # the air around a patient
SOFT_HU = (-160.0, 130.0)  # the commonest value of tissue: fat or muscle
BACK_MM = 10.0  # bone beside the lungs must lie this far off their middle to tell front from back
# Of the body's width at the lungs. Three real CTs have 0.7 to 0.8, a barrel chest about 0.9; turned
# by 90 degrees they have 1.3 and more.
MOST_DEPTH = 1.2
UNEVEN = 0.5  # a lung with less air than this share of the other's: its disease moves the heart
SURE = {"upside-down": 1.5, "mirrored": 1.0}  # what the witnesses must sum to
WORDS = {"mirrored": "right and left", "upside-down": "head and foot"}


class Fault(NamedTuple):
    """Something wrong with a volume: a code of `problems.KINDS`, what was measured, how sure.

    confidence: from 0.5 (one witness) to 1 (all agree).
    """

    code: str
    detail: str
    confidence: float


@dataclass(frozen=True)
class AnatomyCheck:
    """faults: what is wrong, none if all is well. votes: by question and witness, 1 says it is as
    labelled, -1 turned, 0 cannot say. chest: what `check_chest` measured."""

    faults: tuple[Fault, ...]
    votes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    chest: ChestCheck | None = field(default=None, repr=False)


def check_anatomy(volume: Volume) -> AnatomyCheck:
    """Measure a volume and judge it; never raises for what the image shows.

    Codes: blank, not-hu, slices-missing, no-chest, turned, upside-down, back-to-front, mirrored,
    anatomy-odd.
    """
    between = slice_fault(volume.array_zyx)
    if between is not None:
        return AnatomyCheck((Fault(between.code, between.detail, 1.0),))
    wrong_values = hu_fault(volume.array_zyx)
    if wrong_values is not None:
        return AnatomyCheck((Fault("not-hu", wrong_values, 1.0),))
    chest = check_chest(volume)
    if not chest.ok or chest.lungs is None:
        code = "blank" if any(r.code == "blank" for r in chest.reasons) else "no-chest"
        return AnatomyCheck((Fault(code, "; ".join(r.en for r in chest.reasons), 1.0),), {}, chest)
    faults: list[Fault] = []
    votes: dict[str, Mapping[str, float]] = {}
    # Each question is asked of the image with the answers before it put right.
    body = _Body(chest.lungs)
    deeper = body.depth_of_width()
    if deeper > MOST_DEPTH:
        detail = f"the body is {deeper:.1f} times as deep as wide: it lies on its side"
        return AnatomyCheck((Fault("turned", detail, 1.0),), {}, chest)
    votes["upside-down"] = body.head_votes()
    faults += _verdict("upside-down", votes["upside-down"])
    if any(fault.code == "upside-down" for fault in faults):
        body = _Body(_flipped(body.lungs, 0))
    behind = body.bone_behind_mm()
    votes["back-to-front"] = {"bone": max(-1.0, min(1.0, behind / BACK_MM))}
    if behind < -BACK_MM:
        detail = f"spine and shoulder blades lie {-behind:.0f} mm in front of the lungs' middle"
        faults.append(Fault("back-to-front", detail, min(1.0, 0.5 - behind / 60)))
        body = _Body(_flipped(body.lungs, 1))
    votes["mirrored"] = body.side_votes()
    faults += _verdict("mirrored", votes["mirrored"])
    faults += [
        Fault("anatomy-odd", note.en, 1.0)
        for note in chest.notes
        if note.code.startswith("little-air")
    ]
    return AnatomyCheck(tuple(faults), votes, chest)


def hu_fault(array: NDArray[Any]) -> str | None:
    """Why values that pass for Hounsfield units are none, or None: air, fat and muscle in place?

    Catches a slope or offset that was lost or applied twice. What a scanner fills its corners with
    (one exact value such as -2000 or -3024) is left out first. None too where nothing can be said.
    """
    step = tuple(slice(None, None, max(1, n // SAMPLE)) for n in array.shape)
    coarse = array[step].astype(np.float32)
    values = coarse.ravel()
    padding = []
    for _ in range(3):
        least = float(values.min(initial=0.0))
        if least >= PADDING_HU or (values == least).mean() < PADDING_SHARE:
            break
        padding.append(least)
        values = values[values != least]
    if values.size < 1000:
        return None
    low, high = float(values.min()), float(values.max())
    if low > -500 and high > low:
        return f"values from {low:g} to {high:g}, where air would be about -1000 HU"
    below = values[values < -1150]
    if below.size > 0.01 * values.size:
        return f"{below.size / values.size:.0%} of voxels lie near {_mode(below):.0f} HU, below air"
    faces = [coarse[:, i].ravel() for i in (0, -1)] + [coarse[:, :, i].ravel() for i in (0, -1)]
    edge = np.concatenate(faces)
    edge = edge[~np.isin(edge, padding)]
    air = edge[edge < -700]
    if air.size > 0.3 * coarse[:, 0].size and not AIR_HU[0] <= np.median(air) <= AIR_HU[1]:
        return f"the air around the patient has {np.median(air):.0f} HU, not about -1000"
    if (values < -600).mean() < 0.005:
        darkest = float(np.percentile(values, 5))
        if darkest < -130 or (values > 700).mean() > 0.1:
            return f"air and lung are missing: the darkest 5% of voxels have {darkest:.0f} HU"
        return None
    soft = values[np.abs(values) < 300]
    if soft.size < 0.02 * values.size:
        return "fat, muscle and blood are missing: hardly a voxel lies between -300 and 300 HU"
    if not SOFT_HU[0] <= _mode(soft) <= SOFT_HU[1]:
        return f"most tissue has {_mode(soft):.0f} HU, where fat has -100 and muscle 50"
    return None


def _mode(values: NDArray[np.float32]) -> float:
    """The commonest value, in steps of 20."""
    steps = np.round(values / 20).astype(np.int64)
    low = int(steps.min())
    return 20.0 * (low + int(np.bincount(steps - low).argmax()))


def _verdict(code: str, votes: Mapping[str, float]) -> list[Fault]:
    """The fault, if witnesses sum to it and two agree; "unusual" if one says so; else nothing."""
    total = sum(votes.values())
    against = [name for name, vote in votes.items() if vote <= -0.4]
    said = f"{WORDS[code]} look swapped by {', '.join(against)}"
    if total <= -SURE[code] and len(against) >= 2:
        return [Fault(code, said, min(1.0, 0.5 - total / (2 * len(votes))))]
    if total <= -0.75 * SURE[code] and against:
        return [Fault("anatomy-odd", f"{said}, but not surely", 0.5)]
    return []


def _flipped(lungs: Lungs, axis: int) -> Lungs:
    """The lungs of the coarse copy with one axis turned, the spine looked for anew."""
    found = find_lungs(np.flip(lungs.hu_zyx, axis), lungs.spacing_zyx_mm)
    return found if found.air_zyx.any() else lungs


def _ratio_vote(more: float, less: float, clear: float) -> float:
    """1 where `more` is `clear` times `less`, -1 the other way round, logarithmic between."""
    vote = math.log((more + 1) / (less + 1)) / math.log(clear)
    return max(-1.0, min(1.0, vote))


class _Body:
    """What is measured between and around the lungs. Arrays (z, y, x) of the band with lung."""

    def __init__(self, lungs: Lungs) -> None:
        self.lungs = lungs
        rows = np.flatnonzero(lungs.air_zyx.any((1, 2)))
        self.first, self.height = int(rows[0]), int(rows[-1] - rows[0] + 1)
        band = slice(self.first, self.first + self.height)
        self.air, self.hu = lungs.air_zyx[band], lungs.hu_zyx[band]
        self.step_zyx = lungs.spacing_zyx_mm
        x = np.arange(self.hu.shape[2])
        across = (self.hu > -300).sum((0, 1))
        self.middle_x = float((across * x).sum() / max(across.sum(), 1))  # whichever way up
        self.right_mm = (x - lungs.midline_x) * self.step_zyx[2]

    @cached_property
    def between(self) -> NDArray[np.bool_]:
        """Between the outermost air of its own row."""
        air = self.air
        inside: NDArray[np.bool_] = (
            np.logical_or.accumulate(air, 2)
            & np.logical_or.accumulate(air[:, :, ::-1], 2)[..., ::-1]
        )
        return inside

    def depth_of_width(self) -> float:
        """The body's extent from back to front over that from side to side; stray voxels aside."""
        across = []
        for axis in (1, 2):
            tissue = (self.hu > -300).sum(tuple({0, 1, 2} - {axis}))
            held = np.flatnonzero(tissue > 0.1 * tissue.max())
            across.append(float(np.ptp(held) + 1) * self.step_zyx[axis])
        return across[0] / across[1]

    def head_votes(self) -> dict[str, float]:
        """The windpipe is above, heart and liver below, and the lungs are narrow at the top."""
        n = self.height
        tube = np.array([self._has_windpipe(z) for z in range(n)])
        low, high = tube[: math.ceil(0.4 * n)].mean(), tube[int(0.6 * n) :].mean()
        tissue = (self.between & (self.hu > -100)).sum((1, 2))
        return {
            "windpipe": max(-1.0, min(1.0, float(high - low) / 0.4)),
            "lungs' width": _ratio_vote(self._reach(0.05, 0.15), self._reach(0.85, 0.95), 1.3),
            "heart": _ratio_vote(tissue[: n // 2].sum(), tissue[n // 2 :].sum(), 1.5),
        }

    def _has_windpipe(self, z: int) -> bool:
        """Whether a small round piece of air lies alone near the midline."""
        label, count = ndimage.label(self.air[z])
        if not count:
            return False
        _, dy, dx = self.step_zyx
        area = np.bincount(label.ravel(), minlength=count + 1)[1:] * dy * dx
        centre = ndimage.center_of_mass(self.air[z], label, range(1, count + 1))
        return any(
            60 < mm2 < 700 and abs(x - self.middle_x) * dx < 25
            for mm2, (_, x) in zip(area, centre, strict=True)
        )

    def _reach(self, low: float, high: float) -> float:
        """How far from the middle air reaches, in mm, between these shares of the height."""
        first = int(low * self.height)
        part = self.air[first : max(first + 1, int(high * self.height))]
        x = np.flatnonzero(part.any((0, 1)))
        if not len(x):
            return 0.0
        return float(max(x[-1] - self.middle_x, self.middle_x - x[0]) * self.step_zyx[2])

    def bone_behind_mm(self) -> float:
        """How far behind the middle of the lungs the bone around them lies: spine and shoulders.

        Bone between the lungs is left out: contrast in the heart looks like it.
        """
        depth = self.air.sum((0, 2))
        y = np.flatnonzero(depth > 0.02 * depth.max())
        bone = ((self.hu > 200) & ~self.between).sum((0, 2))
        if bone.sum() * self.lungs.voxel_ml < 50:
            return 0.0
        centre = float((bone * np.arange(len(bone))).sum() / bone.sum())
        return (float(y[0] + y[-1]) / 2 - centre) * self.step_zyx[1]

    def side_votes(self) -> dict[str, float]:
        """Heart, aorta and stomach gas lie on the left, most of the liver on the right."""
        sides = self.lungs.litres
        # Fluid, collapse and a pneumothorax push or pull what lies between the lungs.
        trust = 0.5 if min(sides) < UNEVEN * max(sides) else 1.0
        dz, dy, _ = self.step_zyx
        n, lungs = self.height, self.lungs
        spine_y = 0.0 if lungs.spine_y is None else lungs.spine_y
        tissue = self.between & (self.hu > -100)
        heart = tissue[int(0.2 * n) : int(0.65 * n), int(spine_y + 15 / dy) :]
        heart_right, heart_left = self._sides(heart, 15, 90)
        near = slice(max(0, int(spine_y - 25 / dy)), int(spine_y + 30 / dy))
        aorta = self.hu[int(0.25 * n) : int(0.65 * n), near] > -200
        aorta_right, aorta_left = self._sides(aorta, 15, 50)
        low = slice(max(0, self.first - int(40 / dz)), self.first + int(0.25 * n))
        hu = lungs.hu_zyx[low]
        liver_right, liver_left = self._sides((hu > 20) & (hu < 150), 20, 130)
        body = hu > -300
        inside = body
        for axis in (1, 2):
            ahead = np.logical_or.accumulate(body, axis)
            behind = np.flip(np.logical_or.accumulate(np.flip(body, axis), axis), axis)
            inside = ahead & behind if axis == 1 else inside & ahead & behind
        gas_right, gas_left = self._sides((hu < -400) & ~lungs.air_zyx[low] & inside, 10, 110)
        return {
            "heart": trust * _ratio_vote(heart_left, heart_right, 1.5)
            if heart_left + heart_right > 30
            else 0.0,
            "liver": _ratio_vote(liver_right, liver_left, 1.5)
            if liver_left + liver_right > 500
            else 0.0,
            "stomach gas": _ratio_vote(gas_left, gas_right, 2)
            if gas_left + gas_right > 20
            else 0.0,
            "aorta": 0.5 * trust * _ratio_vote(aorta_left, aorta_right, 2),
        }

    def _sides(self, mask: NDArray[np.bool_], near_mm: float, far_mm: float) -> tuple[float, float]:
        """Millilitres on the right and on the left between these distances from the midline."""
        per_x = mask.sum((0, 1)) * self.lungs.voxel_ml
        mm = self.right_mm
        right = per_x[(mm > near_mm) & (mm < far_mm)].sum()
        left = per_x[(mm < -near_mm) & (mm > -far_mm)].sum()
        return float(right), float(left)
