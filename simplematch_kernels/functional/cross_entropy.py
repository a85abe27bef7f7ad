"""The training loss of matching keypoints: cross entropy between where a match may lie and where it truly lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from .. import _check_options, _check_shapes, _checks
from .._options import DEFAULT_TEMPERATURE, MetricOptions, SamplingOptions, pick, with_options
from .._truth_options import REDUCTIONS, CrossEntropyKeywords, DescriptorsCrossEntropyKeywords, truth_options
from .._types import Rows, descriptor_map
from ..operators import sparse_match_cross_entropy as operator
from ._calls import check_descriptors, check_maps
from ._shared import Queries, in_cells, requested


@with_options(CrossEntropyKeywords, Tensor)
def sparse_match_cross_entropy(
    source: Tensor,
    target: Tensor,
    keypoints: Tensor,
    target_keypoints: Tensor,
    *,
    reduction: str = "mean",
    backend: str | None = None,
    **options: Unpack[CrossEntropyKeywords[Tensor]],
) -> Tensor:
    r"""Cross entropy between the softmax over all target cells and a Gaussian round the true points.

    .. code-block:: text

        s[n,m] = similarity of the source at keypoints_n with target cell m          as in `sparse_window_match`
        G[n,m] = exp(-|m - c_n|^2 / (2 sigma^2)) over its sum on W_n                 c_n: target_keypoints_n in cells
        loss_n = sum_m G[n,m] (log sum_l exp(s[n,l] / T) - s[n,m] / T)

    W_n are the k x k cells round the cell nearest to c_n that lie in the map and in `target_mask`; with k = 1 the loss
    is the negative log-probability of the nearest cell. SD4Match and MARCO train with k = 7.

    Neither scores nor probabilities are kept for the backward, which computes scores again within the budget of
    `sparse_window_match`: beyond the inputs, only one norm per target cell is kept, and two numbers per row.

    Args:
        source: (B, C, Hs, Ws) features, float32, bfloat16, float16 or float64, any strides; or tokens, see `layout`.
        target: (B, C, Ht, Wt) features of the same dtype and device, or tokens.
        keypoints: (B, N, 2) points as (x, y), in pixels of `source_size`, or in cells if that is None.
        target_keypoints: (B, N, 2), where they truly lie in the target, in pixels of `target_size` or in cells. A
            point on the map's border or up to a cell outside counts as the nearest point of the map; the row of a
            point farther outside is invalid.
        reduction: "mean" over the valid rows of the batch, "sum", or "none": the loss of every row.
        num_keypoints, valid, layout, source_shape, target_shape, source_size, source_coords, sampling,
            sampling_padding, metric, eps, eps_mode, target_mask, backend: as in `sparse_window_match`.
        kernel_size: k, the side of W_n in cells. An even k has k // 2 cells left of (above) the nearest one.
        sigma: width of the Gaussian in cells; None: k // 2 / 2, at least 1/2.
        target_size: (height, width) in pixels of the image that `target_keypoints` refer to, or a (B, 2) tensor of
            integers: one for each image. None: they are in cells.
        target_coords: how pixels map to target cells: "corner", "half_pixel" or "align_corners".
        temperature: T, a number, a 0-d tensor or a (B, N) tensor; above zero.

    Returns:
        A scalar, or (B, N) if `reduction` is "none"; float32, or float64 for float64 features. Rows that are padding,
        whose true point lies outside, or whose W_n has no cell left, are invalid: their loss is 0, they pass on no
        gradient, and the mean doesn't count them. The mean of no row is 0.

    Gradients:
        To source, target and temperature (if a tensor), and to keypoints if `sampling` is "bilinear"; bitwise
        repeatable. The true points are constants. A second derivative raises RuntimeError.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`. On CPU tensors, `target_keypoints` that aren't
            finite in valid rows raise, too; on a GPU their loss becomes NaN.
    """
    source, target = check_maps(source, target, options)
    _checks.check_keypoints(keypoints, source, "source")
    sizes = _checks.check_image_sizes("source_size", options.get("source_size"), source)
    sampling = pick(SamplingOptions, options if sizes is None else {**options, "source_size": None}).checked()
    points = _checks.as_points(keypoints, sampling.sampling == "bilinear")
    queries = Queries(source, points, sizes)
    return _cross_entropy(queries, target, target_keypoints, sampling, reduction, backend, options)


@with_options(DescriptorsCrossEntropyKeywords, Tensor)
def match_descriptors_cross_entropy(
    descriptors: Tensor,
    target: Tensor,
    target_keypoints: Tensor,
    *,
    reduction: str = "mean",
    backend: str | None = None,
    **options: Unpack[DescriptorsCrossEntropyKeywords[Tensor]],
) -> Tensor:
    """Cross entropy of descriptors (B, N, C) in target features: `sparse_match_cross_entropy` after its gather.

    Args:
        descriptors: (B, N, C) queries of the dtype and device of `target`, any strides.
        target: (B, C, Ht, Wt) features, or with layout "tokens" (B, Ht*Wt, C) and `target_shape`.
        target_keypoints: (B, N, 2), where the descriptors truly lie in the target.

    The other arguments, the result, the gradients (to descriptors, target and temperature) and the errors are those of
    `sparse_match_cross_entropy`.
    """
    target, _ = check_descriptors(descriptors, target, options)
    queries = Queries(descriptor_map(descriptors))
    return _cross_entropy(queries, target, target_keypoints, SamplingOptions(), reduction, backend, options)


def _cross_entropy(
    queries: Queries,
    target: Tensor,
    target_keypoints: Tensor,
    sampling: SamplingOptions,
    reduction: str,
    backend: str | None,
    options: Mapping[str, Any],
) -> Tensor:
    _checks.check_cells("target", target)
    _check_options.check_choice("reduction", reduction, REDUCTIONS)
    _checks.check_keypoints(target_keypoints, target, "target", "target_keypoints")
    points, options = in_cells(target_keypoints, target, options)
    points = _checks.as_points(points, False)
    name, count = "descriptors" if queries.keypoints is None else "keypoints", queries.number
    _check_shapes.check_equal("target_keypoints", "number of rows", points.shape[1], name, count)
    rows = _checks.check_rows(pick(Rows, options), count, target)
    value = options.get("temperature", DEFAULT_TEMPERATURE)
    number, temperature = _checks.check_temperature(value, target.shape[0], count, target)
    truth, metric = truth_options(options, number), pick(MetricOptions, options).checked()
    result = operator.run(
        operator.Arguments(
            queries.source, queries.keypoints, target, points, rows, temperature, queries.source_sizes, sampling,
            metric, truth, requested(backend),
        )
    )  # fmt: skip
    loss: Tensor = result.loss
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / (result.cell >= 0).sum().clamp(min=1)
