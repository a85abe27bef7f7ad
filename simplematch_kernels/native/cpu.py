"""The CPU kernels of `csrc/cpu` as a backend, on as many threads as PyTorch uses."""

from __future__ import annotations

import torch

from .._native import load
from .._types import Backend
from ._operators import Operators

backend: Backend = Operators(load(), lambda tensor: torch.get_num_threads())
