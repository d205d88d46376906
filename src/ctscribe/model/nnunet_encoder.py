"""The encoder of a trained nnU-Net: its features of an image that was prepared as it was trained.

Images and maps here stand in the house's axes; the network sees its own, turned and back again.
An image larger than the patch it was trained on passes in overlapping patches, as nnU-Net predicts
(a Gaussian weights the middle of each), because its normalisation depends on how much it sees.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.imaging.lungs import Box
from ctscribe.imaging.nnunet import Recipe, prepare_nnunet
from ctscribe.imaging.transforms import Prepared
from ctscribe.imaging.volume import Volume
from ctscribe.model.encoder import EncoderOutput, tuples
from ctscribe.model.nnunet import (
    TrainedNnunet,
    build_network,
    class_names,
    configuration_of,
    has_regions,
    network_from,
)

OVERLAP = 0.5  # of neighbouring patches, nnU-Net's own
AIR_HU = -1000.0
INTENSITY = ("mean", "std", "percentile_00_5", "percentile_99_5")  # of the plans, as in Recipe
LESION_WORDS = ("nodul", "lesion", "tumo", "cancer", "mass", "metasta", "结节", "病灶", "肿瘤")


@dataclass(frozen=True)
class NnunetConfig:
    """Everything that rebuilds an imported encoder and the image it expects.

    architecture: of the plans. classes: of the output channels, in order; regions: they overlap
    (sigmoid). patch: voxels in the network's axes. roi_class: where the local stream looks.
    source_sha256: of the checkpoint file it was read from.
    """

    architecture: dict[str, Any]
    recipe: Recipe
    patch: tuple[int, ...]
    classes: tuple[str, ...]
    regions: bool
    roi_class: str | None
    dataset: str
    configuration: str
    trainer: str
    fold: str
    epoch: int
    source: str
    source_sha256: str
    margin_mm: float = 16.0  # around the lungs

    @property
    def spatial_dims(self) -> int:
        """2 reads one slice, 3 the volume."""
        return len(self.patch)

    @property
    def trained_on(self) -> str:
        """What every page says that a model of this encoder writes."""
        return self.dataset

    @property
    def channels(self) -> tuple[int, ...]:
        """Features of each stage."""
        arguments = self.architecture["arch_kwargs"]
        features, stages = arguments["features_per_stage"], int(arguments["n_stages"])
        return tuple(features) if isinstance(features, list | tuple) else (features,) * stages

    @property
    def spacing_zyx_mm(self) -> tuple[float, ...]:
        """Voxels it was trained on; in 2D those of the plane, and 0 for the slices' own step."""
        return tuple(mm or 0.0 for mm in self.recipe.spacing_zyx_mm)

    @property
    def tile(self) -> tuple[int, ...]:
        """Voxels of a patch in the house's axes."""
        return self._house(self.patch)

    @property
    def blank(self) -> float:
        """What air becomes."""
        mean, std, low, _ = self.recipe.intensity
        if self.recipe.normalization == "CTNormalization":
            return (max(AIR_HU, low) - mean) / std
        return 0.0

    def stride_at(self, stage: int) -> tuple[int, ...]:
        """Voxels of the input per voxel of `stage`, each of the house's axes."""
        total = [1] * self.spatial_dims
        for stride in self.architecture["arch_kwargs"]["strides"][: stage + 1]:
            each = stride if isinstance(stride, list | tuple) else [stride] * self.spatial_dims
            total = [a * b for a, b in zip(total, each, strict=True)]
        return self._house(total)

    @property
    def multiple(self) -> tuple[int, ...]:
        """The input's size must be a multiple of this, each axis."""
        return self.stride_at(len(self.channels) - 1)

    @property
    def order(self) -> tuple[int, ...]:
        """The house's axis, among `spatial_dims`, of each axis of the network."""
        skipped = 3 - self.spatial_dims
        return tuple(axis - skipped for axis in self.recipe.axes[skipped:])

    @property
    def flipped(self) -> tuple[int, ...]:
        """The house's axes, among `spatial_dims`, that the network sees the other way."""
        skipped = 3 - self.spatial_dims
        return tuple(axis - skipped for axis in self.recipe.flipped if axis >= skipped)

    def _house(self, of_network: Sequence[int]) -> tuple[int, ...]:
        values = [0] * self.spatial_dims
        for axis, value in zip(self.order, of_network, strict=True):
            values[axis] = int(value)
        return tuple(values)

    def prepare(self, volume: Volume, box: Box) -> Prepared:
        """A volume as this encoder's input: the lungs' `box`, nnU-Net's own preprocessing."""
        flat = self.spatial_dims == 2
        multiple = (1, *self.multiple) if flat else self.multiple
        least = (1, *self.tile) if flat else self.tile
        return prepare_nnunet(volume, self.recipe, box=box, multiple=multiple, least=least)


class NnunetEncoder(nn.Module):
    """Image (B, 1, *space), prepared by its config, to `EncoderOutput`.

    `network` has nnU-Net's own weights, decoder and segmentation head included.
    """

    def __init__(self, config: NnunetConfig) -> None:
        super().__init__()
        if config.spatial_dims == 2 and config.recipe.axes[0] != 0:
            raise ConfigError(
                f"the encoder reads {('', 'coronal', 'sagittal')[config.recipe.axes[0]]} slices, "
                "not axial ones",
                fix="use a 2D model that was trained on axial slices, or a 3D one",
            )
        self.config = config
        self.network = network_from(config.architecture, classes=len(config.classes))

    def forward(
        self, image: Tensor, stages: Sequence[int] | None = None, segment: bool = False
    ) -> EncoderOutput:
        """Maps of the stages asked for (left out, all), in patches where the image is larger.

        segment: also how much it sees of each class, (B, K, *space) in 0 .. 1.
        """
        wanted = range(len(self.config.channels)) if stages is None else stages

        def look(patch: Tensor) -> dict[str, Tensor]:
            return self._look(patch, wanted, segment)

        tile = tuple(min(t, n) for t, n in zip(self.config.tile, image.shape[2:], strict=True))
        if tile == tuple(image.shape[2:]):
            seen = look(image)
        else:
            seen = _in_patches(image, tile, self.config.multiple, look)
        maps = {int(k): v for k, v in seen.items() if k != "logits"}
        return EncoderOutput(maps, classes=self._probabilities(seen["logits"]) if segment else None)

    def _look(self, image: Tensor, stages: Sequence[int], segment: bool) -> dict[str, Tensor]:
        dims = [a + 2 for a in self.config.order]
        x = image.flip([a + 2 for a in self.config.flipped]).permute(0, 1, *dims).contiguous()
        skips = self.network.encoder(x, None if segment else max(stages, default=0))
        seen = {str(stage): self._back(skips[stage]) for stage in stages}
        if segment:
            seen["logits"] = self._back(self.network.decoder(skips))
        return seen

    def _back(self, maps: Tensor) -> Tensor:
        """From the network's axes to the house's."""
        order = self.config.order
        inverse = [order.index(axis) + 2 for axis in range(len(order))]
        return maps.permute(0, 1, *inverse).flip([a + 2 for a in self.config.flipped])

    def _probabilities(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return logits.sigmoid() if self.config.regions else logits.softmax(1)


def _in_patches(
    image: Tensor,
    tile: tuple[int, ...],
    multiple: tuple[int, ...],
    look: Callable[[Tensor], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """`look` of overlapping patches, put together on the image's grid."""
    space = tuple(image.shape[2:])
    total: dict[str, Tensor] = {}
    weight: dict[str, Tensor] = {}
    for corner in _corners(space, tile, multiple):
        at: Any = (..., *(slice(c, c + t) for c, t in zip(corner, tile, strict=True)))
        for name, part in look(image[at]).items():
            stride = [t // n for t, n in zip(tile, part.shape[2:], strict=True)]
            if name not in total:
                whole = [n // s for n, s in zip(space, stride, strict=True)]
                total[name] = part.new_zeros(*part.shape[:2], *whole)
                weight[name] = part.new_zeros(1, 1, *whole)
            bell = _bell(tuple(part.shape[2:])).to(part)
            there: Any = (
                ...,
                *(
                    slice(c // s, c // s + n)
                    for c, s, n in zip(corner, stride, part.shape[2:], strict=True)
                ),
            )
            total[name][there] += part * bell
            weight[name][there] += bell
    return {name: total[name] / weight[name] for name in total}


def _corners(
    space: tuple[int, ...], tile: tuple[int, ...], multiple: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """First voxels of patches that cover the image, evenly spaced, on the deepest stage's grid."""
    axes = []
    for n, t, m in zip(space, tile, multiple, strict=True):
        steps = math.ceil((n - t) / (t * OVERLAP)) if n > t else 0
        axes.append(
            sorted({round((n - t) * i / steps / m) * m for i in range(steps + 1)} if steps else {0})
        )
    yield from product(*axes)


@lru_cache(maxsize=32)
def _bell(shape: tuple[int, ...]) -> Tensor:
    """nnU-Net's weights of a patch: a Gaussian of an eighth of its size, never 0."""
    bell = torch.ones(())
    for n in shape:
        at = (torch.arange(n) - n // 2) / (n / 8)
        bell = bell[..., None] * torch.exp(-(at**2) / 2)
    return bell.clamp_min(1e-12)[None, None]


def import_trained(
    trained: TrainedNnunet,
    *,
    orientation: str,
    roi_class: str | None = None,
    fold: int = 0,
) -> NnunetEncoder:
    """A trained nnU-Net as an encoder; strictly, or a CheckpointError that names both sides."""
    network = build_network(trained, fold=fold)
    encoder = NnunetEncoder(_config_of(trained, orientation, roi_class, fold))
    encoder.network.load_state_dict(network.state_dict())
    return encoder.eval()


def nnunet_config(settings: dict[str, Any], file: Path) -> NnunetConfig:
    """A NnunetConfig from its JSON form; unknown or missing keys are a CheckpointError."""
    try:
        plain = tuples(settings)
        return NnunetConfig(**{**plain, "recipe": Recipe(**tuples(plain["recipe"]))})
    except (TypeError, KeyError) as error:
        raise CheckpointError(
            f"its settings are not those of an imported encoder ({error})",
            file=file,
            fix="import it again with this version: ctscribe import-encoder",
        ) from error


def _config_of(
    trained: TrainedNnunet, orientation: str, roi_class: str | None, fold: int
) -> NnunetConfig:
    own = configuration_of(trained.plans, trained.configuration, trained.file)
    names = class_names(trained)
    if roi_class is not None and roi_class not in names:
        raise ConfigError(
            f"roi_class is {roi_class!r}, but its classes are {', '.join(names)}",
            file=trained.file,
            fix=f"give one of {', '.join(names)}",
        )
    return NnunetConfig(
        architecture=own["architecture"],
        recipe=_recipe(trained, own, orientation),
        patch=tuple(int(n) for n in own["patch_size"]),
        classes=names,
        regions=has_regions(trained),
        roi_class=roi_class or _lesion_class(names),
        dataset=str(trained.plans.get("dataset_name", "unknown data")),
        configuration=trained.configuration,
        trainer=trained.trainer,
        fold=trained.folds[fold],
        epoch=trained.epoch,
        source=trained.file.name,
        source_sha256=_sha256(trained.file),
    )


def _recipe(trained: TrainedNnunet, own: dict[str, Any], orientation: str) -> Recipe:
    if any(own.get("use_mask_for_norm", [False])):
        raise ConfigError(
            "its plans normalise inside a mask of non-zero voxels, which a CT does not have",
            file=trained.file,
            fix="plan the data set again with channel_names {'0': 'CT'}",
        )
    resampling, kwargs = own.get("resampling_fn_data"), own.get("resampling_fn_data_kwargs", {})
    if resampling != "resample_data_or_seg_to_shape":
        raise ConfigError(
            f"its plans resample by {resampling}, which is not nnU-Net's default",
            file=trained.file,
            fix="use a model that was planned with the default resampling",
        )
    intensity = trained.plans.get("foreground_intensity_properties_per_channel", {}).get("0", {})
    known = [float(intensity.get(k, 0.0)) for k in INTENSITY]
    a, b, c = (int(axis) for axis in trained.plans["transpose_forward"])
    return Recipe(
        orientation=orientation,
        transpose=(a, b, c),
        spacing_mm=tuple(float(mm) for mm in own["spacing"]),
        normalization=str(own["normalization_schemes"][0]),
        intensity=(known[0], known[1], known[2], known[3]),
        order=int(kwargs.get("order", 3)),
        order_thick=int(kwargs.get("order_z", 0)),
        separate=kwargs.get("force_separate_z"),
    )


def _lesion_class(names: Sequence[str]) -> str | None:
    """The class that is named like a lesion, or the only one there is."""
    own = [n for n in names if n != "background"]
    named = [n for n in own if any(word in n.lower() for word in LESION_WORDS)]
    return named[0] if named else own[0] if len(own) == 1 else None


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
