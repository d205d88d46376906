"""Every dependency has a wheel for 64-bit Windows, at the pinned version, on every Python."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
CONSTRAINTS = REPO / "constraints.txt"
CUDA = re.compile(r"^(nvidia-|cuda-|triton)")  # each build of PyTorch pins its own


def pins() -> dict[str, str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = shutil.which("uv", path=str(beside.parent)) or shutil.which("uv")
    assert found, "uv is in the test extra"
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_whole_set_resolves_for_windows(python: str) -> None:
    """uv takes Windows's own markers; pip's --platform keeps those of the machine it is on."""
    run = subprocess.run(
        [
            *(uv(), "pip", "compile", "pyproject.toml", "--extra", "test", "--extra", "llm8bit"),
            *("--extra", "gpu"),
            *("--constraint", str(CONSTRAINTS), "--only-binary", ":all:", "--no-sources"),
            *("--python-platform", "x86_64-pc-windows-msvc", "--python-version", python),
            *("--no-annotate", "--no-header", "--quiet"),
        ],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    offline = ("error sending request", "Failed to fetch", "dns error", "Connect")
    if run.returncode and any(word in run.stderr for word in offline):
        pytest.skip(f"no package index can be reached: {run.stderr.strip().splitlines()[-1][:200]}")
    assert run.returncode == 0, run.stderr
    resolved = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", run.stdout, re.MULTILINE))
    assert len(resolved) > 60
    cuda = {name for name in resolved if CUDA.match(name)}
    assert {"cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc"} <= cuda
    resolved = {name: version for name, version in resolved.items() if name not in cuda}
    assert resolved.items() <= pins().items(), "constraints.txt must pin everything, as resolved"


def test_torch_is_pinned_for_every_build() -> None:
    assert pins()["torch"] == "2.13.0"
    assert not [name for name in pins() if CUDA.match(name)]
