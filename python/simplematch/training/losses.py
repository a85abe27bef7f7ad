"""What a training step computes, as modules: so that several processes or a compiler can wrap it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data import pair_visibility
from ..models import SimpleMatch, keypoint_distance, multi_scale_loss


class PairLosses(nn.Module):
    """The loss of each scale over pairs (eq. 13-14); takes `PairBatch.inputs`."""

    def __init__(self, network: SimpleMatch) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, source: Tensor, target: Tensor, keypoints: Tensor, truth: Tensor, num_keypoints: Tensor
    ) -> list[Tensor]:
        matches = self.network(source, target, keypoints, num_keypoints)
        return multi_scale_loss(matches, truth, num_keypoints)


class GroupLosses(nn.Module):
    """The same over all ordered pairs of each group; takes `GroupBatch.inputs`.

    With a `contrast` above zero one more loss follows: so many times the mean of -log p(true cell), over the scales
    whose softmax sees the whole map. Distances alone teach little while all of them are large.

    Raises:
        ValueError: `contrast` is above zero, and no scale of the network sees the whole map.
    """

    def __init__(self, network: SimpleMatch, contrast: float = 0.0) -> None:
        super().__init__()
        if contrast and None not in network.config.windows:
            raise ValueError(f"contrast needs a scale without a window (None), got windows {network.config.windows}")
        self.network = network
        self.contrast = contrast

    def forward(self, images: Tensor, keypoints: Tensor, visible: Tensor) -> list[Tensor]:
        valid = pair_visibility(visible)
        truth = keypoints[:, :, None].expand(*valid.shape, 2)  # a target's own keypoints, whatever the source
        levels = self.network.match_groups(images, keypoints)
        losses = [keypoint_distance(level.matches.keypoints, truth, valid) for level in levels]
        if self.contrast:
            seen = [level.log_probability for level in levels if level.log_probability is not None]
            surprise = [-x.where(valid, 0.0).sum() / valid.sum().clamp(min=1) for x in seen]
            losses.append(self.contrast * torch.stack(surprise).mean())
        return losses
