"""`ctscribe evaluate`: reports for held-out rows, scored beside controls that do not look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ctscribe.config import EvaluateConfig
from ctscribe.errors import CheckpointError, ConfigError, DataError
from ctscribe.evaluation.clinical import ReportScores, Scores, as_json, score, score_reports
from ctscribe.evaluation.grades import GradeScores, grade_lines, score_grades
from ctscribe.evaluation.reliance import (
    blank_image,
    commonest_normal,
    nearest,
    other_patient,
)
from ctscribe.evaluation.text_metrics import text_scores
from ctscribe.files import write_atomically
from ctscribe.generation.decode import Generated
from ctscribe.generation.write import Decoding, write_reports
from ctscribe.model.heads import HeadOutput, findings_of
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import VLM, Provenance, load_vision
from ctscribe.reports.labeller import label_report
from ctscribe.reports.schema import Finding
from ctscribe.tables.manifest import Row, load_rows
from ctscribe.training import setup
from ctscribe.training.data import Encoded, encode, encode_rows

CONTROLS = ("swapped", "blank", "normal", "voxels", "features")


@dataclass(frozen=True)
class Evaluation:
    """Everything that one evaluation found.

    scores: of the model ("model") and of each control, both sections. heads: stage 1's own.
    head_output: the heads' reading of each study, for pages. grades: None where the checkpoint has
    no grade head or no row has a grade.
    """

    rows: list[Row]
    truth: list[tuple[Finding, ...]]
    written: list[Generated]
    scores: dict[str, ReportScores]
    heads: Scores
    head_output: HeadOutput
    text: dict[str, float]
    provenance: Provenance
    llm_path: str
    grades: GradeScores | None = None


def run_evaluate(config: EvaluateConfig) -> Evaluation:
    """Write and score reports; writes `scores.json` and `reports.jsonl` to `output_dir`."""
    if config.csv is None:
        raise ConfigError(
            "no CSV of held-out rows is named", fix="give --csv, or set caption_csv_val"
        )
    device = setup.pick_device(config.device)
    vlm, provenance = open_vlm(config.checkpoint, config.mamba_model, device, stage="caption")
    rows = setup.ask(load_rows(config.csv), None, provenance.language)
    if not rows:
        raise DataError("there is no row to evaluate", file=config.csv, fix="give held-out rows")
    train = load_rows(config.csv_train) if config.controls and config.csv_train else []
    truth = [true_findings(row, config.truth) for row in rows]
    with setup.bar("images to features", len(rows) + len(train)) as progress:
        encoded = encode_rows(
            [*rows, *train],
            vlm.vision,
            encoder_sha256=provenance.encoder_sha256,
            cache=config.cache_dir or config.output_dir / "cache",
            device=device,
            workers=config.num_workers,
            progress=progress,
        )
    held_out = encoded.rows(range(len(rows)))
    known = encoded.rows(range(len(rows), len(rows) + len(train)))
    decoding = Decoding(
        max_new_tokens=config.max_new_tokens,
        no_repeat_ngram_size=config.no_repeat_ngram_size,
        num_beams=config.num_beams,
    )
    questions = [row.question for row in rows]
    with setup.bar("reports", len(rows) * (2 if config.controls else 1)) as progress:

        def write(pooled: Pooled) -> list[Generated]:
            return write_reports(
                vlm,
                pooled,
                questions,
                decoding,
                device=device,
                batch_size=config.batch_size,
                progress=progress,
            )

        written = write(held_out.pooled)
        texts = {"model": [g.text for g in written]}
        if config.controls:
            at = other_patient([row.patient_id for row in rows], config.seed)
            texts["swapped"] = [g.text for g in write(held_out.rows(at).pooled)]
    if config.controls:
        texts |= _other_controls(vlm, rows, questions, held_out, known, train, decoding, device)
    scores = {
        name: score_reports(reports, truth, config.n_boot, config.seed)
        for name, reports in texts.items()
    }
    output = read_heads(vlm, held_out.pooled, device)
    pairs = list(zip(findings_of(output), truth, strict=True))
    result = Evaluation(
        rows,
        truth,
        written,
        scores,
        score(pairs, config.n_boot, config.seed),
        output,
        asdict(text_scores(texts["model"], [r.answer for r in rows], provenance.language)),
        provenance,
        vlm.llm.path_name,
        None
        if output.grade is None
        else score_grades(
            output.grade.softmax(-1).numpy(),
            [row.grade for row in rows],
            config.n_boot,
            config.seed,
        ),
    )
    _write(config, result, texts)
    setup.show(summary(result))
    return result


def open_vlm(
    checkpoint: Path,
    mamba_model: Path | None,
    device: str,
    *,
    stage: str,
    in_8bit: bool = False,
    in_4bit: bool = False,
) -> tuple[VLM, Provenance]:
    """A trained model and what it says of itself.

    Raises CheckpointError if the file is of another stage or made with another language model.
    """
    from ctscribe.config import ModelConfig

    vision, provenance, adapters = load_vision(checkpoint)
    if provenance.stage != stage:
        raise CheckpointError(
            f"it is a checkpoint of stage {provenance.stage}, not {stage}",
            file=checkpoint,
            fix="give the file that ctscribe train caption wrote",
        )
    recorded = provenance.llm["name"]
    folder = mamba_model or (None if recorded == "bundled" else Path(recorded))
    llm = setup.open_llm(ModelConfig(mamba_model=folder), device, in_8bit=in_8bit, in_4bit=in_4bit)
    setup.check_llm(provenance.llm, llm, folder, checkpoint)
    setup.add_lora(llm, int(provenance.settings.get("lora_rank", 0)), adapters, checkpoint)
    return VLM(vision.to(device), llm).eval(), provenance


def true_findings(row: Row, truth: Path | None) -> tuple[Finding, ...]:
    """What is really in a study: the phantom's exact truth, or what its reference report states."""
    if truth is None:
        return label_report(row.answer).findings
    file = truth / f"{row.case_id}.json"
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))["findings"]
        return tuple(Finding(**finding) for finding in stated)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the exact truth cannot be read ({error})",
            case=row.case_id,
            file=file,
            fix="leave --truth out to score against the reference reports",
        ) from error


@torch.no_grad()
def read_heads(vlm: VLM, pooled: Pooled, device: str) -> HeadOutput:
    """The stage-1 heads' reading of pooled studies, on the CPU."""
    _, hidden = vlm.bridge(pooled.to(device))
    output: HeadOutput = vlm.vision.heads(hidden)
    return output.cpu()


def _other_controls(
    vlm: VLM,
    rows: Sequence[Row],
    questions: Sequence[str],
    held_out: Encoded,
    known: Encoded,
    train: Sequence[Row],
    decoding: Decoding,
    device: str,
) -> dict[str, list[str]]:
    """The blank image, and, where training rows are named, the reports that need no model."""
    blank = encode(vlm.vision, blank_image(vlm.vision.encoder.config).to(device)).pooled
    unlike = list(dict.fromkeys(questions))
    repeated = blank.map(lambda x: x.expand(len(unlike), -1, -1))
    said = write_reports(vlm, repeated, unlike, decoding, device=device)
    by_question = {q: g.text for q, g in zip(unlike, said, strict=True)}
    texts = {"blank": [by_question[q] for q in questions]}
    if train:
        answers = [row.answer for row in train]
        texts["normal"] = [commonest_normal(answers)] * len(rows)
        by_voxels = nearest(held_out.thumbnail, known.thumbnail)
        texts["voxels"] = [answers[i] for i in by_voxels]
        by_features = nearest(
            read_heads(vlm, held_out.pooled, device).study,
            read_heads(vlm, known.pooled, device).study,
        )
        texts["features"] = [answers[i] for i in by_features]
    return texts


def results(evaluation: Evaluation) -> dict[str, Any]:
    """The figures as plain numbers."""
    return {
        "studies": len(evaluation.rows),
        "scores": {name: s.as_json() for name, s in evaluation.scores.items()},
        "heads": as_json(evaluation.heads),
        "text_never_the_headline": evaluation.text,
        **({} if evaluation.grades is None else {"grades": evaluation.grades.as_json()}),
    }


def _write(config: EvaluateConfig, result: Evaluation, texts: dict[str, list[str]]) -> None:
    out = config.output_dir
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {
                "case_id": row.case_id,
                "reference": row.answer,
                "generated": {name: reports[i] for name, reports in texts.items()},
                "finish_reason": result.written[i].finish_reason,
                "truth": [asdict(f) for f in result.truth[i]],
            },
            ensure_ascii=False,
        )
        for i, row in enumerate(result.rows)
    ]
    write_atomically(out / "reports.jsonl", ("\n".join(lines) + "\n").encode())
    write_atomically(
        out / "scores.json", json.dumps(results(result), indent=1, ensure_ascii=False).encode()
    )


def summary(evaluation: Evaluation) -> list[str]:
    """The score table as lines: strict F1 first, 所见 and 结论 apart, controls beside."""
    lines = [
        f"{len(evaluation.rows)} studies; strict F1 = right finding at the right place; "
        "95 % bootstrap intervals",
        f"{'':10} {'strict F1 所见':>20} {'strict F1 结论':>20} {'finding F1':>12} {'invented':>9}",
    ]
    for name, scores in evaluation.scores.items():
        found, concluded = scores.findings, scores.impression
        a, b = found["strict_f1"], concluded["strict_f1"]
        lines.append(
            f"{name:10} {f'{a.value:.3f} ({a.low:.2f}-{a.high:.2f})':>20} "
            f"{f'{b.value:.3f} ({b.low:.2f}-{b.high:.2f})':>20} "
            f"{found['finding_f1'].value:12.3f} {found['hallucinated_share'].value:9.1%}"
        )
    a = evaluation.heads["strict_f1"]
    lines.append(
        f"{'heads':10} {f'{a.value:.3f} ({a.low:.2f}-{a.high:.2f})':>20} {'':>20} "
        f"{evaluation.heads['finding_f1'].value:12.3f} "
        f"{evaluation.heads['hallucinated_share'].value:9.1%}"
    )
    model = evaluation.scores["model"]
    lines.append(
        f"contradictions between 所见 and 结论: {model.contradictions}; empty: {model.empty}"
    )
    if evaluation.grades is not None:
        lines += grade_lines(evaluation.grades)
    elif evaluation.head_output.grade is None and any(row.grade for row in evaluation.rows):
        lines.append("rows have grades, but this checkpoint has no grade head: none were scored")
    return lines
