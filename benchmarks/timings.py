"""Records times with pytest-benchmark too: its json, comparisons and histograms contain every provider of every test.

pytest-benchmark would time the providers of a test one after the other, but they must take turns. So `measure` times
them, and a timer replays these times to `pedantic`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from . import measure

_clock: Iterator[float] = iter(())


def recorded_clock() -> float:
    """Return the next recorded time; pytest-benchmark reads this timer before and after each round."""
    return next(_clock)


Seconds = dict[str, list[float]]
"""The times of each provider, by round."""


class Timings:
    """Times work on a device, and records the times with a test's unused `benchmark` fixture, if there is one.

    `part` names one of a test's several measurements; `info` is stored as extra_info in the json.
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
        """Time providers that take turns, see `measure.interleaved`."""
        return self.add(measure.interleaved(work, self._device, rounds, warmup, settle), part, **info)

    def host(self, work: Mapping[str, measure.Work], rounds: int, part: str = "", **info: Any) -> Seconds:
        """Time calls with the overhead of Python and the driver, see `measure.host_seconds`."""
        times = {name: measure.host_seconds(run, self._device, rounds) for name, run in work.items()}
        return self.add(times, part, **info)

    def add(self, times: Seconds, part: str = "", **info: Any) -> Seconds:
        """Record times that were measured in another way."""
        if self._benchmark is not None:
            for provider, seconds in times.items():
                self._record(provider, seconds, part, info)
        return times

    def _record(self, provider: str, seconds: list[float], part: str, info: dict[str, Any]) -> None:
        """Add an entry, with a copy of the fixture, because a fixture can be used only once."""
        global _clock
        within = f" {part}" if part else ""
        entry = copy.copy(self._benchmark)
        entry.group = f"{entry.fullname}{within}"
        entry.name, entry.fullname = f"{entry.name}{within} {provider}", f"{entry.group} {provider}"
        entry.extra_info = {"provider": provider, "part": part, "device": self._device.type, **info}
        _clock = iter([reading for duration in seconds for reading in (0.0, duration)])
        entry.pedantic(lambda: None, rounds=len(seconds))
