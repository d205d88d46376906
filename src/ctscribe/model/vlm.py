"""The whole model: image, encoder, bridge, language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.model.bridge import Bridge, BridgeConfig
from ctscribe.model.checkpoint import load_tensors, save_tensors
from ctscribe.model.encoder import Encoder, load_strictly, tuples
from ctscribe.model.encoders import describe_encoder, encoder_from
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.heads import Heads
from ctscribe.model.llm import LLM
from ctscribe.model.nnunet_encoder import NnunetEncoder
from ctscribe.model.pooling import Pooled, PoolingConfig
from ctscribe.model.streams import check_choice, pool
from ctscribe.reports.schema import Language
from ctscribe.tables.grade import GRADES


@dataclass(frozen=True)
class Vision:
    """Encoder, bridge and stage-1 heads: all of the model that is not the language model."""

    encoder: Encoder | NnunetEncoder
    bridge: Bridge
    heads: Heads
    pooling: PoolingConfig

    @torch.no_grad()
    def pool(self, image: Tensor, rois_mm: Tensor | None = None) -> Pooled:
        """Image (B, 1, *space) to what the bridge reads. The encoder is frozen.

        rois_mm: (B, K, 3) where the local stream looks, mm (z, y, x) from the image's middle; NaN
        is absent, and a study without any is looked at where the encoder says.
        """
        return pool(self.encoder, self.pooling, image, rois_mm)

    def to(self, device: str | torch.device) -> Vision:
        """Move every part."""
        for part in (self.encoder, self.bridge, self.heads):
            part.to(device)
        return self

    def eval(self) -> Vision:
        """Switch dropout off."""
        for part in (self.encoder, self.bridge, self.heads):
            part.eval()
        return self


def new_vision(
    encoder: Encoder | NnunetEncoder,
    pooling: PoolingConfig,
    *,
    llm_width: int,
    embedding_rms: float,
    kind: str = "vim",
    width: int = 192,
    layers: int = 2,
    max_visual_tokens: int = 96,
    grades: bool = False,
) -> Vision:
    """An untrained bridge and heads on a pretrained encoder; grades: with a head for the grade.

    Raises ConfigError for more visual tokens than may be, and for a choice that the encoder lacks.
    """
    check_choice(pooling, encoder.config)
    whole, local = pooling.global_tokens, pooling.local_tokens
    if whole + local > max_visual_tokens:
        raise ConfigError(
            f"{whole} tokens of the whole image and {local} of RoIs are {whole + local} visual "
            f"tokens, but max_visual_tokens is {max_visual_tokens}",
            fix=f"set max_visual_tokens to {whole + local} or more, or fewer cells or RoIs",
        )
    widths = pooling.global_width(encoder.config), pooling.local_width(encoder.config)
    config = BridgeConfig(
        kind=kind,
        input_width=widths[0] if pooling.has_global else widths[1],
        width=width,
        layers=layers,
        tokens=whole or local,
        local_width=widths[1] if pooling.mode == "full" else 0,
        local_tokens=local if pooling.mode == "full" else 0,
        llm_width=llm_width,
    )
    bridge = Bridge(config)
    bridge.fit_scale(embedding_rms)
    heads = Heads(width, pooling.slot_rows, grades)
    return Vision(encoder, bridge, heads, pooling)


class VLM(nn.Module):
    """Visual tokens, then the question, then the answer: [visual][question][answer].

    step: runs instead of `LLM.forward_embeds`, with the same arguments and result.
    """

    def __init__(
        self,
        vision: Vision,
        llm: LLM,
        step: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.vision, self.llm = vision, llm
        self.bridge = vision.bridge
        self._step = step or llm.forward_embeds

    def prefix(self, pooled: Pooled, prompt_BL: Tensor) -> Tensor:
        """What generation starts from: (B, visual + L, llm width)."""
        visual_BVD, _ = self.bridge(pooled)
        prompt_BLD = self.llm.embed(prompt_BL)
        return torch.cat([visual_BVD.to(prompt_BLD.dtype), prompt_BLD], 1)

    def forward(self, pooled: Pooled, ids_BL: Tensor, mask_BL: Tensor, labels_BL: Tensor) -> Tensor:
        """Mean cross-entropy of the answer. ids: question, answer, padding at the right."""
        embeds_BLD = self.prefix(pooled, ids_BL)
        visual = embeds_BLD.shape[1] - ids_BL.shape[1]
        mask = torch.nn.functional.pad(mask_BL, (visual, 0), value=1)
        labels = torch.nn.functional.pad(labels_BL, (visual, 0), value=IGNORED)
        return self._step(embeds_BLD, mask, labels)


@dataclass(frozen=True)
class Provenance:
    """What a checkpoint says of itself: shown on every page, checked by every command."""

    stage: str  # align or caption
    llm: dict[str, Any]  # name, width, vocabulary, SHA-256 of its config
    max_visual_tokens: int
    max_text_len: int
    language: Language
    encoder_sha256: str
    manifest_sha256: str  # of the training rows
    trained_on: str  # phantoms, or the name of the encoder's data
    settings: dict[str, Any]  # the full configuration of the run
    figures: dict[str, Any]  # what the run printed at its end


def save_vision(
    file: Path, vision: Vision, provenance: Provenance, adapters: dict[str, Tensor] | None = None
) -> str:
    """Write everything but the language model (its LoRA adapters, if any, are in); SHA-256."""
    parts = {"encoder": vision.encoder, "bridge": vision.bridge, "heads": vision.heads}
    tensors = {f"{p}.{k}": v for p, module in parts.items() for k, v in module.state_dict().items()}
    tensors |= {f"llm.{k}": v for k, v in (adapters or {}).items()}
    settings: dict[str, Any] = {
        "encoder": describe_encoder(vision.encoder),
        "bridge": asdict(vision.bridge.config),
        "pooling": asdict(vision.pooling),
        "provenance": asdict(provenance),
    }
    if vision.heads.grade is not None:
        settings["grades"] = list(GRADES)
    return save_tensors(file, tensors, settings)


def load_vision(file: Path) -> tuple[Vision, Provenance, dict[str, Tensor]]:
    """Read what `save_vision` wrote, strictly; the third is the LoRA adapters."""
    tensors, settings = load_tensors(file)
    if missing := {"encoder", "bridge", "pooling", "provenance"} - set(settings):
        raise CheckpointError(
            f"no {', '.join(sorted(missing))} settings: not a checkpoint of stage 1 or 2",
            file=file,
            fix="give the file that ctscribe train wrote",
        )
    encoder = encoder_from(settings["encoder"], file)
    bridge = Bridge(BridgeConfig(**settings["bridge"]))
    pooling = PoolingConfig(**tuples(settings["pooling"]))
    grades = settings.get("grades")
    if grades not in (None, list(GRADES)):
        raise CheckpointError(
            f"its grades are {grades}, not {list(GRADES)}", file=file, fix="train stage 1 again"
        )
    heads = Heads(bridge.config.width, pooling.slot_rows, grades is not None)
    for name, module in (("encoder", encoder), ("bridge", bridge), ("heads", heads)):
        own = {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{name}.")}
        load_strictly(module, own, file)
    adapters = {k[4:]: v for k, v in tensors.items() if k.startswith("llm.")}
    known = {f.name for f in fields(Provenance)}
    provenance = Provenance(**{k: v for k, v in settings["provenance"].items() if k in known})
    return Vision(encoder, bridge, heads, pooling).eval(), provenance, adapters
