"""Import torchvision where its compiled part doesn't fit the installed torch.

Beside a CPU build of torch, PyPI's torchvision (a CUDA build) fails with "operator torchvision::nms does not exist".
Declaring the missing operators lets the import go on; they can't run, and nothing here calls them.
"""

from __future__ import annotations

import importlib
import sys

import torch

_MISSING = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # the schemas live as long as this object


def import_torchvision() -> None:
    """Import torchvision, declaring the operators it lacks only if it fails without them."""
    global _library
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
        _library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _library.define(name + _SCHEMA)
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]  # what the failed import left behind
        importlib.import_module("torchvision")
