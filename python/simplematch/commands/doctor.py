"""`simplematch doctor`."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch

import simplematch_kernels

from ..bf16 import describe_bf16
from ..data import recognise
from ..data.open import NEEDED
from ..models import PRESETS
from ..models.default_weights import weight_origin
from .app import NEEDED as NEEDED_BY_APP
from .lists import names

DISTRIBUTION = "simplematch-kernels"
_DEPTH = 2  # levels of folders searched for data sets
_EXTRA, _APP = "train", "app"


def doctor(root: str | None = None) -> None:
    """Print installed packages, available backends, data sets found, and where to get missing ones.

    Args:
        root: comma-separated folders to search for data sets; default: SIMPLEMATCH_DATA, or the current folder.
    """
    roots = [Path(name) for name in names(root or os.environ.get("SIMPLEMATCH_DATA", "."))]
    sections = {
        "installed": _installed(),
        "backends": simplematch_kernels.explain().splitlines(),
        "encoder weights": _weights(),
        f"data sets in {', '.join(map(str, roots))}": _datasets(roots),
    }
    print("\n\n".join("\n".join((title, *(f"  {line}" for line in lines))) for title, lines in sections.items()))


def _installed() -> list[str]:
    lines = [f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"]
    lines.append(f"processor: {describe_bf16('cpu')}")
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        with torch.cuda.device(i):
            bf16 = describe_bf16("cuda")
        lines.append(f"cuda:{i} {properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}")
    lines += _versions((DISTRIBUTION, "torch", "triton", *_extra_packages(_EXTRA)), "missing", _EXTRA)
    return lines + _versions(_extra_packages(_APP) or NEEDED_BY_APP, "missing for simplematch app", _APP)


def _versions(packages: Sequence[str], missing: str, extra: str) -> list[str]:
    """List installed packages with their versions, and then those of an extra that are missing."""
    lines, absent = [], []
    for name in packages:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        lines.append(f"{missing}: {', '.join(absent)} (pip install '{DISTRIBUTION}[{extra}]')")
    return lines


def _extra_packages(extra: str) -> list[str]:
    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # a source tree that isn't installed
        return []
    lines = [line for line in declared if f'extra == "{extra}"' in line]
    return [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]


def _weights() -> list[str]:
    width = max(map(len, PRESETS))
    return [f"{name:{width}}  {weight_origin(config.encoder)}" for name, config in PRESETS.items()]


def _datasets(roots: list[Path]) -> list[str]:
    found: dict[str, Path] = {}
    for root in roots:
        for folder in _folders(root.expanduser(), _DEPTH):
            for name in recognise(folder, images=False):
                found.setdefault(name, folder)
    lines = []
    for name, needed in NEEDED.items():
        if name != "images":
            lines.append(f"{name}: {found[name]}" if name in found else f"{name}: not found; it must have {needed}")
    return lines


def _folders(root: Path, depth: int) -> list[Path]:
    """List a folder and its subfolders, the nearest first; empty if it is missing or unreadable."""
    try:
        children = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
    below = [folder for child in children for folder in _folders(child, depth - 1)] if depth else []
    return [root, *sorted(below, key=lambda path: len(path.parts))]
