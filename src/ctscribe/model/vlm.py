"""The whole model: image, encoder, bridge, CMI, language model."""

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
from ctscribe.model.cmi import CMI, CmiConfig
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
    """Encoder, bridge, CMI and stage-1 heads: all that is not the language model."""

    encoder: Encoder | NnunetEncoder
    bridge: Bridge
    heads: Heads
    pooling: PoolingConfig
    cmi: CMI | None = None

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Every part by its name in a checkpoint."""
        parts: dict[str, nn.Module] = {
            "encoder": self.encoder,
            "bridge": self.bridge,
            "heads": self.heads,
        }
        return parts if self.cmi is None else {**parts, "cmi": self.cmi}

    @property
    def visual_tokens(self) -> int:
        """How many the language model reads."""
        tokens = self.pooling.tokens
        return tokens if self.cmi is None else self.cmi.config.tokens_left(tokens)

    @torch.no_grad()
    def pool(self, image: Tensor, rois_mm: Tensor | None = None) -> Pooled:
        """Image (B, 1, *space) to what the bridge reads. The encoder is frozen.

        rois_mm: (B, K, 3) where the local stream looks, mm (z, y, x) from the image's middle; NaN
        is absent, and a study without any is looked at where the encoder says.
        """
        return pool(self.encoder, self.pooling, image, rois_mm)

    def to(self, device: str | torch.device) -> Vision:
        """Move every part."""
        for part in self.parts.values():
            part.to(device)
        return self

    def eval(self) -> Vision:
        """Switch dropout off."""
        for part in self.parts.values():
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
    cmi: CmiConfig | None = None,
    grades: bool = False,
) -> Vision:
    """An untrained bridge, CMI and heads on a pretrained encoder; grades: a head for the grade too.

    Raises ConfigError for more visual tokens than may be, and for a choice that the encoder lacks.
    """
    check_choice(pooling, encoder.config)
    whole, local = pooling.global_tokens, pooling.local_tokens
    read = pooling.tokens if cmi is None else cmi.tokens_left(pooling.tokens)
    if read > max_visual_tokens:
        raise ConfigError(
            f"{pooling.described()} make {read} visual tokens, but "
            f"max_visual_tokens is {max_visual_tokens}",
            fix=f"set max_visual_tokens to {read} or more, or fewer cells or RoIs, or let the CMI "
            f"compress (use_cmi, cmi_compress_to {max_visual_tokens})",
        )
    local_width = pooling.local_width(encoder.config)
    config = BridgeConfig(
        kind=kind,
        input_width=pooling.global_width(encoder.config) if pooling.has_global else local_width,
        width=width,
        layers=layers,
        tokens=whole or local,
        local_width=local_width if pooling.mode == "full" else 0,
        local_tokens=local if pooling.mode == "full" else 0,
        slots=pooling.slot_tokens,
        llm_width=llm_width,
    )
    bridge = Bridge(config)
    bridge.fit_scale(embedding_rms)
    heads = Heads(width, grades)
    new = None if cmi is None else new_cmi(cmi, embedding_rms)
    return Vision(encoder, bridge, heads, pooling, new)


def new_cmi(config: CmiConfig, embedding_rms: float) -> CMI:
    """An untrained CMI; stage 2 trains it."""
    cmi = CMI(config)
    cmi.fit_scale(embedding_rms)
    return cmi


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
        self.bridge, self.cmi = vision.bridge, vision.cmi
        self._step = step or llm.forward_embeds

    def prefix(
        self, pooled: Pooled, prompt_BL: Tensor, question_BL: Tensor | None = None
    ) -> Tensor:
        """What generation starts from: (B, visual + L, llm width).

        question: True where the prompt is the question, which alone the CMI reads; left out,
        all of it is.
        """
        visual_BVD, _ = self.bridge(pooled)
        prompt_BLD = self.llm.embed(prompt_BL)
        if self.cmi is not None:
            asked_BL = torch.ones_like(prompt_BL) if question_BL is None else question_BL
            visual_BVD = self.cmi(visual_BVD, prompt_BLD, asked_BL)
        return torch.cat([visual_BVD.to(prompt_BLD.dtype), prompt_BLD], 1)

    def forward(self, pooled: Pooled, ids_BL: Tensor, mask_BL: Tensor, labels_BL: Tensor) -> Tensor:
        """Mean cross-entropy of the answer. ids: question, answer, padding at the right."""
        question_BL = mask_BL.bool() & (labels_BL == IGNORED).to(mask_BL.device)
        embeds_BLD = self.prefix(pooled, ids_BL, question_BL)
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
    tensors = {
        f"{p}.{k}": v for p, module in vision.parts.items() for k, v in module.state_dict().items()
    }
    tensors |= {f"llm.{k}": v for k, v in (adapters or {}).items()}
    settings: dict[str, Any] = {
        "encoder": describe_encoder(vision.encoder),
        "bridge": asdict(vision.bridge.config),
        "pooling": asdict(vision.pooling),
        "provenance": asdict(provenance),
    }
    if vision.heads.grade is not None:
        settings["grades"] = list(GRADES)
    if vision.cmi is not None:
        settings["cmi"] = asdict(vision.cmi.config)
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
    heads = Heads(bridge.config.width, grades is not None)
    cmi = CMI(CmiConfig(**settings["cmi"])) if "cmi" in settings else None
    vision = Vision(encoder, bridge, heads, pooling, cmi)
    for name, module in vision.parts.items():
        own = {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{name}.")}
        load_strictly(module, own, file)
    adapters = {k[4:]: v for k, v in tensors.items() if k.startswith("llm.")}
    known = {f.name for f in fields(Provenance)}
    provenance = Provenance(**{k: v for k, v in settings["provenance"].items() if k in known})
    return vision.eval(), provenance, adapters
