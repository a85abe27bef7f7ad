"""torchvision, imported also where its compiled part doesn't fit the installed torch.

PyPI's torchvision for Linux is a CUDA build. Beside a CPU build of torch its compiled part can't be loaded, and
`import torchvision` stops with "operator torchvision::nms does not exist". Only box operators are missing then, which
this package never calls, so declaring their schemas is enough.

Import what is needed from here: `from simplematch._torchvision import tv_tensors, transforms`.
"""

from __future__ import annotations

import importlib
import sys

from torch import library

_MISSING = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_schemas: library.Library | None = None  # the schemas live as long as this object


def import_torchvision() -> None:
    """Import torchvision, declaring the operators it lacks only if it fails without them."""
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
            del sys.modules[module]  # what the failed import left behind
        importlib.import_module("torchvision")


import_torchvision()
from torchvision import tv_tensors as tv_tensors  # noqa: E402
from torchvision.transforms.v2 import functional as transforms  # noqa: E402

__all__ = ["import_torchvision", "transforms", "tv_tensors"]
