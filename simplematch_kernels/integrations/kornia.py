"""kornia: nearest-neighbour matching without the distance matrix, and spatial soft-argmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import presets
from ..functional.match_all import match_all
from ..functional.matching import localize
from ._patching import Integration, Replacement
from ._shared import distances

_Pairs = tuple[Tensor, Tensor]


def match_nn(theirs: Any, desc1: Tensor, desc2: Tensor, dm: Tensor | None = None) -> _Pairs:
    """Distances (N, 1) and pairs (N, 2) of the nearest of desc2 (M, C) for each of desc1 (N, C)."""
    if dm is not None or not _are_sets(desc1, desc2, 1):
        return _theirs(theirs, desc1, desc2, dm)
    found = match_all(desc1[None], desc2[None], **presets.kornia("match_nn"))
    return _pairs(distances(found.score_a[0]), found.index_a[0], torch.ones_like(found.mutual[0]), desc1)


def match_mnn(theirs: Any, desc1: Tensor, desc2: Tensor, dm: Tensor | None = None) -> _Pairs:
    """The same of mutual nearest neighbours, in the order of the smaller set."""
    if dm is not None or not _are_sets(desc1, desc2, 1):
        return _theirs(theirs, desc1, desc2, dm)
    swapped = len(desc1) > len(desc2)
    first, second = (desc2, desc1) if swapped else (desc1, desc2)
    found = match_all(first[None], second[None], **presets.kornia("match_mnn"))
    distance, pairs = _pairs(distances(found.score_a[0]), found.index_a[0], found.mutual[0], desc1)
    return distance, pairs.flip(1) if swapped else pairs


def match_snn(theirs: Any, desc1: Tensor, desc2: Tensor, th: float = 0.8, dm: Tensor | None = None) -> _Pairs:
    """Ratios (K, 1) of the nearest to the second distance up to `th`, and pairs (K, 2)."""
    if dm is not None or not _are_sets(desc1, desc2, 2) or _gradient_of_second(desc1, desc2):
        return _theirs(theirs, desc1, desc2, th, dm)
    found = match_all(desc1[None], desc2[None], **presets.kornia("match_snn"))
    ratio = _ratio(found.score_a, found.second_a)
    return _pairs(ratio, found.index_a[0], ratio <= th, desc1)


def match_smnn(theirs: Any, desc1: Tensor, desc2: Tensor, th: float = 0.95, dm: Tensor | None = None) -> _Pairs:
    """The larger of both ratios of mutual nearest neighbours that pass the test both ways, and pairs."""
    if dm is not None or not _are_sets(desc1, desc2, 2) or _gradient_of_second(desc1, desc2):
        return _theirs(theirs, desc1, desc2, th, dm)
    found = match_all(desc1[None], desc2[None], **presets.kornia("match_smnn"))
    back = _ratio(found.score_b, found.second_b)[found.index_a[0].clamp(min=0)]
    ratio = torch.maximum(_ratio(found.score_a, found.second_a), back)
    return _pairs(ratio, found.index_a[0], found.mutual[0] & (ratio <= th), desc1)


def spatial_soft_argmax2d(
    theirs: Any, input: Tensor, temperature: Any = None, normalized_coordinates: bool = True
) -> Tensor:
    """Mean points (B, N, 2) of scores (B, N, H, W) under a softmax."""
    scalar = temperature is None or isinstance(temperature, (int, float)) or temperature.dim() == 0
    if not scalar or not isinstance(input, Tensor) or input.dim() != 4:
        found: Tensor = theirs(input, temperature, normalized_coordinates)
        return found
    options = presets.kornia("spatial_soft_argmax2d", temperature=1.0 if temperature is None else temperature)
    if not normalized_coordinates:
        options |= {"target_size": None, "output_offset": 0.0}
    return localize(input, **options).keypoints.to(input.dtype)


def _gradient_of_second(first: Tensor, second: Tensor) -> bool:
    """Whether the distance of the second nearest, a constant in ours, needs a gradient."""
    return torch.is_grad_enabled() and (first.requires_grad or second.requires_grad)


def _are_sets(first: Any, second: Any, least: int) -> bool:
    sets = all(isinstance(x, Tensor) and x.dim() == 2 and len(x) >= least for x in (first, second))
    return sets and first.dtype == second.dtype and first.shape[1] == second.shape[1]


def _theirs(theirs: Any, *arguments: Any) -> _Pairs:
    found: _Pairs = theirs(*arguments)
    return found


def _ratio(score: Tensor, second: Tensor | None) -> Tensor:
    assert second is not None
    return distances(score[0]) / distances(second[0])


def _pairs(value: Tensor, index: Tensor, chosen: Tensor, like: Tensor) -> _Pairs:
    rows = chosen.nonzero()[:, 0]
    return value[rows, None].to(like.dtype), torch.stack((rows, index[rows]), 1)


_MATCHING = "kornia.feature.matching"
INTEGRATIONS = (
    Integration(
        "kornia",
        "kornia/kornia",
        (
            Replacement(f"{_MATCHING}:match_nn", "desc1, desc2, dm=None", match_nn, needs_theirs=True),
            Replacement(f"{_MATCHING}:match_mnn", "desc1, desc2, dm=None", match_mnn, needs_theirs=True),
            Replacement(f"{_MATCHING}:match_snn", "desc1, desc2, th=0.8, dm=None", match_snn, needs_theirs=True),
            Replacement(f"{_MATCHING}:match_smnn", "desc1, desc2, th=0.95, dm=None", match_smnn, needs_theirs=True),
            Replacement(
                "kornia.geometry.subpix.spatial_soft_argmax:spatial_soft_argmax2d",
                "input, temperature=None, normalized_coordinates=True",
                spatial_soft_argmax2d,
                needs_theirs=True,
            ),
        ),
    ),
)
