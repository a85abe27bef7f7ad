"""A maximum over the processes of a run, and the end of their communication."""

from __future__ import annotations

import time

import torch
from accelerate import Accelerator
from torch import distributed

SETTLING = 0.5  # seconds


class ProcessMax:
    """Returns the largest number that any process passes.

    It uses a gloo group of its own, so that the reduction runs on the CPU and never synchronises a GPU.
    """

    def __init__(self, processes: int) -> None:
        distributes = processes > 1 and distributed.is_initialized()
        self.group = distributed.new_group(backend="gloo") if distributes else None

    def __call__(self, number: int) -> int:
        if self.group is None:
            return number
        largest = torch.tensor(number)
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=self.group)
        return int(largest)


def end_communication(accelerator: Accelerator) -> None:
    """Wait until all processes are here and gloo's worker threads have released their tensors.

    A worker thread releases the tensors of a collective after the collective has returned, and needs Python for it. If
    Python has begun to exit by then, the process aborts with "terminate called without an active exception", although
    its work is done. Freeing a group joins its threads, but PyTorch's caches hold that of sharded tensors until the
    end.
    """
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        time.sleep(SETTLING)
