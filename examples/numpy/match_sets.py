"""Find the mutual nearest neighbours of two sets of descriptors with NumPy arrays, without PyTorch."""

import numpy as np

import simplematch_kernels.numpy as smn
from simplematch_kernels import presets

generator = np.random.default_rng(0)
a = generator.standard_normal((1, 500, 64), np.float32)  # (B, N, C)
b = np.concatenate((a[:, ::-1][:, :300], generator.standard_normal((1, 400, 64), np.float32)), 1)
b += 0.2 * generator.standard_normal(b.shape, np.float32)  # 300 of a in reverse order, disturbed, and 400 others

matches = smn.match_all(a, b, **presets.kornia("match_smnn"))  # both ways at once; the (N, M) distances are never made
best = matches.index_a[0]
pairs = matches.mutual[0] & (matches.score_a / matches.second_a <= 0.8**2)[0]  # squared distances: Lowe's ratio
pairs &= (matches.score_b / matches.second_b <= 0.8**2)[0, best]

right = best[pairs] == 499 - np.flatnonzero(pairs)
print(f"{pairs.sum()} pairs, {right.sum()} of them right, of 300")
