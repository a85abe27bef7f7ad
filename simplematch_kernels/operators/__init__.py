"""The operators as torch knows them, one file each: its arguments and results by name.

Importing this package registers them in the `simplematch` namespace.
"""

from ._torch import NAMESPACE
from .cosine_similarity import cosine_similarity
from .gather_keypoints import gather_keypoints
from .localize import localize
from .sparse_window_match import sparse_window_match

__all__ = ["NAMESPACE", "cosine_similarity", "gather_keypoints", "localize", "sparse_window_match"]
