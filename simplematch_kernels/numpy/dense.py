"""Every cell of one map found in another: a flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from .._check_shapes import MASK, wrong_mask_shape
from .._options import DenseKeywords, SamplingOptions, axes, pick, with_options
from .._resolved import pixels_from_cells
from . import _checks
from ._arrays import Array, DenseMatches, accumulation_dtype
from .functional import check_maps, match, split_sizes


@with_options(DenseKeywords, Array)
def dense_match(
    source: Array,
    target: Array,
    *,
    mask: Array | None = None,
    return_mutual: bool = False,
    threads: int | None = None,
    **options: Unpack[DenseKeywords[Array]],
) -> DenseMatches:
    """Find every cell of a source feature map in a target feature map: `simplematch_kernels.dense_match`.

    Args:
        source: (B, C, Hs, Ws) features, or with layout "tokens" (B, Hs*Ws, C) and `source_shape`, any strides.
        target: (B, C, Ht, Wt) features of the same dtype, or (B, Ht*Wt, C) with `target_shape`.
        mask: (B, Hs, Ws) bool; cells that are False aren't matched. Default: all are.
        return_mutual: whether to fill `DenseMatches.mutual`, which takes the scores a second time.
        temperature: a number, a 0-d array or a (B, Hs, Ws) array; above zero.
        threads: as in `sparse_window_match`.

    The other arguments mean what they mean there.

    Returns:
        `DenseMatches`: flow (B, 2, Hs, Ws), score and log_sum_exp (B, Hs, Ws), float32, or float64 for float64
        features; mutual (B, Hs, Ws) bool, or None if not asked for. Cells that aren't matched, or whose target_mask has
        no True cell, hold 0 and False.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    source, target = check_maps(source, target, options)
    if options.get("target_mask") is not None:  # one for each query would hold N M cells
        _checks.check_array("target_mask", options["target_mask"], MASK)
    batch, _, height, width = source.shape
    given: dict[str, Any] = dict(options)
    if mask is not None:
        given["valid"] = _checks.check_mask("mask", mask, "(B, Hs, Ws)", (batch, height, width)).reshape(batch, -1)
    temperature = given.get("temperature")
    if isinstance(temperature, np.ndarray) and temperature.ndim == 3:
        if temperature.shape != (batch, height, width):
            raise wrong_mask_shape("temperature", "(B, Hs, Ws)", (batch, height, width), temperature.shape)
        given["temperature"] = temperature.reshape(batch, -1)
    positions = _positions(source, given)
    matches = match(*_all_cells(source), target, None, threads, given)
    found = (matches.peak >= 0).reshape(batch, 1, height, width)
    ends = matches.keypoints.transpose(0, 2, 1).reshape(batch, 2, height, width)
    return DenseMatches(
        np.where(found, ends - positions.astype(ends.dtype), ends.dtype.type(0)),
        matches.score.reshape(batch, height, width),
        matches.log_sum_exp.reshape(batch, height, width),
        _mutual(source, target, matches.peak, mask, threads, given) if return_mutual else None,
    )


def _positions(source: Array, options: Mapping[str, Any]) -> Array:
    """(B, 2, Hs, Ws) float64: where the cells lie in their image, or the cells themselves."""
    rest, sizes = split_sizes("source_size", options, source)
    given = pick(SamplingOptions, rest).checked()
    batch, _, height, width = source.shape
    positions = np.empty((batch, 2, height, width))
    columns, lines = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    for b, of_image in enumerate(positions):
        size = given.source_size if sizes is None else tuple(sizes[b].tolist())
        x, y = axes(pixels_from_cells, given.source_coords, size, height, width)
        of_image[0] = (columns * x.numerator + x.shift) / x.denominator
        of_image[1] = (lines * y.numerator + y.shift) / y.denominator
    return positions


def _all_cells(features: Array) -> tuple[Array, Array | None]:
    """Every cell as a query, row by row, without a copy of the features: as a list where strides allow that."""
    batch, channels, height, width = features.shape
    line, column = features.strides[2:]
    if height == 1 or width == 1 or line == width * column:
        along = column if height == 1 or width > 1 else line
        shape, strides = (batch, channels, 1, height * width), (*features.strides[:2], 0, along)
        return np.lib.stride_tricks.as_strided(features, shape, strides, writeable=False), None
    cell = np.arange(height * width)
    points = np.stack((cell % width, cell // width), -1).astype(accumulation_dtype(features))
    return features, np.broadcast_to(points, (batch, *points.shape))


def _mutual(
    source: Array, target: Array, peak: Array, mask: Array | None, threads: int | None, options: Mapping[str, Any]
) -> Array:
    """Whether each source cell is the best of the target cell that it found: the search with roles exchanged."""
    swapped = {name: options[name] for name in ("metric", "eps", "eps_mode") if name in options}
    of_target = options.get("target_mask")
    swapped |= {"valid": None if of_target is None else of_target.reshape(len(target), -1), "target_mask": mask}
    back = match(*_all_cells(target), source, None, threads, {**swapped, "localization": "argmax"}).peak
    mutual = (peak >= 0) & (np.take_along_axis(back, peak.clip(0), 1) == np.arange(peak.shape[1]))
    return np.asarray(mutual.reshape(len(source), *source.shape[2:]))
