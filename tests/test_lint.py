"""Style and types are tests, so that one command checks everything."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_clean(command: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_files_stay_short() -> None:
    long = {
        str(f.relative_to(REPO)): n
        for folder in ("src", "tests", "scripts")
        for f in (REPO / folder).rglob("*.py")
        if (n := len(f.read_text(encoding="utf-8").splitlines())) > 520
    }
    assert not long, "split these files"
