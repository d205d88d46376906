"""The demo's page from what its run found: this module gathers, `page.py` judges."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ctscribe
from ctscribe.config import ReportConfig
from ctscribe.errors import CtscribeError
from ctscribe.evaluation.cards import case_card, score_rows
from ctscribe.evaluation.clinical import Estimate, ReportScores
from ctscribe.evaluation.page import (
    Budget,
    CaseCard,
    Cleaning,
    Column,
    Count,
    DemoPage,
    Fact,
    Gate,
    GateFigure,
    LeakCheck,
    LossCurve,
    LossPlot,
    RealCase,
    Refusal,
    SliceImage,
    SplitCheck,
    SplitPart,
    StepCost,
    Text,
)
from ctscribe.evaluation.report import head_support, image_facts, provenance_facts, report_page
from ctscribe.evaluation.run import open_vlm
from ctscribe.imaging.checks import check_chest
from ctscribe.imaging.nifti import read_mask, read_volume
from ctscribe.imaging.render import slice_png
from ctscribe.imaging.sample import fetch_sample
from ctscribe.reports.schema import FINDINGS
from ctscribe.training import setup

if TYPE_CHECKING:
    from ctscribe.evaluation.demo import DemoRun

SHOWN = 12
TARGETS = {
    "finding_f1": 0.90,
    "strict_f1": 0.80,
    "nodule_f1": 0.80,
    "side_accuracy": 0.97,
    "lobe_accuracy": 0.88,
    "hallucinated_share": 0.08,
    "size_error_mm": 3.0,
}
FILTERS = {
    "missing_image": Text("影像文件缺失", "image file missing"),
    "duplicate": Text("重复行", "duplicate row"),
    "characters": Text("全角数字、多余空白", "full-width digits, surplus blanks"),
    "phone": Text("电话号码", "telephone numbers"),
    "advertising": Text("广告与联系方式", "advertising and contact details"),
    "sex_age": Text("性别年龄", "statements of sex and age"),
    "generic_only": Text("只有一句“未见异常”", "nothing but “no abnormality”"),
}


def demo_page(run: DemoRun) -> DemoPage:
    """Gather everything; the real CT is fetched if a registry can be reached."""
    evaluation, config = run.evaluation, run.config
    device = setup.pick_device(config.device)
    return DemoPage(
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · ctscribe {ctscribe.__version__} · "
        f"seed {config.seed} · {config.profile}",
        studies=len(evaluation.rows),
        scores=score_rows(_columns(run), TARGETS if config.profile == "demo" else None),
        losses=(_align_plot(config.output_dir), _caption_plot(config.output_dir)),
        gate=_gate(run.gate, ignored=config.ignore_gate),
        cleaning=_cleaning(run),
        split=_split(run),
        steps=tuple(StepCost(s.name, s.seconds, s.peak_gib, s.made) for s in run.costs.steps),
        language_model=(
            Fact(Text("模型", "model"), str(evaluation.provenance.llm["name"])),
            Fact(Text("各层由谁运行", "its layers run on"), evaluation.llm_path),
            Fact(Text("训练中", "in training"), Text("冻结", "frozen")),
        ),
        provenance=(
            Fact(Text("检查点", "checkpoint"), run.checkpoint.name),
            Fact(
                Text("编码器", "encoder"),
                f"SHA-256 {evaluation.provenance.encoder_sha256[:16]}",
            ),
            Fact(
                Text("训练表", "training rows"),
                f"SHA-256 {evaluation.provenance.manifest_sha256[:16]}",
            ),
            Fact(Text("运行于", "ran on"), device),
        ),
        cases=_cases(run),
        cases_chosen=Text(
            "按表中顺序挑选：每种征象前两例，再加前两例无异常者；与得分无关",
            "chosen by order in the table: the first two studies with each finding, then the "
            "first two without any; not by score",
        ),
        grades=evaluation.grades,
        real=_real(run, device),
        budget=Budget(run.plan.budget_seconds, 6.0) if device == "cpu" else None,
        language=config.language,
    )


def _columns(run: DemoRun) -> dict[Column, Mapping[str, Estimate]]:
    columns: dict[Column, Mapping[str, Estimate]] = {}
    names: tuple[Column, ...] = ("model", "swapped", "blank", "normal", "voxels", "features")
    for name in names:
        columns[name] = _flat(run.evaluation.scores[name])
    text = run.evaluation.text
    columns["model"] = {
        **columns["model"],
        **{k: _plain(float(text[k])) for k in ("bleu", "rouge_l")},
    }
    columns["heads"] = run.evaluation.heads
    return columns


def _flat(scores: ReportScores) -> dict[str, Estimate]:
    """Of the findings section, and what both sections together give."""
    return {
        **scores.findings,
        "strict_f1_impression": scores.impression["strict_f1"],
        "contradictory_share": scores.contradictory_share,
        "empty_share": _plain(scores.empty / max(1, scores.studies)),
    }


def _plain(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan)


def _read_log(file: Path) -> list[dict[str, float]]:
    with file.open(encoding="utf-8", newline="") as handle:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(handle)]


def _align_plot(out: Path) -> LossPlot:
    log = _read_log(out / "stage1_train_log.csv")
    epochs = [row["epoch"] for row in log]

    def curve(key: str, label: Text, validation: bool = False) -> LossCurve:
        return LossCurve(label, epochs, [row[key] for row in log], validation)

    curves = (
        curve("loss", Text("训练", "training")),
        curve("val_loss", Text("验证", "validation"), True),
        curve("present", Text("标签", "labels")),
        curve("token", Text("词元对齐", "token alignment")),
        curve("contrast", Text("图文对比", "image–report contrast")),
    )
    along = Text(
        "轮次；保留验证损失最小的一轮", "epoch; the one with the least validation loss is kept"
    )
    return LossPlot(Text("第一阶段 · 对齐", "Stage 1 · align"), curves, along)


def _caption_plot(out: Path) -> LossPlot:
    log = _read_log(out / "stage2_train_log.csv")
    curve = LossCurve(
        Text("答案词元", "answer tokens"),
        [row["step"] for row in log],
        [row["caption_loss"] for row in log],
    )
    along = Text("优化步；语言模型冻结", "optimiser step; the language model is frozen")
    return LossPlot(Text("第二阶段 · 写报告", "Stage 2 · caption"), (curve,), along)


def _gate(gate: dict[str, Any], *, ignored: bool) -> Gate:
    limits = gate["thresholds"]
    figures = (
        GateFigure(
            Text("有效秩", "effective rank"),
            gate["effective_rank"],
            limits["effective_rank"],
            1.0,
            Text("塌缩", "collapse"),
            max(16.0, 1.2 * gate["effective_rank"]),
            1,
        ),
        GateFigure(
            Text("标签 AUROC", "label AUROC"), gate["label_auroc"], limits["label_auroc"], 0.5
        ),
        GateFigure(
            Text("检索：前 5 中有本例报告", "retrieval: own report among the first 5"),
            gate["retrieval_top5"],
            limits["retrieval_top5"],
            gate["retrieval_chance"],
        ),
    )
    return Gate(figures, gate["studies"], ignored and not gate["passed"])


def _cleaning(run: DemoRun) -> Cleaning:
    result = run.cleaning
    rejected = result.rejected["filter"].value_counts()
    changed = result.changes["filter"].value_counts()
    return Cleaning(
        result.rows_in,
        len(result.kept),
        tuple(Count(FILTERS.get(str(k), str(k)), int(n)) for k, n in rejected.items()),
        tuple(Count(FILTERS.get(str(k), str(k)), int(n)) for k, n in changed.items()),
    )


def _split(run: DemoRun) -> SplitCheck:
    names = {
        "train": Text("训练", "training"),
        "val": Text("验证", "validation"),
        "test": Text("测试", "test"),
    }
    parts = tuple(
        SplitPart(names[name], len(rows), len({r.patient_id for r in rows}))
        for name, rows in run.split.parts.items()
    )
    kinds = [leak.kind for leak in run.split.leaks]
    return SplitCheck(
        parts,
        (
            LeakCheck(Text("同一患者跨组", "patients in two parts"), kinds.count("patient")),
            LeakCheck(Text("同一影像跨组", "images in two parts"), kinds.count("image")),
            LeakCheck(
                Text("相同报告跨组（常见措辞）", "equal reports in two parts (common wording)"),
                kinds.count("report"),
                harmless=True,
            ),
        ),
    )


def _cases(run: DemoRun) -> tuple[CaseCard, ...]:
    """The first two studies with each finding and the first two without, in order of the table."""
    truth = run.evaluation.truth
    chosen: list[int] = []
    wanted: list[Callable[[int], bool]] = [
        lambda i, name=name: any(f.name == name for f in truth[i])  # type: ignore[misc]
        for name in FINDINGS
    ]
    wanted.append(lambda i: not truth[i])
    for wants in wanted:
        free = [i for i in range(len(truth)) if i not in chosen and wants(i)]
        chosen += free[: max(1, SHOWN // len(wanted))]
    return tuple(_card(run, i) for i in chosen)


def _card(run: DemoRun, i: int) -> CaseCard:
    row, written = run.evaluation.rows[i], run.evaluation.written[i]
    data = run.config.output_dir / "data"
    told = json.loads((data / "truth" / f"{row.case_id}.json").read_text(encoding="utf-8"))
    volume = read_volume(row.image_path, case=row.case_id)
    mask = read_mask(data / "masks" / row.image_path.name, like=volume, case=row.case_id)
    lesions = told["lesions"][:2]
    images = [
        SliceImage(
            slice_png(volume, lesion["slice_z"], contour=(mask >> lesion["bit"]) & 1),
            Text(f"第 {lesion['slice_z']} 层", f"slice {lesion['slice_z']}"),
            Text("真值轮廓", "outline: the truth"),
        )
        for lesion in lesions
    ]
    if not images:
        z = volume.array_zyx.shape[0] // 2
        images = [SliceImage(slice_png(volume, z), Text(f"第 {z} 层", f"slice {z}"))]
    return case_card(
        row.case_id,
        language=run.evaluation.provenance.language,
        images=images,
        reference=row.answer,
        generated=written.text,
        truth=run.evaluation.truth[i],
        support=head_support(run.evaluation.head_output, i),
        finish_reason=written.finish_reason,
    )


def _real(run: DemoRun, device: str) -> RealCase | None:
    """A report on the real chest CT, or why there is none; None if it cannot be fetched."""
    try:
        sample = fetch_sample()
    except CtscribeError as error:
        print(f"no real CT on the page: {error}", flush=True)
        return None
    volume = read_volume(sample.ct)
    check = check_chest(volume)
    heart = read_mask(sample.heart, like=volume)
    heart_x = float(np.argwhere(heart > 0)[:, 2].mean())
    columns = (volume.array_zyx.shape[2] - 1) / 2
    side = Text("左侧", "left") if heart_x < columns else Text("右侧", "right")
    facts = (
        *image_facts(volume, check),
        Fact(Text("心脏（包内掩膜）在患者", "heart (the package's mask) on the patient's"), side),
    )
    source = Text(
        "一例真实增强胸部 CT（TotalSegmentator 软件包自带）",
        "a real chest CT with contrast, carried by the TotalSegmentator package",
    )
    vlm, provenance = open_vlm(run.checkpoint, None, device, stage="caption")
    config = ReportConfig(image=sample.ct, checkpoint=run.checkpoint)
    try:
        page = report_page(config, vlm, provenance, volume, device)
    except CtscribeError as error:
        reasons = (Text(str(error), str(error)),)
        return RealCase(source, (), "", provenance.language, facts, Refusal(reasons))
    return RealCase(
        source,
        page.images[1:3],
        page.generated,
        page.language,
        (*facts, *provenance_facts(run.checkpoint, vlm, provenance)[:2]),
        finish_reason=page.finish_reason,
    )
