"""A phantom study as a CT: anatomy and lesions on a grid, in HU, with exact labels.

Edges are about a voxel wide, as partial volume makes them. The two halves of the grid are drawn
one after the other: between the lungs lies the mediastinum, whatever the patient's position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctscribe.phantom.anatomy import SIDE_LOBES, Anatomy, LungField, lung_field, sample_anatomy
from ctscribe.phantom.findings import (
    PROFILES,
    Lesion,
    NoduleShape,
    Profile,
    sample_findings,
)
from ctscribe.phantom.tissue import (
    Half,
    coverage,
    mix,
    paint_inside,
    paint_ribs,
    paint_skin,
    paint_spine_and_sternum,
    random_field,
    rows_and_columns,
)
from ctscribe.phantom.vessels import Tubes, paint_tubes
from ctscribe.reports.schema import LOBES, Side

Seed = int | tuple[int, ...]
REGION_PLEURA: dict[Side, int] = {"right": 6, "left": 7}
RIB_CAGE_MM = 14.0  # from the lungs' outline to the outside of the ribs, and a voxel
FRAME_MARGIN_MM = 10.0  # of air around the body
ABOVE_APEX_MM, BELOW_LUNG_MM = 16.0, 12.0  # the scan's range beyond the lungs


@dataclass(frozen=True)
class Scan:
    """How this patient lay and how this scan was made. Lengths mm, attenuation HU.

    drift_*: how far the body leans along y and x for each mm toward the head.
    """

    roll_rad: float
    shift_zyx_mm: tuple[float, float, float]
    drift_y: float
    drift_x: float
    noise_hu: float
    blood_hu: float
    lung_hu: float
    gravity_hu: float
    atelectasis_hu: float
    table_mm: float | None

    def to_grid(self, body_zyx_mm: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the body frame in the grid's frame: mm from the grid's centre."""
        z, y, x = np.moveaxis(body_zyx_mm, -1, 0)
        dz, dy, dx = self.shift_zyx_mm
        y, x = y + dy + self.drift_y * z, x + dx + self.drift_x * z
        cos, sin = math.cos(self.roll_rad), math.sin(self.roll_rad)
        return np.stack([z + dz, sin * x + cos * y, cos * x - sin * y], -1)

    def to_body(self, z: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The inverse, for a grid's axes (Z, 1, 1), (Y, 1), (X): z stays (Z, 1, 1)."""
        dz, dy, dx = self.shift_zyx_mm
        z = z - dz
        cos, sin = math.cos(self.roll_rad), math.sin(self.roll_rad)
        across, forward = cos * x + (sin * y - dx), cos * y + (-sin * x - dy)
        return z, forward - self.drift_y * z, across - self.drift_x * z


@dataclass(frozen=True, eq=False)
class PhantomStudy:
    """One study of one patient, not drawn yet. The same seeds draw the same study."""

    anatomy: Anatomy
    lesions: tuple[Lesion, ...]
    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    seed: Seed
    patient_seed: Seed

    def index_zyx(self, body_zyx_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """A point of the body frame as voxel index (fractional)."""
        at = sample_scan(self.seed, self.anatomy).to_grid(np.array(body_zyx_mm))
        z, y, x = at / np.array(self.spacing_zyx_mm) + (np.array(self.shape_zyx) - 1) / 2
        return float(z), float(y), float(x)


@dataclass(frozen=True, eq=False)
class Rendered:
    """hu_zyx float32; region_zyx uint8: 0 outside, 1–5 lobes, 6 and 7 right and left pleural space.

    lesion_zyx uint8: bit i is LESIONS[i].
    """

    hu_zyx: Tensor
    region_zyx: Tensor
    lesion_zyx: Tensor

    def cpu(self) -> Rendered:
        """The same on the CPU."""
        return Rendered(self.hu_zyx.cpu(), self.region_zyx.cpu(), self.lesion_zyx.cpu())


def _generators(seed: Seed) -> tuple[np.random.Generator, np.random.Generator, int]:
    """For the scan, for the findings, and a seed for what is random in the image."""
    scan, findings, image = np.random.SeedSequence(seed).spawn(4)[1:]
    state = int(image.generate_state(1, np.uint64)[0] >> 1)
    return np.random.default_rng(scan), np.random.default_rng(findings), state


def sample_scan(seed: Seed, anatomy: Anatomy) -> Scan:
    """Position, protocol and noise of one study."""
    rng = _generators(seed)[0]

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    contrast = rng.random() < 0.3
    return Scan(
        roll_rad=math.radians(u(-4, 4)),
        shift_zyx_mm=(0.5 * (BELOW_LUNG_MM - ABOVE_APEX_MM) + u(-3, 3), u(-6, 6), u(-4, 4)),
        drift_y=u(-0.05, 0.05),
        drift_x=u(-0.02, 0.02),
        noise_hu=u(12, 30),
        blood_hu=u(120, 210) if contrast else u(34, 50),
        lung_hu=u(-870, -808),
        gravity_hu=u(10, 34),
        atelectasis_hu=u(80, 260) if rng.random() < 0.3 else 0.0,
        table_mm=anatomy.body_depth_mm + u(6, 14) if rng.random() < 0.7 else None,
    )


def sample_study(seed: Seed, patient_seed: Seed, profile: str = "demo") -> PhantomStudy:
    """Draw a study: patient from `patient_seed`, everything else from `seed`.

    Seeds are integers or tuples of them; `dataset.SEED_SPACES` says who uses which.
    """
    chosen: Profile = PROFILES[profile]
    anatomy = sample_anatomy(patient_seed)
    rng = _generators(seed)[1]
    sxy = float(rng.uniform(*chosen.spacing_xy_mm))
    spacing = (float(rng.uniform(*chosen.spacing_z_mm)), sxy, sxy)
    extent = (
        anatomy.height_mm + ABOVE_APEX_MM + BELOW_LUNG_MM,
        2 * (anatomy.body_depth_mm + FRAME_MARGIN_MM),
        2 * (anatomy.body_width_mm + FRAME_MARGIN_MM),
    )
    nz, ny, nx = (math.ceil(e / s) for e, s in zip(extent, spacing, strict=True))
    lesions = sample_findings(rng, anatomy, profile)
    return PhantomStudy(anatomy, lesions, (nz, ny, nx), spacing, seed, patient_seed)


def render_study(study: PhantomStudy, device: torch.device | str = "cpu") -> Rendered:
    """Draw a study on a device; labels are the same on every device, noise differs."""
    return render(
        study.anatomy,
        study.lesions,
        shape_zyx=study.shape_zyx,
        spacing_zyx_mm=study.spacing_zyx_mm,
        seed=study.seed,
        device=device,
    )


@torch.inference_mode()
def render(
    anatomy: Anatomy,
    lesions: tuple[Lesion, ...],
    *,
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: tuple[float, float, float],
    seed: Seed,
    device: torch.device | str = "cpu",
) -> Rendered:
    """Draw anatomy and lesions on a grid whose centre is the middle of the thorax.

    Axes are the house's: z to the head, y to the front, x to the patient's right.
    """
    scan = sample_scan(seed, anatomy)
    image_seed = _generators(seed)[2]
    axes = [
        (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) * s
        for n, s in zip(shape_zyx, spacing_zyx_mm, strict=True)
    ]
    z, y, x = axes[0][:, None, None], axes[1][:, None], axes[2]
    body_z, body_y, body_x = scan.to_body(z, y, x)
    voxel = sum(spacing_zyx_mm) / 3
    corner = [-(n - 1) / 2 * s for n, s in zip(shape_zyx, spacing_zyx_mm, strict=True)]

    def tubes(which: Tubes, wider: float = 0.0) -> Tensor:
        start, end = scan.to_grid(which.start) - corner, scan.to_grid(which.end) - corner
        moved = Tubes(start, end, which.radius_start + wider, which.radius_end + wider)
        return paint_tubes(moved, shape_zyx, spacing_zyx_mm, device)

    vessels, great = tubes(anatomy.vessels), tubes(anatomy.great_vessels)
    lumen, wall = tubes(anatomy.airways), tubes(anatomy.airways, 0.9)
    texture = random_field(shape_zyx, spacing_zyx_mm, 22.0, image_seed, device)
    middle = int((np.array(axes[2].shape[0]) + 1) // 2)
    halves = []
    for side, columns in (("left", slice(0, middle)), ("right", slice(middle, shape_zyx[2]))):
        half = Half(
            side=side,  # type: ignore[arg-type]
            x=body_x[:, :, columns],
            y=body_y[:, :, columns],
            z=body_z,
            voxel_mm=voxel,
            spacing_zyx_mm=spacing_zyx_mm,
            corner_zyx_mm=(corner[0], corner[1], corner[2] + columns.start * spacing_zyx_mm[2]),
            vessels=vessels[:, :, columns],
            great=great[:, :, columns],
            lumen=lumen[:, :, columns],
            wall=wall[:, :, columns],
            texture=texture[:, :, columns],
        )
        halves.append(_draw_half(anatomy, scan, half, lesions))
    hu = torch.cat([h[0] for h in halves], -1)
    if scan.table_mm is not None:
        _add_table(hu, axes[1], scan.table_mm, voxel)
    _add_noise(hu, scan.noise_hu, image_seed)
    return Rendered(
        hu.clamp_(-1024, 3071),
        torch.cat([h[1] for h in halves], -1),
        torch.cat([h[2] for h in halves], -1),
    )


def _draw_half(
    anatomy: Anatomy, scan: Scan, half: Half, lesions: tuple[Lesion, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """HU, region and lesion labels of one side."""
    side = half.side
    own = [lesion for lesion in lesions if lesion.side == side]
    pleural = next((lesion for lesion in own if not lesion.finding.lobe), None)
    collapse = pleural.collapse if pleural else None
    all_hu = paint_skin(anatomy, half)
    all_region = torch.zeros(all_hu.shape, dtype=torch.uint8, device=all_hu.device)
    all_mask = torch.zeros_like(all_region)

    # The rest is inside the rib cage, which fills about half of the grid.
    deep, wide = anatomy.depth_mm + RIB_CAGE_MM, anatomy.width_mm + RIB_CAGE_MM
    rows, columns = rows_and_columns(half, (-deep, deep), (-wide, wide))
    whole, half = half, half.crop(rows, columns)
    hu, region, mask = (a[:, rows, columns] for a in (all_hu, all_region, all_mask))
    field = lung_field(anatomy, side, half.x, half.y, half.z, collapse)
    paint_inside(anatomy, half, field, hu, scan.blood_hu)
    paint_ribs(anatomy, half, field, hu)
    paint_spine_and_sternum(anatomy, whole, all_hu)
    lobes = {lobe: field.between_fissures(lobe) for lobe in SIDE_LOBES[side]}
    in_lung = field.lung > 0
    for name, inside in lobes.items():
        region.add_(((inside > 0) & in_lung).view(torch.uint8), alpha=LOBES.index(name) + 1)
    lung = _lung_tissue(anatomy, scan, half, field, collapse is not None)
    for lesion in sorted(own, key=lambda lesion: lesion.finding.name == "nodule"):
        if lesion.finding.lobe is None:
            continue
        # Fissures cut a lesion; at the lung's surface it ends because the lung does.
        lobe = lobes[lesion.finding.lobe]
        if lesion.finding.name == "nodule":
            _draw_nodule(lesion, scan, half, lobe, lung, mask)
        elif lesion.finding.name == "emphysema":
            _draw_emphysema(lesion, half, lobe, lung, mask)
        else:
            _draw_consolidation(lesion, half, lobe, lung, mask)
    mask.mul_(in_lung.view(torch.uint8))
    in_lung = coverage(field.lung, half.voxel_mm)
    if pleural is not None:
        in_cavity = coverage(field.cavity, half.voxel_mm)
        space = (field.cavity > 0) & (field.lung <= 0)
        region.add_(space.view(torch.uint8), alpha=REGION_PLEURA[side])
        mask |= space.view(torch.uint8) << pleural.bit
        mix(hu, pleural.hu, in_cavity)
        if pleural.finding.name == "pneumothorax":
            line = (1 - field.lung.abs() / half.voxel_mm).clamp_min_(0)
            lung += line * min(420.0, 900 / half.voxel_mm)
        # What is outside the lung but in the cavity holds no airway.
        half.lumen.mul_(1 - (in_cavity - in_lung).clamp_min_(0))
    half.lumen.mul_(field.heart < 0)  # bronchi are grown straight; none runs through the heart
    mix(hu, lung, in_lung)
    mix(all_hu, -1000.0, whole.lumen)  # the windpipe goes on above the lungs
    return all_hu, all_region, all_mask


def _lung_tissue(
    anatomy: Anatomy, scan: Scan, half: Half, field: LungField, collapsed: bool
) -> Tensor:
    """HU of a lung without lesions, as if it filled the half grid."""
    lung = half.y * (-scan.gravity_hu / anatomy.depth_mm) + (
        scan.lung_hu + (45.0 if collapsed else 0.0)
    )
    lung += half.texture * 14
    if scan.atelectasis_hu:
        # Dependent lung: a band along the back that is neither fluid nor consolidation.
        band = (1 - (half.y + anatomy.depth_mm) / 26).clamp_(0, 1)
        lung += band * scan.atelectasis_hu
    thin = min(320.0, 420 / half.voxel_mm)  # a fissure is thinner than any voxel
    for distance in (field.above_oblique, field.above_horizontal):
        if distance is not None:
            line = (1 - distance.abs() / (0.8 * half.voxel_mm)).clamp_min_(0)
            if distance is field.above_horizontal:
                line *= field.above_oblique > 0
            lung += line * thin
    mix(lung, 30.0, half.wall)
    mix(lung, scan.blood_hu, half.vessels)
    return lung


def _draw_nodule(
    lesion: Lesion, scan: Scan, half: Half, lobe: Tensor, lung: Tensor, mask: Tensor
) -> None:
    centre = scan.to_grid(np.array(lesion.centre_zyx_mm)) - np.array(half.corner_zyx_mm)
    reach = 0.62 * lesion.size_mm * 1.1 + 2 * max(half.spacing_zyx_mm)
    box = tuple(
        slice(max(0, math.floor((c - reach) / s)), min(n, math.ceil((c + reach) / s) + 1))
        for c, s, n in zip(centre, half.spacing_zyx_mm, lung.shape, strict=True)
    )
    z = half.z[box[0]]
    y, x = half.y[box], half.x[box]
    cz, cy, cx = lesion.centre_zyx_mm
    offset = torch.stack([(z - cz).expand_as(x), y - cy, x - cx], -1)
    distance = offset.square().sum(-1).sqrt_().clamp_min_(1e-3)
    edge = NoduleShape(lesion).radius(offset / distance[..., None])
    inside = torch.minimum(edge - distance, lobe[box])
    full = coverage(inside, half.voxel_mm)
    tissue = lung[box]
    if lesion.density in ("solid", "calcified"):
        mix(tissue, lesion.hu, full)
    else:
        # Ground glass veils the lung; vessels still show through it.
        mix(tissue, tissue.clamp_min(lesion.hu), full)
    if lesion.density == "part-solid":
        core = coverage(torch.minimum(edge * lesion.share - distance, inside), half.voxel_mm)
        mix(tissue, 20.0, core)
    voxels = inside > 0
    # Even the smallest nodule has one voxel: the one at its centre.
    voxels |= (distance == distance.min()) & ~voxels.any()
    mask[box] |= voxels.view(torch.uint8) << lesion.bit


def _draw_emphysema(lesion: Lesion, half: Half, lobe: Tensor, lung: Tensor, mask: Tensor) -> None:
    shape = (lung.shape[0], lung.shape[1], lung.shape[2])
    noise = random_field(shape, half.spacing_zyx_mm, 17.0, lesion.seed, lung.device)
    # The interpolated field is close to normal; its quantile leaves `share` of the lobe.
    threshold = float(torch.special.ndtri(torch.tensor(1 - lesion.share)))
    inside = torch.minimum((noise - threshold) * 12.0, lobe)
    hole = coverage(inside, half.voxel_mm)
    lung += hole * (torch.minimum(0.1 * lung + 0.9 * lesion.hu, lung) - lung)
    mask |= (inside > 0).view(torch.uint8) << lesion.bit


def _draw_consolidation(
    lesion: Lesion, half: Half, lobe: Tensor, lung: Tensor, mask: Tensor
) -> None:
    cz, cy, cx = lesion.centre_zyx_mm
    distance = ((half.x - cx) ** 2 + (half.y - cy) ** 2 + (half.z - cz) ** 2).sqrt_()
    shape = (lung.shape[0], lung.shape[1], lung.shape[2])
    noise = random_field(shape, half.spacing_zyx_mm, 14.0, lesion.seed, lung.device)
    blob = lesion.size_mm - distance + 7 * noise
    full = torch.minimum(coverage(blob, 6.0), coverage(lobe, half.voxel_mm))
    inside = torch.minimum(blob, lobe)
    mix(lung, noise.mul_(12).add_(lesion.hu), full)
    mask |= (inside > 0).view(torch.uint8) << lesion.bit


def _add_table(hu: Tensor, y: Tensor, depth_mm: float, voxel: float) -> None:
    """A couch behind the patient, where there is air."""
    plate = coverage(2.5 - (y + depth_mm).abs(), voxel)[:, None] * 260
    hu += plate * (hu < -900)


def _add_noise(hu: Tensor, sigma: float, seed: int) -> None:
    """Noise whose neighbours are a little alike, of standard deviation `sigma`."""
    generator = torch.Generator(hu.device).manual_seed(seed)
    noise = torch.randn(hu.shape, generator=generator, device=hu.device)
    for axis, weight in ((2, 0.35), (1, 0.35)):
        n = noise.shape[axis]
        neighbour = noise.narrow(axis, 0, n - 1) * weight
        noise.narrow(axis, 1, n - 1).add_(neighbour)
    hu.add_(noise, alpha=sigma / (1 + 0.35**2))
