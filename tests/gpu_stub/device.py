"""`torch.cuda` of an H100, and tensors on it that lie in the memory of the CPU."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

NAME = "NVIDIA H100 80GB HBM3 (stub)"
_CUDA = re.compile(r"cuda(:\d+)?")


def on_cpu(x: Any) -> Any:
    """A device of the stub as the CPU; anything else, names of devices too, as it is."""
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == "cuda" else x


def named_on_cpu(x: Any) -> Any:
    """The same of the name of a device."""
    return "cpu" if isinstance(x, str) and _CUDA.fullmatch(x) else on_cpu(x)


class TensorsOnCpu(TorchFunctionMode):
    """Every function of torch that is asked for a GPU takes the CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(on_cpu, args), tree_map(on_cpu, dict(kwargs or {}))
        if "device" in kwargs:
            kwargs["device"] = named_on_cpu(kwargs["device"])
        if getattr(func, "__name__", "") == "to":  # a backend has the name of a device too
            args = tuple(map(named_on_cpu, args))
        return func(*args, **kwargs)


class Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(named_on_cpu(device_type), *args, **kwargs)


class Generator(torch.Generator):
    def __new__(cls, device: Any = "cpu") -> Generator:
        return super().__new__(cls, named_on_cpu(device))


class Event:
    """Of the host's clock."""

    def __init__(self, enable_timing: bool = False, **_: Any) -> None:
        self.seconds = 0.0

    def record(self, stream: Any = None) -> None:
        self.seconds = time.perf_counter()

    def elapsed_time(self, other: Event) -> float:
        return max(1e-6, 1e3 * (other.seconds - self.seconds))


class Stream:
    cuda_stream = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Graph:
    """Replays nothing."""

    def replay(self) -> None:
        pass


@contextmanager
def nothing(*_: Any, **__: Any) -> Iterator[None]:
    yield


PROPERTIES = SimpleNamespace(
    name=NAME, major=9, minor=0, multi_processor_count=132, total_memory=80 * 2**30, L2_cache_size=50 * 2**20
)
ANSWERS: dict[str, Callable[..., Any]] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "_lazy_init": lambda: None,
    "init": lambda: None,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda device=None: NAME,
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_properties": lambda device=None: PROPERTIES,
    "is_bf16_supported": lambda *_, **__: True,
    "synchronize": lambda device=None: None,
    "empty_cache": lambda: None,
    "memory_allocated": lambda device=None: 0,
    "max_memory_allocated": lambda device=None: 2**20,
    "max_memory_reserved": lambda device=None: 2**20,
    "reset_peak_memory_stats": lambda device=None: None,
    "current_stream": lambda device=None: Stream(),
    "get_rng_state": lambda device=None: torch.empty(0),
    "set_rng_state": lambda state, device=None: None,
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
    "set_sync_debug_mode": lambda mode: None,
    "mem_get_info": lambda device=None: (80 * 2**30, 80 * 2**30),
    "_sleep": lambda cycles: None,
    "Event": Event,
    "Stream": Stream,
    "CUDAGraph": Graph,
    "stream": nothing,
    "device": nothing,
    "graph": nothing,
}


def install() -> None:
    for name, answer in ANSWERS.items():
        setattr(torch.cuda, name, answer)
    torch.autocast = torch.amp.autocast = Autocast  # type: ignore[assignment,misc]
    torch.Generator = Generator  # type: ignore[misc]
    TensorsOnCpu().__enter__()
