"""Measures time and memory, the same way on a CPU and on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import cache

import torch

from simplematch.measuring import peak_bytes as peak_bytes

Work = Callable[[], object]


def interleaved(
    work: Mapping[str, Work], device: torch.device, rounds: int, warmup: int = 2, settle: bool = True
) -> dict[str, list[float]]:
    """Measure the seconds of every provider in every round, in alternation, so that noise affects all equally.

    A turn starts with untimed calls. As in a training loop, a call then reuses the memory that the previous call freed;
    after another provider, a virtual machine may have to fetch pages from its host.
    """
    for run in work.values():
        for _ in range(warmup):
            run()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            if settle:
                _settle(run, device)
            times[name].append(_seconds(run, device))
    return times


def _settle(run: Work, device: torch.device, seconds: float = 0.15) -> None:
    """Run at least one call; on a CPU run calls for `seconds`."""
    end = time.perf_counter() + seconds
    run()
    while device.type == "cpu" and time.perf_counter() < end:
        run()


def _seconds(run: Work, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    _flush_l2(device)
    torch.cuda._sleep(_LAUNCH_CYCLES)  # hides the launches, so that only the GPU's work is timed
    first.record()
    run()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1e3


_LAUNCH_CYCLES = 4_000_000
"""About two milliseconds: forward and backward of the operator take 1.5 ms to launch."""


def _flush_l2(device: torch.device) -> None:
    """Read more data than any L2 cache holds, to evict inputs and dirty lines."""
    _l2_filler(device).sum()


@cache
def _l2_filler(device: torch.device) -> torch.Tensor:
    return torch.ones(2**26, device=device)


def host_seconds(run: Work, device: torch.device, rounds: int) -> list[float]:
    """Measure the seconds of a call on the host, including Python and the driver."""
    times = []
    for _ in range(rounds + 50):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return times[50:]


def summary(seconds: list[float]) -> dict[str, float]:
    """Return median and quartiles in milliseconds."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {"median_ms": middle * 1e3, "q1_ms": low * 1e3, "q3_ms": high * 1e3}


def ratio(ours: list[float], others: list[float]) -> float:
    """Return our speedup, the median over rounds; both times of a round share the state of the machine."""
    return statistics.median(other / own for own, other in zip(ours, others, strict=True))


def launches(run: Work, device: torch.device) -> int | None:
    """Count the kernels that a call launches on a GPU; None on a CPU."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize(device)
    return len([event for event in profile.events() if event.device_type.name == "CUDA"])


def kept_bytes(forward: Work, given: list[torch.Tensor]) -> int:
    """Count the bytes that a forward saves for its backward beyond the tensors `given`."""
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        forward()
    for x in given:
        kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def copy_bandwidth(device: torch.device, megabytes: int = 256, rounds: int = 7) -> float:
    """Measure the bytes per second of a large copy, counting bytes read and written."""
    x = torch.ones(megabytes * 2**20 // 4, device=device)
    y = torch.empty_like(x)
    times = interleaved({"copy": lambda: y.copy_(x)}, device, rounds)["copy"]
    return 2 * x.nbytes / statistics.median(times)
