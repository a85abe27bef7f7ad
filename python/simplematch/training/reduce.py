"""A maximum over the processes of a run."""

from __future__ import annotations

import torch
from torch import distributed


class ProcessMax:
    """Returns the largest number that any process passes.

    It uses a gloo group of its own, so that the reduction runs on the CPU and never synchronises a GPU.
    """

    def __init__(self, processes: int) -> None:
        distributes = processes > 1 and distributed.is_initialized()
        self._group = distributed.new_group(backend="gloo") if distributes else None

    def __call__(self, number: int) -> int:
        if self._group is None:
            return number
        largest = torch.tensor(number)
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=self._group)
        return int(largest)
