"""The operators beside `sparse_window_match` and their rivals: error, time, and memory beyond inputs.

Each provider is compared with float64 before it is timed, and they take turns.
"""

from __future__ import annotations

import pytest
import torch

from .conftest import Record
from .family import problems
from .family_problem import Problem
from .providers import rows_of
from .timings import Timings


def cases(kind: str, scope: str) -> list[Problem]:
    """Quick: none. Usual: what takes seconds. Full: the largest sets and maps too."""
    if scope == "quick":
        return []
    return [problem for problem in problems() if scope == "full" or not problem.heavy]


def test_family(case: Problem, device: torch.device, rounds: int, timings: Timings, record: Record) -> None:
    if device.type != "cpu":
        pytest.skip("the rivals keep their index tensors on the CPU")
    inputs = case.inputs(torch.Generator().manual_seed(0))
    providers = dict(case.providers)
    if case.compiled:
        torch._dynamo.reset()
        providers["compile"] = torch.compile(list(case.providers.values())[1])
    for row in rows_of(case, providers, inputs, case.rounds or rounds, device, timings):
        record("family", row)
