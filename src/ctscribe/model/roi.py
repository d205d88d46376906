"""The local stream: regions of interest (RoIs), and the features in and around each of them.

Where to look comes from a mask or from coordinates of the row, else from what the encoder itself
takes for a lesion, else it is the middle of the lungs. What is seen there is averaged over a few
cells of a box of fixed size in mm, from finer maps than the global stream has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ctscribe.model.encoder import EncoderConfig, EncoderOutput
from ctscribe.reports.schema import DENSITIES, LOBES

APART_MM = 20.0  # proposals closer than this to a better one are the same lesion
SCALARS = 3  # beside a cell's features: RoI there or not, its score (logit), share inside the image


def propose(
    output: EncoderOutput, config: Any, space_mm: Sequence[float], n: int
) -> tuple[Tensor, Tensor]:
    """Where the encoder sees lesions: centres (B, n, 3) in mm from the image's middle, and scores.

    space_mm: the image's extent. scores (B, n) in 0 .. 1. Five RoIs of an encoder that knows lobes
    are one a lobe, in the order of LOBES; otherwise the strongest come first.
    """
    if output.classes is not None:
        return _peaks(output.classes[:, config.classes.index(config.roi_class)], space_mm, n)
    region_logits, lesion_logits = output.segmentation()
    region = region_logits.float().softmax(1)
    kinds = [config.lesions.index(d) for d in DENSITIES]
    lesion = lesion_logits[:, kinds].float().sigmoid().amax(1)
    if n != len(LOBES) or not set(LOBES) <= set(config.regions):
        return _peaks(lesion * (1 - region[:, 0]), space_mm, n)
    found = [_peaks(lesion * region[:, config.regions.index(lobe)], space_mm, 1) for lobe in LOBES]
    return torch.cat([c for c, _ in found], 1), torch.cat([s for _, s in found], 1)


def can_propose(config: Any) -> bool:
    """Whether an encoder of this config has learned where lesions are."""
    if isinstance(config, EncoderConfig):
        return set(DENSITIES) <= set(config.lesions)
    return config.roi_class is not None


def _peaks(p: Tensor, space_mm: Sequence[float], n: int) -> tuple[Tensor, Tensor]:
    """The n highest voxels of p (B, *space), APART_MM from each other."""
    step = [mm / size for mm, size in zip(space_mm, p.shape[1:], strict=True)]
    axes = [
        (torch.arange(size, device=p.device) - (size - 1) / 2) * mm
        for size, mm in zip(p.shape[1:], step, strict=True)
    ]
    grid_V3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    left_BV = p.flatten(1).clone()
    centres, scores = [], []
    for _ in range(n):
        score_B, at_B = left_BV.max(1)
        centre_B3 = grid_V3[at_B]
        near = torch.cdist(centre_B3[:, None], grid_V3[None].expand(len(p), -1, -1))[:, 0]
        left_BV = left_BV.masked_fill(near < APART_MM, -1.0)
        centres.append(centre_B3)
        scores.append(score_B.clamp_min(0))
    found = torch.stack(centres, 1)
    if found.shape[-1] == 2:
        found = torch.nn.functional.pad(found, (1, 0))
    return found, torch.stack(scores, 1)


def roi_features(
    maps: Sequence[Tensor],
    centres_BK3: Tensor,
    space_mm: Sequence[float],
    side_mm: Sequence[float],
    cells: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Means over the cells of boxes around centres, from maps (B, C, *space) of one image.

    Returns features (B, K, cells, C of all maps), positions (B, K, cells, 3) in mm from the image's
    middle, and the share (B, K, cells) of each cell that lies inside the image. NaN centres are
    absent: zeros.
    """
    dims = len(cells)
    where = centres_BK3[..., 3 - dims :]
    there = torch.isfinite(where).all(-1)
    where = torch.where(there[..., None], where, 0.0)
    features = []
    share = None
    for found in maps:
        weights, inside = [], []
        for axis in range(dims):
            step = space_mm[axis] / found.shape[2 + axis]
            w = _cell_weights(
                where[..., axis], found.shape[2 + axis], step, side_mm[axis], cells[axis]
            )
            full = side_mm[axis] / cells[axis] / step
            inside.append(w.sum(-1) / full)
            weights.append(w / w.sum(-1, keepdim=True).clamp_min(1e-6))
        if dims == 3:
            # One axis after the other: the map of one study is never copied for each RoI whole.
            part = torch.einsum("bkzu,bcuyx->bkczyx", weights[0], found.float())
            part = torch.einsum("bkyu,bkczux->bkczyx", weights[1], part)
            part = torch.einsum("bkxu,bkczyu->bkczyx", weights[2], part)
        else:
            part = torch.einsum("bkyu,bcux->bkcyx", weights[0], found.float())
            part = torch.einsum("bkxu,bkcyu->bkcyx", weights[1], part)
        features.append(part.flatten(3).transpose(2, 3))
        share = _outer(inside)
    assert share is not None, "at least one map"
    offsets = [
        (torch.arange(n, device=where.device) - (n - 1) / 2) * mm / n
        for n, mm in zip(cells, side_mm, strict=True)
    ]
    offset = torch.stack(torch.meshgrid(*offsets, indexing="ij"), -1).flatten(0, -2)
    position = where[:, :, None] + offset
    if dims == 2:
        position = torch.nn.functional.pad(position, (1, 0))
    present = there[..., None].float()
    return torch.cat(features, -1) * present[..., None], position, share * present


def _outer(inside: Sequence[Tensor]) -> Tensor:
    """Shares along each axis (B, K, n) to shares of the cells (B, K, prod n)."""
    total = inside[0]
    for part in inside[1:]:
        total = (total[..., None] * part[:, :, None]).flatten(2)
    return total


def _cell_weights(centre_BK: Tensor, size: int, step: float, side_mm: float, cells: int) -> Tensor:
    """Overlap in voxels of each cell with each voxel of an axis: (B, K, cells, size).

    centre: mm from the axis's middle. A cell thinner than a voxel still reads the one around it.
    """
    width = max(side_mm / cells, 1e-3)
    middle = centre_BK[..., None] + (
        (torch.arange(cells, device=centre_BK.device) - (cells - 1) / 2) * side_mm / cells
    )
    at = middle / step + (size - 1) / 2
    half = width / step / 2
    voxel = torch.arange(size, device=centre_BK.device)
    low = torch.maximum(at[..., None] - half, voxel - 0.5)
    high = torch.minimum(at[..., None] + half, voxel + 0.5)
    return (high - low).clamp_min(0)


def tile_around(
    image: Tensor, centre: Tensor, spacing: Sequence[float], tile: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The part (1, 1, *tile) of an image (1, 1, *space) around a centre in mm, and its own middle.

    It stays inside the image, as near to the centre as that allows; the middle is in mm from the
    image's.
    """
    corner, middle = [], []
    for at, mm, n, t in zip(centre.tolist(), spacing, image.shape[2:], tile, strict=True):
        start = round(at / mm + (n - 1) / 2 - (t - 1) / 2) if math.isfinite(at) else (n - t) // 2
        start = min(max(start, 0), n - t)
        corner.append(start)
        middle.append((start + (t - 1) / 2 - (n - 1) / 2) * mm)
    at_tile: Any = (..., *(slice(c, c + t) for c, t in zip(corner, tile, strict=True)))
    return image[at_tile], torch.tensor(middle, device=centre.device)
