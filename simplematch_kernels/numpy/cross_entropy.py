"""The cross entropy with a true point on arrays, forward only: a figure to watch during an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from .._check_options import check_choice
from .._check_shapes import check_equal
from .._options import DEFAULT_TEMPERATURE, LayoutOptions, MetricOptions, SamplingOptions, pick, with_options
from .._resolved import Sampling
from .._truth_options import REDUCTIONS, CrossEntropyKeywords, DescriptorsCrossEntropyKeywords, truth_options
from ..native import _records
from ..native._records import _C
from . import _arrays, _checks
from ._arrays import Array, Rows, view
from ._checks import descriptor_map
from ._interpolation import to_cells
from ._run import device_of
from .functional import check_maps, split_sizes


@with_options(CrossEntropyKeywords, Array)
def sparse_match_cross_entropy(
    source: Array,
    target: Array,
    keypoints: Array,
    target_keypoints: Array,
    *,
    reduction: str = "mean",
    threads: int | None = None,
    **options: Unpack[CrossEntropyKeywords[Array]],
) -> Array:
    """`simplematch_kernels.sparse_match_cross_entropy`: cross entropy of the softmax over the target with a true point.

    Args:
        source: (B, C, Hs, Ws) features, any strides; or tokens, as in `sparse_window_match`.
        target: (B, C, Ht, Wt) features of the same dtype, or tokens.
        keypoints: (B, N, 2) points as (x, y), in pixels of `source_size`, or in cells if that is None.
        target_keypoints: (B, N, 2), where they truly lie, in pixels of `target_size`, or in cells.
        reduction: "mean" over the valid rows of the batch, "sum", or "none": the loss of every row.
        threads: as in `sparse_window_match`.

    The other arguments mean what they mean there.

    Returns:
        An array of shape () or (B, N), float32, or float64 for float64 features. Invalid rows hold 0.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    source, target = check_maps(source, target, options)
    keypoints = _checks.check_keypoints(keypoints, source, "source")
    rest, sizes = split_sizes("source_size", options, source)
    sampling = pick(SamplingOptions, rest).checked().resolve(*source.shape[2:], image_sizes=sizes)
    return _cross_entropy(source, keypoints, target, target_keypoints, sampling, reduction, threads, options)


@with_options(DescriptorsCrossEntropyKeywords, Array)
def match_descriptors_cross_entropy(
    descriptors: Array,
    target: Array,
    target_keypoints: Array,
    *,
    reduction: str = "mean",
    threads: int | None = None,
    **options: Unpack[DescriptorsCrossEntropyKeywords[Array]],
) -> Array:
    """Cross entropy of descriptors (B, N, C) in target features: `sparse_match_cross_entropy` after its gather.

    Args:
        descriptors: (B, N, C) queries of the dtype of `target`, any strides.
        target: (B, C, Ht, Wt) features, or with layout "tokens" (B, Ht*Wt, C) and `target_shape`.
        target_keypoints: (B, N, 2), where the descriptors truly lie in the target, in pixels of `target_size`, or in
            cells.
        reduction: "mean" over the valid rows of the batch, "sum", or "none": the loss of every row.
        threads: as in `sparse_window_match`.

    The other arguments, the result and the errors are those of `sparse_match_cross_entropy`.
    """
    descriptors = _checks.check_features("descriptors", descriptors, "(B, N, C)")
    target = _checks.check_map("target", target, pick(LayoutOptions, options).of_target())
    _checks.check_pair("descriptors", descriptors, "target", target)
    source = descriptor_map(descriptors)
    return _cross_entropy(source, None, target, target_keypoints, None, reduction, threads, options)


def _cross_entropy(
    source: Array,
    keypoints: Array | None,
    target: Array,
    target_keypoints: Array,
    sampling: Sampling | None,
    reduction: str,
    threads: int | None,
    options: Mapping[str, Any],
) -> Array:
    _checks.check_cells("target", target)
    check_choice("reduction", reduction, REDUCTIONS)
    points = _checks.check_keypoints(target_keypoints, target, "target", "target_keypoints")
    name, queries = ("descriptors", source.shape[3]) if keypoints is None else ("keypoints", keypoints.shape[1])
    check_equal("target_keypoints", "number of rows", points.shape[1], name, queries)
    rows = _checks.check_rows(pick(Rows, options), queries, target)
    value = options.get("temperature", DEFAULT_TEMPERATURE)
    number, temperature = _checks.check_temperature(value, target.shape[0], queries, target)
    options, sizes = split_sizes("target_size", options, target)
    truth, metric = truth_options(options, number), pick(MetricOptions, options).checked().resolve()
    _checks.check_values(keypoints, rows, temperature)
    _checks.check_finite("target_keypoints", points, rows)
    if sizes is not None:
        sampling_of_target = SamplingOptions(source_coords=truth.target_coords)
        points = np.stack(to_cells(points, sampling_of_target, sizes, *target.shape[2:]), -1)
    (batch, _, height, width), dtype = target.shape, _arrays.accumulation_dtype(target)
    loss, cell = np.empty((batch, queries), dtype), np.empty((batch, queries), np.int64)
    norm = np.empty((batch, height * width), dtype)
    problem = _records.cross_entropy_problem(
        view(source), view(keypoints), view(target), view(points), _arrays.native_rows(rows), view(temperature),
        sampling, metric, truth.resolve(height, width),
    )  # fmt: skip
    result = _records.cross_entropy_result(*_arrays.addresses((loss, cell, norm)))
    _C.sparse_match_cross_entropy(problem, result, device_of(threads))
    if reduction == "none":
        return loss
    total = loss.sum(dtype=dtype)
    return np.asarray(total if reduction == "sum" else total / dtype.type(max(1, np.count_nonzero(cell >= 0))))
