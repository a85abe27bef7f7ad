"""Fused sparse keypoint matching: gather, cosine similarity, argmax, window and soft-argmax in one operator."""

from ._backends import explain, use_backend
from ._types import Matches
from .functional import (
    cosine_similarity,
    extract_windows,
    gather_keypoints,
    localize,
    match_descriptors,
    sparse_window_match,
)

__version__ = "0.1.0"

__all__ = [
    "Matches",
    "__version__",
    "cosine_similarity",
    "explain",
    "extract_windows",
    "gather_keypoints",
    "localize",
    "match_descriptors",
    "sparse_window_match",
    "use_backend",
]
