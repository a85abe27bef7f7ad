"""NaN and infinities in a run: traced to their step and images, and kept out of states; see `guard` for the step."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

IN_A_ROW = 3  # losses that are no numbers end a run
LAG = 2  # steps that pass before a loss is read: a GPU needn't wait for it
NAMED = 8  # images that a message names
logger = logging.getLogger(__name__)


class DivergedError(ValueError):
    """The loss or the weights are NaN or infinite."""


class LossWatch:
    """Counts losses that are NaN or infinite one after the other.

    Attributes:
        first: the first of them, in words; "" while the last loss was a number.
    """

    def __init__(self) -> None:
        self.first, self.count = "", 0
        self._unread: deque[tuple[int, Tensor, list[str]]] = deque()

    @property
    def diverged(self) -> bool:
        return self.count >= IN_A_ROW

    def add(self, step: int, loss: Tensor, files: Sequence[str]) -> None:
        """Take note of a step's loss; it is read LAG steps later."""
        self._unread.append((step, loss.detach(), list(files)))
        if len(self._unread) > LAG:
            self._read()

    def drain(self) -> None:
        """Read all losses that are there."""
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
        logger.warning("%s: it has no effect", found)


def all_finite(tensors: Iterable[Any]) -> bool:
    """Whether no tensor of floats holds a NaN or an infinity."""
    floats = [x for x in tensors if isinstance(x, Tensor) and x.is_floating_point()]
    with torch.no_grad():
        return not floats or bool(torch.stack([torch.isfinite(x).all() for x in floats]).all())
