"""Describes the machine of a result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import simplematch_kernels as smk
from simplematch.bf16 import describe_bf16

from . import measure


def machine(device: torch.device) -> dict[str, Any]:
    """Return the device, its copy bandwidth, and the software versions."""
    return {
        "device": device_name(device),
        "kind": device.type,
        "bf16": describe_bf16(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "simplematch-kernels": smk.__version__,
        "backends": smk.explain(device),
        "copy_gb_per_s": measure.copy_bandwidth(device) / 1e9,
    } | (_gpu() if device.type == "cuda" else {})


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    return next(names, "cpu")


def _gpu() -> dict[str, Any]:
    """Return driver and clocks from nvidia-smi."""
    fields = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit")
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(zip(fields, (value.strip() for value in line.split(",")), strict=True))


def commit() -> str:
    """Return the commit of this checkout from SIMPLEMATCH_COMMIT or git, or "unknown"."""
    named = os.environ.get("SIMPLEMATCH_COMMIT", "").strip()
    if named:
        return named
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    except OSError:  # no git here
        found = ""
    return found or "unknown"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
