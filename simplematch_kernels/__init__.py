"""Fused sparse keypoint matching: gather, cosine similarity, argmax, window and soft-argmax in one operator.

The functions below need PyTorch, and importing the package registers its operators. Without PyTorch the import still
succeeds, for `simplematch_kernels.numpy`, and each function raises an error that names what is missing.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import presets

if TYPE_CHECKING or find_spec("torch") is not None:
    from ._backends import explain, use_backend
    from ._types import AllMatches, DenseMatches, DetailedMatches, Matches
    from .functional.cross_entropy import match_descriptors_cross_entropy, sparse_match_cross_entropy
    from .functional.dense import dense_match
    from .functional.gather import gather_keypoints
    from .functional.local_correlation import local_correlation
    from .functional.match_all import match_all, pair_scores
    from .functional.matching import (
        cosine_similarity,
        extract_windows,
        localize,
        match_descriptors,
        sparse_window_match,
    )

if not TYPE_CHECKING:  # which would take every name for an attribute

    def __getattr__(name: str) -> object:
        if name == "presets":  # most programs use none, so they are imported with the first
            from importlib import import_module

            return import_module(f"{__name__}.presets")
        if name in __all__:
            raise ImportError(
                f"{__name__}.{name} needs PyTorch, which is not installed (pip install torch); "
                f"the functions of {__name__}.numpy don't"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.2.0"

__all__ = [
    "AllMatches",
    "DenseMatches",
    "DetailedMatches",
    "Matches",
    "__version__",
    "cosine_similarity",
    "dense_match",
    "explain",
    "extract_windows",
    "gather_keypoints",
    "local_correlation",
    "localize",
    "match_all",
    "match_descriptors",
    "match_descriptors_cross_entropy",
    "pair_scores",
    "presets",
    "sparse_match_cross_entropy",
    "sparse_window_match",
    "use_backend",
]
