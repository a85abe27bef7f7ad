"""The CPU kernels of `csrc/cpu` as a backend, on as many threads as PyTorch uses."""

from __future__ import annotations

import torch

from . import _records
from ._operators import Operators

_operators = Operators(lambda tensor: (_records.cpu(torch.get_num_threads()), None))

sparse_window_match = _operators.sparse_window_match
sparse_window_match_backward = _operators.sparse_window_match_backward
localize = _operators.localize
localize_backward = _operators.localize_backward
gather_keypoints = _operators.gather_keypoints
gather_keypoints_backward = _operators.gather_keypoints_backward
cosine_similarity = _operators.cosine_similarity
cosine_similarity_backward = _operators.cosine_similarity_backward
