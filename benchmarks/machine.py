"""What a benchmark's figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "torch",
    "transformers",
    "mambapy",
    "mamba-ssm",
    "causal-conv1d",
    "cuda-core",
    "numba",
)


def machine(device: torch.device, packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Device, versions of what is installed of `packages`, threads and load, for the JSON."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    found: dict[str, Any] = {"device": device_name(device), "versions": versions}
    if device.type == "cuda":
        found["cuda"] = torch.version.cuda
    found["threads"] = torch.get_num_threads()
    found["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return found


def device_name(device: torch.device) -> str:
    """The GPU's own name, or the CPU's and how many cores it has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        return f"{found[1].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def short_name(device: torch.device) -> str:
    """cpu, or the GPU's own name: NVIDIA H200 is h200."""
    if device.type == "cpu":
        return "cpu"
    words = re.sub(r"(?i)nvidia|geforce|tesla|graphics", " ", device_name(device)).split()
    return "-".join(words).lower()


def short(value: float | None) -> float | None:
    """Four digits are more than timings hold."""
    return None if value is None else float(f"{value:.4g}")


def commit() -> str | None:
    """The commit of the code that runs, with + if files differ from it; None outside git."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
