"""The records that kernels build from their arguments and pass to functions.

Sizes and strides are decoded here. An integer that may be a compile-time constant is a field of the outermost record,
because Triton 3.6 loses constants in nested tuples.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Image(NamedTuple):
    """The map of one image: a pointer to its first element, its size and its strides."""

    pointer: Any
    H: Any
    W: Any
    b: Any
    c: Any
    h: Any
    w: Any


class Points(NamedTuple):
    """Where queries n sample a map (x, y: float64, in cells), and which of them are active."""

    x: Any
    y: Any
    n: Any
    active: Any


class Cells(NamedTuple):
    """Cells m, and which of them lie in the map."""

    m: Any
    in_map: Any


class Scores(NamedTuple):
    """Scores of a tile (BLOCK_N, BLOCK_M), norms of its cells, squared norms of its queries and cells."""

    score: Any
    target_norm: Any
    query_square: Any
    target_square: Any


class Norms(NamedTuple):
    """|f_m| of the cells of an image, and eps."""

    pointer: Any
    eps: Any


class Row(NamedTuple):
    """The scores of one query with H x W cells: a pointer to the first, and its mask of the cells, or None."""

    pointer: Any
    H: Any
    W: Any
    stride_h: Any
    stride_w: Any
    target_mask: Any


class Peak(NamedTuple):
    x: Any
    y: Any
    score: Any


class Bounds(NamedTuple):
    """Bounds of a window clipped to the map: rows [top, bottom), columns [left, right)."""

    top: Any
    left: Any
    bottom: Any
    right: Any


class Extent(NamedTuple):
    """A decoded `WindowSize`: disc_height and disc_width are float64, or None."""

    height: Any
    width: Any
    rows: Any
    columns: Any
    disc_height: Any
    disc_width: Any


class Box(NamedTuple):
    """A rectangle of cells that a loop visits: its first cell and its size."""

    row: Any
    column: Any
    rows: Any
    columns: Any


class Match(NamedTuple):
    """One query: its peak, the bounds and the size of the window around it, the temperature, the score of the cells
    outside, the width of the gaussian, and whether the query is active.
    """

    peak: Any
    bounds: Any
    window: Any
    T: Any
    outside_value: Any
    sigma: Any
    active: Any


class Expectation(NamedTuple):
    """The result of `soft_argmax`."""

    largest: Any
    total: Any
    x: Any
    y: Any
    outside_n: Any
    outside_x: Any
    outside_y: Any


class Arriving(NamedTuple):
    """Upstream gradients of one query: of its keypoint (x, y: in cells), score, log-sum-exp and covariance, or None."""

    x: Any
    y: Any
    score: Any
    log_sum_exp: Any
    spread: Any


class Spread(NamedTuple):
    """The upstream gradient G of a covariance C: <G, D> = xx D.xx + xy D.xy + yy D.yy in cells, and product = <G, C>.

    size: the sum of its absolute values.
    """

    xx: Any
    xy: Any
    yy: Any
    product: Any
    size: Any


class Sums(NamedTuple):
    """Sums over the cells of a window: ds, ds times the score, and P (s' - largest) a, which gives dT."""

    ds: Any
    ds_score: Any
    moment: Any


class TruePoint(NamedTuple):
    """Where a query truly lies: its point (float64, in cells, on the map), the nearest cell, the bounds of its window,
    whether the point is known (finite), and whether the map has it.
    """

    x: Any
    y: Any
    cell: Any
    bounds: Any
    known: Any
    inside: Any


class Gaussian(NamedTuple):
    """The Gaussian round a true point, exp(-(d^2 - least) / (2 sigma^2)) / total: `sigma` and `least` are float64."""

    point: Any
    sigma: Any
    least: Any
    total: Any


class Keypoints(NamedTuple):
    """Keypoints (B, N, 2), their strides, the encoded maps to cells, the sizes (B, 2) of images, and the peaks (B, N).

    sizes is None where all images have these maps. peak is negative for padding, or None without padding. All are None
    where queries are descriptors.
    """

    pointer: Any
    strides: Any
    to_cells: Any
    sizes: Any
    peak: Any


class QueryOutputs(NamedTuple):
    """Where `fill_query` writes: a row of C channels, and two scalars."""

    row: Any
    scale: Any
    own: Any
    C: Any


class Weights(NamedTuple):
    """ds (BLOCK_N, cells) of a block of queries: a pointer, the offset of each window, and the factor of its query."""

    pointer: Any
    corner: Any
    stride_h: Any
    stride_w: Any
    scale: Any
    active: Any
    bounds: Any


class Parts(NamedTuple):
    """dq as partial sums (splits, B, N, C): a pointer, their number and their strides."""

    pointer: Any
    splits: Any
    s: Any
    b: Any
    n: Any
    c: Any


class Best(NamedTuple):
    """The largest score of each row or column so far, and the second largest, as integers that sort like them; where
    it is; and the sum of exponentials, counted from the largest. As pointers: parts of these.
    """

    top: Any
    index: Any
    second: Any
    total: Any
