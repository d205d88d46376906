"""Launchers: own folder, the preset of their name, further arguments passed on, exit code kept."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell

REPO = Path(__file__).parents[1]
PRESETS = {
    "continue": [],
    "stable": ["--from_scratch", "--gradient_accumulation_steps", "8", "--no_llm_8bit"],
    "from_scratch_lowvram": [
        *("--from_scratch", "--llm_8bit", "--max_visual_tokens", "64"),
        *("--max_text_len", "256", "--batch_size", "1"),
    ],
}
NAMES = sorted(PRESETS)
needs_sh = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("sh"), reason="needs a POSIX shell"
)


def powershell(text: bytes) -> tree_sitter.Node:
    language = tree_sitter.Language(tree_sitter_powershell.language())
    return tree_sitter.Parser(language).parse(text).root_node


def commands(node: tree_sitter.Node) -> list[str]:
    own = [node.text.decode()] if node.type == "command" and node.text else []
    return own + [text for child in node.children for text in commands(child)]


@pytest.mark.parametrize("name", NAMES)
def test_ps1_parses_and_does_nothing_but_call_python(name: str) -> None:
    text = (REPO / f"run_stage2_{name}.ps1").read_bytes()
    assert text.isascii()  # Windows PowerShell 5.1 reads a file without BOM as ANSI
    tree = powershell(text)
    assert not tree.has_error
    goes, python, back = commands(tree)
    assert goes == "Push-Location -LiteralPath $PSScriptRoot"
    assert shlex.split(python) == ["python", "train_vlm.py", *PRESETS[name], "@args"]
    assert back == "Pop-Location"
    assert text.rstrip().endswith(b"exit $LASTEXITCODE")
    # Without a python, PowerShell sets no exit code: it must not be 0 then.
    assert text.index(b"$global:LASTEXITCODE = 1") < text.index(b"python train_vlm.py")


def test_the_powershell_parser_does_see_errors() -> None:
    assert powershell(b"try { python a.py @args } finally { Pop-Location\n").has_error


@needs_sh
@pytest.mark.parametrize("name", NAMES)
def test_sh_parses_and_is_executable(name: str) -> None:
    file = REPO / f"run_stage2_{name}.sh"
    subprocess.run(["sh", "-n", str(file)], check=True)
    assert os.access(file, os.X_OK)
    assert b"\r" not in file.read_bytes()


@needs_sh
@pytest.mark.parametrize("name", NAMES)
def test_sh_calls_python_in_its_own_folder_with_the_arguments(tmp_path: Path, name: str) -> None:
    bin_folder, elsewhere, home = tmp_path / "bin", tmp_path / "else where", tmp_path / "a repo"
    for folder in (bin_folder, elsewhere, home):
        folder.mkdir()
    shutil.copy(REPO / f"run_stage2_{name}.sh", home)
    stub = bin_folder / "python"
    stub.write_text(
        f"#!{sys.executable}\nimport os, sys\nprint(os.getcwd())\n"
        "print(*sys.argv[1:], sep='\\n')\nsys.exit(7)\n"
    )
    stub.chmod(0o755)
    run = subprocess.run(
        ["sh", str(home / f"run_stage2_{name}.sh"), "--csv", "with space.csv", "--lr", "1e-4"],
        cwd=elsewhere,
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 7
    cwd, script, *arguments = run.stdout.splitlines()
    assert Path(cwd) == home
    assert script == "train_vlm.py"
    assert arguments == [*PRESETS[name], "--csv", "with space.csv", "--lr", "1e-4"]


@pytest.mark.parametrize("name", NAMES)
def test_twins_are_twins(name: str) -> None:
    shell = (REPO / f"run_stage2_{name}.sh").read_text().splitlines()[-1]
    assert shlex.split(shell)[-len(PRESETS[name]) - 2 :] == ["train_vlm.py", *PRESETS[name], "$@"]
