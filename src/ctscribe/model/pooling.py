"""From an encoder's maps to a short sequence of features: by lobe and lesion, or by a grid.

Region pooling is gated: the feature of "consolidation in the left lower lobe" is the mean of the
feature map weighted by p(left lower lobe) * p(consolidation). Free cross-attention had to learn
where to look from a few hundred reports; the gates know it from segmentation. Nodules are small
and may share a lobe with a false alarm, so their gate is narrowed to a window around its peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.model import roi
from ctscribe.model.encoder import EncoderConfig, EncoderOutput
from ctscribe.model.scan_order import ScanOrder, scan_order
from ctscribe.reports.language import SLOTS
from ctscribe.reports.schema import DENSITIES, LOBES, side_of

NODULE_WINDOW_MM = 12.0  # standard deviation of the window around a nodule's peak
# Numbers beside the pooled features: the gate's peak (as logit), log volume of gate and region and
# their ratio, diameter, spread along each axis and in all, centre, then of each nodule density its
# share and its peak.
SCALARS = 20


@dataclass(frozen=True)
class PoolingConfig:
    """Which features of an image the bridge reads: a choice, with everything it depends on.

    mode: both streams, or one of them. kind, size, stages, target, order: of the global stream: by
    region or a grid of `size` cells, in `order`, of the maps of these stages (empty: the deepest),
    resized to `target` before; size () takes every voxel of the map for a cell. classes: beside a
    cell's maps stands how much of each class the encoder segments there, its mean and its peak.
    rois: boxes of the local stream, of roi_side_mm a side, in roi_cells, of the maps of roi_stages;
    roi_source: where they come from.
    """

    mode: str = "global_only"  # full, global_only or local_only
    kind: str = "region"  # region or grid
    size: tuple[int, ...] = (4, 4, 4)
    stages: tuple[int, ...] = ()
    target: tuple[int, ...] | None = None
    order: ScanOrder = "row"
    classes: bool = False
    rois: int = 5
    roi_source: str = "auto"  # auto, mask, points, encoder or centre
    roi_side_mm: tuple[float, ...] = (32.0, 32.0, 32.0)
    roi_cells: tuple[int, ...] = (2, 2, 2)
    roi_stages: tuple[int, ...] = (1,)

    @property
    def has_global(self) -> bool:
        """Whether the whole image is read."""
        return self.mode != "local_only"

    @property
    def has_local(self) -> bool:
        """Whether RoIs are read."""
        return self.mode != "global_only"

    @property
    def reads_classes(self) -> bool:
        """Whether cells of a grid say what the encoder segments in them."""
        return self.classes and self.has_global and self.kind == "grid"

    @property
    def slot_tokens(self) -> int:
        """Rows that the bridge adds, one a slot, where the pooled rows are not slots."""
        return 0 if self.has_global and self.kind == "region" else len(SLOTS)

    @property
    def global_tokens(self) -> int:
        """Rows of the global stream."""
        if not self.has_global:
            return 0
        return (
            len(SLOTS) + 1 if self.kind == "region" else math.prod(self.size or self.target or ())
        )

    @property
    def local_tokens(self) -> int:
        """Rows of the local stream."""
        return self.rois * math.prod(self.roi_cells) if self.has_local else 0

    @property
    def tokens(self) -> int:
        """Visual tokens that the bridge makes of an image."""
        return self.slot_tokens + self.global_tokens + self.local_tokens

    def described(self) -> str:
        """Where the visual tokens come from, such as "64 of the whole image + 19 of slots"."""
        parts = {
            "the whole image": self.global_tokens,
            "RoIs": self.local_tokens,
            "slots": self.slot_tokens,
        }
        return " + ".join(f"{n} of {name}" for name, n in parts.items() if n)

    def global_width(self, config: Any) -> int:
        """D of the global stream's rows, for an encoder of this config."""
        if self.kind == "grid":
            maps = sum(int(config.channels[stage]) for stage in self.global_stages(config))
            return maps + 2 * len(config.classes) if self.reads_classes else maps
        stage = config.output_stage
        return 2 * int(config.channels[stage] + config.channels[stage + 1]) + SCALARS

    def local_width(self, config: Any) -> int:
        """D of the local stream's rows."""
        return sum(int(config.channels[stage]) for stage in self.roi_stages) + roi.SCALARS

    def global_stages(self, config: Any) -> tuple[int, ...]:
        """Stages whose maps the grid reads."""
        return self.stages or (len(config.channels) - 1,)


@dataclass(frozen=True)
class Pooled:
    """What the bridge reads of one batch.

    features: (B, L, D), one row per slot of `reports.language.SLOTS`, then one for the whole
    image; or one per cell of the grid or of the RoIs. position_mm: (B, L, 3) centre of what each
    row was pooled from, in mm (z, y, x) from the middle of the encoded image. local: the same of
    the RoIs' cells, where there are both streams.
    """

    features: Tensor
    position_mm: Tensor
    local: Pooled | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Pooled:
        """Every tensor changed in the same way."""
        return Pooled(
            change(self.features),
            change(self.position_mm),
            None if self.local is None else self.local.map(change),
        )

    def rows(self, index: Sequence[int] | Tensor) -> Pooled:
        """Some studies."""
        at = index if isinstance(index, Tensor) else list(index)
        return self.map(lambda x: x[at])

    def to(self, device: str | torch.device) -> Pooled:
        """The same on another device."""
        return self.map(lambda x: x.to(device))

    @staticmethod
    def cat(parts: Sequence[Pooled]) -> Pooled:
        """Studies one after another."""
        local = [p.local for p in parts if p.local is not None]
        return Pooled(
            torch.cat([p.features for p in parts]),
            torch.cat([p.position_mm for p in parts]),
            Pooled.cat(local) if local else None,
        )


def knows_lobes(config: Any) -> bool:
    """Whether an encoder of this config can be pooled by region."""
    own = isinstance(config, EncoderConfig) and config.spatial_dims == 3
    return own and set(LOBES) <= set(config.regions)


def pool_regions(output: EncoderOutput, config: EncoderConfig) -> Pooled:
    """Pool by lobe and lesion.

    Needs an encoder whose regions are the five lobes and two pleural spaces and whose lesions are
    the classes of `model.encoder.LESIONS`; raises ConfigError otherwise.
    """
    if not knows_lobes(config):
        raise ConfigError(
            "this encoder does not know lobes, so it cannot pool by region",
            fix="set pooling: grid in the model settings",
        )
    region_logits, lesion_logits = output.segmentation()
    fine = output.maps[config.output_stage]
    step_mm = _step_mm(config, config.output_stage)
    region = region_logits.float().softmax(1).flatten(2)
    lesion = lesion_logits.float().sigmoid().flatten(2)
    coarse = nn.functional.interpolate(
        output.maps[config.output_stage + 1].float(), size=fine.shape[2:], mode="nearest"
    )
    maps_BCV = torch.cat([fine.float(), coarse], 1).flatten(2)
    grid_3V = _grid_mm(fine.shape[2:], step_mm, maps_BCV.device).flatten(1)
    names = list(config.regions)
    kind = {name: i for i, name in enumerate(config.lesions)}
    densities_BKV = lesion[:, [kind[d] for d in DENSITIES]]
    inside = 1 - region[:, 0]
    where, gate = [], []
    for name, place in SLOTS:
        # A pleural finding may lie in its pleural space or in what the lobes were.
        own = [i for i, r in enumerate(names) if r == place or _side(r) == place]
        where.append(region[:, own].sum(1))
        what = densities_BKV.amax(1) if name == "nodule" else lesion[:, kind[name]]
        gate.append(where[-1] * what)
    where_BSV, gate_BSV = torch.stack([*where, inside], 1), torch.stack([*gate, inside], 1)
    peak_BS, at_BS = gate_BSV.max(-1)
    narrow = [s for s, (name, _) in enumerate(SLOTS) if name == "nodule"]
    gate_BSV[:, narrow] *= _window(grid_3V, at_BS[:, narrow])
    mass_BS = gate_BSV.sum(-1)
    weight_BSV = gate_BSV / mass_BS[..., None].clamp_min(1e-6)
    mean_BSC = weight_BSV @ maps_BCV.transpose(1, 2)
    at_peak_BSC = maps_BCV.transpose(1, 2).gather(
        1, at_BS[..., None].expand(-1, -1, maps_BCV.shape[1])
    )
    centre_BS3 = weight_BSV @ grid_3V.T
    spread_BS3 = (weight_BSV @ (grid_3V**2).T - centre_BS3**2).clamp_min(0).sqrt()
    voxel_ml = math.prod(step_mm) / 1000
    volume = torch.log1p(mass_BS * voxel_ml * 100)
    region_volume = torch.log1p(where_BSV.sum(-1) * voxel_ml)
    # Diameter of the ball of the gate's volume, in cm.
    diameter = (mass_BS * voxel_ml * 6 / math.pi).clamp_min(1e-9) ** (1 / 3)
    share_BSK = weight_BSV @ densities_BKV.transpose(1, 2)
    strongest_BSK = (gate_BSV[:, :, None] * densities_BKV[:, None]).amax(-1)
    numbers = [
        torch.logit(peak_BS.clamp(1e-4, 1 - 1e-4)) / 3,
        volume,
        region_volume,
        volume - region_volume,
        diameter,
        *(spread_BS3 / 10).unbind(-1),
        spread_BS3.norm(dim=-1) / 10,
        *(centre_BS3 / 100).unbind(-1),
        *share_BSK.unbind(-1),
        *strongest_BSK.unbind(-1),
    ]
    features = torch.cat([mean_BSC, at_peak_BSC, torch.stack(numbers, -1)], -1)
    return Pooled(features, centre_BS3)


def _side(region: str) -> str:
    """The side that a region lies on: of a lobe, or of a pleural space."""
    if region in LOBES:
        return side_of(region)
    return region.removesuffix(" pleura")


def _window(grid_3V: Tensor, at_BS: Tensor) -> Tensor:
    """Bells (B, S, V) around the voxels `at_BS`."""
    middle_BS3 = grid_3V.T[at_BS]
    square = grid_3V.square().sum(0) - 2 * middle_BS3 @ grid_3V
    square = square + middle_BS3.square().sum(-1, keepdim=True)
    return torch.exp(-square / (2 * NODULE_WINDOW_MM**2))


def pool_grid(
    maps: Sequence[Tensor],
    space_mm: Sequence[float],
    size: tuple[int, ...],
    target: tuple[int, ...] | None = None,
    order: ScanOrder = "row",
    classes: Tensor | None = None,
) -> Pooled:
    """Average maps (B, C, *space) of one image into `size` cells, in `order`: (B, prod(size), C).

    space_mm: the image's extent. target: the maps are resized to it first; with size () its own
    voxels are the cells. Several maps stand beside each other in C, then the mean and the peak in a
    cell of each of `classes` (B, K, *space): the mean of a large cell hides a small nodule.
    """
    dims = len(space_mm)
    cells = size or target
    if cells is None:
        raise ConfigError(
            "without pooling every image has its own number of tokens",
            fix="set encoder_target_spatial, or use_pooling: true",
        )
    resized = [_resized(m.float(), target) for m in maps]
    found = [averaged(m, cells) for m in resized]
    if classes is not None:
        found += [averaged(classes, cells), highest(classes, cells)]
    features = torch.cat(found, 1).flatten(2).transpose(1, 2)
    step_mm = tuple(mm / n for mm, n in zip(space_mm, cells, strict=True))
    grid_mm = _grid_mm(torch.Size(cells), step_mm, features.device).reshape(dims, -1).T
    if dims == 2:
        grid_mm = nn.functional.pad(grid_mm, (1, 0))
    at = scan_order(tuple(cells), order).to(features.device)
    return Pooled(features[:, at], grid_mm[at].expand(len(features), -1, -1))


def averaged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (B, C, *space) averaged into `size` cells."""
    pools: Any = {2: nn.functional.adaptive_avg_pool2d, 3: nn.functional.adaptive_avg_pool3d}
    return pools[len(size)](maps, size)  # type: ignore[no-any-return]


def highest(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """The highest value of maps (B, C, *space) in each of `size` cells."""
    pools: Any = {2: nn.functional.adaptive_max_pool2d, 3: nn.functional.adaptive_max_pool3d}
    return pools[len(size)](maps, size)  # type: ignore[no-any-return]


def _resized(maps: Tensor, target: tuple[int, ...] | None) -> Tensor:
    """Maps at another size: averaged where they shrink, interpolated where they grow."""
    if target is None or tuple(maps.shape[2:]) == target:
        return maps
    if all(t <= n for t, n in zip(target, maps.shape[2:], strict=True)):
        return averaged(maps, target)
    mode = "trilinear" if len(target) == 3 else "bilinear"
    return nn.functional.interpolate(maps, size=target, mode=mode)


def space_mm(config: Any, image: Tensor) -> tuple[float, ...]:
    """Extent in mm of an encoder's input (B, 1, *space)."""
    spacing = config.spacing_zyx_mm[-config.spatial_dims :]
    return tuple(mm * n for mm, n in zip(spacing, image.shape[2:], strict=True))


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
