"""The option `upsample`: from scores of a target's own cells to matches in the upsampled map, which is never made."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _resolved
from .._options import LocalizationOptions, MetricOptions, SamplingOptions
from .._types import Matches, Rows, accumulation_dtype
from ..operators import cosine_similarity as similarity_operator
from ..operators import gather_keypoints as gather_operator
from ..operators import localize_upsampled as localize_operator
from ..operators import neighbour_products as products_operator

_LINEAR = MetricOptions("dot")
_Run = Callable[[Tensor, Rows, Tensor | None], Matches]


class Sources(NamedTuple):
    """What is looked for: keypoints of a map, or with `keypoints` None a list of descriptors (B, C, 1, N)."""

    source: Tensor
    keypoints: Tensor | None
    sampling: SamplingOptions
    rows: Rows
    temperature: Tensor | None


def localize(
    scores: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    upsample: tuple[int, int],
    localization: LocalizationOptions,
    backend: str,
) -> Matches:
    """Matches of scores (B, N, h, w) upsampled to H x W."""
    arguments = localize_operator.Arguments(scores, None, rows, temperature, upsample, _LINEAR, localization, backend)
    return localize_operator.run(arguments)


def match(
    sources: Sources,
    target: Tensor,
    metric: MetricOptions,
    upsample: tuple[int, int],
    localization: LocalizationOptions,
    backend: str,
) -> Matches:
    """Matches in target (B, C, h, w) upsampled to H x W; without gradients, in blocks under the score budget."""
    descriptors = _descriptors(sources, backend)
    products = None
    if metric.metric != "dot":
        products = products_operator.run(products_operator.Arguments(target, backend)).products

    def run(queries: Tensor, rows: Rows, temperature: Tensor | None) -> Matches:
        scores = similarity_operator.run(similarity_operator.Arguments(queries, target, metric, backend)).scores
        return localize_operator.run(
            localize_operator.Arguments(scores, products, rows, temperature, upsample, metric, localization, backend)
        )

    inputs = (descriptors, target, sources.temperature)
    keeps = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    if keeps or torch.compiler.is_compiling():
        return run(descriptors, sources.rows, sources.temperature)
    return _in_blocks(run, descriptors, target, sources)


def _descriptors(sources: Sources, backend: str) -> Tensor:
    """(B, N, C); padding, which may be NaN, reads cell 0."""
    if sources.keypoints is None:
        return sources.source[:, :, 0, :].transpose(1, 2)
    keypoints, (num_keypoints, valid, _) = sources.keypoints, sources.rows
    if num_keypoints is not None:
        rows = torch.arange(keypoints.shape[1], device=keypoints.device) < num_keypoints[:, None]
        valid = rows if valid is None else rows & valid
    if valid is not None:
        keypoints = torch.where(valid[..., None], keypoints, 0)
    arguments = gather_operator.Arguments(sources.source, keypoints, sources.sampling, backend)
    return gather_operator.run(arguments).descriptors


def _in_blocks(run: _Run, descriptors: Tensor, target: Tensor, sources: Sources) -> Matches:
    queries, (batch, _, height, width) = descriptors.shape[1], target.shape
    item = accumulation_dtype(target).itemsize
    most = _resolved.queries_within_budget(batch * height * width * item)
    if queries <= most:
        return run(descriptors, sources.rows, sources.temperature)
    (num_keypoints, valid, mask), found = sources.rows, []
    for first in range(0, queries, most):
        block = slice(first, first + most)
        count = min(most, queries - first)
        rows = Rows(
            None if num_keypoints is None else (num_keypoints - first).clamp(0, count),
            None if valid is None else valid[:, block].contiguous(),
            mask,
        )
        temperature = None if sources.temperature is None else sources.temperature[:, block]
        found.append(run(descriptors[:, block], rows, temperature))
    return Matches(*(torch.cat(parts, 1) for parts in zip(*found, strict=True)))
