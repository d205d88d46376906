"""The settings of the model itself, which both stages of training share; part of `config.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctscribe.errors import ConfigError
from ctscribe.settings import Config, flag, setting


@dataclass(frozen=True)
class ModelConfig(Config):
    """The parts of the model and how they are joined."""

    section = "model"

    encoder: Path | None = setting(
        None,
        "The pretrained encoder: what ctscribe import-encoder wrote, or nnU-Net's own checkpoint "
        "or trained-model folder; left out, the bundled one (phantoms only).",
        key="nnunet_encoder_checkpoint",
    )
    encoder_orientation: str | None = setting(
        None,
        "How the CTs of an nnU-Net were stored, such as LPS; left out, as for import-encoder.",
        file_only=True,
    )
    mamba_model: Path | None = setting(
        None,
        "Local folder of the language model; left out, the bundled one (phantoms only).",
        key="mamba_hf_model",
        env="MAMBA_MODEL",
    )
    max_visual_tokens: int = setting(
        96, "Most visual tokens that the language model reads.", low=1, high=4096, low_vram=64
    )
    spatial_dims: Literal[2, 3] = setting(3, "3 reads the volume, 2 one chosen slice.")
    spacing_zyx_mm: tuple[float, ...] | None = setting(
        None,
        "Voxel size (z,y,x) in mm; left out, what the encoder was trained on.",
        low=0.1,
        high=20,
    )
    window_hu: tuple[float, ...] | None = setting(
        None,
        "HU window (low,high); left out, what the encoder was trained on.",
        low=-2000,
        high=4000,
    )
    bridge: Literal["vim", "transformer", "mlp"] = setting(
        "vim", "What turns image features into visual tokens; all but vim are for ablation."
    )
    bridge_width: int = setting(192, "Width of the bridge.", low=16, high=4096)
    bridge_layers: int = setting(2, "Blocks of the bridge.", low=1, high=48)
    pooling: Literal["region", "grid"] = setting(
        "region", "Pool features by lobe and lesion, or by a regular grid."
    )
    use_pooling: bool = setting(True, "Pool the feature map before the bridge.", file_only=True)
    pool_size: tuple[int, ...] | None = setting(
        None,
        "Cells of the grid, each axis; left out, global_pool_size or global_pool_size_3d.",
        low=1,
        high=64,
    )
    global_pool_size: tuple[int, ...] = setting(
        (8, 8), "Cells (y,x) of the grid in 2D.", low=1, high=64, file_only=True
    )
    global_pool_size_3d: tuple[int, ...] = setting(
        (4, 4, 4), "Cells (z,y,x) of the grid in 3D.", low=1, high=64, file_only=True
    )
    scan_order: Literal["row", "snake", "hilbert"] = setting(
        "row", "Order of the grid's cells as a sequence; all but row keep neighbours together."
    )
    use_segmentation: bool = setting(
        True, "Beside the grid's features, what the encoder's own segmentation sees in each cell."
    )
    encoder_output_stage: tuple[int, ...] | None = setting(
        None,
        "Encoder stages whose maps the grid reads, 0 the finest; left out, the deepest.",
        low=0,
        high=12,
    )
    encoder_target_spatial: tuple[int, ...] | None = setting(
        None,
        "Size of the feature map before pooling; left out, as it comes.",
        low=1,
        high=256,
    )
    ablation_mode: Literal["full", "global_only", "local_only"] = setting(
        "global_only", "Streams to use: the whole image and RoIs in it, or one of the two."
    )
    local_rois: int = setting(5, "RoIs of each study.", low=1, high=64)
    roi_source: Literal["auto", "mask", "points", "encoder", "centre"] = setting(
        "auto",
        "Where RoIs are: the row's mask_path, its roi_mm, where the encoder sees lesions, or the "
        "middle; auto takes the first of these that there is.",
    )
    roi_side: float | None = setting(
        None, "Side of a RoI in mm; left out, local_crop_size voxels.", low=1, high=500
    )
    local_crop_size: tuple[int, ...] = setting(
        (64, 64), "Voxels (y,x) of a RoI in 2D.", low=1, high=1024, file_only=True
    )
    local_crop_size_3d: tuple[int, ...] = setting(
        (32, 64, 64), "Voxels (z,y,x) of a RoI in 3D.", low=1, high=1024, file_only=True
    )
    local_pool_size: tuple[int, ...] = setting(
        (2, 2), "Cells (y,x) of a RoI in 2D, a visual token each.", low=1, high=64, file_only=True
    )
    local_pool_size_3d: tuple[int, ...] = setting(
        (2, 2, 2),
        "Cells (z,y,x) of a RoI in 3D, a visual token each.",
        low=1,
        high=64,
        file_only=True,
    )
    local_output_stage: tuple[int, ...] | None = setting(
        None, "Encoder stages whose maps RoIs read; left out, a fine one.", low=0, high=12
    )
    use_cmi: bool = setting(False, "Let the question steer a scan over the visual tokens (CMI).")
    cmi_compress_to: int | None = setting(
        None, "Visual tokens that the CMI leaves, by averaging; empty leaves all.", low=1, high=4096
    )
    cmi_d_state: int = setting(16, "State size of the CMI's scan.", low=1, high=256)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Accepting what has no effect would be a lie about the model that was trained.
        if self.pooling == "region" and not self.use_pooling:
            raise ConfigError(
                "use_pooling is false, but pooling by region is pooling",
                fix="set pooling: grid, or use_pooling: true",
            )
        if self.scan_order != "row" and self.pooling != "grid":
            raise ConfigError(
                f"--scan-order is {self.scan_order}, but {self.pooling} pooling has no grid",
                fix="give --pooling grid, or leave --scan-order out",
            )
        if not self.use_segmentation and self.pooling != "grid":
            raise ConfigError(
                f"use_segmentation is false, but {self.pooling} pooling is by segmentation",
                fix="set pooling: grid, or leave use_segmentation out",
            )
        dims = self.spatial_dims
        lengths = {
            "pool_size": dims,
            "encoder_target_spatial": dims,
            "spacing_zyx_mm": 3,
            "local_crop_size": 2,
            "local_crop_size_3d": 3,
            "local_pool_size": 2,
            "local_pool_size_3d": 3,
        }
        for name, length in lengths.items():
            value = getattr(self, name)
            if value is not None and len(value) != length:
                raise ConfigError(
                    f"{flag(name)} has {len(value)} numbers",
                    fix=f"give {length}, separated by commas",
                )
        if self.window_hu is not None and (
            len(self.window_hu) != 2 or self.window_hu[0] >= self.window_hu[1]
        ):
            raise ConfigError(
                f"--window-hu is {self.window_hu}", fix="give low,high, such as -1000,400"
            )

    @property
    def grid_size(self) -> tuple[int, ...]:
        """Cells of grid pooling, in the model's dimensions."""
        whole = self.global_pool_size_3d if self.spatial_dims == 3 else self.global_pool_size
        return self.pool_size or whole
