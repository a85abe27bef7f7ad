"""SD4Match, and Semantic-Correspondence, which has its functions: the four strategies of matching."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import presets
from ..functional.matching import sparse_window_match
from ._patching import Integration, Replacement


def nn_get_matches(src_featmaps: Tensor, trg_featmaps: Tensor, query: Tensor, l2_norm: bool = True) -> Tensor:
    """The best target cell (B, ..., 2) of source cells (B, ..., 2)."""
    return _match("nn", src_featmaps, trg_featmaps, query, l2_norm)


def bilinear_get_matches(src_featmaps: Tensor, trg_featmaps: Tensor, query: Tensor, l2_norm: bool = True) -> Tensor:
    """The best target cells of the four source cells around a point, blended."""
    return _match("bilinear", src_featmaps, trg_featmaps, query, l2_norm)


def softargmax_get_matches(
    src_featmaps: Tensor, trg_featmaps: Tensor, query: Tensor, softmax_temp: float, l2_norm: bool = True
) -> Tensor:
    """The mean of the target cells under a softmax."""
    return _match("softargmax", src_featmaps, trg_featmaps, query, l2_norm, temperature=softmax_temp)


def kernel_softargmax_get_matches(
    src_featmaps: Tensor,
    trg_featmaps: Tensor,
    query: Tensor,
    softmax_temp: float,
    sigma: float = 7,
    l2_norm: bool = True,
) -> Tensor:
    """The mean under a softmax of scores times a Gaussian around the best cell."""
    options: dict[str, Any] = {"sigma": sigma, "temperature": softmax_temp}
    return _match("kernelsoftargmax", src_featmaps, trg_featmaps, query, l2_norm, **options)


def _match(mode: str, source: Tensor, target: Tensor, query: Tensor, l2_norm: bool, **changes: Any) -> Tensor:
    """All in cells, as no sizes of images are given."""
    options = presets.sd4match(mode, metric="cosine" if l2_norm else "dot", **changes)
    found = sparse_window_match(source, target, query.flatten(1, -2), **options)
    return found.keypoints.view(query.shape)


_REPLACEMENTS = tuple(
    Replacement(f"utils.matching:{function.__name__}", f"src_featmaps, trg_featmaps, query, {options}", function)
    for function, options in (
        (nn_get_matches, "l2_norm=True"),
        (bilinear_get_matches, "l2_norm=True"),
        (softargmax_get_matches, "softmax_temp, l2_norm=True"),
        (kernel_softargmax_get_matches, "softmax_temp, sigma=7, l2_norm=True"),
    )
)
INTEGRATIONS = (
    Integration("sd4match", "ActiveVisionLab/SD4Match", _REPLACEMENTS),
    Integration("semantic_correspondence", "Visual-AI/Semantic-Correspondence", _REPLACEMENTS),
)
