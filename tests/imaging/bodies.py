"""Drawn bodies: ellipses with known cavities, for cases that phantoms do not have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctscribe.imaging.volume import Volume

SPACING = (4.0, 3.0, 3.0)
SHAPE = (72, 96, 128)


@dataclass(frozen=True)
class Body:
    """A volume and where its pleural cavities are."""

    volume: Volume
    right: NDArray[np.bool_]
    left: NDArray[np.bool_]

    @property
    def both(self) -> NDArray[np.bool_]:
        return self.right | self.left


def as_volume(array: NDArray[np.int16], spacing: tuple[float, float, float] = SPACING) -> Volume:
    z, y, x = spacing
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = (-150.0, -120.0, 300.0)
    return Volume(array, spacing, affine)


def body(
    *,
    shift_x_mm: float = 0.0,
    arms: bool = False,
    table: bool = False,
    right: str = "air",
    left: str = "air",
    stomach: bool = True,
    seed: int = 0,
) -> Body:
    """A chest; a side is "air", "fluid" (white-out but for its front top) or "pneumothorax"."""
    rng = np.random.default_rng(seed)
    z, y, x = (
        ((np.arange(n) - (n - 1) / 2) * mm).reshape([-1 if i == a else 1 for i in range(3)])
        for a, (n, mm) in enumerate(zip(SHAPE, SPACING, strict=True))
    )
    hu = np.full(SHAPE, -1000.0)
    x = x - shift_x_mm
    trunk = (x / 160) ** 2 + (y / 105) ** 2 < 1 + 0 * z
    hu[trunk] = -90
    hu[(x / 148) ** 2 + (y / 93) ** 2 < 1 + 0 * z] = 45
    hu[((x / 18) ** 2 + ((y + 68) / 18) ** 2 < 1) & (z > -1000)] = 350
    for rib in range(-110, 120, 26):
        ring = ((x / 138) ** 2 + (y / 88) ** 2 < 1) & ((x / 128) ** 2 + (y / 80) ** 2 > 1)
        hu[ring & (abs(z - rib) < 5)] = 400
    if arms:
        for side in (-1, 1):
            arm = ((x - side * 178) / 14) ** 2 + (y / 22) ** 2 < 1 + 0 * z
            hu[arm] = 40
    if table:
        slab = (abs(x) < 180) & (y < -112) & (y > -140) & (z > -1000)
        hu[slab] = -200
        hu[slab & (abs(x) < 174) & (y < -118) & (y > -134)] = -960
    cavities = {}
    for name, side in (("right", 1), ("left", -1)):
        cavity = ((x - side * 68) / 52) ** 2 + (y / 76) ** 2 + ((z - 5) / 118) ** 2 < 1
        cavities[name] = cavity
        state = right if name == "right" else left
        hu[cavity] = -850
        if state == "fluid":
            hu[cavity & ((y < 45) | (z < 20))] = 15
        if state == "pneumothorax":
            hu[cavity] = -1000
            lung = ((x - side * 40) / 20) ** 2 + (y / 35) ** 2 + (z / 55) ** 2 < 1
            hu[cavity & lung] = -600
    hu[((x + 30) / 55) ** 2 + ((y - 20) / 45) ** 2 + ((z + 20) / 55) ** 2 < 1] = 40
    if stomach:
        hu[((x + 60) / 28) ** 2 + ((y - 10) / 25) ** 2 + ((z + 128) / 12) ** 2 < 1] = -1000
    hu += rng.normal(0, 18, SHAPE)
    return Body(as_volume(np.rint(hu).astype(np.int16)), cavities["right"], cavities["left"])
