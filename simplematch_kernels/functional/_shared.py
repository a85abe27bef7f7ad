"""Checks that several public functions make."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _backends, _check_shapes, _checks


def check_descriptors(descriptors: Tensor, target: Tensor) -> None:
    _checks.check_pair("descriptors", descriptors, "target", target)
    _check_shapes.check_equal("descriptors", "batch size", descriptors.shape[0], "target", target.shape[0])
    _check_shapes.check_equal("descriptors", "number of channels", descriptors.shape[2], "target", target.shape[1])


def requested(backend: str | None) -> str:
    """The backend for this call and its backward; a compiled function asks again when it runs."""
    if torch.compiler.is_compiling():
        return _backends.WHEN_IT_RUNS if backend is None else _backends.check_name(backend)
    return _backends.requested(backend)
