"""The CPU kernels of `csrc/cpu` as a backend, on as many threads as PyTorch uses."""

from __future__ import annotations

import torch

from .._types import Backend
from . import _records
from ._operators import Operators

backend: Backend = Operators(lambda tensor: (_records.cpu(torch.get_num_threads()), None))
