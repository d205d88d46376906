"""The image encoder: a small segmentation network in nnU-Net's style, and its file format.

Convolution, instance normalisation, leaky ReLU, strided convolution to go down, addition of skips
to come up (nnU-Net concatenates; adding halves the cost of the finest decoder stage, which
dominates on a CPU). It is pretrained by segmentation, so beside features it knows lobes and
lesions; `model/bridge.py` pools its features by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ctscribe.errors import CheckpointError
from ctscribe.imaging.lungs import Box
from ctscribe.imaging.transforms import Prepared, prepare, slice_of
from ctscribe.imaging.volume import Volume
from ctscribe.reports.schema import DENSITIES, LOBES, SIDES

REGIONS: tuple[str, ...] = ("outside", *LOBES, *(f"{side} pleura" for side in SIDES))
LESIONS: tuple[str, ...] = (
    *DENSITIES,
    "consolidation",
    "emphysema",
    "effusion",
    "pneumothorax",
)


@dataclass(frozen=True)
class EncoderConfig:
    """Everything that rebuilds an encoder and the image it expects."""

    spatial_dims: int = 3  # 2 reads one slice, 3 the volume
    channels: tuple[int, ...] = (16, 32, 64, 96, 128)  # features of each stage
    strides: tuple[tuple[int, ...], ...] = (
        (1, 2, 2),
        (2, 2, 2),
        (2, 2, 2),
        (2, 2, 2),
    )  # going down
    blocks: tuple[int, ...] = (1, 1, 2, 2, 2)  # convolutions a stage, after the strided one
    output_stage: int = 1  # the decoder comes up to this stage
    spacing_zyx_mm: tuple[float, float, float] = (4.0, 3.0, 3.0)  # voxels it was trained on
    window_hu: tuple[float, float] = (-1000.0, 400.0)  # clipped to this, scaled to [-1, 1]
    margin_mm: float = 16.0  # around the lungs
    regions: tuple[str, ...] = REGIONS  # softmax classes, the first is "outside"
    lesions: tuple[str, ...] = LESIONS  # independent (sigmoid) classes
    trained_on: str = "phantoms"  # said on every page that a model of this encoder writes

    def stride_at(self, stage: int) -> tuple[int, ...]:
        """Voxels of the input per voxel of `stage`, each axis."""
        total = [1] * self.spatial_dims
        for stride in self.strides[:stage]:
            total = [a * b for a, b in zip(total, stride, strict=True)]
        return tuple(total)

    @property
    def multiple(self) -> tuple[int, ...]:
        """The input's size must be a multiple of this, each axis."""
        return self.stride_at(len(self.strides))

    @property
    def classes(self) -> tuple[str, ...]:
        """What it segments."""
        return (*self.regions, *self.lesions)

    @property
    def tile(self) -> tuple[int, ...] | None:
        """Voxels of a patch, for encoders that read an image in patches; None reads it whole."""
        return None

    @property
    def blank(self) -> float:
        """What air becomes, or whatever else lies at or below the window."""
        return -1.0

    def prepare(self, volume: Volume, box: Box) -> Prepared:
        """A volume as this encoder's input: the lungs' `box`, resampled, windowed."""
        flat = self.spatial_dims == 2
        if flat:
            volume = slice_of(volume, box.low_zyx[0])
            box = Box((0, *box.low_zyx[1:]), (1, *box.high_zyx[1:]))
        return prepare(
            volume,
            spacing_zyx_mm=self.spacing_zyx_mm,
            window_hu=self.window_hu,
            multiple=(1, *self.multiple) if flat else self.multiple,
            box=box,
        )


@dataclass(frozen=True)
class EncoderOutput:
    """maps: (B, C, *space) features by stage, the decoder's where it comes up to a stage.

    region_logits (B, R, *space) and lesion_logits (B, K, *space), on the grid of `output_stage`,
    of an encoder that has learned lobes and findings. classes: (B, K, *space) how much it sees of
    each of its classes, 0 .. 1, of one that has learned any others.
    """

    maps: dict[int, Tensor]
    region_logits: Tensor | None = None
    lesion_logits: Tensor | None = None
    classes: Tensor | None = None

    def probabilities(self) -> Tensor:
        """(B, K, *space) how much the encoder sees of each of its config's `classes`, 0 .. 1."""
        if self.classes is not None:
            return self.classes
        region, lesion = self.segmentation()
        return torch.cat([region.float().softmax(1), lesion.float().sigmoid()], 1)

    def segmentation(self) -> tuple[Tensor, Tensor]:
        """region_logits and lesion_logits of an encoder that has them."""
        assert self.region_logits is not None
        assert self.lesion_logits is not None
        return self.region_logits, self.lesion_logits


class Encoder(nn.Module):
    """Image (B, 1, *space), scaled to [-1, 1], to `EncoderOutput`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.spatial_dims
        channels = config.channels
        self.stages = nn.ModuleList()
        for i, width in enumerate(channels):
            before = 1 if i == 0 else channels[i - 1]
            stride = (1,) * dims if i == 0 else config.strides[i - 1]
            convs = [_conv(dims, before, width, stride)]
            convs += [_conv(dims, width, width, (1,) * dims) for _ in range(config.blocks[i] - 1)]
            self.stages.append(nn.Sequential(*convs))
        self.ups = nn.ModuleList()
        self.merges = nn.ModuleList()
        for i in range(len(channels) - 1, config.output_stage, -1):
            transposed = nn.ConvTranspose3d if dims == 3 else nn.ConvTranspose2d
            stride = config.strides[i - 1]
            self.ups.append(transposed(channels[i], channels[i - 1], stride, stride))  # type: ignore[arg-type]
            self.merges.append(_conv(dims, channels[i - 1], channels[i - 1], (1,) * dims))
        fine = channels[config.output_stage]
        pointwise = nn.Conv3d if dims == 3 else nn.Conv2d
        self.region_head = pointwise(fine, len(config.regions), 1)
        self.lesion_head = pointwise(fine, len(config.lesions), 1)
        # Lesions are rare: start from their prior, or the first steps only unlearn a half.
        nn.init.constant_(cast(Tensor, self.lesion_head.bias), -5.0)

    def forward(
        self, image: Tensor, stages: Sequence[int] | None = None, segment: bool = True
    ) -> EncoderOutput:
        """Down the stages and up to `output_stage`; sizes must divide by `config.multiple`.

        All maps are there whichever are asked for.
        """
        skips = []
        x = image
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        maps = dict(enumerate(skips))
        above = range(len(skips) - 2, -1, -1)
        for at, up, merge in zip(above, self.ups, self.merges, strict=False):
            maps[at] = x = merge(up(x) + skips[at])
        return EncoderOutput(maps, self.region_head(x), self.lesion_head(x))


def _conv(dims: int, before: int, width: int, stride: tuple[int, ...]) -> nn.Sequential:
    if dims == 3:
        return nn.Sequential(
            nn.Conv3d(before, width, 3, cast(Any, stride), 1, bias=False),
            nn.InstanceNorm3d(width, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )
    return nn.Sequential(
        nn.Conv2d(before, width, 3, cast(Any, stride), 1, bias=False),
        nn.InstanceNorm2d(width, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )


def encoder_config(settings: dict[str, Any], file: Path) -> EncoderConfig:
    """An EncoderConfig from its JSON form (lists become tuples); unknown keys are errors."""
    known = set(EncoderConfig.__dataclass_fields__)
    if unknown := sorted(set(settings) - known):
        raise CheckpointError(
            f"unknown encoder setting {', '.join(unknown)}",
            file=file,
            fix="use the version of ctscribe that wrote it",
        )
    return EncoderConfig(**tuples(settings))


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    """`load_state_dict(strict=True)` that names what differs, in one line."""
    own = module.state_dict()
    wrong = [f"{k} is missing" for k in own if k not in tensors]
    wrong += [f"{k} is unknown" for k in tensors if k not in own]
    wrong += [
        f"{k} has shape {tuple(v.shape)}, not {tuple(own[k].shape)}"
        for k, v in tensors.items()
        if k in own and own[k].shape != v.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"the weights do not fit: {'; '.join(wrong[:3])}{more}",
            file=file,
            fix="use the checkpoint together with the settings that it was trained with",
        )
    module.load_state_dict(tensors)


def tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as a dataclass has them: JSON's lists become tuples."""
    return {k: _tuple(v) for k, v in settings.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value
