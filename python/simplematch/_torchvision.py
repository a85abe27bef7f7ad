"""Imports torchvision even if its compiled part doesn't match the installed torch.

PyPI's torchvision for Linux is a CUDA build. Beside a CPU build of torch its compiled part fails to load, and
`import torchvision` raises "operator torchvision::nms does not exist". This package never calls the missing box
operators, so it is enough to declare their schemas.

Import torchvision from here: `from simplematch._torchvision import tv_tensors, transforms`.
"""

from __future__ import annotations

import importlib
import sys

from torch import library

_MISSING = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_schemas: library.Library | None = None  # the schemas live as long as this object


def import_torchvision() -> None:
    """Import torchvision; if that fails for lack of its operators, declare them and try again."""
    global _schemas
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
        _schemas = library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _schemas.define(name + _SCHEMA)
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]  # left by the failed import
        importlib.import_module("torchvision")


import_torchvision()
from torchvision import tv_tensors as tv_tensors  # noqa: E402
from torchvision.transforms.v2 import functional as transforms  # noqa: E402

__all__ = ["import_torchvision", "transforms", "tv_tensors"]
