"""Triton kernels of the operators: tensors in, tensors out, no autograd. Importing this package imports Triton."""

from __future__ import annotations

from .backend import (
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
