"""The groups in which kernels take their arguments.

Triton passes a NamedTuple to a kernel field by field. It compiles the kernel again for every integer field that is 1 or
a multiple of 16, and `do_not_specialize` has no effect on fields. A field that gains nothing from this is passed
encoded: `encode` on the host and `decode` in the kernel. 4 x + 3 is neither 1 nor a multiple of 16, whatever x is.

Three kinds of arguments stay out of groups: float64 numbers, which Triton converts to float32 in a tuple; pointers,
because Triton would compile again for slices that aren't aligned to 16 bytes; and integers in the inner loops of the
kernels that use the most registers. No field is called `values` or `type`, because Triton's own tuples have these.

Groups of switches (upper case) are compile-time constants: one tl.constexpr argument each.
"""

from __future__ import annotations

from typing import NamedTuple


def encode(x: int) -> int:
    return 4 * x + 3


# Strides


class MapStrides(NamedTuple):
    """Strides of a (B, C, H, W) map. Not encoded where wide loads depend on their divisors; encoded elsewhere."""

    b: int
    c: int
    h: int
    w: int


class ScoreStrides(NamedTuple):
    """Strides of (B, N, H, W) scores: encoded, except `w`, which is 1 for rows that wide loads can read."""

    b: int
    n: int
    h: int
    w: int


class QueryStrides(NamedTuple):
    """Strides of (splits, B, N, C) partial sums, not encoded."""

    s: int
    b: int
    n: int
    c: int


class MaskStrides(NamedTuple):
    """Strides of (B, N, M) masks, encoded."""

    b: int
    n: int


class PointStrides(NamedTuple):
    """Strides of (B, N, 2) keypoints, encoded."""

    b: int
    n: int
    d: int


class UpstreamStrides(NamedTuple):
    """Strides of the upstream gradients, (B, N, 2), (B, N), (B, N, 2, 2), and of images of covariances, encoded."""

    keypoints_b: int
    keypoints_n: int
    keypoints_d: int
    score_b: int
    score_n: int
    log_sum_exp_b: int
    log_sum_exp_n: int
    spread_b: int
    spread_n: int
    spread_i: int
    spread_j: int
    covariance_b: int


# Sizes and options


class AffineMaps(NamedTuple):
    """(x * numerator + shift) / divisor for each axis, and the code of the convention, encoded."""

    numerator_x: int
    shift_x: int
    divisor_x: int
    numerator_y: int
    shift_y: int
    divisor_y: int
    coordinates: int


class WindowSize(NamedTuple):
    """height x width of the window's box, and rows x columns of the largest box of cells that it covers, encoded.

    disc_*: the size of a disc, as the float32 of which it is the sum; None for other shapes.
    """

    height: int
    width: int
    rows: int
    columns: int
    disc_height: float | None = None
    disc_height_rest: float | None = None
    disc_height_last: float | None = None
    disc_width: float | None = None
    disc_width_rest: float | None = None
    disc_width_last: float | None = None


class LocalizeSizes(NamedTuple):
    """Sizes of `localize`, encoded. kept: how many queries keep their window scores. *_b, *_n: strides of images and
    queries.
    """

    N: int
    H: int
    W: int
    tiles: int
    first_query: int
    valid_b: int
    temperature_b: int
    temperature_n: int
    out_b: int
    kept: int
    kept_b: int
    mask_b: int
    mask_n: int


class RowSizes(NamedTuple):
    """Sizes of the kernels whose programs take one row of scores each, encoded. *_b and *_n are strides."""

    N: int
    C: int
    H: int
    W: int
    source_rows: int
    source_columns: int
    peak_b: int
    temperature_b: int
    temperature_n: int
    scalar_b: int
    queries_b: int
    mask_b: int
    mask_n: int


class SourceSizes(NamedTuple):
    """N keypoints, their partial sums, and the programs that fill a map of H rows, encoded."""

    N: int
    H: int
    splits: int
    source_programs: int


class PointSizes(NamedTuple):
    """N keypoints on a map of H x W cells, encoded."""

    N: int
    H: int
    W: int


class UpsampledSizes(NamedTuple):
    """N queries, h x w coarse cells, H x W fine ones, encoded."""

    N: int
    coarse_height: int
    coarse_width: int
    H: int
    W: int


# Switches


class RowShape(NamedTuple):
    """KEPT: scores of windows, not of maps. DENSE: ds of maps. BLOCK of cells and BLOCK_C of channels at a time."""

    KEPT: bool
    DENSE: bool
    BLOCK: int
    BLOCK_C: int


class SamplingSwitches(NamedTuple):
    """MODE: FLOOR, ROUND, BILINEAR or DESCRIPTORS. BORDER: coordinates are clamped to the map."""

    MODE: int
    BORDER: bool


class MetricSwitches(NamedTuple):
    """KIND: COSINE, DOT, L2 or L1. CLAMP_EPS: the cosine divides by max(|x|, eps), not by |x| + eps."""

    KIND: int
    CLAMP_EPS: bool


class WindowSwitches(NamedTuple):
    """SHIFT it inside the map, its SHAPE (SQUARE, ...), GAUSSIAN weights, a score for the cells OUTSIDE."""

    SHIFT: bool
    SHAPE: int
    GAUSSIAN: bool
    OUTSIDE: bool


class Walk(NamedTuple):
    """How a kernel walks maps.

    CHANNELS_LAST: tiles are (cells, channels), else (channels, cells). FLAT: each row follows the previous one in
    memory. WIDE: offsets have 64 bits. EVEN_C: the channels are a multiple of the tile's.
    """

    CHANNELS_LAST: bool
    FLAT: bool
    WIDE: bool
    EVEN_C: bool
