"""Runs the NumPy functions of the installed package in an environment without torch."""

from importlib.util import find_spec

import numpy as np

import simplematch_kernels
import simplematch_kernels.numpy as smn

assert find_spec("torch") is None, "torch must not be installed"
generator = np.random.default_rng(0)
target = generator.standard_normal((2, 64, 40, 48), np.float32)
source = np.roll(target, (-3, -5), (2, 3))
keypoints = np.stack((generator.integers(0, 40, (2, 9)), generator.integers(0, 30, (2, 9))), -1)

matches = smn.sparse_window_match(source, target, keypoints, window_size=7, temperature=0.01)
assert np.abs(matches.keypoints - keypoints - (5, 3)).max() < 1e-3, matches.keypoints
scores = smn.cosine_similarity(smn.gather_keypoints(source, keypoints), target[:, :, ::-1])
found = smn.localize(scores, localization="argmax").keypoints
assert np.array_equal(found, np.stack((keypoints[..., 0] + 5, 39 - keypoints[..., 1] - 3), -1))
try:
    simplematch_kernels.localize  # noqa: B018
except ImportError as error:
    print(error)
else:
    raise AssertionError("localize needs torch")
print(f"simplematch-kernels {simplematch_kernels.__version__} runs on NumPy {np.__version__}, without torch")
