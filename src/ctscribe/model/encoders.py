"""The two kinds of encoder under one roof: the bundled kind, and those imported from nnU-Net."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctscribe.errors import CheckpointError
from ctscribe.model.checkpoint import load_tensors, save_tensors
from ctscribe.model.encoder import Encoder, encoder_config, load_strictly
from ctscribe.model.nnunet_encoder import NnunetEncoder, nnunet_config

FILE = "encoder.safetensors"


def describe_encoder(encoder: Encoder | NnunetEncoder) -> dict[str, Any]:
    """An encoder's settings by its kind, ready for JSON."""
    kind = "nnunet" if isinstance(encoder, NnunetEncoder) else "encoder"
    return {kind: asdict(encoder.config)}


def encoder_from(settings: dict[str, Any], file: Path) -> Encoder | NnunetEncoder:
    """An encoder without weights from what `describe_encoder` made.

    Raises CheckpointError if the settings are of neither kind.
    """
    if "nnunet" in settings:
        return NnunetEncoder(nnunet_config(settings["nnunet"], file))
    if "encoder" in settings:
        return Encoder(encoder_config(settings["encoder"], file))
    raise CheckpointError(
        "this is not an encoder's checkpoint",
        file=file,
        fix="give a folder with encoder.safetensors, or run ctscribe import-encoder",
    )


def save_encoder(encoder: Encoder | NnunetEncoder, folder: Path, *, half: bool = False) -> str:
    """Write `encoder.safetensors` and `encoder.json`; the SHA-256 of the tensors.

    half: store float16, half the size.
    """
    tensors = encoder.state_dict()
    if half:
        tensors = {k: v.half() for k, v in tensors.items()}
    return save_tensors(folder / FILE, tensors, describe_encoder(encoder))


def load_encoder(folder: Path) -> Encoder | NnunetEncoder:
    """Read what `save_encoder` or `ctscribe import-encoder` wrote, strictly, as fp32.

    Raises CheckpointError if a file is missing or a tensor is missing, unknown or of other shape.
    """
    file = folder / FILE
    tensors, settings = load_tensors(file)
    encoder = encoder_from(settings, file)
    load_strictly(encoder, {k: v.float() for k, v in tensors.items()}, file)
    return encoder.eval()
