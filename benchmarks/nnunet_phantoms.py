"""nnU-Net v2 itself learns lobes and nodules of phantoms: python benchmarks/nnunet_phantoms.py DIR.

Writes a data set in nnU-Net's raw format, lets nnU-Net plan and preprocess it, and trains its
3d_fullres for `--seconds`, on a GPU if there is one (without augmentation, which on two cores would
take most of the time); last it prints what nnU-Net says of its own validation. `ctscribe
import-encoder` then makes it the encoder of benchmarks/ablations.py. Needs the package nnunetv2
(the extra nnunet).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

DATASET, NUMBER = "Dataset502_LobesAndNodules", 502
LABELS = ("background", "RUL", "RML", "RLL", "LUL", "LLL", "pleura", "nodule", "consolidation")
WORKERS, COMPILE = "nnUNet_n_proc_DA", "nnUNet_compile"  # what nnU-Net reads of the environment
PROCESSES = max(2, (os.cpu_count() or 1) - 2)
FEATURES = (12, 24, 48, 96, 128, 128)


def main() -> None:
    """Everything, in one process: nnU-Net reads its folders when it is imported."""
    given = _arguments()
    for part in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{part}"] = str(given.folder / part)
    os.environ[WORKERS] = "1"
    os.environ[COMPILE] = "f"
    if not (given.folder / "raw" / DATASET / "dataset.json").is_file():
        write_raw(given.folder / "raw" / DATASET, given.cases)
    train(given.folder, given.seconds)


def write_raw(folder: Path, cases: int) -> None:
    """Phantoms of the demo's kind, stored LPS; lesions over lobes."""
    import SimpleITK
    import torch

    from ctscribe.phantom.findings import LESIONS
    from ctscribe.phantom.render import render_study, sample_study
    from ctscribe.reports.schema import DENSITIES
    from ctscribe.training.setup import bar, pick_device

    device = pick_device("auto")
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    nodule = sum(1 << LESIONS.index(density) for density in DENSITIES)
    with bar("phantoms", cases) as progress:
        for i in range(cases):
            study = sample_study((NUMBER, i), (NUMBER, i), "demo")
            rendered = render_study(study, device)
            region, lesion = rendered.region_zyx.cpu(), rendered.lesion_zyx.cpu()
            labels = region.clamp(max=LABELS.index("pleura")).to(torch.uint8)
            solid = (lesion >> LESIONS.index("consolidation")) & 1
            labels[solid > 0] = LABELS.index("consolidation")
            labels[(lesion & nodule) > 0] = LABELS.index("nodule")
            hu = np.rint(rendered.hu_zyx.cpu().numpy()).astype(np.int16)
            for part, array, end in (("imagesTr", hu, "_0000"), ("labelsTr", labels.numpy(), "")):
                image = SimpleITK.GetImageFromArray(array)
                image.SetSpacing(study.spacing_zyx_mm[::-1])
                image.SetDirection((-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
                image = SimpleITK.DICOMOrient(image, "LPS")
                SimpleITK.WriteImage(image, str(folder / part / f"phantom_{i:03d}{end}.nii.gz"))
            progress(1)
    described = {
        "channel_names": {"0": "CT"},
        "labels": {name: i for i, name in enumerate(LABELS)},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


def train(folder: Path, seconds: float) -> None:
    """Plan, preprocess, and train until the time is up; nnU-Net writes its own checkpoints."""
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import (
        nnUNetTrainerNoDA,
    )

    pre = folder / "preprocessed" / DATASET
    extract_fingerprints([NUMBER], num_processes=PROCESSES)
    plan_experiments([NUMBER], gpu_memory_target_in_gb=2)
    plans = json.loads((pre / "nnUNetPlans.json").read_text(encoding="utf-8"))
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["features_per_stage"] = list(FEATURES[: network["n_stages"]])
    (pre / "nnUNetPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    preprocess([NUMBER], "nnUNetPlans", ("3d_fullres",), (PROCESSES,), 1)
    os.environ[WORKERS] = "0"
    plans["continue_training"] = False
    dataset = json.loads((folder / "raw" / DATASET / "dataset.json").read_text(encoding="utf-8"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer: Any = nnUNetTrainerNoDA(plans, "3d_fullres", 0, dataset, device)
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 25, 2
    trainer.initialize()
    # How many epochs the time holds: nnU-Net's learning rate falls to 0 over as many.
    started = time.monotonic()
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    trainer.train_step(batch)
    began = time.monotonic()
    for _ in range(3):
        trainer.train_step(next(trainer.dataloader_train))
    epoch = 27 * (time.monotonic() - began) / 3
    trainer.num_epochs = max(2, int((seconds - (began - started)) / epoch))
    trainer.lr_scheduler.max_steps = trainer.num_epochs
    print(f"{trainer.num_epochs} epochs of 25 iterations, {epoch:.0f} s each", flush=True)
    trainer.run_training()
    classes = trainer.logger.get_value("dice_per_class_or_region", step=None)[-10:]
    means = np.nanmean(classes, axis=0)
    print("Dice of the last ten epochs:")
    print(*(f"{name} {mean:.3f}" for name, mean in zip(LABELS[1:], means, strict=True)), sep=", ")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=1200.0, help="of training")
    return parser.parse_args()


if __name__ == "__main__":
    main()
