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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ctscribe
from ctscribe.files import write_atomically
from ctscribe.generation.decode import generate
from ctscribe.model.encoder import EncoderConfig
from ctscribe.model.llm import LLM
from ctscribe.reports.schema import Language
from ctscribe.training.data import Progress
from ctscribe.training.pretrain_encoder import PretrainEncoder, pretrain_encoder
from ctscribe.training.pretrain_llm import PretrainLLM, pretrain_llm
from ctscribe.training.setup import bar


def plan(
    device: str, language: Language, small: bool
) -> tuple[EncoderConfig, PretrainEncoder, PretrainLLM]:
    """What is made on a device, and for how long."""
    if device == "cuda":
        second = "cuda:1" if torch.cuda.device_count() > 1 else device
        workers = max(1, (os.cpu_count() or 1) - 3)
        config, encoder = EncoderConfig(), PretrainEncoder(device=device, workers=workers)
        llm = PretrainLLM(device=second, seconds=400.0)
    else:
        # Two cores cannot do what a GPU does in the same time: smaller parts, more and smaller
        # steps, images with more to learn from, and reports in one language.
        config = EncoderConfig(channels=(8, 16, 32, 48, 64), spacing_zyx_mm=(4.5, 3.75, 3.75))
        encoder = PretrainEncoder(
            profile="crowded",
            seconds=1200.0,
            batch_size=2,
            lr=4e-3,
            pool_size=1500,
            workers=1,
            device=device,
            eval_studies=200,
        )
        llm = PretrainLLM(
            device=device,
            seconds=700.0,
            steps=5_000,
            batch_size=16,
            lr=2e-3,
            d_model=160,
            n_layer=3,
            d_state=8,
            reports=60_000,
            languages=(language,),
        )
    if small:
        encoder = replace(encoder, seconds=20.0, pool_size=64, eval_studies=8)
        llm = replace(llm, seconds=20.0, reports=2000, eval_reports=8)
    return config, encoder, llm


def make_parts(
    folder: Path, device: str, *, language: Language = "zh", small: bool = False
) -> dict[str, Any]:
    """Train encoder and language model to `folder`/encoder and `folder`/llm; returns the figures.

    Logs go to `folder`/encoder/pretraining.log and `folder`/llm/pretraining.log, the figures to
    `folder`/parts.json. language: of the reports, on a CPU; a GPU learns both. small: a run of a
    few minutes that proves the path and nothing else.
    """
    start = time.monotonic()
    config, encoder, llm = plan(device, language, small)
    results: dict[str, Any] = {}
    if device == "cuda":
        context = multiprocessing.get_context("spawn")
        beside = context.Process(target=make_llm, args=(folder / "llm", llm))
        beside.start()
        results["encoder"] = make_encoder(folder / "encoder", encoder, config)
        beside.join()
        if beside.exitcode:
            raise RuntimeError(f"pretraining of the language model ended with {beside.exitcode}")
    else:
        results["encoder"] = make_encoder(folder / "encoder", encoder, config)
        make_llm(folder / "llm", llm)
    record = json.loads((folder / "llm" / "pretraining.json").read_text(encoding="utf-8"))
    results["llm"] = record["figures"]
    results["seconds"] = round(time.monotonic() - start, 1)
    results["made_on"] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "ctscribe": ctscribe.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    write_atomically(
        folder / "parts.json", json.dumps(results, indent=1, ensure_ascii=False).encode()
    )
    return results


def make_encoder(folder: Path, settings: PretrainEncoder, config: EncoderConfig) -> dict[str, Any]:
    """Pretrain an encoder into `folder`, with a bar and a log; returns its figures."""
    with _logged("encoder", folder) as log, bar("encoder %", 100) as progress:
        log(str(settings))
        figures = pretrain_encoder(folder, settings, config, log, progress)
        log(json.dumps(figures))
    return figures


def make_llm(folder: Path, settings: PretrainLLM) -> None:
    """Pretrain a language model into `folder`, with a log; its figures are in pretraining.json."""
    # Beside the encoder, in a process of its own, it leaves the terminal to the other's bar.
    shown: AbstractContextManager[Progress | None] = (
        nullcontext() if settings.device != "cpu" else bar("language model %", 100)
    )
    with _logged("llm", folder) as log, shown as progress:
        log(str(settings))
        figures = pretrain_llm(folder, settings, write=_write, log=log, progress=progress)
        log(json.dumps(figures, ensure_ascii=False))


@contextmanager
def _logged(name: str, folder: Path) -> Iterator[Callable[[str], None]]:
    """Lines go to the terminal, under the part's name, and to `folder`/pretraining.log."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pretraining.log").open("w", encoding="utf-8") as handle:

        def log(line: str) -> None:
            print(f"{name}: {line}", flush=True)
            print(line, file=handle, flush=True)

        yield log


def _write(llm: LLM, embeds: Tensor, mask: Tensor, most: int) -> list[str]:
    return [g.text for g in generate(llm, embeds, mask, max_new_tokens=most)]
