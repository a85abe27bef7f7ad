"""The operators on NumPy arrays: the compiled CPU kernels, forward only. Needs neither PyTorch nor a GPU.

Functions, options and results are those of `simplematch_kernels`. Arrays of any strides are read without a copy, also
reversed ones (negative strides) and broadcast ones (stride 0). Only arrays that C++ can't address are copied: arrays of
foreign byte order, misaligned arrays, and arrays with strides that are not a multiple of the item size.

Importing this module raises ImportError where the package was installed without its compiled module.
"""

from .. import _native

if (_reason := _native.why_not()) is not None:
    raise ImportError(f"{__name__} runs on the compiled kernels: {_reason}")

from ._arrays import DenseMatches, DetailedMatches, Matches
from .cross_entropy import match_descriptors_cross_entropy, sparse_match_cross_entropy
from .dense import dense_match
from .functional import (
    cosine_similarity,
    localize,
    match_descriptors,
    sparse_window_match,
)
from .gather import gather_keypoints
from .local_correlation import local_correlation
from .match_all import AllMatches, match_all
from .pair_scores import pair_scores

__all__ = [
    "AllMatches",
    "DenseMatches",
    "DetailedMatches",
    "Matches",
    "cosine_similarity",
    "dense_match",
    "gather_keypoints",
    "local_correlation",
    "localize",
    "match_all",
    "match_descriptors",
    "match_descriptors_cross_entropy",
    "pair_scores",
    "sparse_match_cross_entropy",
    "sparse_window_match",
]
