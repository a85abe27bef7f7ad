"""Joins the processes that torchrun or srun has started, so that each evaluates its share of the pairs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed


@contextmanager
def joined_processes() -> Iterator[bool]:
    """Join the processes named by WORLD_SIZE and RANK, if any; yield whether this is the main one, which reports."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or not distributed.is_available() or distributed.is_initialized():
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()
