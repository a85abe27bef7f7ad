"""The backends of a GPU: their own launches, the answers of the CPU kernels."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import torch

from simplematch_kernels import _backends, _native

_load = _backends._load  # that of the package; `install` replaces it
OPERATORS = (
    "sparse_window_match",
    "sparse_window_match_backward",
    "localize",
    "localize_backward",
    "gather_keypoints",
    "gather_keypoints_backward",
    "cosine_similarity",
    "cosine_similarity_backward",
    "match_all",
    "match_all_backward",
    "pair_scores",
    "pair_scores_backward",
)


def _without() -> set[str]:
    return set(filter(None, os.environ.get("SIMPLEMATCH_STUB_WITHOUT", "").split(",")))


def _answers() -> Any:
    """The CPU kernels, or plain PyTorch where they are not built."""
    return _load("cpu" if _native.why_not() is None else "reference")


def _triton() -> Any:
    launching, answering = _load("triton"), _answers()

    def both(name: str) -> Any:
        def operator(*arguments: Any) -> Any:
            getattr(launching, name)(*arguments)
            return getattr(answering, name)(*arguments)

        return operator

    return SimpleNamespace(**{name: both(name) for name in OPERATORS})


def install() -> None:
    stubs = {"triton": _triton, "cuda": _answers}

    def can_run(name: str) -> Any:
        def answer(device: torch.device) -> str | None:
            return f"the stub has no {name}" if name in _without() else None

        return answer

    def can_run_cpu(device: torch.device) -> str | None:
        return None if device.type == "cpu" else f"it takes CPU tensors, not {device.type} tensors"

    _backends._load = lambda name: stubs[name]() if name in stubs else _load(name)
    _backends.can_run_triton, _backends.can_run_cuda = can_run("triton"), can_run("cuda")
    _backends.can_run_cpu = can_run_cpu
    _backends._ORDER["cpu"] = _backends._ORDER["cuda"]
