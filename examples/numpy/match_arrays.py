"""Match a few points of one feature map in another with NumPy arrays, without PyTorch."""

import numpy as np

import simplematch_kernels.numpy as smn

generator = np.random.default_rng(0)
features = generator.standard_normal((40, 40, 32), np.float32)  # (height, width, channels)
source = features.transpose(2, 0, 1)[None]  # (B, C, H, W): a view, read without a copy
target = np.roll(features, (3, 7), (0, 1)).transpose(2, 0, 1)[None]  # the same map, 3 cells down and 7 to the right
keypoints = np.array([[[4.0, 5.0], [20.0, 11.0], [30.0, 30.0]]])  # (B, N, 2) as (x, y), in cells

matches = smn.sparse_window_match(source, target, keypoints, window_size=9)

print("shift of every keypoint:", (matches.keypoints - keypoints).round(3).tolist())
print("similarity there:", matches.score.round(3).tolist())
