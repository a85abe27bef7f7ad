"""The training loss: distance to the ground-truth keypoints, summed over scales (eq. 13-14)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simplematch_kernels import Matches


def keypoint_loss(predicted: Tensor, truth: Tensor, num_keypoints: Tensor | None = None) -> Tensor:
    """Compute the mean of |predicted - truth| over the valid keypoints of a batch (eq. 13).

    Args:
        predicted: (B, N, 2) as (x, y), in pixels of the network's input.
        truth: (B, N, 2), the ground truth in the same pixels.
        num_keypoints: (B,) integers; rows past them are padding and are ignored. None: no padding.

    Returns:
        A scalar in pixels; 0 if no keypoint is valid. Its gradient at distance 0 is 0.

    Raises:
        ValueError: the shapes don't fit.
    """
    if predicted.dim() != 3 or predicted.shape[2] != 2 or predicted.shape != truth.shape:
        raise ValueError(
            f"predicted and truth must both be (B, N, 2), got {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )
    if num_keypoints is None:
        valid = torch.ones(predicted.shape[:2], dtype=torch.bool, device=predicted.device)
    elif num_keypoints.shape != predicted.shape[:1]:
        raise ValueError(f"num_keypoints must be ({len(predicted)},), got {tuple(num_keypoints.shape)}")
    else:
        valid = torch.arange(predicted.shape[1], device=predicted.device) < num_keypoints[:, None]
    return keypoint_distance(predicted, truth, valid)


def keypoint_distance(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean of |predicted - truth| over rows (..., 2) where `valid` (...) is True; 0 if none is."""
    # Mask before the norm: masking after it would let NaN in invalid rows reach the gradient.
    difference = (predicted - truth).where(valid[..., None], 0.0)
    loss: Tensor = difference.norm(dim=-1).sum() / valid.sum().clamp(min=1)
    return loss


def multi_scale_loss(matches: Sequence[Matches], truth: Tensor, num_keypoints: Tensor | None = None) -> list[Tensor]:
    """Compute `keypoint_loss` for each scale, coarse to fine; the training loss is their sum (eq. 14)."""
    return [keypoint_loss(x.keypoints, truth, num_keypoints) for x in matches]
