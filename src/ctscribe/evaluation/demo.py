"""`ctscribe demo`: phantoms, cleaning, split, both stages, reports, scores, page, end to end.

It runs what a user runs on real files, with the same functions in the same order; only the data
are made here.
"""

from __future__ import annotations

import json
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

import ctscribe
from ctscribe.config import (
    AlignConfig,
    CaptionConfig,
    DemoConfig,
    EvaluateConfig,
    ModelConfig,
    SplitConfig,
)
from ctscribe.evaluation.page import Text, write_page
from ctscribe.evaluation.run import Evaluation, results, run_evaluate
from ctscribe.files import write_atomically
from ctscribe.intake.split import SplitResult, run_split
from ctscribe.tables.clean import CleanOptions, CleanResult, clean_file
from ctscribe.training import setup
from ctscribe.training.align import run_align
from ctscribe.training.caption import run_caption


@dataclass(frozen=True)
class Plan:
    """How much of everything a profile does."""

    train: int  # studies before cleaning
    val: int
    test: int
    align_epochs: int
    align_batch: int
    align_lr: float
    caption_epochs: int
    caption_batch: int
    caption_lr: float
    budget_seconds: float  # on 2 cores


FROM_NOTHING_SECONDS = 2700.0
PLANS = {
    "demo": Plan(430, 54, 220, 14, 32, 2e-3, 3, 32, 3e-4, 600.0),
    "small": Plan(64, 16, 24, 12, 16, 2e-3, 2, 16, 3e-4, 180.0),
}


@dataclass(frozen=True)
class Step:
    """What one step took and made."""

    name: Text
    seconds: float
    peak_gib: float
    made: str


class Costs:
    """Times every step and samples the memory of this process and its children."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self.began

    @property
    def peak_gib(self) -> float:
        """The most that any step held."""
        return max((s.peak_gib for s in self.steps), default=0.0)

    @contextmanager
    def step(self, zh: str, en: str) -> Iterator[list[str]]:
        """Time a step; put into the list what it made, in one line, which is printed."""
        print(f"\n== {zh} / {en}", flush=True)
        peak, done = [0.0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(peak, done), daemon=True)
        watcher.start()
        start = time.monotonic()
        made: list[str] = []
        try:
            yield made
        finally:
            done.set()
            watcher.join()
        seconds = time.monotonic() - start
        line = "; ".join(made)
        self.steps.append(Step(Text(zh, en), seconds, peak[0], line))
        print(f"   {line} [{seconds:.0f} s, {peak[0]:.1f} GiB]", flush=True)


def _watch(peak: list[float], done: threading.Event) -> None:
    """Keep the most memory that this process and its children held, until `done`."""
    own = psutil.Process()
    while True:
        total = 0
        for process in [own, *own.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it ended while we were looking
                continue
        peak[0] = max(peak[0], total / 2**30)
        if done.wait(0.25):
            return


@dataclass(frozen=True)
class DemoRun:
    """Everything that the page and the results file are made from."""

    config: DemoConfig
    plan: Plan
    cleaning: CleanResult
    split: SplitResult
    evaluation: Evaluation
    gate: dict[str, Any]
    costs: Costs
    checkpoint: Path
    parts: dict[str, Any]  # figures of the pretrained parts


def run_demo(config: DemoConfig) -> Path:
    """Run everything; returns the page. Writes it and `demo.json` to `output_dir`."""
    plan = PLANS[config.profile]
    plan = replace(
        plan,
        train=config.train_studies or plan.train,
        test=config.test_studies or plan.test,
        budget_seconds=FROM_NOTHING_SECONDS if config.from_nothing else plan.budget_seconds,
    )
    out, costs = config.output_dir, Costs()
    device = setup.pick_device(config.device)
    model = ModelConfig()
    parts: dict[str, Any] = {}
    if config.from_nothing:
        from ctscribe.evaluation.from_nothing import make_parts

        with costs.step(
            "从零预训练编码器和语言模型", "encoder and language model from nothing"
        ) as made:
            parts = make_parts(
                out / "parts", device, language=config.language, small=config.profile == "small"
            )
            made.append(f"{out / 'parts'}")
        if config.parts_only:
            return out / "parts"
        model = ModelConfig(encoder=out / "parts" / "encoder", mamba_model=out / "parts" / "llm")

    from ctscribe.phantom.dataset import make_dataset

    data = out / "data"
    total = plan.train + plan.val + plan.test
    with costs.step("生成体模 CT 和报告", "phantom CTs and reports") as made:
        with setup.bar("phantoms", total) as progress:
            summary = make_dataset(
                data,
                n_studies=total,
                seed=config.seed,
                language=config.language,
                workers=config.workers,
                progress=progress,
            )
        made.append(
            f"{summary.studies} studies of {summary.patients} patients, {summary.rows} rows"
        )
    table = data / ("captions.csv" if config.language == "zh" else "captions_en.csv")
    with costs.step("清洗表格", "clean the table") as made:
        cleaning = clean_file(
            CleanOptions(input=table, drop_missing_paths=True, drop_generic_only=True)
        )
        made.append(
            f"{cleaning.rows_in} rows in, {len(cleaning.kept)} kept, "
            f"{len(cleaning.rejected)} rejected with their reasons"
        )
    with costs.step("按患者划分并查泄漏", "split by patient, look for leaks") as made:
        split = run_split(
            SplitConfig(
                input=cleaning.output,
                output_dir=data,
                val_ratio=plan.val / total,
                test_ratio=plan.test / total,
                stratify=False,  # the published figures are of this split
                allow_similar_reports=True,  # phantoms' reports are written from templates
                seed=config.seed,
            )
        )
        made.append(", ".join(f"{name} {len(rows)}" for name, rows in split.parts.items()))
    csvs = split.files
    with costs.step("第一阶段：对齐", "stage 1: align") as made:
        aligned = run_align(
            AlignConfig(
                model=model,
                csv_train=csvs["train"],
                csv_val=csvs["val"],
                output_dir=out,
                epochs=plan.align_epochs,
                batch_size=plan.align_batch,
                lr=plan.align_lr,
                seed=config.seed,
                device=config.device,
                num_workers=1,
                ignore_gate=config.ignore_gate,
            )
        )
        made.append(str(aligned))
    with costs.step("第二阶段：写报告", "stage 2: caption") as made:
        checkpoint = run_caption(
            CaptionConfig(
                model=model,
                csv=csvs["train"],
                csv_val=csvs["val"],
                output_dir=out,
                epochs=plan.caption_epochs,
                batch_size=plan.caption_batch,
                lr=plan.caption_lr,
                from_scratch=True,
                gradient_checkpointing=False,
                num_workers=1,
                ignore_gate=config.ignore_gate,
                seed=config.seed,
                device=config.device,
            )
        )
        made.append(str(checkpoint))
    with costs.step("生成报告并评分", "write and score reports") as made:
        evaluation = run_evaluate(
            EvaluateConfig(
                checkpoint=checkpoint,
                csv=csvs["test"],
                csv_train=csvs["train"],
                truth=data / "truth",
                output_dir=out / "evaluation",
                cache_dir=out / "cache",
                batch_size=64,
                device=config.device,
                num_workers=1,
                seed=config.seed,
            )
        )
        made.append(f"{len(evaluation.rows)} held-out studies")
    gate = json.loads((out / "stage1_gate.json").read_text(encoding="utf-8"))
    run = DemoRun(config, plan, cleaning, split, evaluation, gate, costs, checkpoint, parts)
    from ctscribe.evaluation.demo_page import demo_page

    page = out / "index.html"
    with costs.step("写页面", "write the page") as made:
        write_page(demo_page(run), page)
        made.append(str(page))
    write_atomically(
        out / "demo.json", json.dumps(figures(run), indent=1, ensure_ascii=False).encode()
    )
    print(f"\n{costs.seconds:.0f} s, {costs.peak_gib:.1f} GiB; open {page}", flush=True)
    return page


def figures(run: DemoRun) -> dict[str, Any]:
    """The demo's figures, flat first, in full below."""
    found = run.evaluation.scores["model"].findings

    def strict(column: str) -> float:
        return round(run.evaluation.scores[column].findings["strict_f1"].value, 4)

    return {
        "studies": len(run.evaluation.rows),
        "strict_f1": round(found["strict_f1"].value, 4),
        "finding_f1": round(found["finding_f1"].value, 4),
        "nodule_f1": round(found["nodule_f1"].value, 4),
        "side_accuracy": round(found["side_accuracy"].value, 4),
        "lobe_accuracy": round(found["lobe_accuracy"].value, 4),
        "hallucinated_share": round(found["hallucinated_share"].value, 4),
        "size_error_mm": round(found["size_error_mm"].value, 2),
        "swapped_strict_f1": strict("swapped"),
        "blank_strict_f1": strict("blank"),
        "normal_strict_f1": strict("normal"),
        "nearest_voxels_strict_f1": strict("voxels"),
        "nearest_features_strict_f1": strict("features"),
        "heads_strict_f1": round(run.evaluation.heads["strict_f1"].value, 4),
        "wall_seconds": round(run.costs.seconds, 1),
        "peak_gib": round(run.costs.peak_gib, 2),
        "profile": run.config.profile,
        "language": run.config.language,
        "seed": run.config.seed,
        "from_nothing": run.config.from_nothing,
        "parts": run.parts,
        "gate": run.gate,
        "steps": [
            {"name": s.name.en, "seconds": round(s.seconds, 1), "peak_gib": round(s.peak_gib, 2)}
            for s in run.costs.steps
        ],
        "machine": {
            "system": platform.platform(),
            "cores": psutil.cpu_count(),
            "device": setup.pick_device(run.config.device),
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "ctscribe": ctscribe.__version__,
        },
        "full": results(run.evaluation),
    }
