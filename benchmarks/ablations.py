"""What each part of the model is worth: python benchmarks/ablations.py, on a GPU.

Every variation is trained and scored with three seeds (of split, weights and order) on the same
small set of thin phantoms, `--jobs` of them side by side, in front of one frozen language model.
Writes results/ablations-<device>.json after each and docs/ABLATIONS.md from it at the end (with
`--out` elsewhere, a page beside that). For the encoder's rows it needs one that `ctscribe
import-encoder` wrote (`--nnunet`). Run again, it goes on: what is trained is kept. With `--only`,
rows of other groups stay in the file as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import commit, machine, short_name
from vision import clean, make_phantoms, small_nodules, split, studies

from ctscribe.config import AlignConfig, CaptionConfig, EvaluateConfig, ModelConfig
from ctscribe.evaluation.clinical import bootstrap_weights, divide, estimate, score
from ctscribe.evaluation.from_nothing import make_llm
from ctscribe.evaluation.run import run_evaluate
from ctscribe.files import write_atomically
from ctscribe.model.encoders import load_encoder, save_encoder
from ctscribe.model.nnunet_encoder import NnunetEncoder
from ctscribe.reports.labeller import label_report
from ctscribe.reports.schema import Finding
from ctscribe.tables.csv_file import read_table, write_table
from ctscribe.tables.manifest import load_rows
from ctscribe.training import setup
from ctscribe.training.align import run_align
from ctscribe.training.caption import run_caption
from ctscribe.training.data import encode_rows
from ctscribe.training.pretrain_llm import PretrainLLM

RESULTS = Path(__file__).parent / "results"
ENCODER = Path(__file__).parent / "parts" / "encoder"
PAGE = Path(__file__).parents[1] / "docs" / "ABLATIONS.md"
TOKENS = 1100  # a row's visual tokens at most, and what the language model is made to read
DEFAULT = ModelConfig(roi_side=24.0, local_output_stage=(0, 1), max_visual_tokens=TOKENS)
GRID = replace(DEFAULT, pooling="grid")
COLUMNS = {
    "strict_f1": "strict F1",
    "finding_f1": "presence F1",
    "small_nodule_recall": "nodules of 6–12 mm found",
    "false_nodules_a_study": "false nodules a study",
    "size_error_mm": "size error (mm)",
    "hallucinated_share": "invented",
}


@dataclass(frozen=True)
class Variation:
    """One row: its group and name, and the model. nnunet: imported or random, in place of ours."""

    group: str
    name: str
    model: ModelConfig
    nnunet: str | None = None

    @property
    def key(self) -> str:
        """Its folder."""
        return f"{self.group}-{self.name}".replace(" ", "_").replace(",", "")


def variations(cells: Mapping[int, tuple[int, ...]]) -> list[Variation]:
    """Every row. The first is the default, and what the others are held against."""
    plain = replace(GRID, use_segmentation=False)
    grids = [Variation("grid", f"{n} cells", replace(GRID, pool_size=c)) for n, c in cells.items()]
    return [
        Variation("streams", "whole image", DEFAULT),
        Variation("streams", "both", replace(DEFAULT, ablation_mode="full")),
        Variation("streams", "RoIs", replace(DEFAULT, ablation_mode="local_only")),
        Variation("bridge", "MLP", replace(DEFAULT, bridge="mlp")),
        Variation("bridge", "transformer", replace(DEFAULT, bridge="transformer")),
        Variation("bridge", "MLP, grid", replace(GRID, bridge="mlp")),
        Variation("bridge", "transformer, grid", replace(GRID, bridge="transformer")),
        Variation("CMI", "on", replace(DEFAULT, use_cmi=True)),
        Variation("CMI", "on, grid", replace(GRID, use_cmi=True)),
        Variation("CMI", "on, grid, leaves 32", replace(GRID, use_cmi=True, cmi_compress_to=32)),
        *grids,
        Variation("grid", "64 cells, no segmentation", plain),
        Variation("encoder (nnU-Net, grid)", "imported", GRID, "imported"),
        Variation("encoder (nnU-Net, grid)", "imported, no segmentation", plain, "imported"),
        Variation("encoder (nnU-Net, grid)", "random", GRID, "random"),
    ]


CELLS = {64: (4, 4, 4), 96: (4, 4, 6), 144: (4, 6, 6), 1024: (8, 8, 16)}


@dataclass(frozen=True)
class Job:
    """One training: a variation with a seed, and where its tables and parts are."""

    variation: Variation
    seed: int
    tables: dict[str, Path]
    truth: Path
    folder: Path
    cache: Path
    epochs: tuple[int, int]
    workers: int

    @property
    def told(self) -> Path:
        """What its reports say is kept here, once it is trained."""
        return self.folder / "told.json"


class Told(NamedTuple):
    """A test study: what its report says, and what is there."""

    case: str
    said: tuple[Finding, ...]
    real: tuple[Finding, ...]


def prepare(jobs: Sequence[Job]) -> None:
    """Images into the cache, once for each encoder: side by side every training would read them."""
    device = setup.pick_device("auto")
    different = {
        (job.variation.model.encoder, job.variation.model.ablation_mode == "global_only"): job
        for job in jobs
    }
    for job in different.values():
        model = job.variation.model
        encoder, sha256 = setup.open_encoder(model)
        vision = setup.start_vision(model, encoder, setup.open_llm(model, device)).to(device)
        rows = [row for table in job.tables.values() for row in load_rows(table)]
        with setup.bar("images", len(rows)) as progress:
            encode_rows(
                rows,
                vision,
                encoder_sha256=sha256,
                cache=job.cache,
                device=device,
                workers=os.cpu_count() or 1,
                progress=progress,
            )


def train(job: Job) -> list[Told]:
    """Both stages and the reports: of each test study, what was said and what is there."""
    if job.told.is_file():
        return [
            Told(case, *(tuple(Finding(**f) for f in found) for found in both))
            for case, *both in json.loads(job.told.read_text(encoding="utf-8"))
        ]
    told = _train(job)
    kept = [(t.case, [asdict(f) for f in t.said], [asdict(f) for f in t.real]) for t in told]
    write_atomically(job.told, json.dumps(kept).encode())
    return told


def _train(job: Job) -> list[Told]:
    torch.set_num_threads(2)
    both: dict[str, Any] = {
        "model": job.variation.model,
        "csv_val": job.tables["val"],
        "output_dir": job.folder,
        "cache_dir": job.cache,
        "batch_size": 32,
        "seed": job.seed,
        "num_workers": job.workers,
        "ignore_gate": True,
    }
    align, caption = job.epochs
    run_align(AlignConfig(**both, csv_train=job.tables["train"], epochs=align, lr=2e-3))
    checkpoint = run_caption(
        CaptionConfig(
            **both,
            csv=job.tables["train"],
            epochs=caption,
            lr=3e-4,
            from_scratch=True,
            gradient_checkpointing=False,
        )
    )
    found = run_evaluate(
        EvaluateConfig(
            checkpoint=checkpoint,
            csv=job.tables["test"],
            truth=job.truth,
            output_dir=job.folder / "evaluation",
            cache_dir=job.cache,
            controls=False,
            batch_size=64,
            num_workers=job.workers,
            seed=job.seed,
        )
    )
    return [
        Told(row.case_id, tuple(label_report(written.text).findings), truth)
        for row, written, truth in zip(found.rows, found.written, found.truth, strict=True)
    ]


def figures(told: list[Told]) -> dict[str, Any]:
    """Scores of the studies of all seeds together, with bootstrap intervals over studies."""
    said, real = [study.said for study in told], [study.real for study in told]
    scores = score(list(zip(said, real, strict=True)))
    kept: dict[str, Any] = {
        name: [None if math.isnan(v) else round(v, 4) for v in scores[name]]
        for name in COLUMNS
        if name in scores
    }
    small = small_nodules(said, real)
    for name, interval in (
        ("small_nodule_recall", "small_nodule_recall_interval"),
        ("false_nodules_a_study", "false_nodules_interval"),
    ):
        kept[name] = [small[name], *small[interval]]
    return {"studies": len(told), **kept}


def difference(told: list[Told], base: list[Told]) -> list[float]:
    """Strict F1 less the base's on the same studies of the same seeds, with its interval.

    Cases are drawn, each with all of its seeds: a case that two seeds test counts as one.
    """
    assert [study.case for study in told] == [study.case for study in base]
    cases = {case: i for i, case in enumerate(sorted({study.case for study in told}))}
    sums = np.zeros((2, len(cases), 2))  # twice the hits; what was said and what is there
    for own, each in zip(sums, (told, base), strict=True):
        for study in each:
            said, real = ({(f.name, f.place) for f in found} for found in study[1:])
            own[cases[study.case]] += 2 * len(said & real), len(said) + len(real)
    weights = np.concatenate([np.ones((1, len(cases))), bootstrap_weights(len(cases), 1000, 0)])
    f1 = [divide(part, whole) for part, whole in ((weights @ own).T for own in sums)]
    drawn = f1[0] - f1[1]
    return [round(float(v), 4) for v in estimate(float(drawn[0]), drawn[1:])]


def main() -> None:
    """Make the data, train everything, write the JSON and the page."""
    given = _arguments()
    device = torch.device(setup.pick_device("auto"))
    path = given.out or RESULTS / f"ablations-{short_name(device)}.json"
    # The page that is shown comes from the results that are kept.
    page = PAGE if path.parent.resolve() == RESULTS.resolve() else path.with_suffix(".md")
    if given.page_only:
        write_page(json.loads(path.read_text(encoding="utf-8")), page)
        return
    out: Path = given.output_dir
    rows = [v for v in variations(CELLS) if v.nnunet is None or given.nnunet is not None]
    # The first goes with every group: the others are held against it.
    rows = [v for v in rows if not given.only or v.group in given.only or v == rows[0]]
    size = {name: getattr(given, name) for name in ("train", "test", "seeds")}
    older = _older(path, size, rows)
    if given.llm is None:
        given.llm = _made_llm(out / "llm", device.type)
    splits = _splits(given, out)
    made = {"date": time.strftime("%Y-%m-%d"), "commit": commit()}
    document: dict[str, Any] = {
        **made,
        **machine(device),
        **size,
        "rows": [],
    }
    jobs = _jobs(given, rows, splits, out)
    prepare([job for job in jobs if not job.told.is_file()])
    told: dict[str, dict[int, list[Told]]] = {v.key: {} for v in rows}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, context) as pool:
        waiting = {pool.submit(train, job): job for job in jobs}
        with setup.bar("trainings", len(waiting)) as progress:
            for done in as_completed(waiting):
                job = waiting[done]
                told[job.variation.key][job.seed] = done.result()
                progress(1)
                if len(told[job.variation.key]) < given.seeds:
                    continue
                whole = [v for v in rows if len(told[v.key]) == given.seeds]
                base = told[rows[0].key]
                known = older | {v.key: made | _row(v, told[v.key], base) for v in whole}
                document["rows"] = [known[v.key] for v in variations(CELLS) if v.key in known]
                text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
                write_atomically(path, text.encode())
    write_page(document, page)
    print(f"wrote {path} and {page}")


def _older(
    path: Path, size: Mapping[str, int], rows: Sequence[Variation]
) -> dict[str, dict[str, Any]]:
    """Rows of the file that this run does not make, by key, with the date and commit of theirs."""
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    if any(document[name] != value for name, value in size.items()):
        raise SystemExit(f"{path} was made with other numbers than {size}; name another --out")
    made = {name: document[name] for name in ("date", "commit")}
    known = {Variation(r["group"], r["name"], DEFAULT).key: made | r for r in document["rows"]}
    return {key: row for key, row in known.items() if key not in {v.key for v in rows}}


def _row(
    variation: Variation,
    told: dict[int, list[Told]],
    base: dict[int, list[Told]],
) -> dict[str, Any]:
    """What the JSON has of a variation whose seeds are all trained."""
    seeds = sorted(told)
    whole = [study for seed in seeds for study in told[seed]]
    row = {
        "group": variation.group,
        "name": variation.name,
        "strict_f1_by_seed": [figures(told[seed])["strict_f1"][0] for seed in seeds],
        **figures(whole),
    }
    if len(base) == len(seeds):
        row["strict_f1_less_first"] = difference(whole, [s for seed in seeds for s in base[seed]])
    return row


def _jobs(
    given: argparse.Namespace,
    rows: list[Variation],
    splits: list[dict[str, Path]],
    out: Path,
) -> list[Job]:
    encoders = {None: given.encoder, "imported": given.nnunet}
    if given.nnunet is not None:
        encoders["random"] = _random(given.nnunet, out / "random")
    # Rows that read the same features as others come last: by then those are in the cache.
    first, *others = rows
    others.sort(key=lambda v: v.group in ("bridge", "CMI"))
    jobs = []
    for seed, tables in enumerate(splits):
        for variation in (first, *others):
            model = replace(
                variation.model,
                encoder=encoders[variation.nnunet],
                mamba_model=given.llm,
            )
            jobs.append(
                Job(
                    replace(variation, model=model),
                    seed,
                    tables,
                    given.data / "truth",
                    out / f"{variation.key}-{seed}",
                    out / "cache",
                    (given.align_epochs, given.caption_epochs),
                    given.workers,
                )
            )
    return jobs


def _made_llm(folder: Path, device: str) -> Path:
    """A language model that knows prompts as long as any row's; the bundled one knows 20 tokens."""
    if not (folder / "pretraining.json").is_file():
        make_llm(folder, PretrainLLM(device=device, extra_rows=TOKENS))
    return folder


def _random(imported: Path, folder: Path) -> Path:
    """The same network as it was before nnU-Net trained it."""
    encoder = load_encoder(imported)
    assert isinstance(encoder, NnunetEncoder)
    torch.manual_seed(0)
    fresh = NnunetEncoder(encoder.config)
    for module in fresh.modules():
        # He's initialisation, as nnU-Net begins.
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d | torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, a=0.01)
    save_encoder(fresh, folder)
    return folder


def _splits(given: argparse.Namespace, out: Path) -> list[dict[str, Path]]:
    """The first studies of the phantoms (made if they are not there), split anew for each seed."""
    total = studies(given)
    if not (given.data / "captions.csv").is_file():
        make_phantoms(given.data, total, 1, given.profile)
    table = given.data / "first.csv"
    write_table(read_table(clean(given.data)).head(total), table)
    found = []
    for seed in range(given.seeds):
        folder = out / f"split-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        found.append(split(given, table, folder, seed))
    return found


def write_page(document: dict[str, Any], page: Path) -> None:
    """The table, and the command that makes it; what stands below it on the page is kept."""
    lines = [
        "# Ablations",
        "",
        f"Made by `python benchmarks/ablations.py` on {document['device']} on {document['date']}: "
        f"each row trained with {document['seeds']} seeds (of split, weights and order) on "
        f"{document['train']} phantoms and scored on {document['test']} held-out ones a seed. "
        "Values over all seeds, in brackets the 95 % bootstrap interval over studies; then strict "
        "F1 of each seed, and its difference from the first row on the same studies.",
        "",
        "| | | " + " | ".join([*COLUMNS.values(), "seeds", "difference"]) + " |",
        "| --- | --- " + "| ---: " * (len(COLUMNS) + 2) + "|",
    ]
    group = ""
    for row in document["rows"]:
        cells = [_cell(name, row.get(name)) for name in COLUMNS]
        cells.append(", ".join(f"{v:.2f}" for v in row["strict_f1_by_seed"] if v is not None))
        cells.append(_cell("difference", row.get("strict_f1_less_first")))
        first = row["group"] if row["group"] != group else ""
        lines.append(f"| {first} | {row['name']} | " + " | ".join(cells) + " |")
        group = row["group"]
    below = ""
    if page.is_file():
        below = page.read_text(encoding="utf-8").partition("\n## ")[2]
    text = "\n".join(lines) + "\n" + (f"\n## {below}" if below else "")
    write_atomically(page, text.encode())


def _cell(name: str, estimate: list[float | None] | None) -> str:
    if estimate is None or any(v is None for v in estimate):
        return "–"
    value, low, high = (float(v) for v in estimate if v is not None)
    if name == "hallucinated_share":
        return f"{value:.1%} ({low:.1%}–{high:.1%})"
    if name == "difference":
        return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{value:.2f} ({low:.2f}–{high:.2f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, default=ENCODER)
    parser.add_argument(
        "--llm", type=Path, help="language model; left out, one is made that has read many tokens"
    )
    parser.add_argument("--nnunet", type=Path, help="folder of ctscribe import-encoder")
    parser.add_argument(
        "--data", type=Path, default=Path("outputs/vision/data"), help="phantoms, made if missing"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/ablations"))
    parser.add_argument("--out", type=Path, help="the results' file")
    parser.add_argument("--only", nargs="*", help="groups of rows")
    parser.add_argument("--profile", default="thin", help="of the phantoms")
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--val", type=int, default=50)
    parser.add_argument("--test", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--align-epochs", type=int, default=16)
    parser.add_argument("--caption-epochs", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=6, help="trainings side by side")
    parser.add_argument("--workers", type=int, default=2, help="threads of each that read images")
    parser.add_argument("--page-only", action="store_true", help="write the page from the JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
