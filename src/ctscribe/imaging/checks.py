"""Is there a plausible chest in this image? Asked before any report is written of it.

Measured, not learned: air-filled lungs of a believable size and height, with lung's attenuation,
ribs and spine around them. What disease does to a lung (collapse, fluid, emphysema) must pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctscribe.errors import ImageError
from ctscribe.imaging.lungs import BONE_HU, Lungs, lungs_of
from ctscribe.imaging.volume import Volume

Side = Literal["right", "left"]
MIN_RANGE_HU = 300.0  # less between the 1st and 99th percentile is a blank image
MIN_CORRELATION = 0.5  # of neighbouring voxels; noise has none
LITRES = (0.4, 12.0)  # of air in both lungs
MIN_HEIGHT_MM = 120.0  # of lung in view
# Of both lungs along z, y and x. Emphysema reaches 380 mm in height; more is an axis taken for
# another, or a length in another unit.
MOST_MM = (450.0, 350.0, 450.0)
MAX_CUT = {
    "top": 0.5,
    "bottom": 0.8,
    "side": 0.5,
}  # lung's area at the image's edge, of its largest
MIN_LUNG_SHARE = 0.05  # of that air with a lung's attenuation: the rest may be a pneumothorax
MIN_BONE_ML = 50.0
FEW = 0.15  # a side with less of all air is remarked on


class Reason(NamedTuple):
    """Why an image is refused, or what is odd about it, for the page in both languages."""

    code: str
    en: str
    zh: str


@dataclass(frozen=True)
class ChestCheck:
    """What was measured, and the verdict.

    reasons: why it is no plausible chest, empty if it is one. notes: odd, but no reason to refuse.
    lung_litres: air on the (right, left), trachea and bronchi included. lung_z_range: the first and
    the last slice with lung. height_mm: of lung in view.
    heart_side: where the heart's mass lies, None if it does not show clearly.
    lungs: what was measured, None where the image is blank, noise or without lungs.
    """

    reasons: tuple[Reason, ...]
    notes: tuple[Reason, ...] = ()
    lung_litres: tuple[float, float] = (0.0, 0.0)
    lung_z_range: tuple[int, int] = (0, 0)
    height_mm: float = 0.0
    heart_side: Side | None = None
    lungs: Lungs | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """A plausible chest."""
        return not self.reasons


def check_chest(volume: Volume) -> ChestCheck:
    """Measure a volume and judge it; never raises for what the image shows."""
    array = volume.array_zyx
    blank = _blank_or_noise(array)
    if blank is not None:
        return ChestCheck((blank,))
    lungs = lungs_of(volume)
    if not lungs.air_zyx.any():
        return ChestCheck((Reason("no-lung", "no air-filled lung was found", "未找到含气肺组织"),))
    right, left = lungs.litres
    area = lungs.air_zyx.sum((1, 2))
    rows = np.flatnonzero(area)
    height = float((rows[-1] - rows[0] + 1) * lungs.spacing_zyx_mm[0])
    heart = _heart_side(lungs, rows)
    step = lungs.factor_zyx[0]
    return ChestCheck(
        tuple(_reasons(lungs, right + left, height, area, rows)),
        tuple(_notes(right, left, heart)),
        (round(right, 3), round(left, 3)),
        (int(rows[0]) * step, min(len(array), (int(rows[-1]) + 1) * step) - 1),
        round(height, 1),
        heart,
        lungs,
    )


def require_chest(
    volume: Volume, *, case: str | None = None, file: str | Path | None = None
) -> ChestCheck:
    """`check_chest`, raising ImageError that names every reason if it is no plausible chest."""
    check = check_chest(volume)
    if not check.ok:
        raise ImageError(
            f"no plausible chest CT: {'; '.join(reason.en for reason in check.reasons)}",
            case=case,
            file=file,
            fix="give a CT of the whole chest in Hounsfield units, with its own orientation",
        )
    return check


def _blank_or_noise(array: NDArray[Any]) -> Reason | None:
    step = [max(1, n // 48) for n in array.shape]
    sample = array[:: step[0], :: step[1], :: step[2]].astype(np.float32)
    low, high = np.percentile(sample, (1, 99))
    if high - low < MIN_RANGE_HU:
        return Reason(
            "blank",
            f"the image is blank ({low:.0f} to {high:.0f} HU)",
            f"图像为空白（{low:.0f} 至 {high:.0f} HU）",
        )
    here = array[:: step[0], :: step[1], : array.shape[2] - 1 : step[2]].ravel()
    beside = array[:: step[0], :: step[1], 1 :: step[2]].ravel()
    if np.corrcoef(here.astype(np.float32), beside.astype(np.float32))[0, 1] < MIN_CORRELATION:
        return Reason("noise", "the image is noise", "图像为噪声")
    return None


def _reasons(
    lungs: Lungs, litres: float, height_mm: float, area: NDArray[Any], rows: NDArray[Any]
) -> list[Reason]:
    """Every reason against a chest; area is the lungs' in each slice, rows the slices with any."""
    found = []
    if not LITRES[0] <= litres <= LITRES[1]:
        found.append(
            Reason(
                "litres",
                f"{litres:.2f} litres of air in the body are not two lungs",
                f"体内气体 {litres:.2f} 升，不符合双肺",
            )
        )
    if height_mm < MIN_HEIGHT_MM:
        found.append(
            Reason(
                "height",
                f"only {height_mm:.0f} mm of lung from top to bottom",
                f"肺部上下仅见 {height_mm:.0f} mm",
            )
        )
    air = lungs.air_zyx
    size_mm = [
        float(
            np.ptp(np.flatnonzero(air.any(tuple({0, 1, 2} - {axis})))) * lungs.spacing_zyx_mm[axis]
        )
        for axis in range(3)
    ]
    if any(mm > most for mm, most in zip(size_mm, MOST_MM, strict=True)):
        z, y, x = size_mm
        found.append(
            Reason(
                "size",
                f"lungs of {z:.0f} x {y:.0f} x {x:.0f} mm (height, depth, width) are no patient's: "
                "axes or spacings are swapped",
                f"肺部 {z:.0f} x {y:.0f} x {x:.0f} mm（高、深、宽）不合理：坐标轴或间距疑似互换",
            )
        )
    across = air.any(2).sum()
    cut = {
        "top": float(area[-1] / area.max()),
        "bottom": float(area[0] / area.max()),
        "side": float((air[:, :, 0].sum() + air[:, :, -1].sum()) / across),
    }
    words = {
        "top": ("the upper lungs are not in view", "上肺未完整显示"),
        "bottom": ("the lower lungs are not in view", "下肺未完整显示"),
        "side": ("the lungs are cut off at the sides", "肺部左右两侧未完整显示"),
    }
    found += [Reason(f"cut-{k}", *words[k]) for k, most in MAX_CUT.items() if cut[k] > most]
    values = lungs.hu_zyx[air]
    if float(((values > -950) & (values < -500)).mean()) < MIN_LUNG_SHARE:
        found.append(Reason("gas", "the air in it is gas, not lung", "所见气体并非肺组织"))
    band = lungs.hu_zyx[rows[0] : rows[-1] + 1]
    if float((band > BONE_HU).sum()) * lungs.voxel_ml < MIN_BONE_ML:
        found.append(Reason("bone", "there are no ribs or spine around the air", "未见肋骨或脊柱"))
    return found


def _notes(right: float, left: float, heart: Side | None) -> list[Reason]:
    notes = []
    sides: tuple[tuple[Side, str, float], ...] = (
        ("right", "右", right),
        ("left", "左", left),
    )
    for side, zh, own in sides:
        if own < FEW * (right + left):
            notes.append(
                Reason(f"little-air-{side}", f"the {side} lung holds little air", f"{zh}肺含气很少")
            )
    if heart == "right":
        notes.append(
            Reason(
                "heart-right",
                "the heart's mass lies on the right: displaced, or the image is mirrored",
                "心影偏右：可能移位，或图像左右颠倒",
            )
        )
    return notes


def _heart_side(lungs: Lungs, rows: NDArray[Any]) -> Side | None:
    """The side on which more soft tissue lies between the lungs, in their lower half.

    Before the spine, 25 to 90 mm from the midline, between the outermost air of its own row.
    """
    air, hu = lungs.air_zyx, lungs.hu_zyx
    _, dy, dx = lungs.spacing_zyx_mm
    height = len(rows)
    band = slice(rows[0] + int(0.3 * height), rows[0] + max(1, int(0.65 * height)))
    front = 0 if lungs.spine_y is None else int(lungs.spine_y + 15 / dy)
    air, hu = air[band, front:], hu[band, front:]
    between = (
        np.logical_or.accumulate(air, 2) & np.logical_or.accumulate(air[:, :, ::-1], 2)[:, :, ::-1]
    )
    per_x = (between & (hu > -100)).sum((0, 1))
    lateral_mm = (np.arange(hu.shape[2]) - lungs.midline_x) * dx
    right = float(per_x[(lateral_mm > 25) & (lateral_mm < 90)].sum())
    left = float(per_x[(lateral_mm < -25) & (lateral_mm > -90)].sum())
    if max(right, left) * lungs.voxel_ml < 30 or 0.8 < (left + 1) / (right + 1) < 1.25:
        return None
    return "left" if left > right else "right"
