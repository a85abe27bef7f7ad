"""The CUDA kernels of `csrc/cuda` as a backend, on the current stream of the tensors' device."""

from __future__ import annotations

import torch
from torch import Tensor

from .._types import Backend
from ._operators import Operators
from ._records import _C, CODES


def _where(tensor: Tensor) -> tuple[_C.Device, _C.Allocate]:
    device = tensor.device
    workspace: list[Tensor] = []  # lives through `allocate` until the call is over

    def allocate(size: int) -> int:
        workspace.append(torch.empty(size, dtype=torch.uint8, device=device))
        return workspace[0].data_ptr()

    if device.type == "cpu":  # an emulated GPU
        return _C.Device(kind=CODES["cuda"]), allocate
    stream = torch.cuda.current_stream(device).cuda_stream
    return _C.Device(kind=CODES["cuda"], index=device.index, stream=stream), allocate


backend: Backend = Operators(_where)
