"""SimpleMatch: keypoints of one photograph found in another, after the paper of that name.

The model, its training and its evaluation, on top of the operators of `simplematch_kernels`.
"""

from typing import TYPE_CHECKING

from simplematch_kernels import __version__

if TYPE_CHECKING:
    from .correspondences import Correspondences, match
else:

    def __getattr__(name: str) -> object:
        # Not before they are asked for: they import everything.
        if name in ("Correspondences", "match"):
            from . import correspondences

            return getattr(correspondences, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Correspondences", "__version__", "match"]
