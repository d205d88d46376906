"""From an image to what the bridge reads: the global stream, the local stream, or both.

The global stream averages the whole image by region or by grid; the local one reads a few regions
of interest (RoIs) at a finer stage. See `PoolingConfig` for what can be chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctscribe.errors import ConfigError
from ctscribe.model.encoder import Encoder, EncoderOutput
from ctscribe.model.nnunet_encoder import NnunetEncoder
from ctscribe.model.pooling import (
    Pooled,
    PoolingConfig,
    knows_lobes,
    pool_grid,
    pool_regions,
    space_mm,
)
from ctscribe.model.roi import can_propose, propose, roi_features, tile_around


def check_choice(choice: PoolingConfig, config: Any) -> None:
    """Raise ConfigError for a choice that an encoder of this config cannot serve."""
    deepest = len(config.channels) - 1
    used = [*choice.stages, *(choice.roi_stages if choice.has_local else ())]
    if wrong := [stage for stage in used if stage > deepest]:
        raise ConfigError(
            f"stage {wrong[0]} of the encoder is asked for, but its deepest is {deepest}",
            fix=f"give encoder_output_stage and roi_stage from 0 to {deepest}",
        )
    if choice.has_global and choice.kind == "region" and not knows_lobes(config):
        raise ConfigError(
            f"this encoder ({config.trained_on}) does not know lobes, so it cannot pool by region",
            fix="set pooling: grid in the model settings",
        )
    dims = config.spatial_dims
    cells = choice.size or choice.target
    if choice.has_global and choice.kind == "grid" and (cells is None or len(cells) != dims):
        raise ConfigError(
            f"the cells of the grid are {cells}, but the encoder has {dims} dimensions",
            fix="set pool_size, or with use_pooling: false encoder_target_spatial, to match",
        )
    if choice.has_local and choice.roi_source == "encoder" and not can_propose(config):
        raise ConfigError(
            "roi_source is encoder, but this encoder has not learned where lesions are",
            fix="give masks or coordinates, roi_source: centre, or import it with --roi-class",
        )


@torch.no_grad()
def pool(
    encoder: Encoder | NnunetEncoder,
    choice: PoolingConfig,
    image: Tensor,
    rois_mm: Tensor | None = None,
) -> Pooled:
    """Image (B, 1, *space) to the streams of `choice`; see `Vision.pool`."""
    config: Any = encoder.config
    whole_space = space_mm(config, image)
    tile = config.tile
    in_tiles = tile is not None and any(n > t for n, t in zip(image.shape[2:], tile, strict=True))
    stages = set(choice.global_stages(config)) if choice.has_global else set()
    if choice.has_local and not in_tiles:
        stages |= set(choice.roi_stages)
    asks = choice.has_local and choice.roi_source in ("auto", "encoder") and can_propose(config)
    output = encoder(image, stages=sorted(stages), segment=asks or choice.reads_classes)
    found = None
    if choice.has_global:
        found = (
            pool_regions(output, config)
            if choice.kind == "region"
            else pool_grid(
                [output.maps[stage] for stage in choice.global_stages(config)],
                whole_space,
                choice.size,
                choice.target,
                choice.order,
                output.probabilities() if choice.reads_classes else None,
            )
        )
    if not choice.has_local:
        assert found is not None
        return found
    centres, scores = _where(output if asks else None, choice, config, whole_space, image, rois_mm)
    if in_tiles:
        local = _local_in_tiles(encoder, choice, image, centres, scores)
    else:
        maps = [output.maps[stage] for stage in choice.roi_stages]
        local = _local(maps, choice, centres, scores, whole_space)
    if found is None:
        return local
    return Pooled(found.features, found.position_mm, local)


def _where(
    output: EncoderOutput | None,
    choice: PoolingConfig,
    config: Any,
    whole_space: tuple[float, ...],
    image: Tensor,
    rois_mm: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Centres (B, K, 3) and scores (B, K): the row's own, else the encoder's, else the middle."""
    shape = (len(image), choice.rois)
    if output is not None:
        centres, scores = propose(output, config, whole_space, choice.rois)
    else:
        centres = torch.full((*shape, 3), torch.nan, device=image.device)
        centres[:, 0] = 0.0
        scores = torch.zeros(shape, device=image.device)
    if rois_mm is not None:
        given = rois_mm.to(centres)
        own = torch.isfinite(given).all(-1).any(1)
        centres = torch.where(own[:, None, None], given, centres)
        scores = torch.where(own[:, None], torch.isfinite(given).all(-1).float(), scores)
    return centres, scores


def _local(
    maps: list[Tensor],
    choice: PoolingConfig,
    centres: Tensor,
    scores: Tensor,
    whole_space: tuple[float, ...],
) -> Pooled:
    features, position, inside = roi_features(
        maps, centres, whole_space, choice.roi_side_mm, choice.roi_cells
    )
    there = torch.isfinite(centres).all(-1)[..., None].expand_as(inside).float()
    logit = torch.logit(scores.clamp(1e-4, 1 - 1e-4))[..., None].expand_as(inside) / 3
    numbers = torch.stack([there, logit * there, inside], -1)
    return Pooled(torch.cat([features, numbers], -1).flatten(1, 2), position.flatten(1, 2))


def _local_in_tiles(
    encoder: Encoder | NnunetEncoder,
    choice: PoolingConfig,
    image: Tensor,
    centres: Tensor,
    scores: Tensor,
) -> Pooled:
    """Each RoI from a patch of the encoder's own around it: fine maps of all would not fit."""
    config = encoder.config
    assert config.tile is not None
    spacing = config.spacing_zyx_mm[-config.spatial_dims :]
    tile = [min(t, n) for t, n in zip(config.tile, image.shape[2:], strict=True)]
    studies = []
    for b in range(len(image)):
        rows = []
        for k in range(choice.rois):
            centre = centres[b, k]
            part, middle = tile_around(
                image[b : b + 1], centre[-config.spatial_dims :], spacing, tile
            )
            shift = torch.nn.functional.pad(middle, (3 - len(middle), 0)).to(centre)
            maps = encoder(part, stages=choice.roi_stages, segment=False).maps
            found = _local(
                [maps[stage] for stage in choice.roi_stages],
                choice,
                (centre - shift)[None, None],
                scores[b : b + 1, k : k + 1],
                space_mm(config, part),
            )
            rows.append(Pooled(found.features, found.position_mm + shift))
        studies.append(
            Pooled(
                torch.cat([r.features for r in rows], 1),
                torch.cat([r.position_mm for r in rows], 1),
            )
        )
    return Pooled.cat(studies)


@dataclass(frozen=True)
class Cost:
    """What a choice makes of each image, and what it takes.

    tokens: visual ones. numbers: features kept of each image; image_mib: input and maps that
    are alive while one image is encoded.
    """

    tokens: int
    numbers: int
    image_mib: float


def cost(choice: PoolingConfig, config: Any, space: tuple[int, ...]) -> Cost:
    """Tokens and memory of a choice, for images of `space` voxels."""
    numbers = 0
    if choice.has_global:
        numbers += choice.global_tokens * (choice.global_width(config) + 3)
    if choice.has_local:
        numbers += choice.local_tokens * (choice.local_width(config) + 3)
    at_once = space if config.tile is None else tuple(map(min, space, config.tile))
    voxels = math.prod(at_once)
    alive = float(voxels)
    for stage, channels in enumerate(config.channels):
        stride = config.stride_at(stage)
        alive += 2 * channels * voxels / math.prod(stride)
    if config.tile is not None and choice.has_global:
        # Maps of the whole image, put together from patches.
        for stage in choice.global_stages(config):
            alive += config.channels[stage] * math.prod(space) / math.prod(config.stride_at(stage))
    if choice.reads_classes:
        stride = config.stride_at(config.output_stage) if config.tile is None else (1,)
        alive += 2 * len(config.classes) * math.prod(space) / math.prod(stride)
    return Cost(choice.tokens, numbers, alive * 4 / 2**20)
