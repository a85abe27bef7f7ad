"""Stands for the package vismatch: the names and signatures of `BaseMatcher` that an adapter meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


class BaseMatcher(torch.nn.Module):
    def __init__(self, device: str = "cpu", **kwargs: Any) -> None:
        super().__init__()
        self.device = device
        self.ransac_reproj_thresh = kwargs.get("ransac_reproj_thresh", 3)

    @torch.inference_mode()
    def forward(self, img0: Any, img1: Any) -> dict[str, Any]:
        outputs = self._forward(*(_tensor(x).to(self.device) for x in (img0, img1)))
        names = (
            "matched_kpts0", "matched_kpts1", "all_kpts0", "all_kpts1", "all_desc0", "all_desc1", "matched_confidences",
        )  # fmt: skip
        found = dict(zip(names, outputs, strict=True))
        for name, array in found.items():
            assert array is None or isinstance(array, np.ndarray | torch.Tensor), name
            if name != "matched_confidences" and (array is None or not array.size):
                found[name] = np.empty((0, 2))
        assert found["matched_kpts0"].shape == found["matched_kpts1"].shape
        assert found["matched_confidences"].shape == found["matched_kpts0"].shape[:1]
        inliers = {f"inlier_kpts{i}": found[f"matched_kpts{i}"] for i in (0, 1)}  # in place of RANSAC
        return found | inliers | {"H": None, "num_inliers": len(inliers["inlier_kpts0"])}


def _tensor(image: Any) -> torch.Tensor:
    if isinstance(image, str | Path):
        image = Image.open(image)
    if isinstance(image, Image.Image):
        image = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
    assert image.dim() == 3 and image.shape[0] == 3 and image.min() >= -0.2 and image.max() <= 1.2
    return image
