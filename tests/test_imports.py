"""Imports flow one way: shims, cli, stages, {model, phantom}, {imaging, ...}, {config, errors}."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
SRC = REPO / "src" / "ctscribe"
SHIMS = [REPO / "train.py", REPO / "train_vlm.py", *sorted((REPO / "scripts").glob("*.py"))]

BASE = {
    "errors",
    "problems",
    "files",
    "pages",
    "sandbox",
    "settings",
    "model_config",
    "config",
    "resolve",
}
LEAVES = {"imaging", "tables", "reports", "ops"}
PARTS = {"model", "phantom"}
# What each may import beside itself. Inside BASE the order is errors, settings, config, resolve.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "problems": {"errors"},
    "files": set(),
    "pages": set(),
    "sandbox": {"errors"},
    "settings": {"errors"},
    "model_config": {"errors", "settings"},
    "config": {"errors", "settings", "model_config"},
    "resolve": {"errors", "settings", "config"},
    **{leaf: BASE for leaf in LEAVES},
    **{part: BASE | LEAVES for part in PARTS},
    "intake": BASE | LEAVES,
    "training": BASE | LEAVES | PARTS,
    "generation": BASE | LEAVES | PARTS,
    # The demo splits, trains and generates; the controls generate.
    "evaluation": BASE | LEAVES | PARTS | {"intake", "training", "generation"},
    "serving": BASE | LEAVES | PARTS | {"generation", "evaluation"},
    "cli": BASE | LEAVES | PARTS | {"intake", "training", "generation", "evaluation", "serving"},
    "__init__": BASE | LEAVES,
    "__main__": {"cli"},
}


def imported(file: Path) -> set[str]:
    """First part below ctscribe of every import in a file, lazy ones too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            if node.module == "ctscribe":
                found |= {alias.name for alias in node.names if (SRC / alias.name).exists()}
                found |= {a.name for a in node.names if (SRC / f"{a.name}.py").exists()}
            elif node.module and node.module.startswith("ctscribe."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("ctscribe.")}
    return found


@pytest.mark.parametrize("file", sorted(SRC.rglob("*.py")), ids=lambda f: str(f.relative_to(SRC)))
def test_imports_flow_one_way(file: Path) -> None:
    room = file.relative_to(SRC).parts[0].removesuffix(".py")
    wrong = imported(file) - ALLOWED[room] - {room}
    assert not wrong, f"{file.relative_to(REPO)} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("file", SHIMS, ids=lambda f: f.name)
def test_shims_import_the_cli_and_hold_no_logic(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert imported(file) == {"cli"}
    kinds = [type(node) for node in tree.body]
    assert kinds == [ast.Expr, ast.ImportFrom, ast.If]
    assert len(tree.body[2].body) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", ["imaging", "tables"])
def test_images_and_tables_know_nothing_of_the_model(room: str) -> None:
    for file in (SRC / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(n.split(".")[0] in ("transformers", "peft") for n in names), file


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = ["torch", "transformers", "monai", "SimpleITK", "pandas", "matplotlib", "scipy"]
    code = f"""
import sys, time
start = time.process_time()  # of this process, whatever else the machine does
import ctscribe.cli
try:
    ctscribe.cli.main(["--help"])
except SystemExit as stop:
    assert stop.code == 0
seconds = time.process_time() - start
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
print("SECONDS", seconds)
"""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    seconds = []
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False
        )
        assert run.returncode == 0, run.stderr
        seconds.append(float(run.stdout.split("SECONDS")[1]))
    assert min(seconds) < 1.0
