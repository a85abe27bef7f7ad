"""What a model tells about each of its matches, from which a calibration predicts the match's error."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simplematch_kernels import match_all, sparse_window_match

from ..data.records import FloatArray
from ..sizes import height_width
from .matching import EPS, cells_of
from .model import SimpleMatch
from .nearest import NearestNeighbour

TEMPERATURE = 0.05  # of the softmax over the map of an untrained matcher, which has none of its own
SECOND_RADIUS = 2  # cells around the best one that the second best lies outside of
_RIVAL_SHARE = 16  # a rival lies outside a square of 2 / 16 of the map's sides round a cell
_TOP = 32  # cells that speak for a pair of images
_CHUNK = 1024  # points matched at once; each needs a score map


class Encoded(NamedTuple):
    """Images as `gather_evidence` takes them.

    Attributes:
        features: (B, ...) what the model's `encode` returned.
        rivals: (B, M) similarity of every cell of the model's map with the best cell elsewhere in its own image.
    """

    features: Tensor
    rivals: Tensor


class CellMatches(NamedTuple):
    """All cells of a source, matched with their nearest neighbours in a target.

    Attributes:
        similarity: (M,) with the nearest neighbour.
        mutual: (M,) bool, whether the two are each other's nearest neighbours.
        salience: (M,) similarity less the mean similarity of both cells with their rivals: how much more alike the two
            are than anything else in their own images.
        shape: (h, w) of the source's map, M = h * w.
    """

    similarity: Tensor
    mutual: Tensor
    salience: Tensor
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a model tells about the matches of N points of a pair; coordinates are (x, y) in pixels of its input.

    Attributes:
        matches: (N, 2) in the target.
        spread: (N, 2, 2) expected squared error of the match under the softmax over the target,
            E[(c - match) (c - match)^T].
        similarity: (N,) at the best cell.
        second: (N,) similarity of the best cell elsewhere.
        cycle: (N,) distance between a point and the match of its match.
        salience: (N,) similarity less the mean similarity of both cells with their rivals; see `CellMatches`.
        pair_salience: (N,) mean of the 32 largest saliences of mutual nearest neighbours, one number for the pair.
        mutual_share: (N,) share of the source's cells that have a mutual nearest neighbour, likewise.
        pooled_similarity: (N,) similarity of the mean descriptors of the two images, likewise.
    """

    matches: FloatArray
    spread: FloatArray
    similarity: FloatArray
    second: FloatArray
    cycle: FloatArray
    salience: FloatArray
    pair_salience: FloatArray
    mutual_share: FloatArray
    pooled_similarity: FloatArray

    def __len__(self) -> int:
        return len(self.matches)

    @classmethod
    def joined(cls, parts: list[Evidence]) -> Evidence:
        """Join the points of several pairs."""
        return cls(*(np.concatenate([getattr(part, x.name) for part in parts]) for x in fields(cls)))


def gives_evidence(network: object) -> bool:
    """Whether `gather_evidence` takes a model: one of this package that matches with the fused operators."""
    return isinstance(network, NearestNeighbour) or (isinstance(network, SimpleMatch) and network.has_covariance)


@torch.inference_mode()
def encode_images(network: Any, images: Tensor) -> Encoded:
    """Encode images (B, 3, S, S) for `gather_evidence` and `match_cells`."""
    features: Tensor = network.encode(images)
    return Encoded(features, _rivals(network.feature_map(features)))


@torch.inference_mode()
def match_cells(network: Any, source: Encoded, target: Encoded) -> CellMatches:
    """Match all cells of one image with those of another."""
    maps = [network.feature_map(x.features) for x in (source, target)]
    both = match_all(maps[0], maps[1], return_log_sum_exp=False)
    rivals = source.rivals[0] + target.rivals[0][both.index_a[0]]
    shape = (maps[0].shape[-2], maps[0].shape[-1])
    return CellMatches(both.score_a[0], both.mutual[0], both.score_a[0] - rivals / 2, shape)


@torch.inference_mode()
def gather_evidence(
    network: Any, source: Encoded, target: Encoded, points: FloatArray, cells: CellMatches | None = None
) -> Evidence:
    """Match points of one image in another, with what the model tells about each match.

    Args:
        network: a model that `gives_evidence`.
        source, target: one image each.
        points: (N, 2) in pixels of its input.
        cells: what `match_cells` returned for the two, if it is there already.
    """
    cells = match_cells(network, source, target) if cells is None else cells
    keypoints = torch.from_numpy(points).to(source.features.device, torch.float32)[None]
    found = [_match(network, source.features, target.features, part) for part in keypoints.split(_CHUNK, 1)]
    matches, spread, similarity, second = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    back = [network.match_features(target.features, source.features, x).keypoints for x in matches.split(_CHUNK, 1)]
    cycle = (torch.cat(back, 1) - keypoints).norm(dim=-1)
    rivals = _at(network, source, keypoints) + _at(network, target, matches)
    of_points = [x[0] for x in (matches, spread, similarity, second, cycle, similarity - rivals / 2)]
    of_pair = [x.expand(len(points)) for x in _about_pair(network, source, target, cells)]
    return Evidence(*(value.double().cpu().numpy() for value in of_points + of_pair))


def _about_pair(network: Any, source: Encoded, target: Encoded, cells: CellMatches) -> tuple[Tensor, Tensor, Tensor]:
    of_mutual = cells.salience[cells.mutual]
    best = of_mutual.topk(min(_TOP, len(of_mutual))).values.mean()
    first, second = (network.feature_map(x.features).mean((2, 3)) for x in (source, target))
    return best, cells.mutual.float().mean(), F.cosine_similarity(first, second)[0]


def _match(network: Any, source: Tensor, target: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Match keypoints (1, N, 2), and return matches, spread, similarity and second best similarity."""
    if isinstance(network, NearestNeighbour):
        match = network.match_features(source, target, keypoints).keypoints
        details = network.match_softmax(source, target, keypoints, TEMPERATURE, second_radius=SECOND_RADIUS)
        offset = details.keypoints - match  # the mean under the softmax is not the best cell
        assert details.covariance is not None and details.second_score is not None
        spread = details.covariance + offset[..., :, None] * offset[..., None, :]
        return match, spread, details.score, details.second_score
    found = network.match_features(source, target, keypoints, return_covariance=True)
    best = sparse_window_match(
        source,
        target,
        keypoints,
        source_size=height_width(network.image_size),
        localization="argmax",
        eps=EPS,
        return_second=True,
        second_radius=SECOND_RADIUS,
    )
    assert best.second_score is not None
    return found.keypoints, found.covariance, found.score, best.second_score


def _at(network: Any, image: Encoded, points: Tensor) -> Tensor:
    """Return the rivals' similarity (1, N) of the cells that contain points (1, N, 2)."""
    return image.rivals.gather(1, cells_of(points, network.feature_map(image.features), network.image_size))


def _rivals(features: Tensor) -> Tensor:
    """Return the similarity (B, M) of every cell of maps (B, C, h, w) with the best cell away from it."""
    height, width = features.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack((x, y), -1).reshape(1, -1, 2).to(features.device, torch.float32)
    radius = max(1, min(height, width) // _RIVAL_SHARE)
    options: dict[str, Any] = {"localization": "argmax", "return_second": True, "second_radius": radius}
    parts = []
    for part in cells.expand(len(features), -1, -1).split(_CHUNK, 1):
        second = sparse_window_match(features, features, part, **options).second_score
        assert second is not None
        parts.append(second)
    return torch.cat(parts, 1)
