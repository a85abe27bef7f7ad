# /// script
# requires-python = ">=3.11"
# dependencies = ["kernels>=0.17", "numpy", "torch"]
# ///
"""Matches keypoints of a map in its shifted copy, with the kernel in the folder of this file."""

from pathlib import Path

import kernels
import torch

kernel = kernels.get_local_kernel(Path(__file__).parent)
device = "cuda" if torch.cuda.is_available() else "cpu"

source = torch.randn(1, 64, 24, 24, device=device)
target = source.roll((2, 3), (2, 3))  # two cells down, three to the right
keypoints = torch.tensor([[[4.0, 5.0], [12.0, 9.0], [18.0, 20.0]]], device=device)
matches = kernel.sparse_window_match(source, target, keypoints, window_size=5)

for (x, y), (found_x, found_y) in zip(keypoints[0].tolist(), matches.keypoints[0].tolist(), strict=True):
    print(f"({x:g}, {y:g}) -> ({found_x:.2f}, {found_y:.2f})")
assert torch.allclose(matches.keypoints, keypoints + torch.tensor([3.0, 2.0], device=device), atol=0.01)
