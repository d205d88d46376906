"""What a benchmark says of the machine that it ran on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Device, versions and load: what a figure is to be read with."""
    packages = (
        "torch",
        "transformers",
        "mambapy",
        "mamba-ssm",
        "causal-conv1d",
        "cuda-core",
        "numba",
    )
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    machine: dict[str, Any] = {"device": device_name(device), "versions": versions}
    if device.type == "cuda":
        machine["cuda"] = torch.version.cuda
    machine["threads"] = torch.get_num_threads()
    machine["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return machine


def device_name(device: torch.device) -> str:
    """The GPU's or the CPU's own name."""
    if device.type == "cuda":
        return torch.cuda.getdevice_name(device)
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
