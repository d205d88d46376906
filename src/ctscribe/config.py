"""Every setting of every command, with its default, in one place.

Each command reads one frozen dataclass, each field one setting. `resolve.py` fills them from
flags, environment and YAML file; `settings.py` says what a setting is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ctscribe.errors import ConfigError
from ctscribe.model_config import ModelConfig as ModelConfig
from ctscribe.settings import Config, flag, setting

Language = Literal["zh", "en"]
Device = Literal["auto", "cpu", "cuda"]
Part = Literal["encoder", "llm"]
Backend = Literal["auto", "cuda", "torch", "mamba_ssm"]
BACKEND_VARIABLE = "CTSCRIBE_BACKEND"

# Names of what the commands write; scripts and launchers of old rely on the stage-2 ones.
ALIGN_CHECKPOINT = "vision_bridge_final.pt"
FINAL_CHECKPOINT = "vision_bridge_vlm_final.pt"
STAGE2_CONFIG = "stage2_config.json"
STAGE2_LOG = "stage2_train_log.csv"

_BACKEND = (
    "What runs Mamba's operators; auto takes our CUDA kernels where they can run, else torch."
)


@dataclass(frozen=True)
class Paths(Config):
    """Where things are: the top level of config/paths.yaml, beside the keys of `ModelConfig`."""

    caption_csv_train: Path | None = setting(None, "CSV of the training rows.")
    caption_csv_val: Path | None = setting(
        None, "CSV of the validation rows; empty sets patients of the training CSV aside."
    )
    caption_prompt_json: Path | None = setting(
        None, "JSON list of questions to ask where a row has none; empty uses the built-in ones."
    )
    nnunet_raw: Path | None = setting(None, "nnU-Net's nnUNet_raw folder.")
    nnunet_preprocessed: Path | None = setting(None, "nnU-Net's nnUNet_preprocessed folder.")
    nnunet_results: Path | None = setting(None, "nnU-Net's nnUNet_results folder.")
    nnunet_data: Path | None = setting(None, "Folder of the images that nnU-Net was trained on.")
    nnunet_encoder_checkpoint: Path | None = setting(
        None,
        "The pretrained encoder: a folder of ctscribe import-encoder, or nnU-Net's own checkpoint "
        "or trained-model folder; empty uses the bundled one (phantoms only).",
    )
    mamba_hf_model: Path | None = setting(
        None, "Local folder of the language model; empty uses the bundled one (phantoms only)."
    )


@dataclass(frozen=True)
class ImportEncoderConfig(Config):
    """`ctscribe import-encoder`: a trained nnU-Net becomes the encoder."""

    section = "import_encoder"

    path: Path | None = setting(
        None, "nnU-Net v2's checkpoint_*.pth, or the folder that holds plans.json and fold_*."
    )
    output_dir: Path = setting(Path("outputs/encoder"), "Folder for the imported encoder.")
    fold: str | None = setting(None, "Fold to read; left out, all or else the first there is.")
    checkpoint_name: str | None = setting(
        None, "Checkpoint of the fold; left out, checkpoint_final.pth or else checkpoint_best.pth."
    )
    orientation: str | None = setting(
        None,
        "How its training CTs were stored, such as LPS; left out, what its reader or the images in "
        "nnunet_raw say, else LPS.",
    )
    roi_class: str | None = setting(
        None, "Class that the local stream looks for; left out, one that is named like a lesion."
    )
    nnunet_raw: Path | None = setting(
        None, "nnU-Net's nnUNet_raw folder, to check the orientation.", key="nnunet_raw"
    )


@dataclass(frozen=True)
class TrainConfig(Config):
    """What both stages of training ask."""

    model: ModelConfig = field(default_factory=ModelConfig)
    csv_val: Path | None = setting(
        None,
        "CSV of the validation rows; left out, patients of the training CSV are set aside.",
        key="caption_csv_val",
    )
    val_ratio: float = setting(
        0.1, "Share of patients set aside where there is no validation CSV.", low=0.01, high=0.5
    )
    cache_dir: Path | None = setting(
        None, "Folder for prepared images; left out, output_dir/cache."
    )
    num_workers: int = setting(0, "Threads that prepare images; 0 uses one.", low=0, high=64)
    device: Device = setting("auto", "Where to train; auto takes the GPU if there is one.")
    backend: Backend = setting("auto", _BACKEND, env=BACKEND_VARIABLE)


@dataclass(frozen=True)
class AlignConfig(TrainConfig):
    """`ctscribe train align` and `train.py`: stage 1, which teaches the bridge to see."""

    section = "align"

    csv_train: Path | None = setting(None, "CSV of the training rows.", key="caption_csv_train")
    output_dir: Path = setting(Path("outputs"), "Folder for the checkpoint, the log and the gate.")
    epochs: int = setting(60, "Passes over the training rows.", low=1, high=10_000)
    batch_size: int = setting(16, "Studies a step.", low=1, high=1024)
    lr: float = setting(1e-3, "Peak learning rate.", low=1e-8, high=1.0)
    weight_decay: float = setting(0.02, "Weight decay of AdamW.", low=0, high=1)
    seed: int = setting(0, "Seed of weights, order and dropout.", low=0, high=2**31 - 1)
    gate_min_rank: float = setting(
        8.0, "Effective rank of the visual tokens that stage 2 needs.", low=0, high=4096
    )
    gate_min_auroc: float = setting(
        0.75, "Mean AUROC of the report's labels that stage 2 needs.", low=0, high=1
    )
    gate_min_retrieval: float = setting(
        0.3,
        "Retrieval of the right report that stage 2 needs: share of the way from chance to always.",
        low=0,
        high=1,
    )
    ignore_gate: bool = setting(
        False, "Exit 0 below the gate's thresholds too; the checkpoint still records the failure."
    )


@dataclass(frozen=True)
class CaptionConfig(TrainConfig):
    """`ctscribe train caption` and `train_vlm.py`: stage 2, which teaches it to write."""

    section = "caption"

    csv: Path | None = setting(None, "CSV of the training rows.", key="caption_csv_train")
    prompt_json: Path | None = setting(
        None,
        "JSON list of questions to ask where a row has none; left out, the built-in ones.",
        key="caption_prompt_json",
    )
    output_dir: Path = setting(Path("outputs"), "Folder for checkpoint, settings and log.")
    epochs: int = setting(
        30, "Passes over the training rows.", low=1, high=10_000, env="STAGE2_EPOCHS"
    )
    batch_size: int = setting(1, "Studies a forward pass.", low=1, high=1024)
    gradient_accumulation_steps: int = setting(
        1, "Forward passes a step of the optimiser.", low=1, high=1024
    )
    lr: float = setting(2e-5, "Peak learning rate.", low=1e-8, high=1.0)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", low=0, high=1)
    max_text_len: int = setting(
        512,
        "Most tokens of question and answer; the answer's end is cut.",
        low=16,
        high=8192,
        low_vram=256,
    )
    from_scratch: bool = setting(
        False, "Start from stage 1, not from the stage-2 checkpoint in output_dir."
    )
    vision_checkpoint: Path | None = setting(
        None, "Checkpoint of stage 1; left out, vision_bridge_final.pt in output_dir."
    )
    lora_rank: int = setting(
        0, "Rank of LoRA on the language model; 0 keeps it frozen.", low=0, high=256
    )
    llm_8bit: bool = setting(
        False, "Load the language model in 8 bits (CUDA and bitsandbytes).", env="LLM_8BIT"
    )
    llm_4bit: bool = setting(
        False, "Load it in 4 bits instead (CUDA and bitsandbytes).", env="LLM_4BIT"
    )
    gradient_checkpointing: bool = setting(
        True, "Recompute the language model's activations: slower, much less memory."
    )
    align_vocab: bool = setting(
        True, "Draw visual tokens to the language model's own words for each place as well."
    )
    save_every_steps: int = setting(
        500, "Steps between checkpoints; 0 saves at the end only.", low=0, high=10_000_000
    )
    log_every_steps: int = setting(10, "Steps between lines of the log.", low=1, high=10_000_000)
    ignore_gate: bool = setting(False, "Train although stage 1 failed its gate.")
    seed: int = setting(0, "Seed of order and dropout.", low=0, high=2**31 - 1)

    @property
    def final_checkpoint(self) -> Path:
        """Where stage 2 writes, and what it goes on from without `from_scratch`."""
        return self.output_dir / FINAL_CHECKPOINT

    @property
    def align_checkpoint(self) -> Path:
        """The checkpoint of stage 1."""
        return self.vision_checkpoint or self.output_dir / ALIGN_CHECKPOINT


@dataclass(frozen=True)
class ReportConfig(Config):
    """`ctscribe report IMAGE` and `scripts/check_image_to_text.py`."""

    section = "report"

    image: Path | None = setting(None, "Chest CT: NIfTI, NRRD or MHA, in HU.")
    checkpoint: Path = setting(Path("outputs") / FINAL_CHECKPOINT, "Checkpoint of stage 2.")
    output: Path = setting(Path("outputs/report.html"), "The page to write.")
    question: str | None = setting(
        None, "What to ask; left out, the built-in question of the language."
    )
    language: Language | None = setting(
        None, "Language of the built-in question; left out, the checkpoint's."
    )
    mask: Path | None = setting(
        None, "Mask on the image's grid: where RoIs are, and which slice is read in 2D."
    )
    roi_mm: str | None = setting(
        None,
        "Where RoIs are instead: x,y,z in the image's RAS+ mm, several separated by semicolons.",
    )
    max_visual_tokens: int | None = setting(
        None,
        "Visual tokens; left out, the checkpoint's; an error if it disagrees.",
        low=1,
        high=4096,
    )
    mamba_model: Path | None = setting(
        None, "Folder of the language model; left out, the checkpoint's; an error if it is another."
    )
    llm_device: Device = setting("auto", "Where the language model runs; auto takes the GPU.")
    backend: Backend = setting("auto", _BACKEND, env=BACKEND_VARIABLE)
    llm_8bit: bool = setting(
        False, "Load the language model in 8 bits (CUDA and bitsandbytes).", env="LLM_8BIT"
    )
    llm_4bit: bool = setting(
        False, "Load it in 4 bits instead (CUDA and bitsandbytes).", env="LLM_4BIT"
    )
    repetition_penalty: float = setting(
        1.0, "Above 1 makes repeated tokens less likely.", low=0.5, high=2.0
    )
    do_sample: bool = setting(False, "Draw tokens at random instead of taking the likeliest.")
    temperature: float = setting(
        0.7, "Of sampling: lower is closer to the likeliest.", low=0.01, high=5
    )
    top_p: float = setting(0.9, "Of sampling: share of probability to draw from.", low=0.01, high=1)
    no_repeat_ngram_size: int = setting(
        0, "Longest run of tokens that may not stand twice; 0 lets any.", low=0, high=64
    )
    num_beams: int = setting(
        1, "Beams of beam search, which goes without sampling; 1 is greedy.", low=1, high=64
    )
    stop: str | None = setting(None, "Text that ends the report and is cut off with what follows.")
    max_new_tokens: int = setting(320, "Most tokens of a report.", low=1, high=8192)
    seed: int = setting(0, "Seed of sampling.", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.do_sample and self.num_beams > 1:
            raise ConfigError(
                f"{flag('num_beams')} is {self.num_beams}, but beam search draws nothing",
                fix=f"leave {flag('num_beams')} or {flag('do_sample')} out",
            )


@dataclass(frozen=True)
class EvaluateConfig(Config):
    """`ctscribe evaluate`: reports for every row of a CSV, scored beside the controls."""

    section = "evaluate"

    checkpoint: Path = setting(Path("outputs") / FINAL_CHECKPOINT, "Checkpoint of stage 2.")
    csv: Path | None = setting(None, "CSV of held-out rows.", key="caption_csv_val")
    csv_train: Path | None = setting(
        None, "CSV of the training rows, for the nearest-report controls.", key="caption_csv_train"
    )
    truth: Path | None = setting(
        None, "Folder of exact truth (phantoms); left out, findings are read off the references."
    )
    output_dir: Path = setting(Path("outputs/evaluation"), "Folder for scores, reports and page.")
    cache_dir: Path | None = setting(
        None, "Folder for prepared images; left out, output_dir/cache."
    )
    controls: bool = setting(
        True, "Score blank, swapped, always-normal and nearest-report controls too."
    )
    n_boot: int = setting(1000, "Bootstrap samples of the 95 % intervals.", low=100, high=100_000)
    batch_size: int = setting(16, "Reports generated together.", low=1, high=1024)
    mamba_model: Path | None = setting(
        None, "Folder of the language model; left out, the checkpoint's; an error if it is another."
    )
    max_new_tokens: int = setting(320, "Most tokens of a report.", low=1, high=8192)
    no_repeat_ngram_size: int = setting(
        0, "Longest run of tokens that may not stand twice; 0 lets any.", low=0, high=64
    )
    num_beams: int = setting(1, "Beams of beam search; 1 is greedy.", low=1, high=64)
    device: Device = setting("auto", "Where to run; auto takes the GPU if there is one.")
    backend: Backend = setting("auto", _BACKEND, env=BACKEND_VARIABLE)
    num_workers: int = setting(0, "Threads that prepare images; 0 uses one.", low=0, high=64)
    seed: int = setting(0, "Seed of bootstrap and swaps.", low=0, high=2**31 - 1)


@dataclass(frozen=True)
class DemoConfig(Config):
    """`ctscribe demo`: everything on phantoms, end to end."""

    section = "demo"

    output_dir: Path = setting(Path("outputs/demo"), "Folder for data, checkpoints and page.")
    profile: Literal["demo", "small"] = setting(
        "demo", "demo takes up to 10 minutes on 2 cores, small under 3 and proves less."
    )
    from_nothing: bool = setting(
        False, "Make the encoder and the language model here too (45 minutes on 2 cores)."
    )
    parts_only: bool = setting(
        False, "With from_nothing: stop when the encoder and the language model are made."
    )
    language: Language = setting("zh", "Language of the reports.")
    train_studies: int | None = setting(
        None, "Studies to train on; left out, the profile's.", low=16, high=100_000
    )
    test_studies: int | None = setting(
        None, "Held-out studies to score; left out, the profile's.", low=8, high=10_000
    )
    seed: int = setting(0, "Seed of data and training.", low=0, high=999_999)
    device: Device = setting("auto", "Where to train; auto takes the GPU if there is one.")
    backend: Backend = setting("auto", _BACKEND, env=BACKEND_VARIABLE)
    workers: int | None = setting(
        None, "Processes that make phantoms; left out, one a core.", low=1, high=256
    )

    @property
    def ignore_gate(self) -> bool:
        """Where parts or alignment get minutes only, a failed gate is shown and not the end."""
        return self.profile == "small" or self.from_nothing


@dataclass(frozen=True)
class SplitConfig(Config):
    """`ctscribe split`: one CSV into training, validation and test rows, by patient."""

    section = "split"

    input: Path | None = setting(None, "CSV to split.")
    output_dir: Path | None = setting(None, "Folder for the parts; left out, the CSV's own.")
    val_ratio: float = setting(0.1, "Share of patients for validation.", low=0, high=0.9)
    test_ratio: float = setting(0.1, "Share of patients for the test.", low=0, high=0.9)
    folds: int = setting(
        0,
        "Instead of the ratios: this many folds, each patient in one's validation.",
        low=0,
        high=20,
    )
    stratify: bool = setting(True, "Spread each finding over the parts in proportion.")
    sampler_weights: bool = setting(
        False, "Add the column sample_weight to training rows: rare findings are drawn more often."
    )
    allow_similar_reports: bool = setting(
        False, "Accept nearly the same measured report in two parts, after looking at them."
    )
    seed: int = setting(0, "Seed of the split.", low=0, high=2**31 - 1)


@dataclass(frozen=True)
class LeaksConfig(Config):
    """`ctscribe leaks`: what parts that are divided already have in common."""

    section = "leaks"

    train: Path | None = setting(None, "CSV of training rows.")
    val: Path | None = setting(None, "CSV of validation rows.")
    test: Path | None = setting(None, "CSV of test rows.")
    allow_similar_reports: bool = setting(
        False, "Accept nearly the same measured report in two parts, after looking at them."
    )


@dataclass(frozen=True)
class DoctorConfig(Config):
    """`ctscribe doctor`: whether Mamba's operators are right on this machine."""

    section = "doctor"

    backend: Backend = setting("auto", _BACKEND, env=BACKEND_VARIABLE)


def bundled(part: Part) -> Path:
    """Folder of a pretrained part that ships with the package."""
    return Path(__file__).parent / "assets" / part


SECTIONS: dict[str, type[Config]] = {
    cls.section: cls
    for cls in (
        ModelConfig,
        ImportEncoderConfig,
        AlignConfig,
        CaptionConfig,
        ReportConfig,
        EvaluateConfig,
        DemoConfig,
        SplitConfig,
        LeaksConfig,
        DoctorConfig,
    )
}
