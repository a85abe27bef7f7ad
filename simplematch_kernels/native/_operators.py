"""The operators on the compiled module: allocates the results and hands over addresses, sizes and strides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _resolved
from .._types import (
    GatherGradients,
    GatherProblem,
    GatherResult,
    GatherUpstream,
    Given,
    LocalizeGradients,
    LocalizeProblem,
    Matches,
    MatchGradients,
    MatchProblem,
    MatchResult,
    Rows,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    Upstream,
    accumulation_dtype,
    empty_matches,
)
from ._options import native_localization, native_metric, native_sampling

View = tuple[int, int, tuple[int, ...], tuple[int, ...]]

_CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


def _view(x: Tensor | None) -> View | None:
    return None if x is None else (x.data_ptr(), _CODES[x.dtype], x.shape, x.stride())


def _row_arrays(rows: Rows) -> tuple[tuple[int | None, ...], list[Tensor]]:
    """Addresses of contiguous arrays, and the tensors to keep alive meanwhile."""
    if rows == (None, None, None):
        return (None, None, None), []
    tensors = [None if x is None else x.contiguous() for x in rows]
    return tuple(None if x is None else x.data_ptr() for x in tensors), [x for x in tensors if x is not None]


def _addresses(tensors: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple([x.data_ptr() for x in tensors])


def _empty_gradient(x: Tensor | None, need: bool) -> Tensor | None:
    return torch.empty_like(x) if need and x is not None else None


def _empty_temperature_gradient(temperature: Tensor | None, need: bool) -> Tensor | None:
    """Of all (B, N) elements, where the temperature itself may be one number expanded."""
    if temperature is None or not need:
        return None
    return torch.empty(temperature.shape, dtype=temperature.dtype, device=temperature.device)


def _descriptor_map(descriptors: Tensor) -> Tensor:
    """(B, N, C) as the (B, C, 1, N) that the kernels read."""
    return descriptors.transpose(1, 2).unsqueeze(2)


@dataclass(frozen=True)
class Operators:
    """The functions of `Backend`, from the functions of `module`.

    where: what these take for the device of a tensor: a number of threads, or a GPU's index, stream and allocator.
    """

    module: Any
    where: Callable[[Tensor], Any]

    def sparse_window_match(self, p: MatchProblem) -> MatchResult:
        batch, _, height, width = p.target.shape
        dtype, device = accumulation_dtype(p.target), p.target.device
        result = MatchResult(
            *empty_matches(p.target, batch, p.queries),
            torch.empty((batch, height * width), dtype=dtype, device=device),
            torch.empty((batch, p.kept_queries, *p.localization.window.box(height, width)), dtype=dtype, device=device),
        )
        row_arrays, _alive = _row_arrays(p.rows)
        self.module.sparse_window_match(
            (_view(p.source), _view(p.keypoints), _view(p.target), _view(p.temperature)),
            row_arrays,
            native_sampling(p.sampling),
            native_metric(p.metric),
            native_localization(p.localization),
            p.kept_queries,
            _resolved.SCORE_BUDGET_BYTES,
            self.where(p.target),
            _addresses(result),
        )
        return result

    def sparse_window_match_backward(
        self, p: MatchProblem, result: MatchResult, upstream: Upstream, needs: MatchGradients[bool]
    ) -> MatchGradients[Given]:
        result = MatchResult(*(x.contiguous() for x in result))
        gradients = MatchGradients(
            _empty_gradient(p.source, needs.source),
            _empty_gradient(p.keypoints, needs.keypoints),
            _empty_gradient(p.target, needs.target),
            _empty_temperature_gradient(p.temperature, needs.temperature),
        )
        row_arrays, _alive = _row_arrays(p.rows)
        self.module.sparse_window_match_backward(
            (_view(p.source), _view(p.keypoints), _view(p.target), _view(p.temperature)),
            row_arrays,
            native_sampling(p.sampling),
            native_metric(p.metric),
            native_localization(p.localization),
            result.window_scores.shape[1],
            _resolved.SCORE_BUDGET_BYTES,
            self.where(p.target),
            _addresses(result),
            tuple([_view(x) for x in upstream]),
            tuple([_view(x) for x in gradients]),
        )
        return gradients

    def localize(self, p: LocalizeProblem) -> Matches:
        matches = empty_matches(p.scores, p.scores.shape[0], p.scores.shape[1])
        row_arrays, _alive = _row_arrays(p.rows)
        self.module.localize(
            _view(p.scores),
            row_arrays,
            _view(p.temperature),
            native_localization(p.localization),
            self.where(p.scores),
            _addresses(matches),
        )
        return matches

    def localize_backward(
        self, p: LocalizeProblem, result: Matches, upstream: Upstream, needs: LocalizeGradients[bool]
    ) -> LocalizeGradients[Given]:
        matches = Matches(*(x.contiguous() for x in result))
        scores_gradient = _empty_gradient(p.scores, needs.scores)
        temperature_gradient = _empty_temperature_gradient(p.temperature, needs.temperature)
        row_arrays, _alive = _row_arrays(p.rows)
        self.module.localize_backward(
            _view(p.scores),
            row_arrays,
            _view(p.temperature),
            native_localization(p.localization),
            self.where(p.scores),
            _addresses(matches),
            tuple([_view(x) for x in upstream]),
            _view(scores_gradient),
            _view(temperature_gradient),
        )
        return LocalizeGradients(scores_gradient, temperature_gradient)

    def gather_keypoints(self, p: GatherProblem) -> GatherResult:
        shape = (p.features.shape[0], p.keypoints.shape[1], p.features.shape[1])
        descriptors = torch.empty(shape, dtype=p.features.dtype, device=p.features.device)
        self.module.gather_keypoints(
            _view(p.features),
            _view(p.keypoints),
            native_sampling(p.sampling),
            descriptors.data_ptr(),
            self.where(p.features),
        )
        return GatherResult(descriptors)

    def gather_keypoints_backward(
        self, p: GatherProblem, upstream: GatherUpstream, needs: GatherGradients[bool]
    ) -> GatherGradients[Given]:
        gradients = GatherGradients(
            _empty_gradient(p.features, needs.features), _empty_gradient(p.keypoints, needs.keypoints)
        )
        self.module.gather_keypoints_backward(
            _view(upstream.descriptors),
            _view(p.features),
            _view(p.keypoints),
            native_sampling(p.sampling),
            _view(gradients.features),
            _view(gradients.keypoints),
            self.where(p.features),
        )
        return gradients

    def cosine_similarity(self, p: SimilarityProblem) -> SimilarityResult:
        """Scores (B, N, H, W) and the norms (B, M) of the target's cells."""
        batch, _, height, width = p.target.shape
        dtype, device = accumulation_dtype(p.target), p.target.device
        scores = torch.empty((batch, p.descriptors.shape[1], height, width), dtype=dtype, device=device)
        target_norm = torch.empty((batch, height * width), dtype=dtype, device=device)
        self.module.cosine_similarity(
            _view(_descriptor_map(p.descriptors)),
            _view(p.target),
            native_metric(p.metric),
            _resolved.SCORE_BUDGET_BYTES,
            self.where(p.target),
            scores.data_ptr(),
            target_norm.data_ptr(),
        )
        return SimilarityResult(scores, target_norm)

    def cosine_similarity_backward(
        self,
        p: SimilarityProblem,
        result: SimilarityResult,
        upstream: SimilarityUpstream,
        needs: SimilarityGradients[bool],
    ) -> SimilarityGradients[Given]:
        scores, target_norm = (x.contiguous() for x in result)
        gradients = SimilarityGradients(
            _empty_gradient(p.descriptors, needs.descriptors), _empty_gradient(p.target, needs.target)
        )
        self.module.cosine_similarity_backward(
            _view(_descriptor_map(p.descriptors)),
            _view(p.target),
            native_metric(p.metric),
            _resolved.SCORE_BUDGET_BYTES,
            self.where(p.target),
            _view(upstream.scores),
            scores.data_ptr(),
            target_norm.data_ptr(),
            None if gradients.descriptors is None else _view(_descriptor_map(gradients.descriptors)),
            _view(gradients.target),
        )
        return gradients
