"""A patient's thorax as closed formulas, so that a point's lobe and depth can be asked anywhere.

Body frame, mm: x toward the patient's right, y toward the front, z toward the head; the origin is
the middle of the thorax. Every function takes torch tensors of any broadcastable shapes (a whole
grid, or a list of points) and works on any device. Depths are signed distances, approximate away
from the surface and exact to a voxel at it; positive is inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctscribe.phantom.vessels import Tubes, grow_airways, grow_great_vessels, grow_vessels
from ctscribe.reports.schema import LOBES, Lobe, Side

# Half width in mm that the mediastinum never falls below, so that whatever roll and drift a scan
# has, the grid's middle column separates the lungs (render.py works on the two halves).
MIN_MEDIASTINUM_MM = 12.0
TAPER_START = 0.35  # share of the lung's height above which the chest narrows
SIDE_LOBES: dict[Side, tuple[Lobe, ...]] = {"right": ("RUL", "RML", "RLL"), "left": ("LUL", "LLL")}
SIGN: dict[Side, float] = {"right": 1.0, "left": -1.0}


@dataclass(frozen=True)
class Fissure:
    """A fissure as a height over the axial plane: z = level - slope·y - tilt·|x| + bow·|x|²."""

    level_mm: float
    slope: float
    tilt: float
    bow_per_mm: float

    def height(self, u: Tensor, y: Tensor) -> Tensor:
        """Height z in mm at distance u = |x| from the midline."""
        return (self.bow_per_mm * u - self.tilt) * u + (self.level_mm - self.slope * y)

    @property
    def cosine(self) -> float:
        """Turns a vertical distance into the distance from the surface."""
        return 1.0 / math.hypot(1.0, self.slope)


@dataclass(frozen=True)
class Heart:
    """An ellipsoid, its long axis turned to the left and front. Lengths in mm."""

    centre_zyx_mm: tuple[float, float, float]
    long_mm: float
    short_mm: float
    high_mm: float
    angle_rad: float

    def depth(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Signed distance, positive inside."""
        cz, cy, cx = self.centre_zyx_mm
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        along = torch.add(x * cos, y, alpha=sin).sub_(cx * cos + cy * sin)
        across = torch.add(x * -sin, y, alpha=cos).sub_(cy * cos - cx * sin)
        return ellipsoid_depth((along, across, z - cz), (self.long_mm, self.short_mm, self.high_mm))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One patient. Lengths in mm, attenuations in HU.

    width_mm, depth_mm: half axes of the two lungs' common outline; height_mm: apex to the lowest
    recess. body_*: half axes of the skin. dome_*: height of a diaphragm's dome above the lowest
    recess.
    """

    width_mm: float
    depth_mm: float
    height_mm: float
    body_width_mm: float
    body_depth_mm: float
    fat_mm: float
    mediastinum_mm: float
    dome_right_mm: float
    dome_left_mm: float
    dome_drop_mm: float
    heart: Heart
    aorta_mm: float
    spine_y_mm: float
    vertebra_mm: float
    vertebra_phase_mm: float
    rib_spacing_mm: float
    rib_phase_mm: float
    rib_slope: float
    oblique_right: Fissure
    oblique_left: Fissure
    horizontal: Fissure
    hilum_z_mm: float
    muscle_hu: float
    fat_hu: float
    bone_hu: float
    liver_hu: float
    stomach_gas_mm: float
    vessels: Tubes
    airways: Tubes
    great_vessels: Tubes

    def oblique(self, side: Side) -> Fissure:
        """The oblique fissure of a side."""
        return self.oblique_right if side == "right" else self.oblique_left

    def hilum_zyx_mm(self, side: Side) -> tuple[float, float, float]:
        """Where vessels and bronchi enter a lung."""
        lower = 0.0 if side == "right" else 4.0
        return (self.hilum_z_mm + lower, -8.0, SIGN[side] * (self.mediastinum_mm + 2.0))


@dataclass(frozen=True)
class Collapse:
    """What fluid or air in a pleural space does to the lung of that side.

    The lung keeps to the part of its outline that is also inside the outline moved by `shift`:
    forward by fluid behind it, backward by air in front. What it leaves is the pleural space.
    """

    kind: str  # effusion or pneumothorax
    thickness_mm: float  # at the thickest
    reach: float  # share of the lung's height

    def shift_y(self, anatomy: Anatomy, z: Tensor) -> Tensor:
        """How far the outline moves along y, at each height."""
        bottom, height = -anatomy.height_mm / 2, anatomy.height_mm
        if self.kind == "effusion":
            top = bottom + self.reach * height
            return self.thickness_mm * ((top - z) / (top - bottom)).clamp(0, 1) ** 0.7
        low = bottom + (1 - self.reach) * height
        rise = ((z - low) / (0.35 * height)).clamp(0, 1)
        return -self.thickness_mm * rise

    @property
    def shift_u_mm(self) -> float:
        """How far the side wall's outline moves toward the hilum."""
        return 0.0 if self.kind == "effusion" else 0.35 * self.thickness_mm

    @property
    def lower_apex_mm(self) -> float:
        """How far the apex sinks."""
        return 0.0 if self.kind == "effusion" else 0.7 * self.thickness_mm

    @property
    def lift_mm(self) -> float:
        """How far the base floats off the diaphragm."""
        return 0.3 * self.thickness_mm if self.kind == "effusion" else 0.1 * self.thickness_mm


class LungField(NamedTuple):
    """Signed depths in mm on one side: the pleural cavity, the lung in it, and its fissures.

    above_oblique, above_horizontal: signed distance from the fissure, positive above it;
    above_horizontal is None on the left. chest: depth in the rib cage's inner outline, which goes
    on below the diaphragm. dome: distance above the diaphragm. heart: depth in the heart.
    """

    cavity: Tensor
    lung: Tensor
    chest: Tensor
    dome: Tensor
    heart: Tensor
    above_oblique: Tensor
    above_horizontal: Tensor | None

    def between_fissures(self, lobe: Lobe) -> Tensor:
        """Depth inside a lobe if only fissures bordered it."""
        if lobe in ("RLL", "LLL"):
            return -self.above_oblique
        if self.above_horizontal is None:
            return self.above_oblique
        horizontal = self.above_horizontal if lobe == "RUL" else -self.above_horizontal
        return torch.minimum(self.above_oblique, horizontal)

    def lobe_depth(self, lobe: Lobe) -> Tensor:
        """Depth inside a lobe, from its fissures and from the lung's surface."""
        return torch.minimum(self.lung, self.between_fissures(lobe))


def ellipsoid_depth(p: tuple[Tensor, ...], axes: tuple[float | Tensor, ...]) -> Tensor:
    """Signed depth in an ellipse or ellipsoid that is not far from round.

    Zero is exact; distances are those in a ball of the mean radius. The first coordinate has the
    result's full shape.
    """
    scaled = [v * (1 / a) for v, a in zip(p, axes, strict=True)]
    square = scaled[0] * scaled[0]
    mean = axes[0]
    for w, a in zip(scaled[1:], axes[1:], strict=True):
        square.addcmul_(w, w)
        mean = mean * a
    mean = mean ** (1 / len(axes))
    return square.sqrt_().mul_(mean).neg_().add_(mean)


def outline(anatomy: Anatomy, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre (u, y) and half axes (u, y) in mm of a lung's outer outline at each height."""
    t = (z + anatomy.height_mm / 2) / anatomy.height_mm
    s = ((t - TAPER_START) / (1 - TAPER_START)).clamp(0, 1)
    taper = (1 - s**2.6).clamp_min(1e-3).sqrt()
    w, d = anatomy.width_mm, anatomy.depth_mm
    centre_u = w * (0.30 + 0.07 * s)
    centre_y = -0.16 * d * s * s
    return centre_u, centre_y, 0.70 * w * taper, d * taper


def mediastinum_half_width(anatomy: Anatomy, y: Tensor, z: Tensor) -> Tensor:
    """Half width in mm of what lies between the lungs, without heart, aorta and spine."""
    t = (z + anatomy.height_mm / 2) / anatomy.height_mm
    by_height = 0.72 + 0.34 * torch.exp(-(((t - 0.60) / 0.17) ** 2)) - 0.10 * (t - 0.5)
    by_depth = 1 - 0.62 * ((y + 10) / anatomy.depth_mm).clamp(-1, 1) ** 2
    return (anatomy.mediastinum_mm * by_height * by_depth).clamp_min(MIN_MEDIASTINUM_MM)


def dome_height(anatomy: Anatomy, side: Side, u: Tensor, y: Tensor) -> Tensor:
    """Height z in mm of the diaphragm; deepest behind and at the side."""
    peak = anatomy.dome_right_mm if side == "right" else anatomy.dome_left_mm
    w, d = anatomy.width_mm, anatomy.depth_mm
    fall = ((u - 0.42 * w) / (0.60 * w)) ** 2 + ((y - 0.22 * d) / (1.0 * d)) ** 2
    return (peak - anatomy.height_mm / 2) - anatomy.dome_drop_mm * fall.clamp_max(2.2)


def lung_field(
    anatomy: Anatomy,
    side: Side,
    x: Tensor,
    y: Tensor,
    z: Tensor,
    collapse: Collapse | None = None,
) -> LungField:
    """Everything about one side's lung at these points of the body frame.

    z may be (Z, 1, 1) beside (Z, Y, X) coordinates: what depends on height alone stays cheap.
    """
    u = x * SIGN[side]
    centre_u, centre_y, half_u, half_y = outline(anatomy, z)
    chest = ellipsoid_depth((u - centre_u, y - centre_y), (half_u, half_y))
    chest = torch.minimum(chest, 0.5 * (anatomy.height_mm / 2 - z))
    between = u - mediastinum_half_width(anatomy, y, z)
    spine_r = anatomy.vertebra_mm + 5
    dy = y - anatomy.spine_y_mm
    between = torch.minimum(between, (u * u + dy * dy).sqrt_() - spine_r)
    if side == "left":
        arch = anatomy.hilum_z_mm + 30
        dx, dy = x + anatomy.vertebra_mm + 8, y - (anatomy.spine_y_mm + 14)
        aorta = (dx * dx + dy * dy).sqrt_() - (anatomy.aorta_mm + 2)
        aorta = torch.maximum(aorta, z - arch)
        between = torch.minimum(between, aorta)
    heart = anatomy.heart.depth(x, y, z)
    between = torch.minimum(between, -3 - heart)
    dome = 0.8 * (z - dome_height(anatomy, side, u, y))
    between = torch.minimum(between, dome)
    cavity = torch.minimum(chest, between)

    oblique = anatomy.oblique(side)
    lung, moved = cavity, y
    if collapse is not None:
        shift = collapse.shift_y(anatomy, z)
        high = z + collapse.lower_apex_mm * ((z + anatomy.height_mm / 2) / anatomy.height_mm)
        cu, cy, hu, hy = outline(anatomy, high)
        inward = (shift.abs() / max(collapse.thickness_mm, 1.0)) * collapse.shift_u_mm
        inner = ellipsoid_depth((u - cu + inward, y - cy - shift), (hu, hy))
        inner = torch.minimum(inner, 0.5 * (anatomy.height_mm / 2 - high))
        lift = collapse.lift_mm * (shift.abs() / max(collapse.thickness_mm, 1.0))
        inner = torch.minimum(inner, dome - 0.8 * lift)
        lung = torch.minimum(cavity, inner)
        moved = y - 0.5 * shift
    above_oblique = (z - oblique.height(u, moved)) * oblique.cosine
    above_horizontal = None
    if side == "right":
        flat = anatomy.horizontal
        above_horizontal = (z - flat.height(u, moved)) * flat.cosine
    return LungField(cavity, lung, chest, dome, heart, above_oblique, above_horizontal)


def sample_anatomy(seed: int | tuple[int, ...]) -> Anatomy:
    """Draw a patient. The same seed gives the same patient."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    scale = u(0.90, 1.04)
    width, depth, height = scale * u(122, 138), scale * u(80, 94), scale * u(215, 250)
    fat = u(6, 26)
    dome_left = height * u(0.24, 0.33)
    dome_right = dome_left + u(8, 18)
    low = -height / 2
    heart_high = u(42, 50) * scale
    heart = Heart(
        centre_zyx_mm=(low + dome_left + 0.66 * heart_high, u(12, 22), -u(18, 27) * scale),
        long_mm=u(56, 68) * scale,
        short_mm=u(42, 50) * scale,
        high_mm=heart_high,
        angle_rad=math.pi - u(0.45, 0.85),
    )
    oblique_level, slope = low + height * u(0.40, 0.46), u(0.88, 1.08) * height / (2.7 * depth)
    left_level, left_slope = oblique_level + u(-6, 8), slope * u(0.95, 1.1)
    body = {
        "width_mm": width,
        "depth_mm": depth,
        "height_mm": height,
        "body_width_mm": width + 24 + fat * u(0.9, 1.3),
        "body_depth_mm": depth + 22 + 0.9 * fat,
        "fat_mm": fat,
        "mediastinum_mm": u(31, 37) * scale,
        "dome_right_mm": dome_right,
        "dome_left_mm": dome_left,
        "dome_drop_mm": u(44, 62),
        "aorta_mm": u(10.5, 14),
        "spine_y_mm": -depth * u(0.56, 0.64),
        "vertebra_mm": u(15, 18),
        "vertebra_phase_mm": u(0, 24),
        "rib_spacing_mm": u(26, 31) * scale,
        "rib_phase_mm": u(0, 30),
        "rib_slope": u(0.35, 0.55),
        "hilum_z_mm": low + height * u(0.54, 0.58),
        "muscle_hu": u(42, 62),
        "fat_hu": u(-112, -92),
        "bone_hu": u(130, 260),
        "liver_hu": u(48, 66),
        "stomach_gas_mm": u(12, 30),
    }
    empty = Tubes.empty()
    bare = Anatomy(
        **body,
        heart=heart,
        oblique_right=Fissure(oblique_level, slope, u(-0.12, 0.05), u(-4e-4, 8e-4)),
        oblique_left=Fissure(left_level, left_slope, u(-0.12, 0.05), u(-4e-4, 8e-4)),
        horizontal=Fissure(
            low + height * u(0.50, 0.56), u(0.0, 0.16), u(0.0, 0.14), u(-3e-4, 5e-4)
        ),
        vessels=empty,
        airways=empty,
        great_vessels=empty,
    )
    points, depths = lobe_points(bare, 4000, rng)
    airways, nodes = grow_airways(bare, points, depths, rng)
    parts = {
        **bare.__dict__,
        "airways": airways,
        "vessels": grow_vessels(bare, points, depths, nodes, rng),
        "great_vessels": grow_great_vessels(bare),
    }
    return Anatomy(**parts)


def lobe_points(
    anatomy: Anatomy,
    n: int,
    rng: np.random.Generator,
    collapse: dict[Side, Collapse] | None = None,
) -> tuple[dict[Lobe, np.ndarray], dict[Lobe, np.ndarray]]:
    """Points (k, 3) zyx mm that fill each lobe evenly, and their depths (k,) in it.

    n is the number of points drawn in the thorax's bounding box; about 40 % fall into a lung.
    """
    half = np.array([anatomy.height_mm / 2, anatomy.depth_mm, anatomy.width_mm])
    drawn = rng.uniform(-1, 1, (n, 3)) * half
    points: dict[Lobe, np.ndarray] = {}
    depths: dict[Lobe, np.ndarray] = {}
    for side, lobes in SIDE_LOBES.items():
        own = drawn[drawn[:, 2] * SIGN[side] > 0]
        z, y, x = torch.from_numpy(own.T.astype(np.float32))
        field = lung_field(anatomy, side, x, y, z, (collapse or {}).get(side))
        for lobe in lobes:
            depth = field.lobe_depth(lobe).numpy()
            points[lobe], depths[lobe] = own[depth > 0], depth[depth > 0]
    return {k: points[k] for k in LOBES}, {k: depths[k] for k in LOBES}
