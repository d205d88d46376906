"""`ctscribe demo --from-nothing`: make the two pretrained parts, as those that ship were made.

On a GPU both are trained at once, the language model in a process of its own; on a CPU one after
the other. Seeds are those of pretraining: no study or report is one of a demo's or a test's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ctscribe
from ctscribe.generation.decode import generate
from ctscribe.model.checkpoint import write_atomically
from ctscribe.model.encoder import EncoderConfig
from ctscribe.model.llm import LLM
from ctscribe.reports.schema import Language
from ctscribe.training.pretrain_encoder import PretrainEncoder, pretrain_encoder
from ctscribe.training.pretrain_llm import PretrainLLM, pretrain_llm


def make_parts(
    folder: Path, device: str, *, language: Language = "zh", small: bool = False
) -> dict[str, Any]:
    """Train encoder and language model to `folder`/encoder and `folder`/llm; returns the figures.

    Logs go to `folder`/encoder/pretraining.log and `folder`/llm/pretraining.log, the figures to
    `folder`/parts.json. language: of the reports, on a CPU; a GPU learns both. small: a run of a
    few minutes that proves the path and nothing else.
    """
    start = time.monotonic()
    cores = os.cpu_count() or 1
    config = EncoderConfig()
    if device == "cuda":
        second = "cuda:1" if torch.cuda.device_count() > 1 else device
        encoder = PretrainEncoder(device=device, workers=max(1, cores - 3))
        llm = PretrainLLM(device=second, seconds=400.0)
    else:
        # Two cores cannot do what a GPU does in the same time: smaller parts, in one language.
        config = EncoderConfig(channels=(8, 16, 32, 48, 64), spacing_zyx_mm=(4.5, 3.75, 3.75))
        encoder = PretrainEncoder(
            seconds=1200.0, batch_size=4, pool_size=1500, workers=1, device=device
        )
        llm = PretrainLLM(
            device=device,
            seconds=700.0,
            batch_size=32,
            reports=120_000,
            d_model=160,
            n_layer=3,
            languages=(language,),
        )
    if small:
        encoder = PretrainEncoder(
            seconds=45.0, batch_size=2, pool_size=64, workers=1, device=device, eval_studies=8
        )
        llm = PretrainLLM(
            device=device, seconds=40.0, batch_size=16, reports=2000, steps=400, eval_reports=8
        )
    results: dict[str, Any] = {}
    if device == "cuda":
        context = multiprocessing.get_context("spawn")
        beside = context.Process(target=_make_llm, args=(folder / "llm", llm))
        beside.start()
        results["encoder"] = _make_encoder(folder / "encoder", encoder, config)
        beside.join()
        if beside.exitcode:
            raise RuntimeError(f"pretraining of the language model ended with {beside.exitcode}")
    else:
        results["encoder"] = _make_encoder(folder / "encoder", encoder, config)
        _make_llm(folder / "llm", llm)
    record = json.loads((folder / "llm" / "pretraining.json").read_text(encoding="utf-8"))
    results["llm"] = record["figures"]
    results["seconds"] = round(time.monotonic() - start, 1)
    results["made_on"] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "cores": cores,
        "torch": torch.__version__,
        "ctscribe": ctscribe.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    write_atomically(
        folder / "parts.json", json.dumps(results, indent=1, ensure_ascii=False).encode()
    )
    return results


def _make_encoder(folder: Path, settings: PretrainEncoder, config: EncoderConfig) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pretraining.log").open("w", encoding="utf-8") as handle:

        def log(line: str) -> None:
            print(f"encoder: {line}", flush=True)
            print(line, file=handle, flush=True)

        log(str(settings))
        figures = pretrain_encoder(folder, settings, config, log)
        log(json.dumps(figures))
    return figures


def _make_llm(folder: Path, settings: PretrainLLM) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pretraining.log").open("w", encoding="utf-8") as handle:

        def log(line: str) -> None:
            print(f"llm: {line}", flush=True)
            print(line, file=handle, flush=True)

        log(str(settings))
        figures = pretrain_llm(folder, settings, write=_write, log=log)
        log(json.dumps(figures, ensure_ascii=False))


def _write(llm: LLM, embeds: Tensor, mask: Tensor, most: int) -> list[str]:
    return [g.text for g in generate(llm, embeds, mask, max_new_tokens=most)]
