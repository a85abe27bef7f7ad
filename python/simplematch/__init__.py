"""SimpleMatch: finds keypoints of one image in another, as in the paper of that name.

The package holds the model, its training and its evaluation, built on the operators of `simplematch_kernels`.
"""

from typing import TYPE_CHECKING

from simplematch_kernels import __version__

if TYPE_CHECKING:
    from .correspondences import Correspondences, match
else:

    def __getattr__(name: str) -> object:
        # Imported on first use, because they import the whole package.
        if name in ("Correspondences", "match"):
            from . import correspondences

            return getattr(correspondences, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Correspondences", "__version__", "match"]
