"""Samples that depend on seed, epoch and index alone: not on the worker, the order or what was drawn before."""

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
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other samples from now on, in running workers too."""
        self._epoch.fill_(epoch)

    def generator(self, index: int) -> Generator:
        """The random numbers of a sample in this epoch."""
        state = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
