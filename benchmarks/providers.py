"""Runs the providers of a problem on the same inputs: errors against float64, then times and memory in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import measure
from .family_problem import Problem, Provider, Tensors
from .timings import Timings


def errors_of(case: Problem, providers: Mapping[str, Provider], inputs: Tensors) -> dict[str, float]:
    """The error of each provider; the second one, in float64, is exact.

    Raises:
        AssertionError: if one errs more than the problem allows.
    """
    exact = with_gradients(list(case.providers.values())[1], tuple(map(double, inputs)), case)
    errors = {name: error(with_gradients(run, inputs, case), exact) for name, run in providers.items()}
    wrong = {name: found for name, found in errors.items() if not found <= case.tolerance}
    assert not wrong, f"wrong at {case}: {wrong}"
    return errors


def rows_of(
    case: Problem,
    providers: Mapping[str, Provider],
    inputs: Tensors,
    rounds: int,
    device: torch.device,
    timings: Timings,
) -> list[dict[str, Any]]:
    """A row of the result for each mode."""
    errors = errors_of(case, providers, inputs)
    rows = []
    for mode in case.modes:
        work = {name: step(run, inputs, mode) for name, run in providers.items()}
        peaks = {name: measure.peak_bytes(run, device) for name, run in work.items()}
        seconds = timings.interleaved(work, rounds, mode, warmup=1, **case.sizes)
        row = {"operator": case.operator, "sizes": case.sizes, "mode": mode, "threads": torch.get_num_threads()}
        row |= {"bars": case.bars.get(mode, {}), "known_miss": case.known_misses.get(mode, "")}
        times = {name: measure.summary(x) if len(x) > 1 else single(x) for name, x in seconds.items()}
        faster = {name: measure.ratio(seconds["ours"], x) for name, x in seconds.items() if name != "ours"}
        rows.append(row | {"times": times, "faster_than": faster, "peak_bytes": peaks, "errors": errors})
    return rows


def single(seconds: list[float]) -> dict[str, float]:
    return dict.fromkeys(("median_ms", "q1_ms", "q3_ms"), 1e3 * seconds[0])


def double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def leaves(inputs: Tensors) -> list[Tensor]:
    return [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]


def loss(results: Tensors) -> Tensor:
    """A sum with weights that differ from element to element."""
    total = torch.zeros(())
    for x in results:
        if x.requires_grad:
            weights = torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).view_as(x)
            total = total + (weights * x).sum()
    return total


def with_gradients(run: Provider, inputs: Tensors, case: Problem) -> Tensors:
    """The results, and in problems with a backward the gradients."""
    if "forward+backward" not in case.modes:
        with torch.no_grad():
            return run(*inputs)
    given = leaves(inputs)
    results = run(*given)
    gradients = torch.autograd.grad(loss(results), [x for x in given if x.requires_grad], retain_graph=False)
    return (*(x.detach() for x in results), *gradients)


def step(run: Provider, inputs: Tensors, mode: str) -> Callable[[], object]:
    if mode == "forward":

        def forward() -> object:
            with torch.no_grad():
                return run(*inputs)

        return forward
    given = leaves(inputs)
    wanted = [x for x in given if x.requires_grad]
    return lambda: torch.autograd.grad(loss(run(*given)), wanted)


def error(found: Tensors, exact: Tensors) -> float:
    """The largest difference, relative to the largest value; of indices the share that differ."""
    worst = 0.0
    for x, wanted in zip(found, exact, strict=True):
        if x.numel() == 0:  # what a library does not return
            continue
        if not x.is_floating_point():
            worst = max(worst, float((x != wanted).double().mean()))
            continue
        worst = max(worst, float((x.double() - wanted).abs().max() / wanted.abs().max()))
    return worst
