"""What the records of several operators have in common."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Given = Tensor | None


class Rows(NamedTuple):
    """Which query rows and which target cells take part. Every field may be None: no restriction.

    num_keypoints: (B,) int64, rows n >= num_keypoints[b] are padding.
    valid: (B, N) bool, contiguous; False rows are padding. target_mask: (B, M) bool, or (B, N, M) with a mask for each
        query, contiguous; False cells can be neither peak nor support, and a row without a True cell is invalid.
    """

    num_keypoints: Tensor | None = None
    valid: Tensor | None = None
    target_mask: Tensor | None = None


ALL_ROWS = Rows()


def accumulation_dtype(features: Tensor) -> torch.dtype:
    """float64 for float64 features, float32 for everything else."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def descriptor_map(descriptors: Tensor) -> Tensor:
    """(B, N, C) as the (B, C, 1, N) that the kernels read: a map of one row with a cell for each descriptor."""
    return descriptors.transpose(1, 2).unsqueeze(2)


def descriptors_of(descriptor_map: Tensor) -> Tensor:
    """The (B, N, C) that `descriptor_map` made a map."""
    return descriptor_map[:, :, 0, :].transpose(1, 2)
