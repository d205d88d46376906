"""Stage 2: cross-entropy of the answer, through the frozen language model, into the bridge.

Only bridge and CMI learn (and LoRA adapters, if asked for). The loss covers answer tokens alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ctscribe.config import STAGE2_CONFIG, STAGE2_LOG, CaptionConfig
from ctscribe.errors import CheckpointError
from ctscribe.files import write_atomically
from ctscribe.model.cmi import CmiConfig
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import VLM, Provenance, Vision, load_vision, new_cmi, save_vision
from ctscribe.reports.language import SLOTS, detect_language
from ctscribe.tables.manifest import manifest_sha256
from ctscribe.training import gates, setup
from ctscribe.training.align import SlotTargets, slot_targets, write_log
from ctscribe.training.data import (
    TokenizedRows,
    collate,
    encode_rows,
    epoch_order,
    sample_weights,
    tokenize_rows,
)
from ctscribe.training.graphs import GraphedStep
from ctscribe.training.losses import token_alignment

ALIGN_WEIGHT = 0.3  # of the pull toward the slots' phrases, beside the cross-entropy


@dataclass(frozen=True)
class CaptionStudies:
    """One side of the split, ready for stage 2: pooled features (n, L, D), token ids, phrases."""

    pooled: Pooled
    tokens: TokenizedRows
    phrases: SlotTargets | None = None  # with `align_vocab`
    weights: Tensor | None = None  # (n,) how often each is drawn

    def batch(
        self, index: list[int], pad: int, device: str
    ) -> tuple[Pooled, Tensor, Tensor, Tensor]:
        """Pooled features, ids, mask and labels of some studies.

        The labels stay on the CPU: how many answers there are must be known there.
        """
        pooled = self.pooled.rows(index).to(device)
        ids, mask, labels = collate(self.tokens, index, pad)
        return pooled, ids.to(device), mask.to(device), labels


@dataclass(frozen=True)
class CaptionStep:
    """What the caller hears of after each optimiser step."""

    step: int
    epoch: int
    loss: float


def caption(
    vlm: VLM,
    train: CaptionStudies,
    *,
    config: CaptionConfig,
    device: str,
    on_step: Callable[[CaptionStep], None] | None = None,
) -> None:
    """Train bridge, CMI and LoRA adapters, where there are some, through the language model."""
    torch.manual_seed(config.seed)
    adapters = [p for p in vlm.llm.model.parameters() if p.requires_grad]
    own = [*vlm.bridge.parameters(), *(vlm.cmi.parameters() if vlm.cmi is not None else ())]
    parameters = [*own, *adapters]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    total = optimizer_steps(len(train.tokens.answers), config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: _warm_cosine(s, total))
    vlm.bridge.train()
    step = 0
    for epoch in range(config.epochs):
        batches = _batches(train.tokens, config.batch_size, train.weights)
        for start in range(0, len(batches), config.gradient_accumulation_steps):
            group = batches[start : start + config.gradient_accumulation_steps]
            caption_sum = 0.0
            for index in group:
                pooled, ids, mask, labels = train.batch(index, vlm.llm.pad_id, device)
                loss = vlm(pooled, ids, mask, labels)
                caption_sum += float(loss.detach()) / len(group)
                if train.phrases is not None:
                    tokens, _ = vlm.bridge(pooled)
                    aim = train.phrases.rows(torch.tensor(index))
                    loss = loss + ALIGN_WEIGHT * token_alignment(
                        tokens[:, : len(SLOTS)], aim.vectors.to(device), aim.present.to(device)
                    )
                (loss / len(group)).backward()
            setup.clip_gradient(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            step += 1
            if on_step is not None:
                on_step(CaptionStep(step, epoch + 1, caption_sum))
    vlm.bridge.eval()


def _batches(tokens: TokenizedRows, size: int, weights: Tensor | None = None) -> list[list[int]]:
    """Shuffled batches of similar length: padding costs as much as text."""
    n = len(tokens.answers)
    order = epoch_order(n, weights).tolist()
    chunks = [order[i : i + 8 * size] for i in range(0, n, 8 * size)]
    batches = []
    for chunk in chunks:
        chunk.sort(key=lambda i: len(tokens.questions[i]) + len(tokens.answers[i]))
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def _warm_cosine(step: int, steps: int) -> float:
    warm = max(1, min(20, steps // 10))
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@torch.no_grad()
def caption_loss(vlm: VLM, studies: CaptionStudies, batch_size: int, device: str) -> float:
    """Mean loss over studies that are not trained on."""
    total, count = 0.0, 0
    n = len(studies.tokens.answers)
    for start in range(0, n, batch_size):
        index = list(range(start, min(n, start + batch_size)))
        total += float(vlm(*studies.batch(index, vlm.llm.pad_id, device))) * len(index)
        count += len(index)
    return total / max(1, count)


def run_caption(config: CaptionConfig) -> Path:
    """`ctscribe train caption`: rows and stage 1 to `vision_bridge_vlm_final.pt`; its path.

    Writes the checkpoint, `stage2_config.json` and `stage2_train_log.csv` to `output_dir`.
    Raises GateError if stage 1 failed its gate, unless `ignore_gate`.
    """
    device = setup.pick_device(config.device)
    out = config.output_dir
    goes_on = config.final_checkpoint.is_file() and not config.from_scratch
    start = config.final_checkpoint if goes_on else config.align_checkpoint
    if not start.is_file():
        raise CheckpointError(
            "there is no checkpoint of stage 1 to start from",
            file=start,
            fix="run ctscribe train align (python train.py) first, or give --vision-checkpoint",
        )
    vision, before, adapters = load_vision(start)
    cmi = setup.cmi_config(config.model, vision.bridge.config.llm_width)
    _check_start(config, cmi, vision, before, start, goes_on)
    llm = setup.open_llm(config.model, device, in_8bit=config.llm_8bit, in_4bit=config.llm_4bit)
    setup.check_llm(before.llm, llm, config.model.mamba_model, start)
    setup.add_lora(llm, config.lora_rank, adapters, start)
    llm.checkpoint_blocks(config.gradient_checkpointing)
    if cmi is not None and vision.cmi is None:  # stage 1 does without
        torch.manual_seed(config.seed)
        vision = replace(vision, cmi=new_cmi(cmi, llm.embedding_rms))
    vision.to(device)
    train_rows, val_rows = setup.open_rows(
        config.csv, config.csv_val, val_ratio=config.val_ratio, seed=config.seed
    )
    language = detect_language(train_rows[0].answer)
    rows = setup.ask([*train_rows, *val_rows], config.prompt_json, language)
    tokens = tokenize_rows(rows, llm, config.max_text_len)
    n = len(train_rows)
    setup.show(
        [
            f"[debug] 样本0: prompt token 数={len(tokens.questions[0])}, "
            f"answer token 数={len(tokens.answers[0])}",
            f"{tokens.truncated} of {len(rows)} answers are cut at {config.max_text_len} tokens "
            f"(truncation rate {tokens.truncation_rate:.1%})",
            f"start from {start}; language model path: {llm.path_name}",
        ]
    )
    with setup.bar("images to features", len(rows)) as progress:
        encoded = encode_rows(
            rows,
            vision,
            encoder_sha256=before.encoder_sha256,
            cache=config.cache_dir or out / "cache",
            device=device,
            workers=config.num_workers,
            progress=progress,
        )
    answers = [row.answer for row in rows]
    phrases = slot_targets(answers, llm, language) if config.align_vocab else None
    train, val = (
        CaptionStudies(
            encoded.rows(index).pooled,
            tokens.rows(index),
            None if phrases is None else phrases.rows(torch.tensor(list(index))),
            weights,
        )
        for index, weights in (
            (range(n), sample_weights(train_rows)),
            (range(n, len(rows)), None),
        )
    )
    vlm = VLM(vision, llm, GraphedStep(llm))
    loss_before = caption_loss(vlm, val, config.batch_size, device)

    def save(file: Path, history: list[dict[str, float]], val_loss: float | None) -> None:
        figures = {"steps": len(history), "val_loss_before": loss_before, "val_loss": val_loss}
        settings = json.loads(json.dumps(asdict(config), default=str))
        provenance = replace(
            before,
            stage="caption",
            max_visual_tokens=config.model.max_visual_tokens,
            max_text_len=config.max_text_len,
            language=language,
            manifest_sha256=manifest_sha256(train_rows),
            settings=settings,
            figures={**before.figures, "caption": figures},
        )
        save_vision(file, vision, provenance, setup.lora_state(llm))

    total = optimizer_steps(n, config)
    history: list[dict[str, float]] = []
    with setup.bar("stage 2: caption", total) as progress:

        def on_step(step: CaptionStep) -> None:
            history.append({"step": step.step, "epoch": step.epoch, "caption_loss": step.loss})
            progress(1)
            if step.step % config.log_every_steps == 0 or step.step == total:
                write_log(out / STAGE2_LOG, history)
            if config.save_every_steps and step.step % config.save_every_steps == 0:
                save(config.final_checkpoint, history, None)

        caption(vlm, train, config=config, device=device, on_step=on_step)
    loss_after = caption_loss(vlm, val, config.batch_size, device)
    save(config.final_checkpoint, history, loss_after)
    write_atomically(
        out / STAGE2_CONFIG,
        json.dumps(asdict(config), default=str, indent=1, ensure_ascii=False).encode(),
    )
    setup.show(
        [
            f"stage 2: {n} studies, {total} steps, held-out loss {loss_before:.3f} -> "
            f"{loss_after:.3f}",
            f"wrote {config.final_checkpoint}, {STAGE2_CONFIG}, {STAGE2_LOG}",
        ]
    )
    return config.final_checkpoint


def optimizer_steps(studies: int, config: CaptionConfig) -> int:
    """How many optimiser steps a run takes."""
    batches = math.ceil(studies / config.batch_size)
    return config.epochs * math.ceil(batches / config.gradient_accumulation_steps)


def _check_start(
    config: CaptionConfig,
    cmi: CmiConfig | None,
    vision: Vision,
    before: Provenance,
    start: Path,
    goes_on: bool,
) -> None:
    """Refuse a start that the settings disagree with, or that failed its gate."""
    own = None if vision.cmi is None else vision.cmi.config
    if own != cmi and (goes_on or own is not None):
        raise CheckpointError(
            f"it was made with {own or 'no CMI'}, but the settings say {cmi or 'no CMI'}",
            file=start,
            fix="give --use-cmi, --cmi-compress-to and --cmi-d-state as when it was made"
            + (", or --from-scratch" if goes_on else ""),
        )
    wanted, tokens = config.model.max_visual_tokens, vision.pooling.tokens
    tokens = tokens if cmi is None else cmi.tokens_left(tokens)
    if tokens > wanted:
        raise CheckpointError(
            f"it makes {tokens} visual tokens, but max_visual_tokens is {wanted}",
            file=start,
            fix=f"give --max-visual-tokens {tokens} or more, or train stage 1 with fewer",
        )
    if goes_on and before.max_visual_tokens != wanted:
        raise CheckpointError(
            f"it was trained with max_visual_tokens {before.max_visual_tokens}, not {wanted}",
            file=start,
            fix=f"give --max-visual-tokens {before.max_visual_tokens}, or --from-scratch",
        )
    gate = before.figures.get("gate", {})
    gates.require(gate.get("wrong", []), ignore=config.ignore_gate, file=str(start))
