"""The image encoder: a small segmentation network in nnU-Net's style, and its file format.

Convolution, instance normalisation, leaky ReLU, strided convolution to go down, addition of skips
to come up (nnU-Net concatenates; adding halves the cost of the finest decoder stage, which
dominates on a CPU). It is pretrained by segmentation, so beside features it knows lobes and
lesions; `model/bridge.py` pools its features by them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from ctscribe.errors import CheckpointError
from ctscribe.model.checkpoint import load_tensors, save_tensors
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


@dataclass(frozen=True)
class EncoderOutput:
    """fine: (B, C1, *space) decoder features at `output_stage`; coarse: (B, C2, *space) one down.

    region_logits (B, R, *space) and lesion_logits (B, K, *space) on the fine grid;
    bottleneck (B, C, *space) the deepest features.
    """

    fine: Tensor
    coarse: Tensor
    bottleneck: Tensor
    region_logits: Tensor
    lesion_logits: Tensor


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

    def forward(self, image: Tensor) -> EncoderOutput:
        """Down the stages and up to `output_stage`; sizes must divide by `config.multiple`."""
        skips = []
        x = image
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        bottleneck = coarse = x
        for up, merge, skip in zip(self.ups, self.merges, reversed(skips[:-1]), strict=False):
            coarse, x = x, merge(up(x) + skip)
        return EncoderOutput(x, coarse, bottleneck, self.region_head(x), self.lesion_head(x))


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


def save_encoder(encoder: Encoder, folder: Path, *, half: bool = False) -> None:
    """Write `encoder.safetensors` and `encoder.json`; `half` stores float16, half the size."""
    tensors = encoder.state_dict()
    if half:
        tensors = {k: v.half() for k, v in tensors.items()}
    save_tensors(folder / "encoder.safetensors", tensors, {"encoder": asdict(encoder.config)})


def load_encoder(folder: Path) -> Encoder:
    """Read what `save_encoder` wrote, strictly.

    Raises CheckpointError if a file is missing or a tensor is missing, unknown or of other shape.
    """
    file = folder / "encoder.safetensors"
    tensors, settings = load_tensors(file)
    if "encoder" not in settings:
        raise CheckpointError(
            "this is not an encoder's checkpoint",
            file=file,
            fix="point encoder at a folder with encoder.safetensors and encoder.json",
        )
    encoder = Encoder(encoder_config(settings["encoder"], file))
    load_strictly(encoder, {k: v.float() for k, v in tensors.items()}, file)
    return encoder.eval()


def encoder_config(settings: dict[str, Any], file: Path) -> EncoderConfig:
    """An EncoderConfig from its JSON form (lists become tuples); unknown keys are errors."""
    known = set(EncoderConfig.__dataclass_fields__)
    if unknown := sorted(set(settings) - known):
        raise CheckpointError(
            f"unknown encoder setting {', '.join(unknown)}",
            file=file,
            fix="use the version of ctscribe that wrote it",
        )
    return EncoderConfig(**{k: _tuples(v) for k, v in settings.items()})


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


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
