"""Runs a clone's functions and ours on the same inputs: differences, gradients, time and memory."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from simplematch_kernels.integrations import NAMES, PatchError, integration, patch

from .._files import DataError
from ..measuring import peak_bytes, seconds
from .case import Case, Work
from .cases import CODEBASES
from .clone import opened, version_of

_CPU = torch.device("cpu")
_SETTLE = 0.1
"""Seconds of untimed calls before each timed one."""
_LONG = 1.0
"""Calls of theirs that take as many seconds aren't preceded by untimed ones."""
_MOST_SECONDS = 10.0
"""Rounds end after about as many seconds of theirs."""
Row = dict[str, Any]


def verify(name: str, folder: Path, rounds: int = 9, seed: int = 0) -> dict[str, Any]:
    """Compare every function of a clone that `simplematch_kernels.integrations.patch` replaces with ours.

    Args:
        name: the codebase, one of `simplematch_kernels.integrations.NAMES`.
        folder: its clone.
        rounds: timed calls of both, in alternation; 0: neither time nor memory is measured.
        seed: of the inputs.

    Returns:
        What was compared, and a row for each case; see docs/integrations.md.

    Raises:
        DataError: the folder is no clone or of another version, or a package is missing.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    known, codebase = integration(name), CODEBASES[name]
    with opened(known, codebase, folder), _quiet():
        try:
            patch(name).unpatch()
            rows = [_compare(name, case, rounds, seed) for case in codebase.cases]
        except (PatchError, ModuleNotFoundError) as error:
            missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
            if isinstance(missing, ModuleNotFoundError):
                raise DataError(f"{name} needs the package {missing.name}, which is not installed.") from error
            raise DataError(f"{error}.") from error
    return {
        "name": name,
        "repository": known.repository,
        "version": version_of(folder) or _installed_version(name) or "unknown",
        "replaced": [x.place for x in known.replacements],
        "machine": _machine(),
        "cases": rows,
    }


def agrees(row: Row) -> bool:
    """Whether a case is equal but for rounding: 5e-3 pixels or 1e-4 in scores, gradients 1e-4, one in 500 near ties."""
    gradient = row["gradient_difference"]
    close: bool = row["apart"] * 500 <= row["compared"]
    return close and (gradient is None or gradient <= 1e-4)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the lines about functions that are replaced: there are two for every call."""
    logger = logging.getLogger("simplematch_kernels")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _compare(name: str, case: Case, rounds: int, seed: int) -> Row:
    work = case.make(Generator().manual_seed(seed))
    theirs = _results(work)
    with patch(name):
        ours = _results(work)
    return {
        "title": case.title,
        "unit": case.unit,
        **_differences(case, theirs[0], ours[0]),
        "gradient_difference": _relative(theirs[1], ours[1]) if work.inputs else None,
        "forward": _cost(name, _forward(work), rounds) if rounds else None,
        "forward_and_backward": _cost(name, _both(work), rounds) if rounds and work.inputs else None,
    }


def _results(work: Work) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Results, and the gradients of all inputs for the same random upstream gradient."""
    found = work.read(work.call())
    gradients: tuple[Tensor, ...] = ()
    if work.inputs:
        gradients = torch.autograd.grad(_weighted(found), work.inputs, allow_unused=True, materialize_grads=True)
    return tuple(x.detach() for x in found), gradients


def _weighted(found: tuple[Tensor, ...]) -> Tensor:
    random = Generator().manual_seed(1)
    sums = [(x * torch.randn(x.shape, generator=random)).sum() for x in found if x.requires_grad]
    return torch.stack(sums).sum()


def _differences(case: Case, theirs: tuple[Tensor, ...], ours: tuple[Tensor, ...]) -> Row:
    """The largest difference of numbers, and how many results are apart: other indices, or beyond the tolerance."""
    tolerance = 5e-3 if case.unit == "px" else 1e-4
    if case.unit == "score":
        tolerance *= max([1.0, *(x.abs().max().item() for x in theirs if x.is_floating_point() and x.numel())])
    largest, apart = 0.0, 0
    for a, b in zip(theirs, ours, strict=True):
        if a.shape != b.shape:
            raise DataError(f"{case.title}: ours has shape {tuple(b.shape)}, theirs {tuple(a.shape)}.")
        if not a.is_floating_point():
            apart += int((a != b).sum())
        elif a.numel():
            away = torch.where((a == b) | (a.isnan() & b.isnan()), 0, (a - b).abs()).nan_to_num(nan=math.inf)
            largest = max(largest, away.max().item())
            apart += int((away > tolerance).sum())
    compared = sum(x.numel() for x in theirs)
    return {"difference": min(largest, 1e9), "apart": apart, "compared": compared, "tolerance": tolerance}


def _relative(theirs: tuple[Tensor, ...], ours: tuple[Tensor, ...]) -> float:
    """The largest L2 norm of a difference of gradients, relative to theirs."""
    found = 0.0
    for a, b in zip(theirs, ours, strict=True):
        size, away = a.norm().item(), (a - b).norm().item()
        found = max(found, away / size if size else (0.0 if away == 0 else 1.0))
    return found if math.isfinite(found) else 1.0


def _forward(work: Work) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return work.call()

    return run


def _both(work: Work) -> Callable[[], object]:
    return lambda: torch.autograd.grad(_weighted(work.read(work.call())), work.inputs, allow_unused=True)


def _cost(name: str, run: Callable[[], object], rounds: int) -> Row:
    """Milliseconds (medians) and MiB of theirs and ours; the time ratio is the median of the rounds' ratios."""
    first = seconds(run)
    pairs = []
    for _ in range(max(1, min(rounds, int(_MOST_SECONDS / first)))):
        theirs = _settled_seconds(run) if first < _LONG else seconds(run)
        with patch(name):
            pairs.append((theirs, _settled_seconds(run)))
    memory = _peak_mebibytes(run)
    with patch(name):
        our_memory = _peak_mebibytes(run)
    return {
        "theirs_ms": statistics.median(x for x, _ in pairs) * 1e3,
        "ours_ms": statistics.median(x for _, x in pairs) * 1e3,
        "time_ratio": statistics.median(ours / theirs for theirs, ours in pairs),
        "theirs_mib": memory,
        "ours_mib": our_memory,
    }


def _settled_seconds(run: Callable[[], object]) -> float:
    end = time.perf_counter() + _SETTLE
    run()
    while time.perf_counter() < end:
        run()
    return seconds(run)


def _peak_mebibytes(run: Callable[[], object]) -> float | None:
    try:
        return round(peak_bytes(run, _CPU) / 2**20, 1)
    except OSError:  # not Linux
        return None


def _installed_version(name: str) -> str | None:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None


def _machine() -> Row:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": load,
    }
