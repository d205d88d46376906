"""What users and their scripts rely on: a change here is a change for them, made on purpose."""

import importlib
import inspect
import pickle
from importlib import metadata

import pytest
import typer

import ctscribe
from ctscribe import cli, config, errors
from ctscribe.settings import Config


def test_names_of_the_package() -> None:
    assert ctscribe.__all__ == ["__version__"]
    assert metadata.version("ctscribe") == ctscribe.__version__


def test_commands() -> None:
    app = typer.main.get_command(cli.app)
    assert sorted(app.commands) == [  # type: ignore[attr-defined]
        *(
            "check",
            "clean",
            "contours",
            "demo",
            "doctor",
            "evaluate",
            "excel",
            "fetch-sample",
            "import-dataset",
            "import-dicom",
            "import-encoder",
            "info",
            "leaks",
        ),
        *("report", "segment", "split", "train"),
    ]
    train = app.commands["train"]  # type: ignore[attr-defined]
    assert sorted(train.commands) == ["align", "caption"]
    entry = next(e for e in metadata.entry_points(group="console_scripts") if e.name == "ctscribe")
    assert entry.value == "ctscribe.cli:main"


def test_names_of_files() -> None:
    assert config.FINAL_CHECKPOINT == "vision_bridge_vlm_final.pt"
    assert config.STAGE2_CONFIG == "stage2_config.json"
    assert config.STAGE2_LOG == "stage2_train_log.csv"
    assert str(config.AlignConfig().output_dir) == "outputs"
    assert config.DemoConfig().output_dir.as_posix() == "outputs/demo"


def test_error_tree() -> None:
    tree = {
        name: value.__mro__[1].__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.CtscribeError)
    }
    assert tree == {
        "CtscribeError": "Exception",
        "ConfigError": "CtscribeError",
        "DataError": "CtscribeError",
        "ImageError": "DataError",
        "CheckpointError": "CtscribeError",
        "GateError": "CtscribeError",
        "TrainingError": "CtscribeError",
        "KernelError": "CtscribeError",
        "GenerationError": "CtscribeError",
    }
    assert errors.CtscribeError.exit_code == 2


def test_an_error_comes_whole_out_of_a_worker_process() -> None:
    error = errors.ImageError("it is empty", fix="export it again", case="A1", file="a.nii.gz")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.ImageError
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("module", "function", "cls"),
    [
        ("evaluation.demo", "run_demo", "DemoConfig"),
        ("evaluation.run", "run_evaluate", "EvaluateConfig"),
        ("evaluation.segment", "run_segment", "SegmentOptions"),
        ("imaging.contours", "run_contours", "ContoursOptions"),
        ("intake.import_dicom", "run_import", "ImportOptions"),
        ("intake.check", "run_check", "CheckOptions"),
        ("evaluation.report", "run_report", "ReportConfig"),
        ("intake.clean", "run_clean", "CleanOptions"),
        ("tables.excel", "run_excel", "ExcelOptions"),
        ("intake.leaks", "run_leaks", "LeaksConfig"),
        ("intake.split", "run_split", "SplitConfig"),
        ("intake.public", "run_import_dataset", "DatasetOptions"),
        ("training.align", "run_align", "AlignConfig"),
        ("training.caption", "run_caption", "CaptionConfig"),
    ],
)
def test_each_command_has_its_function(module: str, function: str, cls: str) -> None:
    run = getattr(importlib.import_module(f"ctscribe.{module}"), function)
    (parameter,) = inspect.signature(run).parameters.values()
    assert parameter.annotation == cls
    assert issubclass(cli.SETTINGS[_section(cls)], Config)


def _section(cls: str) -> str:
    return next(name for name, known in cli.SETTINGS.items() if known.__name__ == cls)
