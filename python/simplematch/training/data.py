"""The training data: the pairs of a data set, or groups of its images."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data import (
    CopiedGroups,
    CopiedPairs,
    ImageCopies,
    ImageGroups,
    PairTransform,
    TransformedPairs,
    collate,
    collate_groups,
    open_dataset,
)
from ..models import SimpleMatch
from .config import TrainConfig
from .fetch import CatchingCollate, CatchingDataset
from .losses import GroupLosses, PairLosses
from .sampler import EpochSampler
from .stop import ignore_signals


def training_data(
    config: TrainConfig, model: SimpleMatch
) -> tuple[TransformedPairs | ImageGroups, EpochSampler, DataLoader[Any]]:
    """Make the samples, their sampler, and the data loader."""
    dataset = open_dataset(config.dataset, config.root, "trn", skip_broken=config.skip_broken)
    transform = PairTransform(
        model.image_size, model.mean, model.std, config.max_keypoints, config.crop, config.rotate, config.photometric,
        config.swap, config.affine, config.hflip, model.resize,
    )  # fmt: skip
    options: dict[str, Any] = {"seed": config.seed, "skip_broken": config.skip_broken}
    samples: TransformedPairs | ImageGroups
    if config.cache_copies:
        copies = ImageCopies(dataset, transform, config.cache_copies, config.seed)
        if config.group_size is None:
            samples = CopiedPairs(dataset, copies, **options)
        else:
            samples = CopiedGroups(dataset, copies, config.group_size, **options)
    elif config.group_size is None:
        samples = TransformedPairs(dataset, transform, **options)
    else:
        samples = ImageGroups(dataset, transform, config.group_size, **options)
    sampler = EpochSampler(len(samples), config.seed)
    loader: DataLoader[Any] = DataLoader(
        CatchingDataset(samples), config.batch_size, sampler=sampler, num_workers=config.workers, drop_last=True,
        collate_fn=CatchingCollate(collate if config.group_size is None else collate_groups),
        worker_init_fn=ignore_signals,
        persistent_workers=config.workers > 0, pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    return samples, sampler, loader


def training_losses(config: TrainConfig, network: SimpleMatch) -> PairLosses | GroupLosses:
    """Make the module that computes the losses of a batch of `training_data`."""
    gaussian = None
    if config.loss == "cross_entropy":
        gaussian = {"kernel_size": config.kernel_size, "sigma": config.sigma}
    if config.group_size is None:
        return PairLosses(network, gaussian)
    return GroupLosses(network, config.contrast, gaussian)
