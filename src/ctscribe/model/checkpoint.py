"""Checkpoint files: tensors and settings in one safetensors file, never a pickle.

The settings and a SHA-256 of the tensors are in the file's own header, so one rename replaces all
of it: a crash leaves the old checkpoint or the new one, never a mixture. `NAME.json` beside it is
a copy of the settings for people and is not read. The old commands' `NAME.pt` holds the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ctscribe.errors import CheckpointError
from ctscribe.files import write_atomically

FORMAT = 1


def save_tensors(file: Path, tensors: dict[str, Tensor], settings: dict[str, Any]) -> str:
    """Write tensors and settings atomically; returns the SHA-256 of the tensors."""
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    digest = tensors_sha256(plain)
    described = {"format": FORMAT, "sha256": digest, **settings}
    header = {"format": "pt", "ctscribe": json.dumps(described, ensure_ascii=False)}
    write_atomically(file, safetensors.torch.save(plain, header))
    readable = json.dumps(described, ensure_ascii=False, indent=1)
    write_atomically(file.with_suffix(".json"), readable.encode())
    return digest


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises CheckpointError if the file is missing, is not safetensors (a pickle, say), was not
    written by ctscribe, or its tensors are not those that its header vouches for.
    """
    if not file.is_file():
        raise CheckpointError(
            "the checkpoint is missing", file=file, fix="check the path, or train it first"
        )
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        settings = json.loads(header["ctscribe"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        start = file.read_bytes()[:2] if file.stat().st_size else b""
        pickled = start in (b"PK", b"\x80\x02")
        what = "a pickle, which is never loaded" if pickled else f"unreadable ({error})"
        raise CheckpointError(
            f"not a ctscribe checkpoint: it is {what}",
            file=file,
            fix="train again with this version, or restore the file from a backup",
        ) from error
    if tensors_sha256(tensors) != settings.get("sha256"):
        raise CheckpointError(
            "the weights are damaged: their SHA-256 is not the one in the header",
            file=file,
            fix="restore the file from a backup, or train again",
        )
    return tensors, settings


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
