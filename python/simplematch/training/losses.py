"""The losses of a training step as modules, which DDP and torch.compile can wrap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..data import pair_visibility
from ..models import SimpleMatch, keypoint_distance, multi_scale_loss


class PairLosses(nn.Module):
    """Computes the loss of each scale over pairs (eq. 13-14); takes `PairBatch.inputs`.

    `gaussian`, the options of `simplematch_kernels.sparse_match_cross_entropy`, makes it that cross entropy; None: the
    paper's distance.
    """

    def __init__(self, network: SimpleMatch, gaussian: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.network = network
        self.gaussian = gaussian

    def forward(
        self, source: Tensor, target: Tensor, keypoints: Tensor, truth: Tensor, num_keypoints: Tensor
    ) -> list[Tensor]:
        if self.gaussian is not None:
            return self.network.cross_entropies(source, target, keypoints, truth, num_keypoints, **self.gaussian)
        matches = self.network(source, target, keypoints, num_keypoints)
        return multi_scale_loss(matches, truth, num_keypoints)


class GroupLosses(nn.Module):
    """Computes the loss of each scale over all ordered pairs of each group; takes `GroupBatch.inputs`.

    `gaussian` as in `PairLosses`. A positive `contrast` adds one more loss: `contrast` times the mean of
    -log p(true cell), over the scales whose softmax covers the whole map. Distances alone give a weak signal early in
    training.

    Raises:
        ValueError: `contrast` is positive, but every scale of the network has a window; or with `gaussian`.
    """

    def __init__(self, network: SimpleMatch, contrast: float = 0.0, gaussian: dict[str, Any] | None = None) -> None:
        super().__init__()
        if contrast and gaussian is not None:
            raise ValueError(f"contrast must be 0 for a cross entropy, got {contrast}")
        if contrast and None not in network.config.windows:
            raise ValueError(f"windows must have None for a scale if contrast is set, got {network.config.windows}")
        self.network = network
        self.contrast = contrast
        self.gaussian = gaussian

    def forward(self, images: Tensor, keypoints: Tensor, visible: Tensor) -> list[Tensor]:
        valid = pair_visibility(visible)
        if self.gaussian is not None:
            return self.network.group_cross_entropies(images, keypoints, valid, **self.gaussian)
        truth = keypoints[:, :, None].expand(*valid.shape, 2)  # the target's own keypoints, for every source
        levels = self.network.match_groups(images, keypoints)
        losses = [keypoint_distance(level.matches.keypoints, truth, valid) for level in levels]
        if self.contrast:
            seen = [level.log_probability for level in levels if level.log_probability is not None]
            surprise = [-x.where(valid, 0.0).sum() / valid.sum().clamp(min=1) for x in seen]
            losses.append(self.contrast * torch.stack(surprise).mean())
        return losses
