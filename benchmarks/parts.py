"""Splits the benchmarks into parts, for limited machine time: `--part 2/6`, `--minutes 8`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest

SECONDS = {
    "test_time_and_memory": 15.0,
    "test_step": 10.0,
    "test_smallest_call": 5.0,
    "test_start": 30.0,
    "test_cuda_graph": 10.0,
    "test_cost": 40.0,
    "test_evaluation": 20.0,
    "test_inference": 15.0,
    "test_whole_step": 15.0,
    "test_matching_stage": 5.0,
    "test_gradients_are_those_of_dense_matching": 20.0,
    "test_time": 60.0,
}
"""Estimated seconds of a case of each benchmark on a GPU, used to balance parts; not measured."""

SECONDS_COMPILED = 120.0
"""Estimated seconds with rivals that need `torch.compile`."""


def parse_part(text: str) -> tuple[int, int]:
    """Parse "2/6" as (2, 6)."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    part, parts = map(int, found.groups()) if found else (0, 0)
    if not 1 <= part <= parts:
        raise ValueError(f"a part must be I/N with I from 1 to N, got {text!r}")
    return part, parts


def seconds_of(item: pytest.Item) -> float:
    """Estimate the seconds of a benchmark on a GPU."""
    function = getattr(item, "originalname", item.name)
    case = getattr(item, "callspec", None)
    case = case.params.get("case") if case else None
    shape = getattr(case, "side", None), getattr(case, "channels", None), getattr(case, "batch", None)
    compiled = getattr(case, "compiled", shape == (63, 768, 8))
    return SECONDS_COMPILED if compiled else SECONDS.get(function, 15.0)


def chosen(seconds: Sequence[float], part: int, parts: int) -> list[int]:
    """Return the indices of a part in order; the longest items first go to the part with the least work."""
    load, found = [0.0] * parts, []
    for index in sorted(range(len(seconds)), key=lambda index: (-seconds[index], index)):
        lightest = min(range(parts), key=lambda each: (load[each], each))
        load[lightest] += seconds[index]
        if lightest == part - 1:
            found.append(index)
    return sorted(found)


class Deadline:
    """The deadline of a part: no test starts after `minutes`."""

    def __init__(self, minutes: float | None) -> None:
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.minutes = minutes

    @property
    def over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end
