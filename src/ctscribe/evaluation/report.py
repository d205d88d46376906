"""`ctscribe report IMAGE`: one chest CT to its report, on the terminal and as a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import ctscribe
from ctscribe.config import ReportConfig
from ctscribe.errors import CheckpointError, ConfigError, GenerationError
from ctscribe.evaluation.cards import claims_without_truth
from ctscribe.evaluation.page import Fact, GradeChance, ReportPage, SliceImage, Text, write_page
from ctscribe.evaluation.run import open_vlm, read_heads
from ctscribe.generation.decode import Generated
from ctscribe.generation.write import Decoding, write_reports
from ctscribe.imaging.checks import ChestCheck
from ctscribe.imaging.nifti import read_mask, read_volume
from ctscribe.imaging.render import slice_png
from ctscribe.imaging.volume import Volume
from ctscribe.model.checkpoint import load_tensors
from ctscribe.model.heads import HeadOutput
from ctscribe.model.vlm import VLM, Provenance
from ctscribe.reports.language import QUESTIONS, SLOTS
from ctscribe.tables.grade import GRADES, NAMES
from ctscribe.tables.manifest import points
from ctscribe.training import setup
from ctscribe.training.data import encode, to_input

SHOWN_SLICES = 4


def run_report(config: ReportConfig) -> ReportPage:
    """Write the page of one image's report and print the report.

    Raises ImageError if the image holds no plausible chest, CheckpointError if a setting disagrees
    with the checkpoint, GenerationError if the model wrote nothing. Nothing is written then.
    """
    if config.image is None:
        raise ConfigError("no image is named", fix="give the path of a chest CT")
    device = setup.pick_device(config.llm_device)
    volume = read_volume(config.image)
    vlm, provenance = open_vlm(
        config.checkpoint,
        config.mamba_model,
        device,
        stage="caption",
        in_8bit=config.llm_8bit,
        in_4bit=config.llm_4bit,
    )
    wanted = config.max_visual_tokens
    if wanted is not None and wanted != provenance.max_visual_tokens:
        raise CheckpointError(
            f"it was trained with max_visual_tokens {provenance.max_visual_tokens}, not {wanted}",
            file=config.checkpoint,
            fix=f"leave --max-visual-tokens out, or give {provenance.max_visual_tokens}",
        )
    page = report_page(config, vlm, provenance, volume, device)
    write_page(page, config.output)
    print(page.generated, flush=True)
    if page.grades:
        shares = (
            f"{grade} {g.probability:.2f}" for grade, g in zip(GRADES, page.grades, strict=True)
        )
        setup.show([f"grade head (no part of the report): {', '.join(shares)}"])
    setup.show([f"wrote {config.output}"])
    return page


def report_page(
    config: ReportConfig, vlm: VLM, provenance: Provenance, volume: Volume, device: str
) -> ReportPage:
    """Generate the report of a volume and fill its page."""
    assert config.image is not None
    case = _case_id(config.image)
    mask = None if config.mask is None else read_mask(config.mask, like=volume)
    vision = vlm.vision
    study = to_input(
        volume,
        case,
        config.image,
        vision.encoder.config,
        vision.pooling,
        mask,
        points(config.roi_mm or "", case=case),
    )
    check = study.check
    assert check is not None
    pooled = encode(vlm.vision, study.image[None].to(device), study.rois_mm[None]).pooled
    language = config.language or provenance.language
    question = config.question or QUESTIONS[language][0]
    decoding = Decoding(
        max_new_tokens=config.max_new_tokens,
        do_sample=config.do_sample,
        temperature=config.temperature,
        top_p=config.top_p,
        repetition_penalty=config.repetition_penalty,
        no_repeat_ngram_size=config.no_repeat_ngram_size,
        num_beams=config.num_beams,
        stop=(config.stop,) if config.stop else (),
        seed=config.seed,
    )
    written = write_reports(vlm, pooled, [question], decoding, device=device)[0]
    if not written.text.strip():
        raise GenerationError(
            f"the language model wrote no text (finish reason: {written.finish_reason})",
            case=case,
            file=config.image,
            fix="train stage 2 longer, or raise --max-new-tokens; nothing is filled in",
        )
    heads = read_heads(vlm, pooled, device)
    support = head_support(heads, 0)
    marks, claims = claims_without_truth(written.text, language, support)
    return ReportPage(
        case_id=case,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · ctscribe {ctscribe.__version__}",
        language=language,
        images=slices(volume, check),
        generated=written.text,
        image_facts=image_facts(volume, check),
        provenance=provenance_facts(config.checkpoint, vlm, provenance),
        settings=_settings(config, question, decoding, written),
        phantom_only=provenance.trained_on == "phantoms",
        marks=marks,
        claims=claims,
        grades=grade_chances(heads, 0),
        finish_reason=written.finish_reason,
        truncated=written.finish_reason == "length",
    )


def head_support(output: HeadOutput, study: int) -> dict[tuple[str, str], float]:
    """Probability that the stage-1 heads give to each slot of one study."""
    present = output.present[study].sigmoid().tolist()
    return {slot: float(p) for slot, p in zip(SLOTS, present, strict=True)}


def grade_chances(output: HeadOutput, study: int) -> tuple[GradeChance, ...]:
    """Probability that the grade head gives to each grade of one study; () without that head."""
    if output.grade is None:
        return ()
    chances = output.grade[study].softmax(-1).tolist()
    return tuple(
        GradeChance(Text(f"{grade} {NAMES[grade][0]}", f"{grade}, {NAMES[grade][1]}"), float(p))
        for grade, p in zip(GRADES, chances, strict=True)
    )


def slices(volume: Volume, check: ChestCheck, n: int = SHOWN_SLICES) -> tuple[SliceImage, ...]:
    """Evenly spaced slices of the lungs, from the top."""
    low, high = check.lung_z_range
    at = np.linspace(high, low, n + 2)[1:-1].round().astype(int)
    return tuple(
        SliceImage(
            slice_png(volume, int(z)),
            Text(f"第 {z} 层（自下而上）", f"slice {z}, counted from below"),
        )
        for z in at
    )


def image_facts(volume: Volume, check: ChestCheck) -> tuple[Fact, ...]:
    """What was measured on the image itself, without a model."""
    z, y, x = volume.array_zyx.shape
    sz, sy, sx = volume.spacing_zyx_mm
    right, left = check.lung_litres
    return (
        Fact(Text("体素", "voxels"), f"{x} × {y} × {z}"),
        Fact(Text("体素大小", "voxel size"), f"{sx:.2f} × {sy:.2f} × {sz:.2f} mm"),
        Fact(
            Text("肺内气体", "air in the lungs"),
            Text(f"右 {right:.1f} 升，左 {left:.1f} 升", f"right {right:.1f} l, left {left:.1f} l"),
        ),
    )


def provenance_facts(checkpoint: Path, vlm: VLM, provenance: Provenance) -> tuple[Fact, ...]:
    """Where the model comes from."""
    _, settings = load_tensors(checkpoint)
    return (
        Fact(Text("检查点", "checkpoint"), f"{checkpoint.name}, SHA-256 {settings['sha256'][:16]}"),
        Fact(
            Text("图像编码器", "encoder"),
            Text(
                f"训练数据：{provenance.trained_on}；SHA-256 {provenance.encoder_sha256[:16]}",
                f"trained on {provenance.trained_on}; SHA-256 {provenance.encoder_sha256[:16]}",
            ),
        ),
        Fact(Text("语言模型", "language model"), str(provenance.llm["name"])),
        Fact(Text("运行路径", "its layers run on"), vlm.llm.path_name),
        Fact(Text("训练表", "training rows"), f"SHA-256 {provenance.manifest_sha256[:16]}"),
        Fact(Text("视觉词元", "visual tokens"), str(vlm.vision.visual_tokens)),
    )


def _settings(
    config: ReportConfig, question: str, decoding: Decoding, written: Generated
) -> tuple[Fact, ...]:
    plain = asdict(decoding)
    if not decoding.do_sample:
        plain = {k: v for k, v in plain.items() if k not in ("temperature", "top_p", "seed")}
    return (
        Fact(Text("问题", "question"), question),
        Fact(Text("生成设置", "decoding"), json.dumps(plain)),
        Fact(Text("生成词元", "tokens written"), str(len(written.tokens))),
    )


def _case_id(image: Path) -> str:
    name = image.name
    for ending in (".gz", ".nii", ".nrrd", ".mha"):
        name = name.removesuffix(ending)
    return name
