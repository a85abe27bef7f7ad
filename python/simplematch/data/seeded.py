"""Data sets whose samples depend only on seed, epoch and index, not on the worker or the order."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Generator
from torch.utils.data import Dataset

Sample = TypeVar("Sample", covariant=True)


class SeededDataset(Dataset[Sample]):
    """A data set whose random numbers come from `generator`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # shared with persistent workers

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, also in running workers."""
        self._epoch.fill_(epoch)

    def generator(self, index: int) -> Generator:
        """Return the random number generator of a sample in this epoch."""
        state = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
