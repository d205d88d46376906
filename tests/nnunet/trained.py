"""nnU-Net v2 itself plans, preprocesses and trains a little on phantoms, in a process of its own.

`python -m tests.nnunet.trained FOLDER`: FOLDER gets nnU-Net's three folders (raw, preprocessed,
results) with PlainConvUNet and ResidualEncoderUNet trained in 2D and 3D. nnU-Net reads its folders
from the environment when it is imported, and leaves threads behind: hence the process.
"""

import json
import os
import sys
from pathlib import Path

DATASET = "Dataset501_Phantoms"
LABELS = {"background": 0, "lung": 1, "lesion": 2}
PLANNERS = {"nnUNetPlans": "ExperimentPlanner", "nnUNetResEncUNetMPlans": "nnUNetPlannerResEncM"}
CONFIGURATIONS = ("2d", "3d_fullres")
CASES = 5
ORIENTATION = "LPS"
WORKERS = "nnUNet_n_proc_DA"


def environment(folder: Path) -> dict[str, str]:
    """What nnU-Net reads from the environment."""
    names = {
        "raw": "nnUNet_raw",
        "preprocessed": "nnUNet_preprocessed",
        "results": "nnUNet_results",
    }
    return {
        **os.environ,
        **{variable: str(folder / name) for name, variable in names.items()},
        WORKERS: "1",  # the planner takes it for PyTorch's threads
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }


def write_raw(folder: Path) -> None:
    """A data set in nnU-Net's raw format: coarse phantoms, stored as their ORIENTATION says."""
    import numpy as np
    import SimpleITK

    from ctscribe.phantom.render import render_study, sample_study

    raw = folder / "raw" / DATASET
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    for seed in range(CASES):
        study = sample_study(seed, seed)
        rendered = render_study(study)
        step = (2, 2, 2)
        spacing = [mm * n for mm, n in zip(study.spacing_zyx_mm, step, strict=True)]
        cut = tuple(slice(None, None, n) for n in step)
        labels = (rendered.region_zyx > 0).byte()
        labels[rendered.lesion_zyx > 0] = 2
        for part, array, end in (
            ("imagesTr", np.rint(rendered.hu_zyx.numpy()).astype(np.int16), "_0000"),
            ("labelsTr", labels.numpy(), ""),
        ):
            image = SimpleITK.GetImageFromArray(array[cut])
            image.SetSpacing(spacing[::-1])
            image.SetDirection((-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
            image.SetOrigin((11.0, -7.0, 30.0 + seed))
            image = SimpleITK.DICOMOrient(image, ORIENTATION)
            SimpleITK.WriteImage(image, str(raw / part / f"phantom_{seed:03d}{end}.nii.gz"))
    described = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


def shrink(file: Path) -> None:
    """Edit the plans, as nnU-Net's users may, to what trains in seconds on a CPU."""
    plans = json.loads(file.read_text())
    for name in CONFIGURATIONS:
        configuration = plans["configurations"][name]
        configuration["batch_size"] = 2
        network = configuration["architecture"]["arch_kwargs"]
        network["features_per_stage"] = [n // 8 for n in network["features_per_stage"]]
        if "n_blocks_per_stage" in network:
            network["n_blocks_per_stage"] = [min(2, n) for n in network["n_blocks_per_stage"]]
    file.write_text(json.dumps(plans))


def train(folder: Path) -> None:
    """Plan, preprocess, and two iterations of training of each network."""
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(0)
    extract_fingerprints([501], num_processes=1)
    pre = folder / "preprocessed" / DATASET
    dataset = json.loads((folder / "raw" / DATASET / "dataset.json").read_text())
    for plans_name, planner in PLANNERS.items():
        plan_experiments([501], experiment_planner_class_name=planner, gpu_memory_target_in_gb=1)
        shrink(pre / f"{plans_name}.json")
        preprocess([501], plans_name, CONFIGURATIONS, (1, 1), 1)
        for configuration in CONFIGURATIONS:
            plans = json.loads((pre / f"{plans_name}.json").read_text())
            plans["continue_training"] = False
            os.environ[WORKERS] = "0"  # augment in this process
            trainer = nnUNetTrainer(plans, configuration, 0, dataset, torch.device("cpu"))
            trainer.num_epochs = 1
            trainer.num_iterations_per_epoch = 2
            trainer.num_val_iterations_per_epoch = 1
            trainer.run_training()
            os.environ[WORKERS] = "1"


if __name__ == "__main__":
    where = Path(sys.argv[1])
    os.environ.update(environment(where))
    write_raw(where)
    train(where)
