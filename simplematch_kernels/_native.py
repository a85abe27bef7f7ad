"""Finds and loads the compiled module `_C` once, at first use, and keeps the reason when it can't."""

from __future__ import annotations

import importlib
from types import ModuleType

_module: ModuleType | None = None
_reason: str | None = None


def why_not() -> str | None:
    """None if the compiled module is there, else the reason in one sentence."""
    global _module, _reason
    if _module is None and _reason is None:
        try:
            _module = importlib.import_module("._C", __package__)
        except ModuleNotFoundError:
            _reason = (
                "the compiled module is not there: this is a pure Python installation "
                "(reinstall with a C++ compiler; SIMPLEMATCH_REQUIRE_NATIVE=1 makes its absence an error)"
            )
        except ImportError as error:
            _reason = f"the compiled module doesn't load: {error}"
    return _reason


def load() -> ModuleType:
    """The compiled module.

    Raises:
        RuntimeError: if there is none, with the reason.
    """
    reason = why_not()
    if _module is None:
        raise RuntimeError(reason)
    return _module


def describe() -> str:
    """One line: which instruction set the compiled kernels use, or why there are none."""
    reason = why_not()
    return f"CPU kernels, {load().simd_level()} instructions" if reason is None else f"none: {reason}"
