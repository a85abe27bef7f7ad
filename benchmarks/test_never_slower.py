"""Uses in which a few fast calls of PyTorch do the same as an operator: it must not be slower than they are.

On one thread, as their users' data loaders and evaluations run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from . import measure, never_slower
from .conftest import Record
from .family_problem import Problem
from .providers import rows_of
from .timings import Timings


def cases(kind: str, scope: str) -> list[Problem]:
    return never_slower.problems(scope)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("function", never_slower.smallest_calls())
def test_smallest_call_of(function: str, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    if device.type != "cpu":
        pytest.skip("on a GPU benchmarks/launch_overhead.py measures this")
    with torch.no_grad():
        times = timings.host({"ours": never_slower.smallest_calls()[function]}, 200 * rounds)
    record("smallest_calls", {"function": function, "times": {name: measure.summary(x) for name, x in times.items()}})


def test_never_slower(case: Problem, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    if device.type != "cpu":
        pytest.skip("the rivals keep their index tensors on the CPU")
    inputs = case.inputs(torch.Generator().manual_seed(0))
    for row in rows_of(case, case.providers, inputs, 2 * rounds, device, timings):
        record("never_slower", row)
