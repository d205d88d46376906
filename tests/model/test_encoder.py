from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctscribe.errors import CheckpointError
from ctscribe.model.checkpoint import load_tensors, save_tensors
from ctscribe.model.encoder import Encoder, EncoderConfig
from ctscribe.model.encoders import load_encoder, save_encoder

SMALL = EncoderConfig(channels=(4, 6, 8, 8, 8))


def test_output_grids_have_the_declared_strides() -> None:
    encoder = Encoder(SMALL).eval()
    image = torch.randn(2, 1, 16, 32, 48)
    with torch.no_grad():
        out = encoder(image)
    assert out.maps[1].shape == (2, 6, 16, 16, 24)
    assert out.maps[2].shape == (2, 8, 8, 8, 12)
    assert out.maps[4].shape == (2, 8, 2, 2, 3)
    assert out.region_logits.shape[1] == len(SMALL.regions)
    assert out.lesion_logits.shape == (2, len(SMALL.lesions), 16, 16, 24)


def test_two_dimensions_work_too() -> None:
    config = EncoderConfig(
        spatial_dims=2, channels=(4, 6, 8), strides=((2, 2), (2, 2)), blocks=(1, 1, 1)
    )
    with torch.no_grad():
        out = Encoder(config).eval()(torch.randn(1, 1, 32, 48))
    assert out.maps[1].shape == (1, 6, 16, 24)


def test_saved_encoder_gives_the_same_features(tmp_path: Path) -> None:
    encoder = Encoder(SMALL).eval()
    save_encoder(encoder, tmp_path)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path)(image).maps[1], encoder(image).maps[1])


def test_no_weight_is_skipped_silently(tmp_path: Path) -> None:
    save_encoder(Encoder(SMALL), tmp_path)
    file = tmp_path / "encoder.safetensors"
    tensors, settings = load_tensors(file)
    settings = {"encoder": settings["encoder"]}
    name = next(iter(tensors))
    save_tensors(file, {k: v for k, v in tensors.items() if k != name}, settings)
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_encoder(tmp_path)
    save_tensors(file, {**tensors, "extra": torch.zeros(1)}, settings)
    with pytest.raises(CheckpointError, match="extra is unknown"):
        load_encoder(tmp_path)
    save_encoder(Encoder(replace(SMALL, channels=(4, 6, 8, 8, 10))), tmp_path)
    other, _ = load_tensors(file)
    save_tensors(file, other, settings)
    with pytest.raises(CheckpointError, match="has shape"):
        load_encoder(tmp_path)
