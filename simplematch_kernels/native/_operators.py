"""The operators on the compiled module: allocates the results and hands over addresses, sizes and strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor

from .._options import Localization, Metric, Sampling
from .._types import ForwardResult, Gradients, Matches, Rows, Upstream
from . import _records
from ._records import _C

if TYPE_CHECKING:
    from .._C import View

_CODES = {getattr(torch, name): _records.CODES[name] for name in ("float32", "float64", "bfloat16", "float16")}


@overload
def _view(x: Tensor) -> View: ...
@overload
def _view(x: Tensor | None) -> View | None: ...
def _view(x: Tensor | None) -> View | None:
    return None if x is None else (x.data_ptr(), _CODES[x.dtype], x.shape, x.stride())


def _native_rows(rows: Rows) -> tuple[_C.Rows | None, list[Tensor]]:
    """Addresses of contiguous arrays, and the tensors to keep alive meanwhile."""
    if rows == (None, None, None):
        return None, []
    tensors = [None if x is None else x.contiguous() for x in rows]
    addresses = [None if x is None else x.data_ptr() for x in tensors]
    return _records.native_rows(*addresses), [x for x in tensors if x is not None]


def _upstream(upstream: Upstream) -> _C.Upstream:
    keypoints, score, log_sum_exp = upstream
    return {"keypoints": _view(keypoints), "score": _view(score), "log_sum_exp": _view(log_sum_exp)}


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [x.data_ptr() for x in tensors]


def _accumulation_dtype(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def _empty_matches(like: Tensor, batch: int, queries: int, dtype: torch.dtype) -> Matches:
    device = like.device
    score = torch.empty((batch, queries), dtype=dtype, device=device)
    return Matches(
        torch.empty((batch, queries, 2), dtype=dtype, device=device),
        score,
        torch.empty((batch, queries), dtype=torch.int64, device=device),
        torch.empty_like(score),
    )


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
    """The functions of `Backend`, from those of the compiled _C.

    where: of a tensor, the device that these run on, and what allocates its scratch memory.
    """

    where: Callable[[Tensor], tuple[_C.Device, _C.Allocate]]

    def sparse_window_match(
        self,
        source: Tensor,
        keypoints: Tensor | None,
        target: Tensor,
        rows: Rows,
        temperature: Tensor | None,
        sampling: Sampling | None,
        metric: Metric,
        localization: Localization,
        kept_queries: int,
    ) -> ForwardResult:
        batch, _, height, width = target.shape
        dtype, device = _accumulation_dtype(target), target.device
        queries = source.shape[3] if keypoints is None else keypoints.shape[1]
        result = ForwardResult(
            *_empty_matches(target, batch, queries, dtype),
            torch.empty((batch, height * width), dtype=dtype, device=device),
            torch.empty((batch, kept_queries, *localization.window.box(height, width)), dtype=dtype, device=device),
        )
        native_rows, _alive = _native_rows(rows)
        problem = _records.match_problem(
            _view(source),
            _view(keypoints),
            _view(target),
            native_rows,
            _view(temperature),
            sampling,
            metric,
            localization,
            kept_queries,
        )
        _C.sparse_window_match(problem, _records.match_result(*_addresses(result)), *self.where(target))
        return result

    def sparse_window_match_backward(
        self,
        upstream: Upstream,
        forward: ForwardResult,
        source: Tensor,
        keypoints: Tensor | None,
        target: Tensor,
        rows: Rows,
        temperature: Tensor | None,
        sampling: Sampling | None,
        metric: Metric,
        localization: Localization,
        needs: Sequence[bool],
    ) -> Gradients:
        """Gradients of (source, keypoints, target, temperature); None where `needs` is False."""
        kept = [x.contiguous() for x in forward]
        gradients = (
            _empty_gradient(source, needs[0]),
            _empty_gradient(keypoints, needs[1]),
            _empty_gradient(target, needs[2]),
            _empty_temperature_gradient(temperature, needs[3]),
        )
        native_rows, _alive = _native_rows(rows)
        problem = _records.match_problem(
            _view(source),
            _view(keypoints),
            _view(target),
            native_rows,
            _view(temperature),
            sampling,
            metric,
            localization,
            forward.window_scores.shape[1],
        )
        _C.sparse_window_match_backward(
            problem,
            _records.match_result(*_addresses(kept)),
            _upstream(upstream),
            {
                "source": _view(gradients[0]),
                "keypoints": _view(gradients[1]),
                "target": _view(gradients[2]),
                "temperature": _view(gradients[3]),
            },
            *self.where(target),
        )
        return gradients

    def localize(self, scores: Tensor, rows: Rows, temperature: Tensor | None, localization: Localization) -> Matches:
        matches = _empty_matches(scores, scores.shape[0], scores.shape[1], _accumulation_dtype(scores))
        native_rows, _alive = _native_rows(rows)
        problem = _records.localize_problem(_view(scores), native_rows, _view(temperature), localization)
        _C.localize(problem, _records.native_matches(*_addresses(matches)), *self.where(scores))
        return matches

    def localize_backward(
        self,
        upstream: Upstream,
        matches: Matches,
        scores: Tensor,
        rows: Rows,
        temperature: Tensor | None,
        localization: Localization,
        needs: Sequence[bool],
    ) -> Gradients:
        """Gradients of (scores, temperature); None where `needs` is False."""
        kept = [x.contiguous() for x in matches]
        scores_gradient = _empty_gradient(scores, needs[0])
        temperature_gradient = _empty_temperature_gradient(temperature, needs[1])
        native_rows, _alive = _native_rows(rows)
        _C.localize_backward(
            _records.localize_problem(_view(scores), native_rows, _view(temperature), localization),
            _records.native_matches(*_addresses(kept)),
            _upstream(upstream),
            {"scores": _view(scores_gradient), "temperature": _view(temperature_gradient)},
            *self.where(scores),
        )
        return scores_gradient, temperature_gradient

    def gather_keypoints(self, features: Tensor, keypoints: Tensor, sampling: Sampling) -> Tensor:
        shape = (features.shape[0], keypoints.shape[1], features.shape[1])
        descriptors = torch.empty(shape, dtype=features.dtype, device=features.device)
        problem = _records.gather_problem(_view(features), _view(keypoints), sampling)
        _C.gather_keypoints(problem, {"descriptors": descriptors.data_ptr()}, *self.where(features))
        return descriptors

    def gather_keypoints_backward(
        self, gradient: Tensor, features: Tensor, keypoints: Tensor, sampling: Sampling, needs: Sequence[bool]
    ) -> Gradients:
        """Gradients of (features, keypoints); None where `needs` is False."""
        gradients = _empty_gradient(features, needs[0]), _empty_gradient(keypoints, needs[1])
        _C.gather_keypoints_backward(
            _records.gather_problem(_view(features), _view(keypoints), sampling),
            {"descriptors": _view(gradient)},
            {"features": _view(gradients[0]), "keypoints": _view(gradients[1])},
            *self.where(features),
        )
        return gradients

    def cosine_similarity(self, descriptors: Tensor, target: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
        """Scores (B, N, H, W) and the norms (B, M) of the target's cells."""
        batch, _, height, width = target.shape
        dtype, device = _accumulation_dtype(target), target.device
        scores = torch.empty((batch, descriptors.shape[1], height, width), dtype=dtype, device=device)
        target_norm = torch.empty((batch, height * width), dtype=dtype, device=device)
        problem = _records.similarity_problem(_view(_descriptor_map(descriptors)), _view(target), metric)
        result: _C.SimilarityResult = {"scores": scores.data_ptr(), "target_norm": target_norm.data_ptr()}
        _C.cosine_similarity(problem, result, *self.where(target))
        return scores, target_norm

    def cosine_similarity_backward(
        self,
        gradient: Tensor,
        scores: Tensor,
        target_norm: Tensor,
        descriptors: Tensor,
        target: Tensor,
        metric: Metric,
        needs: Sequence[bool],
    ) -> Gradients:
        """Gradients of (descriptors, target); None where `needs` is False."""
        scores, target_norm = scores.contiguous(), target_norm.contiguous()
        gradients = _empty_gradient(descriptors, needs[0]), _empty_gradient(target, needs[1])
        _C.cosine_similarity_backward(
            _records.similarity_problem(_view(_descriptor_map(descriptors)), _view(target), metric),
            {"scores": scores.data_ptr(), "target_norm": target_norm.data_ptr()},
            {"scores": _view(gradient)},
            {
                "descriptors": None if gradients[0] is None else _view(_descriptor_map(gradients[0])),
                "target": _view(gradients[1]),
            },
            *self.where(target),
        )
        return gradients
