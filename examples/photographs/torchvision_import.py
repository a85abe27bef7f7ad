"""Import torchvision where its compiled part doesn't fit the installed torch.

PyPI's torchvision for Linux is a CUDA build. Beside a CPU build of torch its compiled part can't be loaded, and
`import torchvision` (so `import timm` too) stops with "operator torchvision::nms does not exist". The operators that
are missing at that point are only given Python functions, so declaring their schemas is enough to go on. They still
can't run, and this demo doesn't call them.
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
