"""What one process of a run learns, and all must know before they go on."""

from __future__ import annotations

import torch
from torch import distributed


class Agreement:
    """The largest number that any process gives.

    Processes ask one another on the CPU, in a group of their own, so that no GPU waits.
    """

    def __init__(self, processes: int) -> None:
        together = processes > 1 and distributed.is_initialized()
        self._group = distributed.new_group(backend="gloo") if together else None

    def __call__(self, number: int) -> int:
        if self._group is None:
            return number
        largest = torch.tensor(number)
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=self._group)
        return int(largest)
