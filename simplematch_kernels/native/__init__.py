"""The compiled kernels as a backend of the operators: tensors in, tensors out, no autograd."""

from .cpu import (
    cosine_similarity,
    cosine_similarity_backward,
    gather_keypoints,
    gather_keypoints_backward,
    localize,
    localize_backward,
    sparse_window_match,
    sparse_window_match_backward,
)

__all__ = [
    "cosine_similarity",
    "cosine_similarity_backward",
    "gather_keypoints",
    "gather_keypoints_backward",
    "localize",
    "localize_backward",
    "sparse_window_match",
    "sparse_window_match_backward",
]
