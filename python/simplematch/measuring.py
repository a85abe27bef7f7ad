"""Time and peak memory of a call."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch

Work = Callable[[], object]


def seconds(run: Work) -> float:
    """Measure the seconds of a call on a CPU."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_bytes(run: Work, device: torch.device) -> int:
    """Measure the peak memory of `run` above the memory in use before.

    On a GPU this is the allocator's count. On a CPU it is the growth of the resident memory (Linux), which includes C++
    allocations and is accurate to a megabyte.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the heap still holds would hide new allocations
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    run()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")
