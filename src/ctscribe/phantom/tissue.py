"""Everything of a phantom's chest that is not lung: skin to pleura, mediastinum, upper abdomen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ctscribe.phantom.anatomy import SIGN, Anatomy, LungField, ellipsoid_depth
from ctscribe.reports.schema import Side

RIB_HU, CARTILAGE_HU = 380.0, 120.0
RIB_OUT_MM, RIB_HALF_THICK_MM, RIB_HALF_HIGH_MM = 6.5, 3.4, 5.2
VERTEBRA_HIGH_MM, DISC_MM = 24.0, 5.0


@dataclass(frozen=True, eq=False)
class Half:
    """One side of the grid: body coordinates in mm, and the shares of voxels that tubes fill.

    x, y: (Z, Y, X); z: (Z, 1, 1). corner_zyx_mm: voxel (0, 0, 0) in the grid's frame.
    """

    side: Side
    x: Tensor
    y: Tensor
    z: Tensor
    voxel_mm: float
    spacing_zyx_mm: tuple[float, float, float]
    corner_zyx_mm: tuple[float, float, float]
    vessels: Tensor
    great: Tensor
    lumen: Tensor
    wall: Tensor
    texture: Tensor

    def crop(self, rows: slice, columns: slice) -> Half:
        """Part of it, as views."""
        cut = (slice(None), rows, columns)
        _, sy, sx = self.spacing_zyx_mm
        cz, cy, cx = self.corner_zyx_mm
        names = ("x", "y", "vessels", "great", "lumen", "wall", "texture")
        return replace(
            self,
            corner_zyx_mm=(cz, cy + rows.start * sy, cx + columns.start * sx),
            **{name: getattr(self, name)[cut] for name in names},
        )


def coverage(depth: Tensor, voxel_mm: float) -> Tensor:
    """Share of a voxel inside a surface that is `depth` mm away (positive inside)."""
    return (depth / voxel_mm).add_(0.5).clamp_(0, 1)


def mix(hu: Tensor, other: Tensor | float, share: Tensor) -> None:
    """hu becomes `other` where share is 1, in place."""
    if not isinstance(other, Tensor):
        other = torch.tensor(other, device=hu.device)
    hu.lerp_(other, share)


def random_field(
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: tuple[float, float, float],
    cell_mm: float,
    seed: int,
    device: torch.device | str,
) -> Tensor:
    """Smooth noise of standard deviation about 1 whose lumps are about `cell_mm` wide.

    Drawn on the CPU, so that every device gets the same one.
    """
    cells = [
        max(2, round(n * s / cell_mm) + 1) for n, s in zip(shape_zyx, spacing_zyx_mm, strict=True)
    ]
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, 1, *cells), generator=generator).to(device)
    fine = interpolate(coarse, size=shape_zyx, mode="trilinear", align_corners=True)
    return fine[0, 0] / 0.544  # mean of what trilinear interpolation leaves of the deviation


def rows_and_columns(
    half: Half, y_mm: tuple[float, float], x_mm: tuple[float, float]
) -> tuple[slice, slice]:
    """The rows and columns of a half that may hold points with body coordinates in these ranges."""
    # Coordinates are linear in the index: the corners have the extremes.
    z, y, x = (slice(None, None, max(1, n - 1)) for n in half.x.shape)
    across, forward = half.x[z, y], half.y[z, :, x]
    rows = (forward.amax((0, 2)) > y_mm[0]) & (forward.amin((0, 2)) < y_mm[1])
    columns = (across.amax((0, 1)) > x_mm[0]) & (across.amin((0, 1)) < x_mm[1])
    return _span(rows), _span(columns)


def _span(chosen: Tensor) -> slice:
    at = torch.nonzero(chosen)[:, 0].tolist()
    return slice(at[0], at[-1] + 1) if at else slice(0, 0)


def paint_skin(anatomy: Anatomy, half: Half) -> Tensor:
    """HU of one side: air around the body, fat under the skin, muscle in it."""
    voxel = half.voxel_mm
    bottom = -anatomy.height_mm / 2
    shoulder = ((half.z - bottom) / anatomy.height_mm - 0.72).clamp(0, 0.4)
    wide, deep = anatomy.body_width_mm * (1 + 0.25 * shoulder), anatomy.body_depth_mm
    body = ellipsoid_depth((half.x, half.y + 4), (wide, torch.full_like(wide, deep)))
    hu = coverage(body, voxel).mul_(anatomy.fat_hu + 1000).sub_(1000)
    marbled = (half.texture - 0.6).clamp_(0, 1).mul_(-110).add_(anatomy.muscle_hu)
    mix(hu, marbled, coverage(body - anatomy.fat_mm, voxel))
    return hu


def paint_inside(
    anatomy: Anatomy, half: Half, field: LungField, hu: Tensor, blood_hu: float
) -> None:
    """Mediastinum above the diaphragm; liver, or spleen and stomach, below it."""
    voxel = half.voxel_mm
    u = half.x * SIGN[half.side]
    fat = (half.texture * 0.8 + 0.1).clamp_(0, 1).mul_(110).add_(anatomy.fat_hu)
    below = coverage(-field.dome - 2, voxel)
    organ = anatomy.liver_hu if half.side == "right" else anatomy.liver_hu - 8
    mix(fat, organ, below * (field.chest > 4))
    if half.side == "left":
        w, d = anatomy.width_mm, anatomy.depth_mm
        top = anatomy.dome_left_mm - anatomy.height_mm / 2
        gas = ellipsoid_depth(
            (u - 0.40 * w, half.y - 0.30 * d, half.z - (top - 18 - anatomy.stomach_gas_mm)),
            (34.0, 30.0, 8 + anatomy.stomach_gas_mm),
        )
        mix(fat, 40.0, coverage(gas + 5, voxel))
        mix(fat, -980.0, coverage(torch.minimum(gas, -field.dome - 6), voxel))
    mix(fat, (blood_hu + 40) / 2, coverage(field.heart, voxel))
    mix(fat, blood_hu, half.great)
    mix(fat, 25.0, half.wall)
    mix(hu, fat, coverage(field.chest, voxel))


def paint_ribs(anatomy: Anatomy, half: Half, field: LungField, hu: Tensor) -> None:
    """Arcs around the lungs that fall toward the front, as ribs do; cartilage in front."""
    spacing = anatomy.rib_spacing_mm
    phase = half.y * anatomy.rib_slope + (half.z + anatomy.rib_phase_mm)
    height = (phase.remainder_(spacing) - spacing / 2).abs_()
    out = (field.chest + RIB_OUT_MM).abs_()
    rib = torch.minimum(RIB_HALF_THICK_MM - out, RIB_HALF_HIGH_MM - height)
    front = ((half.y / anatomy.depth_mm - 0.5) * 4).clamp_(0, 1)
    bone = front.mul_(CARTILAGE_HU - RIB_HU).add_(RIB_HU)
    mix(hu, bone, coverage(rib, half.voxel_mm))


def paint_spine_and_sternum(anatomy: Anatomy, half: Half, hu: Tensor) -> None:
    """Vertebrae with discs, canal and processes; the breast bone."""
    voxel = half.voxel_mm
    r, y0 = anatomy.vertebra_mm, anatomy.spine_y_mm
    rows, columns = rows_and_columns(half, (y0 - r - 55, y0 + r + 5), (-46, 46))
    x, y = half.x[:, rows, columns], half.y[:, rows, columns]
    part = hu[:, rows, columns]
    phase = (half.z + anatomy.vertebra_phase_mm).remainder(VERTEBRA_HIGH_MM)
    disc = coverage(DISC_MM / 2 - (phase - VERTEBRA_HIGH_MM / 2).abs(), voxel)
    vertebra = ellipsoid_depth((x, y - y0), (r + 2, r - 1))
    marrow = anatomy.bone_hu + 260 * (1 - (vertebra / 4).clamp(0, 1))
    mix(marrow, 85.0, disc.expand_as(marrow).contiguous())
    # Arch and transverse processes at the level of each body, a spine behind, the canal inside.
    level = 8.0 - (phase - 4.0).abs()
    back = y - (y0 - r - 9)
    arch = 15 - (x * x + back * back).sqrt()
    wings = torch.minimum(4.0 - (back + 0.25 * x.abs() - 4).abs(), 34 - x.abs())
    spine = torch.minimum(3.2 - x.abs(), 20 - (back + 22).abs())
    solid = torch.minimum(torch.maximum(torch.maximum(arch, wings), spine), level)
    mix(part, 320.0, coverage(solid, voxel))
    mix(part, marrow, coverage(vertebra, voxel))
    mix(part, 25.0, coverage(8 - (x * x + back * back).sqrt(), voxel))

    y1 = 0.93 * anatomy.depth_mm + 9
    rows, columns = rows_and_columns(half, (y1 - 12, y1 + 12), (-25, 25))
    x, y = half.x[:, rows, columns], half.y[:, rows, columns]
    plate = ellipsoid_depth((x, y - y1), (19.0, 6.0))
    plate = torch.minimum(plate, 0.5 * (half.z + 0.22 * anatomy.height_mm))
    plate = torch.minimum(plate, 0.5 * (0.36 * anatomy.height_mm - half.z))
    mix(hu[:, rows, columns], 210.0, coverage(plate, voxel))
