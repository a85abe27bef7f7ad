"""Every cell of one map found in another: a flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from .. import _check_shapes, _checks
from .._options import DenseKeywords, SamplingOptions, axes, pick, with_options
from .._resolved import pixels_from_cells
from .._types import DenseMatches, Matches, accumulation_dtype
from ..reference.gather import apply_affine, maps_of_images
from ._calls import Checked, check_localization, check_maps
from ._match import match
from ._shared import Queries, image_sizes


@with_options(DenseKeywords, Tensor)
def dense_match(
    source: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    return_mutual: bool = False,
    backend: str | None = None,
    **options: Unpack[DenseKeywords[Tensor]],
) -> DenseMatches:
    """Find every cell of a source feature map in a target feature map: `sparse_window_match` with all cells as queries.

    .. code-block:: text

        flow[:, y, x] = match of cell (x, y), in pixels of target_size  -  (x, y) in pixels of source_size

    Memory beyond inputs, results and gradients doesn't grow with the number of queries, forward and backward: blocks of
    queries share one budget of scores. The backward makes the scores again, as far as the windows need them.

    Args:
        source: (B, C, Hs, Ws) features, any strides; or tokens, see `layout`.
        target: (B, C, Ht, Wt) features of the same dtype and device, or tokens.
        mask: (B, Hs, Ws) bool; cells that are False aren't matched. Default: all are.
        return_mutual: whether to fill `DenseMatches.mutual`, which takes the scores a second time.
        layout, source_shape, target_shape: as in `sparse_window_match`.
        source_size: (height, width) in pixels of the source image, or a (B, 2) tensor. None: flow starts at cells.
        source_coords: how source cells map to pixels: "corner", "half_pixel" or "align_corners".
        target_mask: (B, Ht, Wt) bool, one for all cells of an image; False cells can be neither peak nor support, nor
            mutual.
        temperature: T, a number, a 0-d tensor or a (B, Hs, Ws) tensor; above zero.

    The other options mean what they mean in `sparse_window_match`.

    Returns:
        `DenseMatches`: flow (B, 2, Hs, Ws), score and log_sum_exp (B, Hs, Ws), float32, or float64 for float64
        features; mutual (B, Hs, Ws) bool or None. Cells that aren't matched, or whose target_mask has no True cell,
        hold 0 and False, and pass on no gradient.

    Gradients:
        To source, target and temperature (if a tensor), from flow, score and log_sum_exp.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`.
    """
    source, target = check_maps(source, target, options)
    if options.get("target_mask") is not None:  # one for each query would hold N M cells
        _checks.check_tensor("target_mask", options["target_mask"], _check_shapes.MASK)
    batch, _, height, width = source.shape
    given: dict[str, Any] = dict(options)
    if mask is not None:
        given["valid"] = _checks.check_mask("mask", mask, "(B, Hs, Ws)", (batch, height, width), source).flatten(1)
    temperature = given.get("temperature")
    if isinstance(temperature, Tensor) and temperature.dim() == 3:
        _checks.check_cell_shape("temperature", temperature, (batch, height, width))
        given["temperature"] = temperature.flatten(1)
    positions = _positions(source, given)
    matches = _match(_all_cells(source), target, backend, given)
    found = (matches.peak >= 0).unflatten(1, (height, width))
    ends = matches.keypoints.transpose(1, 2).unflatten(2, (height, width))
    return DenseMatches(
        torch.where(found[:, None], ends - positions.to(ends.dtype), 0),
        matches.score.unflatten(1, (height, width)),
        matches.log_sum_exp.unflatten(1, (height, width)),
        _mutual(source, target, matches.peak, mask, backend, given) if return_mutual else None,
    )


def _match(queries: Queries, target: Tensor, backend: str | None, options: Mapping[str, Any]) -> Matches:
    checked = check_localization(Checked(), target, queries.number, options)
    return match(queries, target, checked, backend, options, keep_all_or_none=True)


def _positions(source: Tensor, options: Mapping[str, Any]) -> Tensor:
    """(1 or B, 2, Hs, Ws) float64: where the cells lie in their image, or the cells themselves."""
    sizes = image_sizes("source_size", options, source)
    given = pick(SamplingOptions, options if sizes is None else {**options, "source_size": None}).checked()
    height, width = source.shape[-2:]
    if sizes is None:
        of_x, of_y = axes(pixels_from_cells, given.source_coords, given.source_size, height, width)
    else:
        of_x, of_y = maps_of_images(pixels_from_cells, given.source_coords, sizes, (height, width))
    columns, lines = (torch.arange(n, dtype=torch.float64, device=source.device)[None] for n in (width, height))
    x, y = apply_affine(columns, of_x)[:, None, :], apply_affine(lines, of_y)[:, :, None]
    return torch.stack(torch.broadcast_tensors(x, y), 1)


def _all_cells(features: Tensor) -> Queries:
    """Every cell as a query, row by row, without a copy of the features: as a list where strides allow that."""
    batch, _, height, width = features.shape
    if height == 1 or width == 1 or features.stride(2) == width * features.stride(3):
        return Queries(features.flatten(2)[:, :, None])
    cell = torch.arange(height * width, device=features.device)
    points = torch.stack((cell % width, cell // width), -1).to(accumulation_dtype(features))
    return Queries(features, points.expand(batch, -1, -1))


def _mutual(
    source: Tensor,
    target: Tensor,
    peak: Tensor,
    mask: Tensor | None,
    backend: str | None,
    options: Mapping[str, Any],
) -> Tensor:
    """Whether each source cell is the best of the target cell that it found: the search with roles exchanged."""
    swapped = {name: options[name] for name in ("metric", "eps", "eps_mode") if name in options}
    of_target = options.get("target_mask")
    swapped |= {"valid": None if of_target is None else of_target.flatten(1), "target_mask": mask}
    with torch.no_grad():
        back = _match(_all_cells(target), source, backend, {**swapped, "localization": "argmax"}).peak
    cell = torch.arange(peak.shape[1], device=peak.device)
    mutual = (peak >= 0) & (back.gather(1, peak.clamp(min=0)) == cell)
    found: Tensor = mutual.unflatten(1, tuple(source.shape[-2:]))
    return found
