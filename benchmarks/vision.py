"""Small nodules on thin phantoms, end to end on a GPU: python benchmarks/vision.py.

An encoder is pretrained by segmentation of fine-voxelled phantoms and a Mamba of 50 million
parameters on report texts; then both are frozen, and stages 1 and 2 train bridge and heads on other
phantoms (`train_seconds`, with encoding), once with RoIs and once without. Everything is scored on
held-out studies beside the controls of `ctscribe evaluate`. Writes results/vision-<device>.json.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import commit, machine, short_name

from ctscribe.config import (
    AlignConfig,
    CaptionConfig,
    EvaluateConfig,
    ModelConfig,
    SplitConfig,
    bundled,
)
from ctscribe.evaluation.clinical import bootstrap_weights
from ctscribe.evaluation.from_nothing import make_encoder, make_llm
from ctscribe.evaluation.run import Evaluation, results, run_evaluate
from ctscribe.files import write_atomically
from ctscribe.intake.split import run_split
from ctscribe.model.encoder import EncoderConfig
from ctscribe.phantom.dataset import make_dataset
from ctscribe.reports.labeller import label_report
from ctscribe.reports.schema import Finding
from ctscribe.tables.clean import CleanOptions, clean_file
from ctscribe.training import setup
from ctscribe.training.align import run_align
from ctscribe.training.caption import run_caption
from ctscribe.training.pretrain_encoder import PretrainEncoder
from ctscribe.training.pretrain_llm import PretrainLLM

RESULTS = Path(__file__).parent / "results"
SMALL_MM = (6.0, 12.0)  # nodules that are hard to see, both ends included
ENCODER = EncoderConfig(
    # The bundled encoder's layers at half its voxel size, and one more where small nodules show.
    strides=((2, 2, 2),) * 4,
    blocks=(1, 2, 2, 2, 2),
    spacing_zyx_mm=(2.0, 1.5, 1.5),
)
MODELS = {
    "global_only": ModelConfig(ablation_mode="global_only"),
    "full": ModelConfig(ablation_mode="full", roi_side=24.0, local_output_stage=(0, 1)),
}
# Of `full`: what the language model must learn to pass over or to use.
LOCAL_ROWS = MODELS["full"].local_rois * math.prod(MODELS["full"].local_pool_size_3d)


def main() -> None:
    """Make what is missing, train, score, write."""
    given = _arguments()
    out: Path = given.output_dir
    encoder: Path = given.encoder or out / "parts" / "encoder"
    llm = out / "parts" / "llm"
    _make_missing(given, encoder, llm, out / "data")
    if given.only_parts:
        return
    tables = split(given, clean(out / "data"), out / "data", given.seed)
    device = torch.device(setup.pick_device("auto"))
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        **machine(device),
        "commit": commit(),
        "parts": _described(encoder, llm),
        "studies": {"train": given.train, "val": given.val, "test": given.test},
    }
    path = given.out or RESULTS / f"vision-{short_name(device)}.json"
    for name in given.models:
        model = replace(MODELS[name], encoder=encoder, mamba_model=llm)
        found, seconds = _train(given, model, tables, out, name)
        document[name] = {"train_seconds": round(seconds, 1), **_figures(found)}
        print(name, json.dumps({k: v for k, v in document[name].items() if k != "full"}))
        first = document[given.models[0]]
        document |= {k: v for k, v in first.items() if k != "full"}
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_atomically(path, text.encode())
    print(f"wrote {path}")


def _make_missing(given: argparse.Namespace, encoder: Path, llm: Path, data: Path) -> None:
    """Encoder, language model and phantoms, each in a process of its own beside the others."""
    device = setup.pick_device("auto")
    beside = []
    context = multiprocessing.get_context("spawn")
    if not (llm / "pretraining.json").is_file():
        beside.append(context.Process(target=make_llm, args=(llm, pen(given, device))))
    if not (data / "captions.csv").is_file() and not given.only_parts:
        profile = "demo" if given.small else "thin"
        made = (data, studies(given), given.seed, profile)
        beside.append(context.Process(target=make_phantoms, args=made))
    for process in beside:
        process.start()
    if not (encoder / "encoder.safetensors").is_file():
        make_encoder(encoder, *eye(given, device))
    for process in beside:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process beside the encoder's ended with {process.exitcode}")


def eye(given: argparse.Namespace, device: str) -> tuple[PretrainEncoder, EncoderConfig]:
    """How the encoder is pretrained."""
    settings = PretrainEncoder(
        device=device,
        start=given.start or bundled("encoder"),
        profile="thin crowded",
        batch_size=4,
        lr=given.encoder_lr,
        steps=20_000,
        seconds=given.encoder_seconds,
        pool_size=1200,
        draws=8,
        # Eight processes render 25 studies a second on one H200; its 16 cores 2.8.
        render_on=device,
        workers=8 if device == "cuda" else 0,
        eval_studies=64,
        eval_profile="thin",
    )
    if not given.small:
        return settings, ENCODER
    return (
        replace(settings, pool_size=16, batch_size=1, eval_studies=8, start=None),
        replace(ENCODER, channels=(4, 4, 8, 8, 8), spacing_zyx_mm=(8.0, 6.0, 6.0)),
    )


def pen(given: argparse.Namespace, device: str) -> PretrainLLM:
    """How the language model is pretrained."""
    settings = PretrainLLM(
        device="cuda:1" if torch.cuda.device_count() > 1 else device,
        d_model=1024,
        n_layer=8,
        batch_size=256,
        lr=1.5e-3,
        steps=6000,
        seconds=given.llm_seconds,
        # With a quarter of them the model knew them by heart, and wrote worse.
        reports=120_000,
        workers=max(1, (os.cpu_count() or 1) // 2),
        languages=("zh",),
        extra_rows=1 + LOCAL_ROWS,
        eval_reports=100,
    )
    if not given.small:
        return settings
    return replace(settings, d_model=64, n_layer=2, batch_size=8, reports=400, eval_reports=8)


def studies(given: argparse.Namespace) -> int:
    """How many are trained on and held out."""
    return int(given.train + given.val + given.test)


def make_phantoms(folder: Path, count: int, seed: int, profile: str) -> None:
    """Phantoms without masks, rendered on a GPU if there is one."""
    device = setup.pick_device("auto")
    with setup.bar("phantoms", count) as progress:
        make_dataset(
            folder,
            n_studies=count,
            seed=seed,
            profile=profile,
            workers=3 * (os.cpu_count() or 1) // 4 if device == "cuda" else None,
            write_masks=False,
            render_on=device,
            progress=progress,
        )


def clean(folder: Path) -> Path:
    """The phantoms' table without its rubbish."""
    cleaned = clean_file(
        CleanOptions(input=folder / "captions.csv", drop_missing_paths=True, drop_generic_only=True)
    )
    assert cleaned.output is not None
    return cleaned.output


def split(given: argparse.Namespace, table: Path, folder: Path, seed: int) -> dict[str, Path]:
    """A table divided by patient, in the shares of what is trained on and held out."""
    total = studies(given)
    where = SplitConfig(
        input=table,
        output_dir=folder,
        val_ratio=given.val / total,
        test_ratio=given.test / total,
        stratify=False,  # as when the published figures were made
        allow_similar_reports=True,  # phantoms' reports are written from templates
        seed=seed,
    )
    return run_split(where).files


def _described(encoder: Path, llm: Path) -> dict[str, Any]:
    """What the parts say of how they were made."""
    lines = (encoder / "pretraining.log").read_text(encoding="utf-8").splitlines()
    record = json.loads((llm / "pretraining.json").read_text(encoding="utf-8"))
    return {
        "encoder": json.loads(lines[-1]),
        "llm": {"settings": record["settings"], **record["figures"]["training"]},
    }


def _train(
    given: argparse.Namespace, model: ModelConfig, tables: dict[str, Path], out: Path, name: str
) -> tuple[Evaluation, float]:
    """Stages 1 and 2 and the evaluation; and the seconds of the two stages."""
    folder = out / name
    workers = max(1, (os.cpu_count() or 1) - 2)
    both: dict[str, Any] = {
        "model": model,
        "csv_val": tables["val"],
        "output_dir": folder,
        "cache_dir": out / "cache",
        "batch_size": 32,
        "seed": given.seed,
        "num_workers": workers,
        "ignore_gate": given.small,
    }
    began = time.monotonic()
    run_align(AlignConfig(**both, csv_train=tables["train"], epochs=given.align_epochs, lr=2e-3))
    checkpoint = run_caption(
        CaptionConfig(
            **both,
            csv=tables["train"],
            epochs=given.caption_epochs,
            lr=3e-4,
            from_scratch=True,
            gradient_checkpointing=False,
        )
    )
    seconds = time.monotonic() - began
    evaluation = run_evaluate(
        EvaluateConfig(
            checkpoint=checkpoint,
            csv=tables["test"],
            csv_train=tables["train"],
            truth=tables["test"].parent / "truth",
            output_dir=folder / "evaluation",
            cache_dir=out / "cache",
            batch_size=64,
            num_workers=workers,
            seed=given.seed,
        )
    )
    return evaluation, seconds


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """The figures, flat first, in full below."""
    model = evaluation.scores["model"].findings

    def of(name: str) -> float | None:
        value = model[name].value
        return None if math.isnan(value) else round(value, 4)

    reports = [label_report(g.text).findings for g in evaluation.written]
    return {
        "presence_f1": of("finding_f1"),
        "strict_f1": of("strict_f1"),
        **{
            f"{name}_strict_f1": round(scores.findings["strict_f1"].value, 4)
            for name, scores in evaluation.scores.items()
            if name != "model"
        },
        **small_nodules(reports, evaluation.truth),
        "side_accuracy": of("side_accuracy"),
        "lobe_accuracy": of("lobe_accuracy"),
        "size_error_mm": of("size_error_mm"),
        "density_accuracy": of("density_accuracy"),
        "hallucinated_share": of("hallucinated_share"),
        "heads_strict_f1": round(evaluation.heads["strict_f1"].value, 4),
        "full": results(evaluation),
    }


def small_nodules(
    predicted: Sequence[Sequence[Finding]], truth: Sequence[Sequence[Finding]]
) -> dict[str, Any]:
    """Recall of nodules of SMALL_MM in the right lobe, false nodules a study; 95 % intervals.

    A false one is a stated nodule in a lobe that has none of any size.
    """
    found, there, false = (np.zeros(len(truth)) for _ in range(3))
    for i, (said, real) in enumerate(zip(predicted, truth, strict=True)):
        stated = {f.lobe for f in said if f.name == "nodule"}
        nodules = [f for f in real if f.name == "nodule"]
        small = [f for f in nodules if f.size_mm and SMALL_MM[0] <= f.size_mm <= SMALL_MM[1]]
        there[i] = len(small)
        found[i] = sum(f.lobe in stated for f in small)
        false[i] = len(stated - {f.lobe for f in nodules})
    weights = bootstrap_weights(len(truth), 1000, 0)
    recall = (weights @ found) / np.maximum(1, weights @ there)
    rate = (weights @ false) / weights.sum(1)
    low, high = np.quantile(recall, (0.025, 0.975)).round(4).tolist()
    least, most = np.quantile(rate, (0.025, 0.975)).round(4).tolist()
    return {
        "small_nodules": int(there.sum()),
        "small_nodule_recall": round(float(found.sum() / max(1, there.sum())), 4),
        "small_nodule_recall_interval": [low, high],
        "false_nodules_a_study": round(float(false.mean()), 4),
        "false_nodules_interval": [least, most],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/vision"))
    parser.add_argument("--out", type=Path, help="the results' file")
    parser.add_argument("--encoder", type=Path, help="a pretrained encoder, not made again")
    parser.add_argument("--start", type=Path, help="what a new encoder's weights start from")
    parser.add_argument("--only-parts", action="store_true", help="make encoder and LLM alone")
    parser.add_argument("--encoder-seconds", type=float, default=360.0)
    parser.add_argument("--encoder-lr", type=float, default=1.5e-3)
    parser.add_argument("--llm-seconds", type=float, default=300.0)
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--val", type=int, default=80)
    parser.add_argument("--test", type=int, default=250)
    parser.add_argument("--align-epochs", type=int, default=24)
    parser.add_argument("--caption-epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--small", action="store_true", help="a run that only shows that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
