"""`ctscribe segment`: a trained nnU-Net marks what it knows in a CT, then `contours` measures it.

nnU-Net's own code reads the image, prepares it, slides its window over it and brings the answer
back to the image's grid. Only its loading of checkpoints is not used: it unpickles freely.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctscribe.config import Device
from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.files import replacing
from ctscribe.imaging.contours import MIN_MM3_HELP, label_names, write_contours
from ctscribe.resolve import require
from ctscribe.settings import Config, setting

if TYPE_CHECKING:
    from ctscribe.imaging.nodules import Nodule
    from ctscribe.model.nnunet import TrainedNnunet

SEGMENTATION = "segmentation.nii.gz"


@dataclass(frozen=True)
class SegmentOptions(Config):
    """`ctscribe segment IMAGE`."""

    section = "segment"

    image: Path | None = setting(None, "Chest CT: NIfTI, NRRD or MHA, in HU.")
    nnunet_model: Path | None = setting(
        None, "Folder of the trained nnU-Net: plans.json, dataset.json, fold_0 and so on."
    )
    folds: str = setting("all", "Folds to average, such as 0,1; all takes every one there is.")
    checkpoint: str | None = setting(
        None, "Name of the checkpoint in each fold; left out, checkpoint_final.pth."
    )
    output_dir: Path = setting(
        Path("outputs/segment"), "Folder for segmentation, table and pictures."
    )
    min_mm3: float = setting(0.0, MIN_MM3_HELP, low=0, high=1_000_000)
    device: Device = setting("auto", "Where to run; auto takes the GPU if there is one.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"all|\d+(,\d+)*", self.folds):
            raise ConfigError(f"--folds is {self.folds!r}", fix="give numbers such as 0,1, or all")


def run_segment(config: SegmentOptions) -> list[Nodule]:
    """Write the segmentation and what `contours` writes; finding nothing is no error.

    Raises ConfigError without nnunetv2, CheckpointError for a model that cannot be used as it is,
    ImageError for the image.
    """
    image, folder = require(config, "image"), require(config, "nnunet_model")
    if importlib.util.find_spec("nnunetv2") is None:
        raise ConfigError(
            "nnU-Net is not installed, and ctscribe segment runs its predictor",
            fix='pip install -c constraints.txt -e ".[nnunet]"; a mask goes to ctscribe contours',
        )
    from ctscribe.imaging.nifti import read_mask, read_volume
    from ctscribe.model.nnunet import read_trained_model
    from ctscribe.training.setup import pick_device

    device = pick_device(config.device)
    volume = read_volume(image)
    trained = read_trained_model(folder, folds_of(folder, config.folds), config.checkpoint)
    print(
        f"nnU-Net {trained.configuration}, fold {', '.join(trained.folds)}, on {device}", flush=True
    )
    config.output_dir.mkdir(parents=True, exist_ok=True)
    output = config.output_dir / SEGMENTATION
    with redirect_stdout(sys.stderr):  # nnU-Net talks
        predict(trained, image, output, device)
    labels = read_mask(output, like=volume)
    print(f"wrote {output}", flush=True)
    return write_contours(
        volume,
        labels,
        config.output_dir,
        names=label_names(trained.dataset),
        min_mm3=config.min_mm3,
        image=image,
    )


def folds_of(model: Path, wanted: str) -> list[str]:
    """Names of folds; `all` is every numbered one as in nnU-Net, [] if there is none."""
    if wanted != "all":
        return wanted.split(",")
    numbered = (folder.name.removeprefix("fold_") for folder in model.glob("fold_*"))
    return sorted(name for name in numbered if name.isdigit())


def predict(trained: TrainedNnunet, image: Path, output: Path, device: str) -> None:
    """Segment a file as nnU-Net does and write `output` (.nii.gz) on the file's own grid.

    Raises CheckpointError as `build_network` does, and for a model whose reader is not of NIfTI.
    """
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from ctscribe.imaging.nifti import stored_as
    from ctscribe.model.nnunet import build_network

    networks = [build_network(trained, fold=i) for i in range(len(trained.folds))]
    plans: Any = PlansManager(trained.plans)
    reader = plans.image_reader_writer_class()
    if ".nii.gz" not in reader.supported_file_endings:
        raise CheckpointError(
            f"its images are read by {type(reader).__name__}, which knows no NIfTI",
            file=trained.file,
            fix="give an nnU-Net that was trained on CTs as NIfTI, NRRD or MHA",
        )
    predictor = nnUNetPredictor(device=torch.device(device))
    predictor.manual_initialization(
        networks[0],
        plans,
        plans.get_configuration(trained.configuration),
        [network.state_dict() for network in networks],
        trained.dataset,
        trained.trainer,
        trained.mirror_axes,
    )
    with tempfile.TemporaryDirectory(prefix="ctscribe-") as scratch:
        ending = trained.dataset.get("file_ending", ".nii.gz")
        stored = stored_as(image, ending, Path(scratch))
        array, properties = reader.read_images([str(stored)])
        labels = predictor.predict_single_npy_array(array, properties)
    with replacing(output) as part:
        reader.write_seg(labels, str(part), properties)
