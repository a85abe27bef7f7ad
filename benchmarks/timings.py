"""Times that pytest-benchmark records too: its json, comparison and histograms hold every provider of every test.

The providers of a test take turns, where pytest-benchmark would time one after the other. So `measure` times them, and
`pedantic` gets the times by a timer that hands them out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from . import measure

_clock: Iterator[float] = iter(())


def recorded_clock() -> float:
    """The timer that pytest-benchmark reads before and after a round."""
    return next(_clock)


Seconds = dict[str, list[float]]
"""Of every provider, in every round."""


class Timings:
    """Times work on a device, and records it with the unused `benchmark` fixture of a test, if there is one.

    `part` tells apart what a test measures one after the other; `info` goes into the json as extra_info.
    """

    def __init__(self, benchmark: Any, device: torch.device) -> None:
        self._benchmark = benchmark
        self._device = device

    def interleaved(
        self,
        work: Mapping[str, measure.Work],
        rounds: int,
        part: str = "",
        *,
        warmup: int = 2,
        settle: bool = True,
        **info: Any,
    ) -> Seconds:
        """The providers take turns, see `measure.interleaved`."""
        return self.add(measure.interleaved(work, self._device, rounds, warmup, settle), part, **info)

    def host(self, work: Mapping[str, measure.Work], rounds: int, part: str = "", **info: Any) -> Seconds:
        """With all that Python and the driver cost, see `measure.host_seconds`."""
        times = {name: measure.host_seconds(run, self._device, rounds) for name, run in work.items()}
        return self.add(times, part, **info)

    def add(self, times: Seconds, part: str = "", **info: Any) -> Seconds:
        """Record times that were measured in another way."""
        if self._benchmark is not None:
            for provider, seconds in times.items():
                self._record(provider, seconds, part, info)
        return times

    def _record(self, provider: str, seconds: list[float], part: str, info: dict[str, Any]) -> None:
        """One entry beside the others of the test: a fixture can be used only once, but copied before."""
        global _clock
        within = f" {part}" if part else ""
        entry = copy.copy(self._benchmark)
        entry.group = f"{entry.fullname}{within}"
        entry.name, entry.fullname = f"{entry.name}{within} {provider}", f"{entry.group} {provider}"
        entry.extra_info = {"provider": provider, "part": part, "device": self._device.type, **info}
        _clock = iter([reading for duration in seconds for reading in (0.0, duration)])
        entry.pedantic(lambda: None, rounds=len(seconds))
