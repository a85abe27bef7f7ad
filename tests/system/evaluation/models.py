"""A nearest-neighbour matcher without weights, and synthetic pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch.data import PairInfo


class ColourMatcher(torch.nn.Module):
    """Matches blurred 4 x 4 colour patches without training, and counts encoded images."""

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)
    window_size = "argmax"

    def __init__(self, image_size: int = 64) -> None:
        super().__init__()
        self.image_size = image_size
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.encoded = 0
        self.largest_batch = 0

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        assert images.shape[1:] == (3, self.image_size, self.image_size) and not torch.is_grad_enabled()
        assert not self.training
        self.encoded += len(images)
        self.largest_batch = max(self.largest_batch, len(images))
        fine = torch.nn.functional.pixel_unshuffle(images, 4)
        coarse = torch.nn.functional.avg_pool2d(fine, 5, 1, 2, count_include_pad=False)
        return {"map": torch.cat((fine, 2 * coarse), dim=1)}

    def match_features(
        self, source: dict[str, Tensor], target: dict[str, Tensor], keypoints: Tensor, num: Tensor | None = None
    ) -> smk.Matches:
        size = (self.image_size, self.image_size)
        return smk.sparse_window_match(
            source["map"], target["map"], keypoints, num_keypoints=num, source_size=size, target_size=size,
            source_coords="half_pixel", target_coords="half_pixel", localization="argmax",
        )  # fmt: skip


def random_pairs(count: int, seed: int = 0, most: int = 12) -> tuple[list[PairInfo], list[np.ndarray]]:
    """Make records without images, and predictions near the ground truth, in original pixels."""
    draw = np.random.default_rng(seed)
    infos, predictions = [], []
    for i in range(count):
        points = int(draw.integers(2, most + 1))
        sizes = [tuple(int(v) for v in draw.integers(100, 500, 2)) for _ in range(2)]
        keypoints = [draw.uniform(0, 1, (points, 2)) * size[::-1] for size in sizes]
        boxes = [(*k.min(0), *(k.max(0) + 5)) for k in keypoints]
        infos.append(
            PairInfo(
                f"pair {i}", f"category {i % 3}", Path(f"{i}a"), Path(f"{i}b"), *sizes, *boxes, *keypoints,
                variations={"viewpoint_variation": str(i % 2)},
            )
        )  # fmt: skip
        scale = np.ptp(keypoints[1], axis=0).max() * draw.choice([0.02, 0.1, 0.3])
        predictions.append(keypoints[1] + draw.normal(0, scale, (points, 2)))
    return infos, predictions
