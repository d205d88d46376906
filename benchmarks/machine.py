"""What a benchmark's figures were measured on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def machine(device: torch.device, packages: Sequence[str]) -> dict[str, Any]:
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


def short(value: float | None) -> float | None:
    """Four digits are more than timings hold."""
    return None if value is None else float(f"{value:.4g}")
