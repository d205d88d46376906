"""From an encoder's maps to a short sequence of features: by lobe and lesion, or by a grid.

Region pooling is gated: the feature of "consolidation in the left lower lobe" is the mean of the
feature map weighted by p(left lower lobe) * p(consolidation). Free cross-attention had to learn
where to look from a few hundred reports; the gates know it from segmentation. Nodules are small
and may share a lobe with a false alarm, so their gate is narrowed to a window around its peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctscribe.errors import ConfigError
from ctscribe.model.encoder import EncoderConfig, EncoderOutput
from ctscribe.reports.language import SLOTS
from ctscribe.reports.schema import DENSITIES, LOBES

NODULE_WINDOW_MM = 12.0  # standard deviation of the window around a nodule's peak
SCALARS = 20  # numbers beside the pooled features, see `_pool_slot`


@dataclass(frozen=True)
class Pooled:
    """What the bridge reads of one batch.

    features: (B, L, D), one row per slot of `reports.language.SLOTS`, then one for the whole
    image (or one per grid cell). position_mm: (B, L, 3) centre of what each row was pooled from,
    in mm (z, y, x) from the middle of the encoded image.
    """

    features: Tensor
    position_mm: Tensor


def pooled_width(config: EncoderConfig, pooling: str) -> int:
    """D of `Pooled.features`."""
    stage = config.output_stage
    if pooling == "grid":
        return config.channels[-1]
    return 2 * (config.channels[stage] + config.channels[stage + 1]) + SCALARS


def pool_regions(output: EncoderOutput, config: EncoderConfig) -> Pooled:
    """Pool by lobe and lesion.

    Needs an encoder whose regions are the five lobes and two pleural spaces and whose lesions are
    the classes of `model.encoder.LESIONS`; raises ConfigError otherwise.
    """
    if config.spatial_dims != 3 or not set(LOBES) <= set(config.regions):
        raise ConfigError(
            "this encoder does not know lobes, so it cannot pool by region",
            fix="set pooling: grid in the model settings",
        )
    step_mm = _step_mm(config, config.output_stage)
    region = output.region_logits.float().softmax(1)
    lesion = output.lesion_logits.float().sigmoid()
    coarse = torch.nn.functional.interpolate(
        output.coarse.float(), size=output.fine.shape[2:], mode="nearest"
    )
    maps = torch.cat([output.fine.float(), coarse], 1)
    grid_mm = _grid_mm(output.fine.shape[2:], step_mm, maps.device)
    index = {name: i for i, name in enumerate(config.regions)}
    kind = {name: i for i, name in enumerate(config.lesions)}
    side_of_region = {
        side: region[:, [i for r, i in index.items() if r.startswith((side[0].upper(), side))]].sum(
            1
        )
        for side in ("right", "left")
    }
    rows, places = [], []
    for name, place in SLOTS:
        where = region[:, index[place]] if place in index else side_of_region[place]
        densities = lesion[:, [kind[d] for d in DENSITIES]]
        what = densities.amax(1) if name == "nodule" else lesion[:, kind[name]]
        row, centre = _pool_slot(
            maps, where * what, where, densities, grid_mm, step_mm, narrow=name == "nodule"
        )
        rows.append(row)
        places.append(centre)
    whole = 1 - region[:, 0]
    row, centre = _pool_slot(maps, whole, whole, lesion[:, :4], grid_mm, step_mm, narrow=False)
    rows.append(row)
    places.append(centre)
    return Pooled(torch.stack(rows, 1), torch.stack(places, 1))


def pool_grid(output: EncoderOutput, config: EncoderConfig, size: tuple[int, ...]) -> Pooled:
    """Average the deepest feature map into `size` cells, row-major: (B, prod(size), C)."""
    dims = config.spatial_dims
    pool: Any = (
        torch.nn.functional.adaptive_avg_pool3d
        if dims == 3
        else torch.nn.functional.adaptive_avg_pool2d
    )
    cells = pool(output.bottleneck.float(), size)
    step_mm = _step_mm(config, len(config.strides))
    spread = [n * s / m for n, s, m in zip(output.bottleneck.shape[2:], step_mm, size, strict=True)]
    grid_mm = _grid_mm(torch.Size(size), tuple(spread), cells.device).reshape(dims, -1).T
    if dims == 2:
        grid_mm = torch.nn.functional.pad(grid_mm, (1, 0))
    features = cells.flatten(2).transpose(1, 2)
    return Pooled(features, grid_mm.expand(len(features), -1, -1))


def _pool_slot(
    maps: Tensor,
    gate: Tensor,
    where: Tensor,
    densities: Tensor,
    grid_mm: Tensor,
    step_mm: tuple[float, ...],
    *,
    narrow: bool,
) -> tuple[Tensor, Tensor]:
    """One slot: mean features under the gate, features at its peak, and SCALARS numbers.

    maps (B, C, Z, Y, X); gate, where (B, Z, Y, X); densities (B, 4, Z, Y, X); grid_mm (3, Z, Y, X).
    The numbers: peak (as logit), log volume of gate and region, their ratio, spread of the gate
    in mm along each axis and its longest diameter, centre (z, y, x), the share and the peak of
    each nodule density, and the mean gate.
    """
    batch, channels = maps.shape[:2]
    flat_gate = gate.reshape(batch, -1)
    peak, at = flat_gate.max(1)
    flat_maps = maps.reshape(batch, channels, -1)
    flat_grid = grid_mm.reshape(3, -1)
    if narrow:
        offset = flat_grid[None] - flat_grid[:, at].T[:, :, None]
        flat_gate = flat_gate * torch.exp(-(offset**2).sum(1) / (2 * NODULE_WINDOW_MM**2))
    mass = flat_gate.sum(1, keepdim=True)
    weight = flat_gate / mass.clamp_min(1e-6)
    mean = torch.einsum("bcv,bv->bc", flat_maps, weight)
    at_peak = flat_maps.gather(2, at[:, None, None].expand(-1, channels, 1))[..., 0]
    centre = weight @ flat_grid.T
    spread = ((weight @ (flat_grid**2).T) - centre**2).clamp_min(0).sqrt()
    voxel_ml = float(torch.tensor(step_mm).prod()) / 1000
    volume = torch.log1p(mass[:, 0] * voxel_ml * 100)
    region = torch.log1p(where.reshape(batch, -1).sum(1) * voxel_ml)
    flat_densities = densities.reshape(batch, densities.shape[1], -1)
    share = torch.einsum("bkv,bv->bk", flat_densities, weight)
    strongest = (flat_densities * flat_gate[:, None]).amax(2)
    # Diameter of the ball of the gate's volume, in cm.
    diameter = (mass[:, 0] * voxel_ml * 6 / torch.pi).clamp_min(1e-9) ** (1 / 3)
    numbers = torch.stack(
        [
            torch.logit(peak.clamp(1e-4, 1 - 1e-4)) / 3,
            volume,
            region,
            volume - region,
            diameter,
            *(spread / 10).unbind(1),
            spread.norm(dim=1) / 10,
            *(centre / 100).unbind(1),
            *share.unbind(1),
            *strongest.unbind(1),
        ],
        1,
    )
    return torch.cat([mean, at_peak, numbers], 1), centre


def _step_mm(config: EncoderConfig, stage: int) -> tuple[float, ...]:
    spacing = config.spacing_zyx_mm[-config.spatial_dims :]
    return tuple(s * n for s, n in zip(spacing, config.stride_at(stage), strict=True))


def _grid_mm(shape: torch.Size, step_mm: tuple[float, ...], device: torch.device) -> Tensor:
    """(dims, *shape): millimetres of each cell's centre from the middle of the image."""
    axes = [
        (torch.arange(n, device=device) - (n - 1) / 2) * s
        for n, s in zip(shape, step_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
