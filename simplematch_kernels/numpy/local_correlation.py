"""`local_correlation` on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _check_shapes
from .._check_correlation import check_correlation_options, wrong_number_of_coords, wrong_offsets_shape
from .._options import SamplingOptions, Size
from . import _arrays, _checks, _run
from ._arrays import CODES, Array, Rows
from ._interpolation import to_cells
from ._run import device_of
from .functional import split_sizes


def local_correlation(
    queries: Array,
    target: Array,
    coords: Array,
    *,
    radius: int | Sequence[int] | None = None,
    offsets: Array | None = None,
    num_keypoints: Array | None = None,
    valid: Array | None = None,
    target_size: Size | Array = None,
    target_coords: str = "corner",
    sampling: str = "bilinear",
    padding: str = "zeros",
    metric: str = "dot",
    scale: float = 1.0,
    eps: float = 1e-8,
    eps_mode: str = "add",
    threads: int | None = None,
) -> Array:
    """Correlate each query with a window around a given point: `simplematch_kernels.local_correlation`.

    Args:
        queries: (B, N, C), or a map (B, C, H, W) with N = H * W queries, any strides.
        target: (B, C, Ht, Wt) features of the same dtype.
        coords: (B, N, 2) points of the target as (x, y), in pixels of `target_size`, (height, width) or (B, 2)
            integers, or in cells if that is None.
        radius: r, or (ry, rx): the window has 2r + 1 rows and columns of samples, a cell apart.
        offsets: (K, 2) or (B, K, 2) offsets (x, y) in cells, instead of `radius`.
        threads: as in `sparse_window_match`.

    The other arguments mean what they mean there.

    Returns:
        (B, N, 2 ry + 1, 2 rx + 1): rows are dy, columns are dx; or (B, N, K) for `offsets`. float32, or float64 for
        float64 features.

    Raises:
        TypeError, ValueError: as `sparse_window_match`.
    """
    queries = _checks.check_set("queries", queries)
    target = _checks.check_features("target", target, _check_shapes.MAP)
    _checks.check_pair("queries", queries, "target", target)
    _checks.check_cells("target", target)
    coords = _checks.check_keypoints(coords, target, "target", name="coords")
    count = queries.shape[2] * queries.shape[3]
    if coords.shape[1] != count:
        raise wrong_number_of_coords(count, coords.shape[1])
    one_size, sizes = split_sizes("target_size", {"target_size": target_size}, target)
    options = check_correlation_options(
        radius, offsets, one_size["target_size"], target_coords, sampling, padding, metric, scale, eps, eps_mode
    )
    rows = _checks.check_rows(Rows(num_keypoints, valid), count, target)
    if sizes is not None:
        of_coords = SamplingOptions(source_coords=target_coords)
        coords = np.stack(to_cells(coords, of_coords, sizes, *target.shape[2:]), -1)
    points = None if offsets is None else _check_offsets(offsets, target)
    return _run.correlation(
        queries,
        target,
        coords,
        points,
        rows,
        options.sampling.resolve(*target.shape[2:]),
        options.metric.resolve(),
        options.radius or (0, 0),
        options.scale,
        device_of(threads),
    )


def _check_offsets(value: object, target: Array) -> Array:
    """Offsets as (B, K, 2), float32 or float64."""
    if not isinstance(value, np.ndarray):
        raise _check_shapes.wrong_kind("offsets", "an array", "(K, 2)", value)
    batch = target.shape[0]
    if value.ndim not in (2, 3) or value.shape[-1] != 2 or value.shape[-2] == 0:
        raise wrong_offsets_shape(batch, value.shape)
    if value.ndim == 3 and value.shape[0] != batch:
        raise wrong_offsets_shape(batch, value.shape)
    if value.dtype.kind not in "iuf" and value.dtype.name not in CODES:
        raise _check_shapes.not_real("offsets", value.dtype)
    exact = value if value.dtype.name in ("float32", "float64") else value.astype(np.float32)
    return np.broadcast_to(_arrays.addressable(exact), (batch, *value.shape[-2:]))
