"""The option `upsample`: from scores of a target's own cells to matches in the upsampled map, which is never made."""

from __future__ import annotations

import torch
from torch import Tensor

from .._options import MetricOptions
from .._types import Matches
from ..operators import cosine_similarity as similarity_operator
from ..operators import localize_upsampled as localize_operator
from ..operators import neighbour_products as products_operator
from ._shared import Localizing, any_requires_grad, in_blocks

_LINEAR = MetricOptions("dot")


def localize(scores: Tensor, size: tuple[int, int], localizing: Localizing) -> Matches:
    """Matches of scores (B, N, h, w) upsampled to H x W."""
    return _localize(scores, None, size, _LINEAR, localizing)


def match(
    descriptors: Tensor, target: Tensor, size: tuple[int, int], metric: MetricOptions, localizing: Localizing
) -> Matches:
    """Matches in target (B, C, h, w) upsampled to H x W; without gradients, in blocks under the score budget."""
    backend, products = localizing.backend, None
    if metric.metric != "dot":
        products = products_operator.run(products_operator.Arguments(target, backend)).products

    def run(queries: Tensor, of_queries: Localizing) -> Matches:
        scores = similarity_operator.run(similarity_operator.Arguments(queries, target, metric, backend)).scores
        return _localize(scores, products, size, metric, of_queries)

    keeps = torch.is_grad_enabled() and any_requires_grad(descriptors, target, localizing.temperature)
    if keeps or torch.compiler.is_compiling():
        return run(descriptors, localizing)
    return in_blocks(run, descriptors, target, localizing)


def _localize(
    scores: Tensor, products: Tensor | None, size: tuple[int, int], metric: MetricOptions, localizing: Localizing
) -> Matches:
    rows, temperature, sizes, options, _, backend = localizing
    return localize_operator.run(
        localize_operator.Arguments(scores, products, rows, temperature, sizes, size, metric, options, backend)
    )
