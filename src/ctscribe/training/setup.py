"""What every command that trains or runs the model needs first: device, parts, a progress bar."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctscribe.config import ImportEncoderConfig, ModelConfig, bundled
from ctscribe.errors import CheckpointError, ConfigError, DataError, TrainingError
from ctscribe.imaging.duplicates import equal_images
from ctscribe.imaging.orientation import agreed_orientation
from ctscribe.model.checkpoint import tensors_sha256
from ctscribe.model.cmi import CmiConfig
from ctscribe.model.encoder import Encoder, EncoderConfig
from ctscribe.model.encoders import FILE, load_encoder, save_encoder
from ctscribe.model.llm import LLM, load_llm
from ctscribe.model.nnunet import read_trained_model
from ctscribe.model.nnunet_encoder import NnunetConfig, NnunetEncoder, import_trained
from ctscribe.model.pooling import PoolingConfig
from ctscribe.model.streams import cost
from ctscribe.model.vlm import Vision, new_vision
from ctscribe.reports.language import QUESTIONS, SLOTS
from ctscribe.reports.schema import Language
from ctscribe.tables.leaks import check_leaks, refuse_leaks
from ctscribe.tables.manifest import Row, load_rows, split_by_patient
from ctscribe.training.data import Progress

USUAL_LUNGS_MM = (300.0, 240.0, 340.0)  # what is read of a CT, about, to tell what it costs
# A scan a quarter as wide as the language model: at 2,560 its weights and their optimiser's state
# are 0.1 GiB, and what it keeps of a token is a tenth of what a block of the model does.
CMI_NARROWER, CMI_NARROWEST = 4, 32


def pick_device(name: str) -> str:
    """`auto` is the GPU if there is one; asking for a GPU that is not there is a ConfigError."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is cuda, but this PyTorch finds no GPU",
            fix="install the CUDA build of PyTorch (docs/WINDOWS_CONDA_TRAIN.md), or --device cpu",
        )
    return name


def open_llm(
    config: ModelConfig, device: str, *, in_8bit: bool = False, in_4bit: bool = False
) -> LLM:
    """The language model of the settings: a local folder, or the bundled one."""
    return load_llm(
        config.mamba_model or bundled("llm"),
        device=device,
        load_in_8bit=in_8bit,
        load_in_4bit=in_4bit,
    )


def open_encoder(config: ModelConfig) -> tuple[Encoder | NnunetEncoder, str]:
    """The pretrained encoder of the settings, and the SHA-256 of its weights.

    The bundled kind, one that `ctscribe import-encoder` wrote, or nnU-Net's own checkpoint or
    trained-model folder, imported anew each time.
    """
    path = config.encoder or bundled("encoder")
    if (path / FILE).is_file():
        encoder = load_encoder(path)
    else:
        encoder = import_nnunet(path, ImportEncoderConfig(orientation=config.encoder_orientation))
    if encoder.config.spatial_dims != config.spatial_dims:
        raise ConfigError(
            f"spatial_dims is {config.spatial_dims}, but the encoder was trained in "
            f"{encoder.config.spatial_dims} dimensions",
            file=path,
            fix=f"set spatial_dims to {encoder.config.spatial_dims}, or give another encoder",
        )
    changed: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("spacing_zyx_mm", "window_hu")
        if getattr(config, name) is not None
    }
    if isinstance(encoder, Encoder):
        encoder.config = replace(encoder.config, **changed)
    elif changed:
        raise ConfigError(
            f"{' and '.join(changed)} cannot be set: an encoder imported from nnU-Net reads what "
            f"it was trained on ({encoder.config.dataset})",
            file=path,
            fix=f"leave {' and '.join(changed)} empty",
        )
    return encoder, encoder_sha256(encoder)


def import_nnunet(path: Path, config: ImportEncoderConfig) -> NnunetEncoder:
    """nnU-Net's checkpoint file or trained-model folder as an encoder; see `read_trained_model`.

    The orientation is the one that is asked for, else what the reader or the training images say,
    else LPS, as DICOM stores a CT. Raises ConfigError if the training images are stored otherwise.
    """
    fold = None if config.fold is None else [config.fold]
    trained = read_trained_model(path, fold, config.checkpoint_name)
    dataset = str(trained.plans.get("dataset_name"))
    orientation, why = agreed_orientation(
        str(trained.plans.get("image_reader_writer")),
        None if config.nnunet_raw is None else config.nnunet_raw / dataset / "imagesTr",
        config.orientation,
        file=trained.file,
    )
    encoder = import_trained(trained, orientation=orientation, roi_class=config.roi_class)
    show([f"images are turned to {orientation} for it ({why})"])
    return encoder


def run_import_encoder(config: ImportEncoderConfig) -> Path:
    """`ctscribe import-encoder`: nnU-Net's model to a folder that the settings can name."""
    if config.path is None:
        raise ConfigError(
            "no nnU-Net model is named", fix="give a checkpoint_*.pth or a trained-model folder"
        )
    encoder = import_nnunet(config.path, config)
    save_encoder(encoder, config.output_dir)
    show(encoder_lines(encoder.config))
    show([f"wrote {config.output_dir}; set nnunet_encoder_checkpoint to it"])
    return config.output_dir


def encoder_lines(config: NnunetConfig) -> list[str]:
    """What was imported, for people: network, stages, image."""
    recipe = config.recipe
    name = str(config.architecture["network_class_name"]).rpartition(".")[2]
    mean, std, low, high = recipe.intensity
    how = recipe.normalization
    if how == "CTNormalization":
        how += f": {low:g} to {high:g} HU, mean {mean:.1f}, std {std:.1f}"
    lines = [
        f"{name} in {config.spatial_dims} dimensions of {config.dataset}, {config.configuration}, "
        f"{config.trainer}, fold {config.fold}, {config.epoch} epochs",
        f"classes: {', '.join(config.classes)}; RoIs: {config.roi_class or 'none'}",
        f"images: {recipe.orientation}, {how}",
        f"{'stage':>6} {'features':>9} {'stride (z,y,x)':>15} {'mm':>20}",
    ]
    spacing = config.spacing_zyx_mm[-config.spatial_dims :]
    for stage, features in enumerate(config.channels):
        stride = config.stride_at(stage)
        mm = " x ".join(f"{s * n:.2f}" for s, n in zip(spacing, stride, strict=True))
        lines.append(f"{stage:>6} {features:>9} {','.join(map(str, stride)):>15} {mm:>20}")
    return lines


def encoder_sha256(encoder: Encoder | NnunetEncoder) -> str:
    """Identity of an encoder's weights as loaded."""
    return tensors_sha256({k: v.cpu() for k, v in encoder.state_dict().items()})


def start_vision(
    config: ModelConfig, encoder: Encoder | NnunetEncoder, llm: LLM, *, grades: bool = False
) -> Vision:
    """A new bridge, CMI and heads of the settings on a pretrained encoder."""
    return new_vision(
        encoder,
        pooling_of(config, encoder.config),
        llm_width=llm.width,
        embedding_rms=llm.embedding_rms,
        kind=config.bridge,
        width=config.bridge_width,
        layers=config.bridge_layers,
        max_visual_tokens=config.max_visual_tokens,
        cmi=cmi_config(config, llm.width),
        grades=grades,
    )


def cmi_config(config: ModelConfig, llm_width: int) -> CmiConfig | None:
    """The CMI of the settings, or None."""
    if not config.use_cmi:
        return None
    return CmiConfig(
        width=llm_width,
        inner=max(CMI_NARROWEST, llm_width // CMI_NARROWER),
        state=config.cmi_d_state,
        compress_to=config.cmi_compress_to,
        apart=len(SLOTS),
    )


def pooling_of(config: ModelConfig, encoder: EncoderConfig | NnunetConfig) -> PoolingConfig:
    """Which features of this encoder the settings choose."""
    dims = config.spatial_dims
    spacing = encoder.spacing_zyx_mm[-dims:]
    crop = config.local_crop_size_3d if dims == 3 else config.local_crop_size
    side = (config.roi_side,) * dims if config.roi_side else None
    own = (
        encoder.output_stage
        if isinstance(encoder, EncoderConfig)
        else min(2, len(encoder.channels) - 1)
    )
    return PoolingConfig(
        mode=config.ablation_mode,
        kind=config.pooling,
        size=config.grid_size if config.use_pooling else (),
        stages=config.encoder_output_stage or (),
        target=config.encoder_target_spatial,
        order=config.scan_order,
        classes=config.pooling == "grid" and config.use_segmentation,
        rois=config.local_rois,
        roi_source=config.roi_source,
        roi_side_mm=side or tuple(n * mm for n, mm in zip(crop, spacing, strict=True)),
        roi_cells=config.local_pool_size_3d if dims == 3 else config.local_pool_size,
        roi_stages=config.local_output_stage or (own,),
    )


def choice_lines(vision: Vision, studies: int) -> list[str]:
    """What a choice of features costs, to print before training."""
    config, choice, bridge = vision.encoder.config, vision.pooling, vision.bridge
    space = tuple(
        max(1, round(mm / step / n)) * n
        for mm, step, n in zip(
            USUAL_LUNGS_MM[-config.spatial_dims :],
            config.spacing_zyx_mm[-config.spatial_dims :],
            config.multiple,
            strict=True,
        )
    )
    spent = cost(choice, config, space)
    trained = sum(p.numel() for m in (bridge, vision.heads) for p in m.parameters())
    lines = [
        f"visual tokens: {choice.described()} = {spent.tokens}",
        f"encoder: about {spent.image_mib:.0f} MiB for an image of "
        f"{' x '.join(map(str, space))} voxels; kept of {studies} studies: "
        f"{spent.numbers * 4 * studies / 2**20:.1f} MiB",
        f"bridge and heads: {trained / 1e6:.1f} million parameters, "
        f"{trained * 16 / 2**20:.0f} MiB with gradients and AdamW",
    ]
    return lines


def describe_llm(llm: LLM, folder: Path | None) -> dict[str, Any]:
    """What identifies a language model: name, width, vocabulary, SHA-256 of its config."""
    path = folder or bundled("llm")
    config = path / "config.json"
    return {
        "name": "bundled" if folder is None else str(folder),
        "width": llm.width,
        "vocabulary": len(llm.unused_ids()),
        "config_sha256": hashlib.sha256(config.read_bytes()).hexdigest(),
    }


def check_llm(recorded: dict[str, Any], llm: LLM, folder: Path | None, checkpoint: Path) -> None:
    """Raise CheckpointError, showing both values, if the checkpoint was made with another LLM."""
    own = describe_llm(llm, folder)
    for key in ("width", "vocabulary", "config_sha256"):
        if recorded.get(key) != own[key]:
            raise CheckpointError(
                f"it was trained with the language model {recorded.get('name')} "
                f"({key} {str(recorded.get(key))[:12]}), not with {own['name']} "
                f"({key} {str(own[key])[:12]})",
                file=checkpoint,
                fix="give the language model that it was trained with (--mamba-model)",
            )


def add_lora(llm: LLM, rank: int, adapters: dict[str, Tensor], file: Path) -> None:
    """Put LoRA of `rank` on the language model's input projections; 0 leaves it frozen.

    `adapters` are those of the checkpoint that training goes on from, {} at the start.
    Raises CheckpointError if the checkpoint has adapters and the rank is 0, or they do not fit.
    """
    if not rank:
        if adapters:
            raise CheckpointError(
                "it was trained with LoRA, but lora_rank is 0",
                file=file,
                fix="give --lora-rank as when it was trained, or --from-scratch",
            )
        return
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    # PEFT refuses out_proj and conv1d on Mamba: their fused kernels bypass the module.
    # in_proj and x_proj are those of recurrent layers, the others those of attention.
    targets = ["in_proj", "x_proj", "q_proj", "v_proj"]
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), llm.model
    )
    if adapters:
        result: Any = set_peft_model_state_dict(llm.model, adapters)
        if result.unexpected_keys:
            raise CheckpointError(
                f"its LoRA adapters do not fit ({result.unexpected_keys[0]})",
                file=file,
                fix="give --lora-rank and --mamba-model as when it was trained",
            )


def lora_state(llm: LLM) -> dict[str, Tensor]:
    """The LoRA adapters on the language model, {} if there are none."""
    if not hasattr(llm.model, "peft_config"):
        return {}
    from peft import get_peft_model_state_dict

    state: dict[str, Tensor] = get_peft_model_state_dict(llm.model)
    return state


@contextmanager
def bar(title: str, total: int) -> Iterator[Progress]:
    """A rich progress bar; the callable advances it. Without a terminal it prints one line."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(title, total=total)
        yield lambda n: progress.advance(task, n)


def clip_gradient(parameters: Iterable[Tensor], most: float) -> None:
    """Scale gradients down to a norm of `most`.

    Raises TrainingError if they are not finite: one step of them leaves NaN in all weights.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, most)
    if not torch.isfinite(norm):
        raise TrainingError(
            f"the gradient became {float(norm)}; nothing was saved", fix="lower the learning rate"
        )


def in_percent(progress: Progress | None) -> Callable[[float], None]:
    """Moves a bar of 100 to a share (0 to 1) of the work."""
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        percent = min(100, int(100 * share))
        if progress is not None and percent > told:
            progress(percent - told)
            told = percent

    return tell


def open_rows(
    train: Path | None, val: Path | None, *, val_ratio: float, seed: int
) -> tuple[list[Row], list[Row]]:
    """Training and validation rows, by patient, checked for leaks between them.

    Without a validation table, patients of the training table are set aside. Raises ConfigError
    if no table is named, DataError if a row cannot be used or the two share a patient or an image;
    nearly the same reports are told only, as `ctscribe split` has asked about them.
    """
    if train is None:
        raise ConfigError(
            "no training CSV is named",
            fix="give --csv, or set caption_csv_train in config/paths.yaml",
        )
    rows = load_rows(train)
    if val is not None:
        held_out = load_rows(val)
    else:
        parts = split_by_patient(rows, val_ratio=val_ratio, test_ratio=0.0, seed=seed)
        rows, held_out = parts["train"], parts["val"]
    if not rows or not held_out:
        raise DataError(
            f"{len(rows)} training and {len(held_out)} validation rows: both must have some",
            file=train,
            fix="give a table of more patients, or a validation table of its own",
        )
    images = {row.image_path: row.case_id for row in (*rows, *held_out)}
    leaks = check_leaks({"train": rows, "val": held_out}, equal_images(images, bar=True))
    refuse_leaks(leaks, allow_similar_reports=True)
    if leaks:
        show(
            [
                f"note: {len(leaks)} pairs of nearly the same measured report stand in training "
                f"and validation, such as {leaks[0]}; ctscribe leaks lists them"
            ]
        )
    return rows, held_out


def ask(rows: Sequence[Row], prompt_json: Path | None, language: Language) -> list[Row]:
    """Rows, each with a question: its own, or else one of the prompts, in turn.

    prompt_json: a JSON list of questions; None is the built-in question of the language.
    Raises ConfigError if the file is not such a list.
    """
    prompts: list[str] = [QUESTIONS[language][0]]
    if prompt_json is not None:
        try:
            prompts = json.loads(prompt_json.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the prompts cannot be read ({error})",
                file=prompt_json,
                fix="correct caption_prompt_json, or leave it empty",
            ) from error
        if not isinstance(prompts, list) or not all(isinstance(p, str) and p for p in prompts):
            raise ConfigError(
                "the prompts are no list of questions",
                file=prompt_json,
                fix='write a JSON list such as ["请描述这例胸部CT。"]',
            )
    return [
        row if row.question else replace(row, question=prompts[i % len(prompts)])
        for i, row in enumerate(rows)
    ]


def show(lines: Sequence[str]) -> None:
    """Print what a step produced, at once."""
    for line in lines:
        print(line, flush=True)
