"""What the documents tell people to type exists: commands, scripts, flags, files, defaults."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from ctscribe import cli
from ctscribe.config import CaptionConfig, ModelConfig
from ctscribe.ops import backend, code_cache, nvrtc
from ctscribe.problems import KINDS
from ctscribe.settings import options

REPO = Path(__file__).parents[1]
READMES = [REPO / "README.md", REPO / "README.zh-CN.md"]
DOCS = [*READMES, *sorted((REPO / "docs").glob("*.md"))]
SHIMS = {
    "train.py": "train align",
    "train_vlm.py": "train caption",
    "scripts/clean_caption_csv.py": "clean",
    "scripts/excel_total_to_caption_csv.py": "excel",
    "scripts/check_image_to_text.py": "report",
}


def flags_of(command: str) -> set[str]:
    group = typer.main.get_command(cli.app)
    for word in command.split():
        assert word in group.commands, f"no command {command}"  # type: ignore[attr-defined]
        group = group.commands[word]  # type: ignore[attr-defined]
    return {o for p in group.params for o in (*p.opts, *p.secondary_opts)}


def flags_of_script(path: str) -> set[str]:
    """Of a benchmark: they take their own flags."""
    text = (REPO / path).read_text(encoding="utf-8")
    return set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', text))


def typed(file: Path) -> list[str]:
    """Lines of the code blocks, and what is typed in running text and tables."""
    text = file.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|powershell|bat)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "rem "))]


def words_of(line: str) -> list[str]:
    return shlex.split(re.split(r"&&|;", line)[-1].strip(" }").replace("\\", "/"))


@pytest.mark.parametrize("file", DOCS, ids=lambda f: f.name)
def test_every_command_line_could_be_run(file: Path) -> None:
    for line in typed(file):
        words = words_of(line)
        if words[0] == "python" and words[1].endswith(".py"):
            assert (REPO / words[1]).is_file(), line
            if words[1].startswith("benchmarks/"):
                given = {w for w in words if w.startswith("--")}
                assert given <= flags_of_script(words[1]), line
                continue
            command = SHIMS[words[1]]
        elif words[0].startswith("./run_stage2_"):
            assert (REPO / words[0]).is_file(), line
            command = "train caption"
        elif words[0].endswith("ctscribe"):
            group = words[1] == "train"
            command = " ".join(words[1 : 3 if group else 2])
        else:
            continue
        given = {w.replace("_", "-") for w in words if w.startswith("--")}
        assert given <= flags_of(command), line


@pytest.mark.parametrize("file", DOCS, ids=lambda f: f.name)
def test_every_flag_that_is_mentioned_exists(file: Path) -> None:
    every = {"--help"}
    app = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    own = [name for name in app if name != "train"]
    for command in (*own, *SHIMS.values()):
        every |= flags_of(command)
    text = file.read_text(encoding="utf-8")
    for script in re.findall(r"python (benchmarks/\w+\.py)", text):
        every |= flags_of_script(script)
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
    assert {m.replace("_", "-") for m in mentioned} <= every


@pytest.mark.parametrize("file", DOCS, ids=lambda f: f.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), target


def test_backends_variables_architectures_and_extras_are_the_ones_there_are() -> None:
    stage2 = (REPO / "docs" / "STAGE2_AND_PYTORCH.md").read_text(encoding="utf-8")
    section = stage2.split("## What runs where")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert {"auto", *rows} == set(backend.NAMES)
    oldest, newest = nvrtc.ARCHITECTURES[0], nvrtc.ARCHITECTURES[-1]
    assert f"sm_{oldest} to sm_{newest}" in section
    texts = [file.read_text(encoding="utf-8") for file in DOCS]
    variables = {name for text in texts for name in re.findall(r"CTSCRIBE_[A-Z_]+", text)}
    assert variables == {backend.VARIABLE, code_cache.ENV}
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for text in texts for name in re.findall(r'-e "\.\[(\w+)\]"', text)}
    assert extras == set(project["optional-dependencies"])


def test_the_guide_gives_the_defaults_of_stage_2() -> None:
    text = (REPO / "docs" / "WINDOWS_CONDA_TRAIN.md").read_text(encoding="utf-8")
    section = text.split("## 7.")[1].split("### ")[0]
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|", section, re.MULTILINE)
    known = {**options(CaptionConfig), **options(ModelConfig)}
    seen = set()
    for names, default in rows:
        name = re.findall(r"--(\w+)", names)[0]
        option = known[name]
        shown = {"关": "False", "开": "True"}.get(default, default.strip("`"))
        if shown not in ("paths.yaml", "vision_bridge_final.pt"):
            same = float(shown) == option.default if shown[0].isdigit() else None
            assert same or shown == str(option.default), name
        seen.add(name)
    assert len(seen) >= 18


@pytest.mark.parametrize("readme", READMES, ids=lambda f: f.name)
def test_each_readme_has_the_two_commands_for_three_shells(readme: Path) -> None:
    lines = [line for line in typed(readme) if "-m venv .venv" in line]
    assert len(lines) == 6
    for part in ("-c constraints.txt", "pip install"):
        assert all(part in line for line in lines)
    assert sum("ctscribe demo" in line for line in lines) == 3
    assert sum("-m pytest" in line and '".[test]"' in line for line in lines) == 3
    # Windows PowerShell 5.1 has no &&.
    powershell = [line for line in lines if "if ($?)" in line]
    assert len(powershell) == 2
    assert not any("&&" in line for line in powershell)
    assert lines == [line for line in typed(READMES[0]) if "-m venv .venv" in line]


def test_ci_runs_the_readmes_test_command_to_the_letter() -> None:
    linux = [line for line in typed(READMES[0]) if "bin/python -m pytest" in line]
    assert len(linux) == 1
    steps = (REPO / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert steps[-1] == linux[0]


def test_what_data_md_says_of_messages_and_bad_inputs_is_what_the_code_has() -> None:
    from benchmarks import data_page

    text = data_page.PAGE.read_text(encoding="utf-8")
    assert data_page.page(text) == text, "run python benchmarks/data_page.py"
    assert all(f"`{code}`" in text for code in KINDS)
