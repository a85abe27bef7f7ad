"""Where a result was measured."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import simplematch_kernels as smk

from . import measure


def machine(device: torch.device) -> dict[str, Any]:
    """The device, its speed of copying, and the versions of what ran on it."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = next(
            (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "cpu"
        )
    return {
        "device": name,
        "kind": device.type,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "simplematch-kernels": smk.__version__,
        "backends": smk.explain(device),
        "copy_gb_per_s": measure.copy_bandwidth(device) / 1e9,
    }


def commit() -> str:
    """Of this checkout."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return found.stdout.strip() or "unknown"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
