"""Detects NaN and infinity in losses and weights; `guard` keeps them out of the weights."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .sharding import local

IN_A_ROW = 3  # consecutive non-finite losses that end a run
LAG = 2  # steps before a loss is read, so that the CPU doesn't wait for the GPU
NAMED = 8  # images named in a message
logger = logging.getLogger(__name__)


class DivergedError(ValueError):
    """The loss or the weights are NaN or infinite."""


class LossWatch:
    """Counts consecutive losses that are NaN or infinite.

    Attributes:
        first: a description of the first of them; "" if the last loss was finite.
    """

    def __init__(self) -> None:
        self.first, self.count = "", 0
        self._unread: deque[tuple[int, Tensor, list[str]]] = deque()

    @property
    def diverged(self) -> bool:
        return self.count >= IN_A_ROW

    def add(self, step: int, loss: Tensor, files: Sequence[str]) -> None:
        """Add a step's loss; it is read LAG steps later."""
        self._unread.append((step, loss.detach(), list(files)))
        if len(self._unread) > LAG:
            self._read()

    def drain(self) -> None:
        """Read all pending losses."""
        while self._unread:
            self._read()

    def _read(self) -> None:
        step, loss, files = self._unread.popleft()
        value = float(loss)
        if math.isfinite(value):
            self.first, self.count = "", 0
            return
        self.count += 1
        found = f"the loss of step {step}, or its gradient, is {value}, with the images {', '.join(files[:NAMED])}"
        found += f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        self.first = self.first or found
        logger.warning("%s: the step is skipped", found)


def all_finite(tensors: Iterable[Any]) -> bool:
    """Return whether all floating-point tensors, or this process's parts of them, are finite."""
    floats = [local(x) for x in tensors if isinstance(x, Tensor) and x.is_floating_point()]
    with torch.no_grad():
        return not floats or bool(torch.stack([torch.isfinite(x).all() for x in floats]).all())
