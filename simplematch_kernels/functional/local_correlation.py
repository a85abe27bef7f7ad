"""Queries correlated with a map around points that the caller gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _check_shapes, _checks
from .._check_correlation import check_correlation_options, wrong_number_of_coords, wrong_offsets_shape
from .._options import Size
from .._types import Rows
from ..operators import local_correlation as operator
from ._shared import in_cells, requested


def local_correlation(
    queries: Tensor,
    target: Tensor,
    coords: Tensor,
    *,
    radius: int | Sequence[int] | None = None,
    offsets: Tensor | None = None,
    num_keypoints: Tensor | None = None,
    valid: Tensor | None = None,
    target_size: Size | Tensor = None,
    target_coords: str = "corner",
    sampling: str = "bilinear",
    padding: str = "zeros",
    metric: str = "dot",
    scale: float = 1.0,
    eps: float = 1e-8,
    eps_mode: str = "add",
    backend: str | None = None,
) -> Tensor:
    r"""Correlate each query with a window of the target around a given point (RAFT, CoTracker, RoMa, DPVO, PIPs).

    .. code-block:: text

        out[n, dy, dx] = scale * sum over cells m of weight(m; p_n + (dx, dy)) s[n, m]       p_n: coords_n in cells
        s[n, m]        = <q_n, f_m>                                    metric "dot"
                         <q_n, f_m> / ((|q_n| + eps) (|f_m| + eps))    metric "cosine"

    The weights are those of a bilinear sample at p_n + (dx, dy): "dot" is <q_n, sample(target, p_n + (dx, dy))>.
    "cosine" normalises the queries and the cells, and samples the normalised map, as CoTracker3 and TAPIR do; it does
    not normalise the samples. Neither the samples (B, N, K, C) nor a normalised map is ever made: the samples of a
    window share their weights, so the scores of (2r + 2)^2 whole cells are computed once and blended.

    Args:
        queries: (B, N, C), or a map (B, C, H, W) with N = H * W queries, row by row; float32, bfloat16, float16 or
            float64, any strides.
        target: (B, C, Ht, Wt) features of the same dtype and device, any strides.
        coords: (B, N, 2) points of the target as (x, y), in pixels of `target_size`, or in cells if that is None. A
            point that isn't finite makes its row NaN.
        radius: r, or (ry, rx): the window has 2r + 1 rows and columns of samples, a cell apart.
        offsets: (K, 2) or (B, K, 2) offsets (x, y) in cells, instead of `radius`. They may be fractions; they have no
            gradient.
        num_keypoints: (B,) integers; rows n >= num_keypoints[b] are padding. Default: no padding.
        valid: (B, N) bool; False rows are padding. Default: all valid.
        target_size: (height, width) in pixels of the image that `coords` refer to, or a (B, 2) tensor of integers: one
            for each image. None: they are in cells.
        target_coords: how pixels map to cells: "corner", "half_pixel" or "align_corners", as `source_coords` of
            `sparse_window_match`.
        sampling: "bilinear", or "nearest" (the nearest cell, halves to even).
        padding: what a sample finds outside the map: "zeros", or "border" (the nearest cell of the map).
        metric: "dot" or "cosine".
        scale: multiplies the result. RAFT, CoTracker and RoMa divide by the square root of C: scale=C**-0.5.
        eps: guards the cosine's division.
        eps_mode: "add" (x / (|x| + eps)) or "clamp" (x / max(|x|, eps)).
        backend: as in `sparse_window_match`.

    Returns:
        (B, N, 2 ry + 1, 2 rx + 1): rows are dy, columns are dx, both ascending; or (B, N, K) for `offsets`. float32, or
        float64 for float64 features. Rows of padding hold zeros and pass on no gradient. RAFT, CoTracker and PIPs
        order a window with dx along its rows: use `.mT`.

    Gradients:
        To queries, target and, if `sampling` is "bilinear", coords; in the layout and dtype of their input, bitwise
        repeatable. At a whole coordinate, the gradient to coords is the slope towards larger coordinates.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`.
    """
    queries = _checks.check_set("queries", queries)
    target = _checks.check_features("target", target, _check_shapes.MAP)
    _checks.check_pair("queries", queries, "target", target)
    _checks.check_cells("target", target)
    _checks.check_keypoints(coords, target, "target", name="coords")
    given = {"target_size": target_size, "target_coords": target_coords}
    coords, in_image = in_cells(coords, target, given)
    coords = _checks.as_points(coords, sampling == "bilinear")
    count = queries.shape[2] * queries.shape[3]
    if coords.shape[1] != count:
        raise wrong_number_of_coords(count, coords.shape[1])
    options = check_correlation_options(
        radius, offsets, in_image["target_size"], target_coords, sampling, padding, metric, scale, eps, eps_mode
    )
    rows = _checks.check_rows(Rows(num_keypoints, valid), count, target)
    points = None if offsets is None else _check_offsets(offsets, target)
    found = operator.run(
        operator.Arguments(
            queries,
            target,
            coords,
            points,
            rows,
            options.sampling,
            options.metric,
            options.radius,
            options.scale,
            requested(backend),
        )
    ).correlation
    if options.radius is None:
        return found
    window: Tensor = found.unflatten(2, [2 * r + 1 for r in options.radius])
    return window


def _check_offsets(value: object, target: Tensor) -> Tensor:
    """Offsets as (B, K, 2), float32 or float64."""
    if not isinstance(value, Tensor):
        raise _check_shapes.wrong_kind("offsets", "a tensor", "(K, 2)", value)
    batch = target.shape[0]
    if value.dim() not in (2, 3) or value.shape[-1] != 2 or value.shape[-2] == 0:
        raise wrong_offsets_shape(batch, value.shape)
    if value.dim() == 3 and value.shape[0] != batch:
        raise wrong_offsets_shape(batch, value.shape)
    if value.dtype == torch.bool or value.is_complex():
        raise _check_shapes.not_real("offsets", value.dtype)
    _checks.check_device("offsets", value, "target", target)
    exact = value.detach() if value.dtype in (torch.float32, torch.float64) else value.detach().float()
    return exact.expand(batch, -1, -1)
