"""The option `upsample`: from scores of a target's own cells to matches in the upsampled map, which is never made."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _resolved
from .._options import LocalizationOptions, MetricOptions
from .._types import Matches, Rows, accumulation_dtype, concatenated
from ..operators import cosine_similarity as similarity_operator
from ..operators import localize_upsampled as localize_operator
from ..operators import neighbour_products as products_operator
from ._shared import rows_of_block

_LINEAR = MetricOptions("dot")
_Run = Callable[[Tensor, Rows, Tensor | None], Matches]


class Upsampling(NamedTuple):
    """To which H x W, and how matches are found there; target_sizes: (B, 2) sizes of the images, if they differ."""

    size: tuple[int, int]
    target_sizes: Tensor | None
    localization: LocalizationOptions
    backend: str


def localize(scores: Tensor, rows: Rows, temperature: Tensor | None, upsampling: Upsampling) -> Matches:
    """Matches of scores (B, N, h, w) upsampled to H x W."""
    size, target_sizes, localization, backend = upsampling
    return localize_operator.run(
        localize_operator.Arguments(scores, None, rows, temperature, target_sizes, size, _LINEAR, localization, backend)
    )


def match(
    descriptors: Tensor,
    target: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    metric: MetricOptions,
    upsampling: Upsampling,
) -> Matches:
    """Matches in target (B, C, h, w) upsampled to H x W; without gradients, in blocks under the score budget."""
    size, target_sizes, localization, backend = upsampling
    products = None
    if metric.metric != "dot":
        products = products_operator.run(products_operator.Arguments(target, backend)).products

    def run(queries: Tensor, rows: Rows, temperature: Tensor | None) -> Matches:
        scores = similarity_operator.run(similarity_operator.Arguments(queries, target, metric, backend)).scores
        return localize_operator.run(
            localize_operator.Arguments(
                scores, products, rows, temperature, target_sizes, size, metric, localization, backend
            )
        )

    inputs = (descriptors, target, temperature)
    keeps = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    if keeps or torch.compiler.is_compiling():
        return run(descriptors, rows, temperature)
    return _in_blocks(run, descriptors, target, rows, temperature)


def _in_blocks(run: _Run, descriptors: Tensor, target: Tensor, rows: Rows, temperature: Tensor | None) -> Matches:
    queries, (batch, _, height, width) = descriptors.shape[1], target.shape
    item = accumulation_dtype(target).itemsize
    most = _resolved.queries_within_budget(batch * height * width * item)
    if queries <= most:
        return run(descriptors, rows, temperature)
    found = []
    for first in range(0, queries, most):
        last = min(first + most, queries)
        of_block = None if temperature is None else temperature[:, first:last]
        found.append(run(descriptors[:, first:last], rows_of_block(rows, first, last), of_block))
    return concatenated(found)
