"""Which backend runs: what each one needs, the choice among them, and its explanation.

    CUDA tensors: triton, then cuda, then reference        CPU tensors: cpu, then reference

A backend is a module with the functions of `_types.Backend`, or with an object `backend` that has them.
One asked for by name raises its reason when it can't run; the automatic choice logs the reason once and takes the next.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib import metadata
from typing import cast

import torch

from . import _native
from ._types import Backend

BACKENDS = ("triton", "cuda", "cpu", "reference")
ENVIRONMENT_VARIABLE = "SIMPLEMATCH_BACKEND"
WHEN_IT_RUNS = ""
"""The backend of a call in compiled code, which asks the context and the environment whenever it runs."""

_MODULES = {
    "triton": ".triton.backend",
    "cuda": ".native.cuda",
    "cpu": ".native.cpu",
    "reference": ".reference.backend",
}
OLDEST_TRITON = (3, 6)
_ORDER = {"cuda": ("triton", "cuda", "reference"), "cpu": ("cpu", "reference")}
_FALLBACK_ORDER = ("reference",)

_requested: ContextVar[str | None] = ContextVar("simplematch_backend", default=None)
_logger = logging.getLogger("simplematch_kernels")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every operator called inside with backend `name`: "triton", "cuda", "cpu", "reference" or "auto".

    A call's backward runs with the backend of its forward. In a function compiled by `torch.compile` the choice
    is read each time the compiled code runs, so forward and backward each follow the context they run in.

    Raises:
        ValueError: for another name. The operators raise RuntimeError if the backend can't run.
    """
    token = _requested.set(check_name(name))
    try:
        yield
    finally:
        _requested.reset(token)


def check_name(name: str, argument: str = "backend") -> str:
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"{argument} must be one of 'auto', {', '.join(map(repr, BACKENDS))}, got {name!r}")
    return name


def requested(backend: str | None) -> str:
    """The backend asked for: by argument, else by `use_backend`, else by SIMPLEMATCH_BACKEND, else "auto"."""
    if backend is not None:
        return check_name(backend)
    from_context = _requested.get()
    if from_context is not None:
        return from_context
    return check_name(os.environ.get(ENVIRONMENT_VARIABLE) or "auto", ENVIRONMENT_VARIABLE)


def select(backend: str, device: torch.device) -> Backend:
    """The backend that runs on `device`; `backend` "auto" takes the first that can, `WHEN_IT_RUNS` asks again.

    Raises:
        RuntimeError: if a backend was asked for by name and can't run, with the reason.
    """
    return _select(requested(None) if backend == WHEN_IT_RUNS else backend, device.type, device.index)


@lru_cache(maxsize=64)
def _select(backend: str, device_type: str, device_index: int | None) -> Backend:
    device = torch.device(device_type, device_index) if device_index is not None else torch.device(device_type)
    if backend != "auto":
        reason = why_not(backend, device)
        if reason is not None:
            raise RuntimeError(f"backend {backend!r} can't run on {device}: {reason}")
        return _load(backend)
    for name in _ORDER.get(device_type, _FALLBACK_ORDER):
        reason = why_not(name, device)
        if reason is None:
            return _load(name)
        _logger.warning("backend %r is not used on %s: %s", name, device, reason)
    raise AssertionError("the reference backend runs on every device")


def why_not(backend: str, device: torch.device) -> str | None:
    """None if the backend can run on the device, else the reason in one sentence."""
    if backend == "triton":
        return can_run_triton(device)
    if backend == "cuda":
        return can_run_cuda(device)
    if backend == "cpu":
        return can_run_cpu(device)
    return None


def can_run_triton(device: torch.device) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (a CUDA build of torch brings it; else pip install 'triton>=3.6,<4')"
    if (installed := _triton_version()) is not None and _numbers(installed) < OLDEST_TRITON:
        return f"Triton must be 3.6 or newer, got {installed} (torch 2.10 and newer bring one)"
    if device.type == "cpu":
        if interpreting():
            return _why_not_interpreted()
        return "it takes CUDA tensors; CPU tensors only with TRITON_INTERPRET=1 set before Python starts"
    if device.type != "cuda":
        return f"it takes CUDA tensors, not {device.type} tensors"
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        major, minor = torch.cuda.get_device_capability(device)
        return f"it needs compute capability 8.0 or newer, this GPU has {major}.{minor}"
    return None


def _triton_version() -> str | None:
    """Return the version of Triton, or None for a build under another name, such as those for AMD GPUs."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def _why_not_interpreted() -> str | None:
    """Triton 3.6's interpreter makes integers of arrays with one element, which NumPy refuses since 2.4."""
    triton, numpy = metadata.version("triton"), metadata.version("numpy")
    if _numbers(triton) >= (3, 7) or _numbers(numpy) < (2, 4):
        return None
    return f"the interpreter of Triton {triton} needs NumPy below 2.4, got {numpy} (or install Triton 3.7 or newer)"


def _numbers(version: str) -> tuple[int, int]:
    """Major and minor number."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def can_run_cuda(device: torch.device) -> str | None:
    if device.type == "cpu" and _native.emulates_gpu():
        return None
    if device.type != "cuda":
        return f"it takes CUDA tensors, not {device.type} tensors"
    if torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    reason = _native.why_not_cuda()
    if reason is None and torch.cuda.get_device_capability(device) < (7, 5):
        major, minor = torch.cuda.get_device_capability(device)
        return f"it needs compute capability 7.5 or newer, this GPU has {major}.{minor}"
    return reason


def can_run_cpu(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"it takes CPU tensors, not {device.type} tensors"
    return _native.why_not()


def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def _load(name: str) -> Backend:
    module = importlib.import_module(_MODULES[name], __package__)
    return cast(Backend, getattr(module, "backend", module))


def explain(device: torch.device | str | None = None) -> str:
    """A table of the backends: which one runs on `device` (default: every kind of device here), and why not the others.

    >>> print(explain("cpu"))  # doctest: +SKIP
    cpu: cpu runs
      cpu        runs
      reference  can run
      triton     no: it takes CUDA tensors; CPU tensors only with TRITON_INTERPRET=1 set before Python starts
    """
    if device is not None:
        return _explain(torch.device(device))
    devices = [torch.device("cpu")] + [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return "\n".join(_explain(each) for each in devices)


def _explain(device: torch.device) -> str:
    reasons = {name: why_not(name, device) for name in BACKENDS}
    choice = requested(None)
    order = _ORDER.get(device.type, _FALLBACK_ORDER) if choice == "auto" else (choice,)
    running = next((name for name in order if reasons[name] is None), None)
    lines = [f"{device}: {running} runs" if running else f"{device}: {choice} was asked for and can't run"]
    for name in (*order, *(name for name in BACKENDS if name not in order)):
        reason = reasons[name]
        state = "runs" if name == running else "can run" if reason is None else f"no: {reason}"
        lines.append(f"  {name:<10} {state}")
    return "\n".join(lines)
