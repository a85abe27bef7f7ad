"""Transformed pairs, and their padded batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .dataset import PairDataset
from .images import ImageError
from .records import PairInfo
from .seeded import SeededDataset
from .transforms import NetworkSample, PairTransform

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class PairBatch:
    """A batch of B pairs, the network's input.

    Attributes:
        source_images, target_images: (B, 3, S, S) float32, normalised; or (B, F) float16, encoded, see
            `SimpleMatch.encode_images`.
        source_keypoints, target_keypoints: (B, N, 2) float32 (x, y) in pixels of the S x S input; N is the largest
            number in the batch. Rows from num_keypoints on are padding, with value -1.
        num_keypoints: (B,) int64.
        infos: B records, with all keypoints in original pixels.
        skipped: one sentence for each unreadable pair that was replaced.
    """

    source_images: Tensor
    target_images: Tensor
    source_keypoints: Tensor
    target_keypoints: Tensor
    num_keypoints: Tensor
    infos: list[PairInfo]
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def valid(self) -> Tensor:
        """(B, N) bool: True for keypoints, False for padding."""
        rows = torch.arange(self.source_keypoints.shape[1], device=self.num_keypoints.device)
        return rows < self.num_keypoints[:, None]

    @property
    def images_encoded(self) -> int:
        """The number of images in the batch."""
        return 2 * len(self)

    @property
    def files(self) -> list[str]:
        """The paths of the images."""
        return [str(path) for info in self.infos for path in (info.source_path, info.target_path)]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The arguments of `PairLosses`."""
        return (
            self.source_images, self.target_images, self.source_keypoints, self.target_keypoints, self.num_keypoints,
        )  # fmt: skip

    @property
    def count(self) -> Tensor:
        """The number of keypoints that the loss averages over."""
        return self.num_keypoints.sum()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """Copy the tensors to a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PairBatch:
        """Copy the tensors to pinned memory; `DataLoader(pin_memory=True)` calls it."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Any) -> PairBatch:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: function(value) for name, value in tensors.items()})


def collate(samples: Sequence[NetworkSample]) -> PairBatch:
    """Collate samples into a batch, padded to the largest number of keypoints."""
    if not samples:
        raise ValueError("samples must have at least one item, got none")
    return PairBatch(
        source_images=torch.stack([sample.source for sample in samples]),
        target_images=torch.stack([sample.target for sample in samples]),
        source_keypoints=pad_keypoints([sample.source_keypoints for sample in samples]),
        target_keypoints=pad_keypoints([sample.target_keypoints for sample in samples]),
        num_keypoints=torch.tensor([len(sample.source_keypoints) for sample in samples]),
        infos=[sample.info for sample in samples],
        skipped=[sentence for sample in samples for sentence in sample.skipped],
    )


def pad_keypoints(points: Sequence[Tensor]) -> Tensor:
    """Pad B tensors (Ni, 2) with -1 to (B, N, 2)."""
    return torch.nn.utils.rnn.pad_sequence(list(points), batch_first=True, padding_value=-1.0)


class TransformedPairs(SeededDataset[NetworkSample]):
    """A data set with a transform, for `DataLoader(..., collate_fn=collate)`.

    A sample depends only on seed, epoch and index.
    """

    def __init__(
        self, dataset: PairDataset, transform: PairTransform, *, seed: int = 0, skip_broken: bool = False
    ) -> None:
        """Combine a data set and a transform.

        Args:
            dataset: the pairs.
            transform: transforms a pair to the network's input.
            seed: seed of the augmentation.
            skip_broken: replace a pair with an unreadable image by the next readable pair; the sample's `skipped`
                names it, and `SkippedPairs` counts it. Otherwise such a pair raises ImageError.
        """
        super().__init__(seed)
        self.dataset = dataset
        self.transform = transform
        self.skip_broken = skip_broken

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> NetworkSample:
        if not self.skip_broken:
            return self._sample(index)
        skipped: list[str] = []
        for offset in range(len(self)):
            try:
                sample = self._sample((index + offset) % len(self))
            except ImageError as error:
                skipped.append(str(error))
            else:
                return replace(sample, skipped=tuple(skipped))
        raise ImageError(f"none of the {len(self)} pairs can be read; the first reason: {skipped[0]}")

    def _sample(self, index: int) -> NetworkSample:
        return self.transform(self.dataset[index], self.generator(index))


class SkippedPairs:
    """Counts the pairs that a training run skips, and logs each new reason with the count so far."""

    def __init__(self) -> None:
        self.count = 0
        self.reasons: dict[str, int] = {}

    def add(self, reasons: Sequence[str]) -> None:
        """Count a batch's `skipped`."""
        for reason in reasons:
            self.count += 1
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            if self.reasons[reason] == 1:
                _log.warning("skipped %d images so far, %d reasons; new: %s", self.count, len(self.reasons), reason)
