"""The command line: spelling of flags, help, one-line errors, exit codes, and the old scripts."""

import runpy
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ctscribe import cli
from ctscribe.config import (
    AlignConfig,
    CaptionConfig,
    DemoConfig,
    EvaluateConfig,
    LeaksConfig,
    ModelConfig,
    ReportConfig,
    SplitConfig,
)
from ctscribe.errors import CheckpointError, GenerationError
from ctscribe.evaluation.segment import SegmentOptions
from ctscribe.imaging.contours import ContoursOptions
from ctscribe.intake.check_options import CheckOptions
from ctscribe.intake.import_options import ImportOptions
from ctscribe.intake.public import DatasetOptions
from ctscribe.settings import Config, flag, options
from ctscribe.tables.clean import CleanOptions
from ctscribe.tables.excel import ExcelOptions

REPO = Path(__file__).parents[1]
COMMANDS: dict[str, tuple[type[Config], str, str]] = {
    "demo": (DemoConfig, "ctscribe.evaluation.demo", "run_demo"),
    "train align": (AlignConfig, "ctscribe.training.align", "run_align"),
    "train caption": (CaptionConfig, "ctscribe.training.caption", "run_caption"),
    "report": (ReportConfig, "ctscribe.evaluation.report", "run_report"),
    "evaluate": (EvaluateConfig, "ctscribe.evaluation.run", "run_evaluate"),
    "check": (CheckOptions, "ctscribe.intake.check", "run_check"),
    "clean": (CleanOptions, "ctscribe.intake.clean", "run_clean"),
    "excel": (ExcelOptions, "ctscribe.tables.excel", "run_excel"),
    "split": (SplitConfig, "ctscribe.intake.split", "run_split"),
    "leaks": (LeaksConfig, "ctscribe.intake.leaks", "run_leaks"),
    "import-dicom": (ImportOptions, "ctscribe.intake.import_dicom", "run_import"),
    "import-dataset": (DatasetOptions, "ctscribe.intake.public", "run_import_dataset"),
    "contours": (ContoursOptions, "ctscribe.imaging.contours", "run_contours"),
    "segment": (SegmentOptions, "ctscribe.evaluation.segment", "run_segment"),
}
ENVIRONMENT = (
    "MAMBA_MODEL",
    "STAGE2_EPOCHS",
    "LOW_VRAM",
    "LLM_8BIT",
    "LLM_4BIT",
    "CTSCRIBE_BACKEND",
)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return int(stop.value.code or 0)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What the commands would have been run with; no command does its work."""
    seen: list[Any] = []
    for cls, module, function in COMMANDS.values():
        if module.startswith("ctscribe.tables.") or cls.__module__ == module:
            monkeypatch.setattr(f"{module}.{function}", seen.append)
            continue
        stub = types.ModuleType(module)  # the real ones take seconds to import
        setattr(stub, function, seen.append)
        monkeypatch.setitem(sys.modules, module, stub)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return seen


@pytest.fixture(autouse=True)
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends that commands chose; none is in force after a test."""
    names: list[str] = []
    stub = types.ModuleType("ctscribe.ops.backend")
    stub.choose = names.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctscribe.ops.backend", stub)
    return names


def run_script(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(REPO / script), run_name="__main__")
    return int(stop.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_flag_with_its_default(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command.split(), "--help") == 0
    shown = capsys.readouterr().out
    flat = "".join(shown.split())
    cls = COMMANDS[command][0]
    every = dict(options(cls))
    if hasattr(cls(), "model"):
        every |= {k: o for k, o in options(ModelConfig).items() if not o.setting.file_only}
    for option in every.values():
        assert f"\n  {flag(option.name)} " in shown
        assert option.setting.help.replace(" ", "") in flat
        if option.setting.range and option.kind is int and option.default is not None:
            note = f"(default {option.default}; {option.setting.range}"
            assert note.replace(" ", "") in flat
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command.split()[0]} " in shown
    assert "..." not in shown.split("Commands:")[1]
    assert "Not for clinical" in shown


def test_dashes_and_underscores_are_the_same(called: list[Any]) -> None:
    old = "--max_text_len 300 --no_gradient_checkpointing --llm_8bit --max_visual_tokens 80"
    new = old.replace("_", "-")
    assert run("train", "caption", *old.split()) == 0
    assert run("train", "caption", *new.split()) == 0
    assert called[0] == called[1]
    assert called[0] == CaptionConfig(
        model=ModelConfig(max_visual_tokens=80),
        max_text_len=300,
        gradient_checkpointing=False,
        llm_8bit=True,
    )


def test_values_keep_their_underscores(called: list[Any]) -> None:
    assert run("report", "a_b.nii.gz", "--checkpoint", "c_d.pt", "--language=en") == 0
    assert called == [
        ReportConfig(image=Path("a_b.nii.gz"), checkpoint=Path("c_d.pt"), language="en")
    ]


def test_flags_of_decoding(called: list[Any]) -> None:
    flags = ("--num-beams", "4", "--no-repeat-ngram-size", "3")
    assert run("report", "a.nii.gz", *flags, "--stop", "x, 结论") == 0
    assert run("evaluate", *flags) == 0
    both = {"num_beams": 4, "no_repeat_ngram_size": 3}
    assert called == [
        ReportConfig(image=Path("a.nii.gz"), stop="x, 结论", **both),
        EvaluateConfig(**both),
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_flags_a_command_gets_the_defaults(command: str, called: list[Any]) -> None:
    assert run(*command.split()) == 0
    assert called == [COMMANDS[command][0]()]


def test_flags_beat_file_and_environment(
    called: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text("caption: {epochs: 3, batch_size: 5, seed: 9}")
    monkeypatch.setenv("STAGE2_EPOCHS", "4")
    assert run("train", "caption", "--config", "my.yaml", "--batch_size", "6") == 0
    assert called == [CaptionConfig(epochs=4, batch_size=6, seed=9)]
    assert run("train", "caption", "--config", "my.yaml", "--epochs", "5") == 0
    assert called[1].epochs == 5


@pytest.mark.parametrize(
    "command", ["demo", "train align", "train caption", "report", "evaluate", "doctor"]
)
def test_the_backend_is_chosen_before_a_command_computes(
    command: str, called: list[Any], chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    if command == "doctor":
        module, function = "ctscribe.ops.doctor", "run_doctor"
    else:
        _, module, function = COMMANDS[command]
    stub = types.ModuleType(module)
    setattr(stub, function, lambda *config: ran.append(list(chosen)) or True)
    monkeypatch.setitem(sys.modules, module, stub)
    words = command.split()
    assert run(*words, "--backend", "torch") == 0
    assert run(*words) == 0  # the choice of an earlier command is not kept
    monkeypatch.setenv("CTSCRIBE_BACKEND", "cuda")
    assert run(*words) == 0
    assert ran == [["torch"], ["torch", "auto"], ["torch", "auto", "cuda"]]
    assert run(*words, "--backend", "triton") == 2
    assert len(ran) == len(chosen) == 3


def test_commands_on_tables_choose_no_backend(called: list[Any], chosen: list[str]) -> None:
    for command in ("clean", "excel", "split"):
        assert run(command) == 0
        assert run(command, "--backend", "torch") == 2
    assert not chosen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("report x.nii.gz --backend gpu", ["--backend is 'gpu'", "auto, cuda, torch, mamba_ssm"]),
        ("train caption --lr 7", ["--lr is 7", "1e-08 to 1"]),
        ("train caption --max_visual_tokens 0", ["--max-visual-tokens is 0", "1 to 4096"]),
        ("train align --batch-size -3", ["--batch-size is -3", "1 to 1024"]),
        ("report x.nii.gz --llm_device gpu", ["--llm-device is 'gpu'", "auto, cpu, cuda"]),
        ("report x.nii.gz --top_p two", ["--top-p is 'two'", "a number from 0.01 to 1"]),
        ("demo --config none.yaml", ["none.yaml", "no such file"]),
        ("clean --require_keywords (", ["--require-keywords is '('", "regular expression"]),
        ("excel --val_ratio 1", ["--val-ratio is 1", "0 to 0.9"]),
        ("demo --seed 1000000", ["--seed is 1000000", "0 to 999999"]),
    ],
)
def test_what_the_user_can_put_right_is_one_line_and_exit_code_2(
    arguments: str, words: list[str], called: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    for word in words:
        assert word in shown.err
    assert not called


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("it is\nbroken", file="a.pt", fix="train again"),
        GenerationError("nothing was generated", case="17", fix="look at it"),
    ],
)
def test_errors_of_the_commands_are_one_line_too(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(config: Any) -> None:
        raise error

    stub = types.ModuleType("ctscribe.evaluation.report")
    stub.run_report = broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctscribe.evaluation.report", stub)
    assert run("report", "a.nii.gz") == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_unexpected_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: Any) -> None:
        raise ZeroDivisionError("a bug")

    stub = types.ModuleType("ctscribe.evaluation.demo")
    stub.run_demo = broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctscribe.evaluation.demo", stub)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["demo"])


@pytest.mark.parametrize(
    "arguments",
    ["train caption --lrr 1", "train", "nonsense", "report a --image b", "train caption extra", ""],
)
def test_usage_errors_exit_with_2(arguments: str, called: list[Any]) -> None:
    assert run(*arguments.split()) == 2
    assert not called


def test_version_and_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("ctscribe 0.")
    assert run("info") == 0
    shown = capsys.readouterr().out
    for word in ("Python", "PyTorch", "CUDA", "settings", "bundled encoder", "bundled llm"):
        assert word in shown


def test_python_m_ctscribe(monkeypatch: pytest.MonkeyPatch, called: list[Any]) -> None:
    monkeypatch.setattr(sys, "argv", ["ctscribe", "demo", "--seed", "5"])
    with pytest.raises(SystemExit):
        runpy.run_module("ctscribe", run_name="__main__")
    assert called == [DemoConfig(seed=5)]


def test_train_py_is_stage_1(called: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_script(monkeypatch, "train.py") == 0
    assert called == [AlignConfig()]


def test_train_vlm_py_takes_every_old_flag(
    called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = """--epochs 3 --batch_size 2 --lr 1e-5 --max_visual_tokens 64 --max_text_len 256
        --gradient_accumulation_steps 8 --mamba_model /models/mamba-2.8b-hf --from_scratch
        --vision_checkpoint s1.pt --llm_8bit --no_gradient_checkpointing --num_workers 4
        --save_every_steps 50 --log_every_steps 5 --csv a.csv --output_dir out --align_vocab"""
    assert run_script(monkeypatch, "train_vlm.py", *old.split()) == 0
    assert called == [
        CaptionConfig(
            model=ModelConfig(max_visual_tokens=64, mamba_model=Path("/models/mamba-2.8b-hf")),
            epochs=3,
            batch_size=2,
            lr=1e-5,
            max_text_len=256,
            gradient_accumulation_steps=8,
            from_scratch=True,
            vision_checkpoint=Path("s1.pt"),
            llm_8bit=True,
            gradient_checkpointing=False,
            num_workers=4,
            save_every_steps=50,
            log_every_steps=5,
            csv=Path("a.csv"),
            output_dir=Path("out"),
            align_vocab=True,
        )
    ]
    assert run_script(monkeypatch, "train_vlm.py", "--gradient_checkpointing") == 0
    assert called[1] == CaptionConfig()


def test_check_image_to_text_takes_every_old_flag(
    called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = """--checkpoint c.pt --image a.nii.gz --max_visual_tokens 96 --mamba_model m
        --llm_device cpu --llm_8bit --repetition_penalty 1.2 --do_sample --temperature 0.5
        --top_p 0.8 --max_new_tokens 99"""
    assert run_script(monkeypatch, "scripts/check_image_to_text.py", *old.split()) == 0
    assert called == [
        ReportConfig(
            checkpoint=Path("c.pt"),
            image=Path("a.nii.gz"),
            max_visual_tokens=96,
            mamba_model=Path("m"),
            llm_device="cpu",
            llm_8bit=True,
            repetition_penalty=1.2,
            do_sample=True,
            temperature=0.5,
            top_p=0.8,
            max_new_tokens=99,
        )
    ]


def test_clean_caption_csv_takes_every_old_flag(
    called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = """--input a.csv --output b.csv --dry_run --drop_missing_paths --min_answer_chars 10
        --require_keywords 肺|胸 --drop_generic_only --force_numbered_prefix
        --keep_line_regex 结节 --drop_line_regex 电话 --thorax_only"""
    assert run_script(monkeypatch, "scripts/clean_caption_csv.py", *old.split()) == 0
    assert called == [
        CleanOptions(
            input=Path("a.csv"),
            output=Path("b.csv"),
            dry_run=True,
            drop_missing_paths=True,
            min_answer_chars=10,
            require_keywords="肺|胸",
            drop_generic_only=True,
            force_numbered_prefix=True,
            keep_line_regex="结节",
            drop_line_regex="电话",
            thorax_only=True,
        )
    ]


def test_excel_total_to_caption_csv_takes_every_old_flag(
    called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = """--excel a.xlsx --out_dir out --pairs_csv p.csv --pairs_id_col 检查号
        --pairs_path_col path --sheet_index 1 --val_ratio 0.2 --min_answer_chars 10
        --require_keywords 肺 --force_numbered_prefix"""
    script = "scripts/excel_total_to_caption_csv.py"
    assert run_script(monkeypatch, script, *old.split(), "--answer_prefix", "报告： ") == 0
    assert called == [
        ExcelOptions(
            excel=Path("a.xlsx"),
            out_dir=Path("out"),
            pairs_csv=Path("p.csv"),
            pairs_id_col="检查号",
            pairs_path_col="path",
            sheet_index=1,
            val_ratio=0.2,
            answer_prefix="报告： ",
            min_answer_chars=10,
            require_keywords="肺",
            force_numbered_prefix=True,
        )
    ]
    assert run_script(monkeypatch, script, "--excel", "a.xlsx", "--image_root", "ct") == 0
    assert called[1] == ExcelOptions(excel=Path("a.xlsx"), image_root=Path("ct"))
    assert run_script(monkeypatch, script, "--answer_prefix", "") == 0
    assert called[2] == ExcelOptions()
    both = ("--image_root", "ct", "--pairs_csv", "p.csv")
    assert run_script(monkeypatch, script, *both) == 2


def test_fetch_sample_names_the_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[Path | None] = []

    def fetch_sample(cache_dir: Path | None = None) -> Any:
        asked.append(cache_dir)
        return types.SimpleNamespace(ct=tmp_path / "ct.nii.gz", heart=tmp_path / "heart.nii.gz")

    stub = types.ModuleType("ctscribe.imaging.sample")
    stub.fetch_sample = fetch_sample  # type: ignore[attr-defined]
    case = types.SimpleNamespace(ct=tmp_path / "1.nrrd", mask=tmp_path / "mask.nrrd")
    stub.fetch_tumours = lambda _: [case]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctscribe.imaging.sample", stub)
    assert run("fetch_sample") == 0
    assert run("fetch-sample", "--cache_dir", str(tmp_path)) == 0
    assert asked == [None, tmp_path]
    assert str(tmp_path / "ct.nii.gz") in capsys.readouterr().out
    assert run("fetch-sample", "--tumours") == 0
    assert f"tumour mask: {case.mask}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("system", "given", "after"),
    [("nt", None, "TRUE"), ("nt", "FALSE", "FALSE"), ("posix", None, None)],
)
def test_openmp_duplicates_are_allowed_on_windows_only(
    system: str, given: str | None, after: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {} if given is None else {"KMP_DUPLICATE_LIB_OK": given}
    monkeypatch.setattr(cli, "os", types.SimpleNamespace(name=system, environ=environ))
    cli.prepare_process()
    assert environ.get("KMP_DUPLICATE_LIB_OK") == after
