"""Stage 1: align what the bridge says of an image with what its report says.

Four terms, none of which a constant bridge can win: the labels that the rule labeller finds in the
report (heads on the bridge's hidden states); the visual token of each slot against the language
model's embedding of that slot's phrase; image against report as a sigmoid contrast over the batch;
a floor under the variance of the image embeddings. A fifth where the table has grades: the grade of
each study that has one. Then the gate measures it on held-out studies.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctscribe.config import ALIGN_CHECKPOINT, AlignConfig
from ctscribe.model.heads import (
    SlotLabels,
    grade_labels,
    grade_loss,
    grade_weights,
    label_losses,
    slot_labels,
)
from ctscribe.model.llm import LLM
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import Provenance, Vision, save_vision
from ctscribe.reports.labeller import label_report
from ctscribe.reports.language import SLOTS, detect_language, slot_phrase, slots_of
from ctscribe.reports.schema import Finding, Language
from ctscribe.tables.manifest import Row, manifest_sha256
from ctscribe.training import gates, setup
from ctscribe.training.data import encode_rows, epoch_order, sample_weights
from ctscribe.training.losses import sigmoid_contrastive, token_alignment, variance_floor

VARIANCE_FLOOR = 0.5 / 128**0.5  # half of what unit vectors of 128 dimensions have at random
WEIGHTS = {
    "present": 4.0,
    "density": 0.5,
    "amount": 0.5,
    "size": 1.0,
    "token": 2.0,
    "contrast": 0.3,
    "variance": 1.0,
    "grade": 0.5,
}


@dataclass(frozen=True)
class SlotTargets:
    """What the reports say of each slot, in the language model's embedding space.

    vectors: (n, S, W) embedding of each slot's phrase; present: (n, S) 0/1.
    """

    vectors: Tensor
    present: Tensor

    def rows(self, index: Tensor) -> SlotTargets:
        """Some studies."""
        return SlotTargets(self.vectors[index], self.present[index])


def slot_targets(answers: Sequence[str], llm: LLM, language: Language) -> SlotTargets:
    """Read what each report states (its findings section) and embed the slots' phrases."""
    return _slot_targets([slots_of(label_report(a).findings) for a in answers], llm, language)


def _slot_targets(
    slots: Sequence[Sequence[Finding | None]], llm: LLM, language: Language
) -> SlotTargets:
    phrases = [
        [
            slot_phrase(name, place, finding, language)
            for (name, place), finding in zip(SLOTS, study, strict=True)
        ]
        for study in slots
    ]
    known = sorted({p for study in phrases for p in study})
    at = {phrase: i for i, phrase in enumerate(known)}
    embedded = llm.phrase_embeddings(known).float().cpu()
    index = torch.tensor([[at[p] for p in study] for study in phrases])
    return SlotTargets(embedded[index], slot_labels(slots).present)


@dataclass(frozen=True)
class AlignStudies:
    """One side of the split, ready for stage 1.

    pooled: (n, L, D). labels: of the slots, read from the reports. phrases: what the visual tokens
    should come to. text: (n, W) the LLM's embedding of the whole report. same: (n, n) bool,
    reports that state the same findings in the same places. grades: (n,) see `grade_labels`.
    weights: (n,) how often each is drawn in training, None for once an epoch.
    """

    pooled: Pooled
    labels: SlotLabels
    phrases: SlotTargets
    text: Tensor
    same: Tensor
    grades: Tensor
    weights: Tensor | None = None


def align_studies(
    pooled: Pooled, rows: Sequence[Row], llm: LLM, language: Language
) -> AlignStudies:
    """Read labels and embeddings from the reports of the pooled images, and the rows' grades."""
    answers = [row.answer for row in rows]
    stated = [label_report(answer).findings for answer in answers]
    slots = [slots_of(findings) for findings in stated]
    keys = [_key(findings) for findings in stated]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    group = torch.tensor([number[key] for key in keys])
    return AlignStudies(
        pooled=pooled,
        labels=slot_labels(slots),
        phrases=_slot_targets(slots, llm, language),
        text=llm.text_embedding(answers).float().cpu(),
        same=group[:, None] == group[None],
        grades=grade_labels([row.grade for row in rows]),
        weights=sample_weights(rows),
    )


def _key(findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(f.name, f.place or "") for f in findings}))


class TextProjection(torch.nn.Module):
    """Report embeddings (B, W) to the contrastive space; used in stage 1 only."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.linear = torch.nn.Linear(width, out)

    def forward(self, text: Tensor) -> Tensor:
        """(B, W) to (B, out), unit length."""
        return torch.nn.functional.normalize(self.linear(self.norm(text)), dim=-1)


def align(
    vision: Vision,
    train: AlignStudies,
    val: AlignStudies,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
    device: str,
    log_file: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[gates.GateFigures, list[dict[str, float]]]:
    """Train bridge and heads; returns the gate's figures and the log, one row an epoch."""
    torch.manual_seed(seed)
    vision.to(device)
    vision.bridge.fit_input(train.pooled.to(device))
    text = TextProjection(train.text.shape[1], vision.heads.study.out_features).to(device)
    weights = grade_weights(train.grades).to(device)
    modules = [vision.bridge, vision.heads, text]
    parameters = [p for m in modules for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    n = len(train.text)
    batches = max(1, n // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=epochs * batches, pct_start=0.1
    )
    history = []
    best: tuple[float, list[dict[str, Tensor]]] | None = None
    for epoch in range(epochs):
        for module in modules:
            module.train()
        sums: dict[str, float] = {}
        for index in epoch_order(n, train.weights)[: batches * batch_size].chunk(batches):
            terms = _terms(vision, text, train, index, weights, device)
            loss = torch.stack([WEIGHTS[k] * v for k, v in terms.items()]).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            setup.clip_gradient(parameters, 1.0)
            optimizer.step()
            schedule.step()
            for k, v in {**terms, "loss": loss}.items():
                sums[k] = sums.get(k, 0.0) + float(v.detach()) / batches
        for module in modules:
            module.eval()
        with torch.no_grad():
            held_out = _terms(vision, text, val, torch.arange(len(val.text)), weights, device)
        total = sum(WEIGHTS[k] * float(v) for k, v in held_out.items())
        history.append({"epoch": epoch + 1, **sums, "val_loss": total})
        # Few studies: keep the epoch that does best on studies that were not trained on.
        if best is None or total <= best[0]:
            best = total, [_copy(m) for m in modules]
        if progress is not None:
            progress(1)
    assert best is not None, "at least one epoch"
    for module, state in zip(modules, best[1], strict=True):
        module.load_state_dict(state)
    if log_file is not None:
        write_log(log_file, history)
    return gate_figures(vision, text, val, device), history


def _copy(module: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def _terms(
    vision: Vision,
    text: TextProjection,
    studies: AlignStudies,
    index: Tensor,
    weights: Tensor,
    device: str,
) -> dict[str, Tensor]:
    pooled = studies.pooled.rows(index).to(device)
    labels = studies.labels.rows(index)
    labels = SlotLabels(*(t.to(device) for t in vars(labels).values()))
    tokens, hidden = vision.bridge(pooled)
    output = vision.heads(hidden)
    terms = label_losses(output, labels)
    aim = studies.phrases.rows(index)
    terms["token"] = token_alignment(
        tokens[:, : len(SLOTS)], aim.vectors.to(device), aim.present.to(device)
    )
    same = studies.same[index][:, index].to(device)
    report = text(studies.text[index].to(device))
    scale, bias = vision.heads.scale, vision.heads.bias
    terms["contrast"] = sigmoid_contrastive(output.study, report, same, scale, bias)
    terms["variance"] = variance_floor(output.study, VARIANCE_FLOOR)
    if output.grade is not None:
        terms["grade"] = grade_loss(output.grade, studies.grades[index].to(device), weights)
    return terms


@torch.no_grad()
def gate_figures(
    vision: Vision, text: TextProjection, val: AlignStudies, device: str
) -> gates.GateFigures:
    """What the gate asks, on held-out studies."""
    _, hidden = vision.bridge(val.pooled.to(device))
    output = vision.heads(hidden)
    return gates.measure(
        output.study.cpu(),
        text(val.text.to(device)).cpu(),
        val.same,
        output.present.cpu(),
        val.labels.present,
    )


def write_log(file: Path, rows: Sequence[dict[str, float]]) -> None:
    """A CSV of numbers, one row a record."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def write_gate(
    file: Path, figures: gates.GateFigures, thresholds: gates.Thresholds, wrong: Sequence[str]
) -> dict[str, Any]:
    """The gate's figures, thresholds and verdict as JSON; returns them."""
    result = {
        **asdict(figures),
        "thresholds": asdict(thresholds),
        "passed": not wrong,
        "wrong": list(wrong),
    }
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    return result


def run_align(config: AlignConfig) -> Path:
    """`ctscribe train align`: rows to `vision_bridge_final.pt`; returns its path.

    Writes the checkpoint, `stage1_train_log.csv` and `stage1_gate.json` to `output_dir`.
    Raises GateError below the thresholds (after saving), unless `ignore_gate`.
    """
    device = setup.pick_device(config.device)
    out = config.output_dir
    train_rows, val_rows = setup.open_rows(
        config.csv_train, config.csv_val, val_ratio=config.val_ratio, seed=config.seed
    )
    llm = setup.open_llm(config.model, device)
    encoder, encoder_sha256 = setup.open_encoder(config.model)
    torch.manual_seed(config.seed)
    graded = any(row.grade for row in train_rows)
    vision = setup.start_vision(config.model, encoder, llm, grades=graded).to(device)
    rows = [*train_rows, *val_rows]
    setup.show(setup.choice_lines(vision, len(rows)))
    with setup.bar("images to features", len(rows)) as progress:
        encoded = encode_rows(
            rows,
            vision,
            encoder_sha256=encoder_sha256,
            cache=config.cache_dir or out / "cache",
            device=device,
            workers=config.num_workers,
            progress=progress,
        )
    language = detect_language(train_rows[0].answer)
    n = len(train_rows)
    train, val = (
        align_studies(encoded.rows(index).pooled, [rows[i] for i in index], llm, language)
        for index in (range(n), range(n, len(rows)))
    )
    with setup.bar("stage 1: align", config.epochs) as progress:
        figures, history = align(
            vision,
            train,
            val,
            epochs=config.epochs,
            batch_size=config.batch_size,
            lr=config.lr,
            weight_decay=config.weight_decay,
            seed=config.seed,
            device=device,
            log_file=out / "stage1_train_log.csv",
            progress=progress,
        )
    thresholds = gates.Thresholds.of(config, figures)
    wrong = gates.verdict(figures, thresholds)
    gate = write_gate(out / "stage1_gate.json", figures, thresholds, wrong)
    file = out / ALIGN_CHECKPOINT
    save_vision(
        file,
        vision,
        Provenance(
            stage="align",
            llm=setup.describe_llm(llm, config.model.mamba_model),
            max_visual_tokens=config.model.max_visual_tokens,
            max_text_len=0,
            language=language,
            encoder_sha256=encoder_sha256,
            manifest_sha256=manifest_sha256(train_rows),
            trained_on=encoder.config.trained_on,
            settings=json.loads(json.dumps(asdict(config), default=str)),
            figures={"gate": gate},
        ),
    )
    setup.show(
        [
            f"stage 1: {n} studies, loss {history[0]['loss']:.3f} -> {history[-1]['loss']:.3f}, "
            f"held-out loss {history[-1]['val_loss']:.3f}",
            f"gate on {figures.studies} held-out studies: effective rank "
            f"{figures.effective_rank:.1f}, label AUROC {figures.label_auroc:.3f} (chance 0.5), "
            f"retrieval top-5 {figures.retrieval_top5:.3f} "
            f"(chance {figures.retrieval_chance:.3f}): "
            + ("passed" if not wrong else "NOT passed"),
            f"wrote {file}",
        ]
    )
    gates.require(wrong, ignore=config.ignore_gate, file=str(file))
    return file
