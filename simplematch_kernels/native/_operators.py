"""The operators on the compiled module: allocates the results and hands over addresses, sizes and strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _options
from .._options import Localization, Metric, Sampling
from .._types import ForwardResult, Gradients, Matches, Rows, Upstream
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


def _accumulation_dtype(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def _empty_matches(like: Tensor, batch: int, queries: int, dtype: torch.dtype) -> Matches:
    device = like.device
    return Matches(
        torch.empty((batch, queries, 2), dtype=dtype, device=device),
        torch.empty((batch, queries), dtype=dtype, device=device),
        torch.empty((batch, queries), dtype=torch.int64, device=device),
        torch.empty((batch, queries), dtype=dtype, device=device),
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
    """The functions of `Backend`, from the functions of `module`.

    where: what these take for the device of a tensor: a number of threads, or a GPU's index, stream and allocator.
    """

    module: Any
    where: Callable[[Tensor], Any]

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
        row_arrays, _alive = _row_arrays(rows)
        self.module.sparse_window_match(
            (_view(source), _view(keypoints), _view(target), _view(temperature)),
            row_arrays,
            native_sampling(sampling),
            native_metric(metric),
            native_localization(localization),
            kept_queries,
            _options.SCORE_BUDGET_BYTES,
            self.where(target),
            _addresses(result),
        )
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
        forward = ForwardResult(*(x.contiguous() for x in forward))
        gradients = (
            _empty_gradient(source, needs[0]),
            _empty_gradient(keypoints, needs[1]),
            _empty_gradient(target, needs[2]),
            _empty_temperature_gradient(temperature, needs[3]),
        )
        row_arrays, _alive = _row_arrays(rows)
        self.module.sparse_window_match_backward(
            (_view(source), _view(keypoints), _view(target), _view(temperature)),
            row_arrays,
            native_sampling(sampling),
            native_metric(metric),
            native_localization(localization),
            forward.window_scores.shape[1],
            _options.SCORE_BUDGET_BYTES,
            self.where(target),
            _addresses(forward),
            tuple([_view(x) for x in upstream]),
            tuple([_view(x) for x in gradients]),
        )
        return gradients

    def localize(self, scores: Tensor, rows: Rows, temperature: Tensor | None, localization: Localization) -> Matches:
        matches = _empty_matches(scores, scores.shape[0], scores.shape[1], _accumulation_dtype(scores))
        row_arrays, _alive = _row_arrays(rows)
        self.module.localize(
            _view(scores),
            row_arrays,
            _view(temperature),
            native_localization(localization),
            self.where(scores),
            _addresses(matches),
        )
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
        matches = Matches(*(x.contiguous() for x in matches))
        scores_gradient = _empty_gradient(scores, needs[0])
        temperature_gradient = _empty_temperature_gradient(temperature, needs[1])
        row_arrays, _alive = _row_arrays(rows)
        self.module.localize_backward(
            _view(scores),
            row_arrays,
            _view(temperature),
            native_localization(localization),
            self.where(scores),
            _addresses(matches),
            tuple([_view(x) for x in upstream]),
            _view(scores_gradient),
            _view(temperature_gradient),
        )
        return scores_gradient, temperature_gradient

    def gather_keypoints(self, features: Tensor, keypoints: Tensor, sampling: Sampling) -> Tensor:
        shape = (features.shape[0], keypoints.shape[1], features.shape[1])
        descriptors = torch.empty(shape, dtype=features.dtype, device=features.device)
        self.module.gather_keypoints(
            _view(features),
            _view(keypoints),
            native_sampling(sampling),
            descriptors.data_ptr(),
            self.where(features),
        )
        return descriptors

    def gather_keypoints_backward(
        self, gradient: Tensor, features: Tensor, keypoints: Tensor, sampling: Sampling, needs: Sequence[bool]
    ) -> Gradients:
        """Gradients of (features, keypoints); None where `needs` is False."""
        gradients = _empty_gradient(features, needs[0]), _empty_gradient(keypoints, needs[1])
        self.module.gather_keypoints_backward(
            _view(gradient),
            _view(features),
            _view(keypoints),
            native_sampling(sampling),
            _view(gradients[0]),
            _view(gradients[1]),
            self.where(features),
        )
        return gradients

    def cosine_similarity(self, descriptors: Tensor, target: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
        """Scores (B, N, H, W) and the norms (B, M) of the target's cells."""
        batch, _, height, width = target.shape
        dtype, device = _accumulation_dtype(target), target.device
        scores = torch.empty((batch, descriptors.shape[1], height, width), dtype=dtype, device=device)
        target_norm = torch.empty((batch, height * width), dtype=dtype, device=device)
        self.module.cosine_similarity(
            _view(_descriptor_map(descriptors)),
            _view(target),
            native_metric(metric),
            _options.SCORE_BUDGET_BYTES,
            self.where(target),
            scores.data_ptr(),
            target_norm.data_ptr(),
        )
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
        self.module.cosine_similarity_backward(
            _view(_descriptor_map(descriptors)),
            _view(target),
            native_metric(metric),
            _options.SCORE_BUDGET_BYTES,
            self.where(target),
            _view(gradient),
            scores.data_ptr(),
            target_norm.data_ptr(),
            None if gradients[0] is None else _view(_descriptor_map(gradients[0])),
            _view(gradients[1]),
        )
        return gradients
