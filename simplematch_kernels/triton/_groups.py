"""The groups in which kernels take their arguments, and the records that they make of them.

A NamedTuple reaches a kernel field by field. Triton compiles a kernel anew for every integer of a tuple that is 1 or
divides by 16, and `do_not_specialize` does not reach these. Where nothing is won by it, a field is `encode`d on the
host, and a kernel `decode`s it: 4 x + 3 is neither 1 nor a multiple of 16, whatever x is. Such fields are marked
"encoded" below. float64 numbers stay out of groups, for in a tuple Triton makes them float32. Pointers stay out too: a
kernel would be compiled anew for those of slices that do not begin at 16 bytes. No field may be called `values` or
`type`: Triton's own tuples have these.

Groups of switches (upper case) are compiled in: one tl.constexpr argument each.
"""

from __future__ import annotations

from typing import Any, NamedTuple


def encode(x: int) -> int:
    return 4 * x + 3


# Strides


class MapStrides(NamedTuple):
    """Of a (B, C, H, W) map, as they are: wide loads depend on what divides them. Encoded where kernels say so."""

    b: int
    c: int
    h: int
    w: int


class ScoreStrides(NamedTuple):
    """Of (B, N, H, W) scores: encoded but for `w`, because a row of which the cells are adjacent is read in one go."""

    b: int
    n: int
    h: int
    w: int


class QueryStrides(NamedTuple):
    """Of (splits, B, N, C) partial sums, as they are."""

    s: int
    b: int
    n: int
    c: int


class PointStrides(NamedTuple):
    """Of (B, N, 2) keypoints: encoded."""

    b: int
    n: int
    d: int


class UpstreamStrides(NamedTuple):
    """Of the gradients that arrive at the outputs, (B, N, 2) and (B, N): encoded."""

    keypoints_b: int
    keypoints_n: int
    keypoints_d: int
    score_b: int
    score_n: int
    log_sum_exp_b: int
    log_sum_exp_n: int


# Sizes and options


class AffineMaps(NamedTuple):
    """(x * numerator + shift) / divisor for each axis: encoded."""

    numerator_x: int
    shift_x: int
    divisor_x: int
    numerator_y: int
    shift_y: int
    divisor_y: int


class WindowSize(NamedTuple):
    """height x width of the window, and rows x columns, the largest box of cells that it covers: encoded."""

    height: int
    width: int
    rows: int
    columns: int


class LocalizeSizes(NamedTuple):
    """`kept`: so many queries leave their window scores. *_b: rows from one image to the next. All encoded."""

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


class RowSizes(NamedTuple):
    """Of kernels that work on one row of scores a program. *_b: rows from one image to the next. All encoded."""

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


class SourceSizes(NamedTuple):
    """N keypoints, their partial sums, and the programs that fill a map of H rows: encoded."""

    N: int
    H: int
    splits: int
    source_programs: int


class PointSizes(NamedTuple):
    """N keypoints on a map of H x W cells: encoded."""

    N: int
    H: int
    W: int


# Switches


class SamplingSwitches(NamedTuple):
    """MODE: DESCRIPTORS, FLOOR, ROUND or BILINEAR. BORDER: what lies outside the map is what its border holds."""

    MODE: int
    BORDER: bool


class MetricSwitches(NamedTuple):
    """KIND: COSINE, DOT or L2. CLAMP_EPS: the cosine divides by max(|x|, eps), not by |x| + eps."""

    KIND: int
    CLAMP_EPS: bool


class WindowSwitches(NamedTuple):
    """SHIFT it inside the map, DISC in place of a rectangle, GAUSSIAN weights, a score for the cells OUTSIDE."""

    SHIFT: bool
    DISC: bool
    GAUSSIAN: bool
    OUTSIDE: bool


class Walk(NamedTuple):
    """How a kernel walks maps: in tiles of CHANNELS_LAST; FLAT: the end of a row is followed by the next one; offsets
    are WIDE: of 64 bits; EVEN_C: no tile of channels goes beyond the last.
    """

    CHANNELS_LAST: bool
    FLAT: bool
    WIDE: bool
    EVEN_C: bool


# Records that kernels make of their arguments; H, W and strides are no longer encoded there


class Image(NamedTuple):
    """The map of one image: a pointer to its first element."""

    pointer: Any
    H: Any
    W: Any
    strides: Any


class Points(NamedTuple):
    """Where queries n sample a map (x, y: float64, in cells), and which of them are there."""

    x: Any
    y: Any
    n: Any
    active: Any


class Cells(NamedTuple):
    """Cells m of a map, and which of them it has."""

    m: Any
    in_map: Any


class Scores(NamedTuple):
    """Of a tile (BLOCK_N, BLOCK_M), with what it was made of: norms of the cells, squares of the queries and cells."""

    score: Any
    target_norm: Any
    query_square: Any
    target_square: Any


class Norms(NamedTuple):
    """|f_m| of the cells of an image, and eps."""

    pointer: Any
    eps: Any


class Row(NamedTuple):
    """The scores of one query with H x W cells: a pointer to the first, and which cells of it take part, or None."""

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
    """Of a window clipped to the map: rows from top to before bottom, columns from left to before right."""

    top: Any
    left: Any
    bottom: Any
    right: Any


class Box(NamedTuple):
    """A rectangle of cells that a loop visits: the first of them, and its size."""

    row: Any
    column: Any
    rows: Any
    columns: Any


class Match(NamedTuple):
    """One query: its row of scores, the peak, the window around it (`window`: its encoded size), the temperature, the
    score of the cells outside, the width of the gaussian, and whether the query is there at all.
    """

    row: Any
    peak: Any
    bounds: Any
    window: Any
    T: Any
    outside_value: Any
    sigma: Any
    active: Any


class Expectation(NamedTuple):
    """What a soft-argmax gives: see `soft_argmax`."""

    largest: Any
    total: Any
    x: Any
    y: Any
    outside_n: Any
    outside_x: Any
    outside_y: Any


class Arriving(NamedTuple):
    """Upstream gradients of one query: of its keypoint (x, y: in cells), score and log-sum-exp."""

    x: Any
    y: Any
    score: Any
    log_sum_exp: Any


class Sums(NamedTuple):
    """Over the cells of a window: ds, ds times the score, and P (s' - largest) a, of which dT is made."""

    ds: Any
    ds_score: Any
    moment: Any


class Keypoints(NamedTuple):
    """Keypoints (B, N, 2) with their strides, the encoded way to their cells, and the peaks (B, N), below 0 in padding.

    peak: None where there is no padding. Where queries are descriptors, none of it is used.
    """

    pointer: Any
    strides: Any
    to_cells: Any
    peak: Any


class QueryOutputs(NamedTuple):
    """Where `fill_query` writes: a row of C channels, and two numbers."""

    row: Any
    scale: Any
    second: Any
    C: Any


class Weights(NamedTuple):
    """ds (BLOCK_N, cells) of a block of queries: a pointer, where each window begins, and the factor of its query."""

    pointer: Any
    corner: Any
    stride_h: Any
    stride_w: Any
    scale: Any
    active: Any
    bounds: Any


class Parts(NamedTuple):
    """dq (splits, B, N, C) as partial sums."""

    pointer: Any
    strides: Any
    splits: Any
