"""The CUDA kernels of `csrc/cuda` as a backend, on the current stream of the tensors' device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._native import load
from .._types import Backend
from ._operators import Operators


def _device(tensor: Tensor) -> tuple[int, int, Callable[[int], int]]:
    """(index, stream, allocate) as the module takes them."""
    device = tensor.device
    workspace: list[Tensor] = []  # in the tuple, through `allocate`, until the call is over

    def allocate(size: int) -> int:
        workspace.append(torch.empty(size, dtype=torch.uint8, device=device))
        return workspace[0].data_ptr()

    if device.type == "cpu":  # an emulated GPU
        return 0, 0, allocate
    return device.index, torch.cuda.current_stream(device).cuda_stream, allocate


backend: Backend = Operators(load().cuda, _device)
