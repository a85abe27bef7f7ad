"""The order of training samples, a function of seed and epoch, so that a run can resume within an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Yields a permutation of `count` items per epoch, starting at the position that `set_position` sets."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.epoch = self.first = 0

    def set_position(self, epoch: int, first: int = 0) -> None:
        """Continue with item `first` of an epoch."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return self.count - self.first

    def __iter__(self) -> Iterator[int]:
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint32)
        generator = torch.Generator().manual_seed(int(state[0]))
        order: list[int] = torch.randperm(self.count, generator=generator).tolist()
        return iter(order[self.first :])
