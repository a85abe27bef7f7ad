"""Finds and loads the compiled module `_C` once, at first use, and keeps the reason when it can't.

The environment variable SIMPLEMATCH_MODULE names the file of another build of it: one with a sanitizer, or one that
emulates a GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

ENVIRONMENT_VARIABLE = "SIMPLEMATCH_MODULE"

_module: ModuleType | None = None
_reason: str | None = None


def why_not() -> str | None:
    """None if the compiled module is there, else the reason in one sentence."""
    global _module, _reason
    if _module is None and _reason is None:
        if importlib.util.find_spec(".native", __package__) is None:  # a kernel of the Hugging Face hub
            _reason = "this copy of the package has no compiled code (pip install simplematch-kernels brings it)"
            return _reason
        try:
            path = os.environ.get(ENVIRONMENT_VARIABLE)
            _module = _load_file(path) if path else importlib.import_module("._C", __package__)
        except ModuleNotFoundError:
            _reason = (
                "the compiled module is not there: this is a pure Python installation "
                "(reinstall with a C++ compiler; SIMPLEMATCH_REQUIRE_NATIVE=1 makes its absence an error)"
            )
        except ImportError as error:
            _reason = f"the compiled module doesn't load: {error}"
    return _reason


def _load_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{__package__}._C", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{ENVIRONMENT_VARIABLE} must be the path of a compiled module, got {path!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load() -> ModuleType:
    """The compiled module.

    Raises:
        RuntimeError: if there is none, with the reason.
    """
    reason = why_not()
    if _module is None:
        raise RuntimeError(reason)
    return _module


def why_not_cuda() -> str | None:
    """None if the compiled module has CUDA kernels that can run here, else the reason in one sentence."""
    reason = why_not()
    if reason is not None:
        return reason
    answer: str | None = load().why_not_cuda()
    return answer


def emulates_gpu() -> bool:
    """Whether the CUDA kernels run on the CPU, in the emulation that tests use."""
    return why_not() is None and bool(load().emulates_cuda)


def describe() -> str:
    """One line: which kernels the compiled module has, or why there is none."""
    reason = why_not()
    if reason is not None:
        return f"none: {reason}"
    cuda = "CUDA kernels" if load().has_cuda else "no CUDA kernels"
    return f"CPU kernels, {load().simd_level()} instructions; {cuda}"
