"""SimpleMatch: keypoints of one photograph found in another, after the paper of that name.

The model, its training and its evaluation, on top of the operators of `simplematch_kernels`.
"""

from simplematch_kernels import __version__

__all__ = ["__version__"]
