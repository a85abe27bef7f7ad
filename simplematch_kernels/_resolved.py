"""The options of the operators as numbers that kernels use; `_options.py` makes them from what users write.

Every pixel/cell convention is one rational affine map per axis, and every localisation is one window,
so that no option costs an extra pass or another kernel:

    cell = (pixel * numerator + shift) / denominator        (all three are integers, so integer pixels map exactly)

    localisation   window                     what differs
    argmax         1 x 1                      nothing: the expectation over one cell is that cell
    window         k x k around the peak      border, shape, outside value
    global         the whole map              nothing
    gaussian       the whole map              scores are multiplied by exp(-d^2 / (2 sigma^2)) first
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

SCORE_BUDGET_BYTES = 64 * 2**20
"""Most bytes of scores that one call holds at a time, and, separately, keeps for its backward.

More queries than fit are worked on in blocks; what the backward misses it computes again.
"""


INTERPOLATION_EPS = 1e-5
"""How far from the border cells a keypoint is kept, in cells, where matches are interpolated."""


@dataclass(frozen=True, slots=True)
class AffineMap:
    """`y = (x * numerator + shift) / denominator`, evaluated in float64 by every backend."""

    numerator: int
    shift: int
    denominator: int


IDENTITY = AffineMap(1, 0, 1)


def cells_from_pixels(coords: str, cells: int, pixels: int) -> AffineMap:
    """The map from pixel to cell coordinates along an axis of `pixels` pixels and `cells` cells."""
    return _rescale(coords, pixels, cells)


def pixels_from_cells(coords: str, cells: int, pixels: int) -> AffineMap:
    """The inverse of `cells_from_pixels`."""
    return _rescale(coords, cells, pixels)


def _rescale(coords: str, old: int, new: int) -> AffineMap:
    if coords == "corner":
        return AffineMap(new, 0, old)
    if coords == "half_pixel":  # (x + 1/2) * new / old - 1/2, over the common denominator 2 * old
        return AffineMap(2 * new, new - old, 2 * old)
    return AffineMap(new - 1, 0, old - 1) if old > 1 else AffineMap(0, 0, 1)  # align_corners


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a keypoint reads the source map: `to_cells_*` first, then `mode` ("floor", "round" or "bilinear").

    `padding` ("zeros" or "border") is what a bilinear sample finds outside the map. `image_sizes`, a (B, 2) tensor or
    array of heights and widths, int64 and contiguous, gives each image maps of its own by `coordinates`.
    """

    to_cells_x: AffineMap
    to_cells_y: AffineMap
    mode: str
    padding: str
    coordinates: str = "corner"
    image_sizes: Any = None


@dataclass(frozen=True, slots=True)
class Metric:
    """`kind` is "cosine", "dot", "l2" or "l1"; the cosine divides by |x| + eps, or max(|x|, eps) if `clamp_eps`."""

    kind: str
    eps: float
    clamp_eps: bool


_ON_EDGE = 2.0**-48  # relative; rounding moves either side by less

LARGEST_DISC = 2.0**40
"""Cells across, as many as a larger disc has of any map."""


def disc_box(size: float, closed: bool) -> int:
    """The cells that a disc of `size` cells across reaches along an axis, an odd number."""
    reach = int(size / 2)
    if not closed and 2 * reach == size:
        reach -= 1
    return 2 * reach + 1


@dataclass(frozen=True, slots=True)
class Window:
    """The cells around the peak that take part in the soft-argmax.

    `height` and `width` are those of its box, which may exceed the map. With `shift` a box that leaves the map is moved
    inside whole, else the part of it that exists is used; a disc has the same cells either way, and a plus is never
    moved. Of its cells, offset by (dx, dy) from the peak, the `shape` has

        "square"        all
        "plus"          dx = 0 or dy = 0
        "disc"          (2 dx / disc_width)^2 + (2 dy / disc_height)^2 < 1
        "closed_disc"   (2 dx / disc_width)^2 + (2 dy / disc_height)^2 <= 1

    Cells outside count as scores of `outside_value` (-inf: not at all). `sigma` > 0 weighs scores around the peak.
    """

    height: int
    width: int
    shift: bool = True
    shape: str = "square"
    disc_height: float = 0.0
    disc_width: float = 0.0
    outside_value: float = -math.inf
    sigma: float = 0.0

    @property
    def has_outside(self) -> bool:
        return self.outside_value != -math.inf

    @property
    def is_disc(self) -> bool:
        return self.shape in ("disc", "closed_disc")

    @property
    def ellipse(self) -> tuple[float, float, float]:
        """(a, b, c): a disc has the cells with a dx^2 + b dy^2 <= c; all backends take these very numbers.

        Of a circle a and b are 1, so that the left side is exact. A cell within a few roundings of the edge lies on it.
        """
        height, width = self.disc_height, self.disc_width
        edge = 1 + (_ON_EDGE if self.shape == "closed_disc" else -_ON_EDGE)
        half = height / 2 if height == width else height * width / 2
        across, down = (1.0, 1.0) if height == width else (height * height, width * width)
        return across, down, half * half * edge

    def box(self, map_height: int, map_width: int) -> tuple[int, int]:
        """(rows, columns) of the largest box of cells a window can cover: the layout of kept window scores."""
        return smaller(self.height, map_height), smaller(self.width, map_width)


@dataclass(frozen=True, slots=True)
class Localization:
    """From scores to coordinates: window, temperature (unused where a tensor gives it), map to the user's units.

    `image_sizes` and `coordinates` as in `Sampling`.
    """

    window: Window
    temperature: float
    from_cells_x: AffineMap
    from_cells_y: AffineMap
    output_offset: float
    coordinates: str = "corner"
    image_sizes: Any = None
    second: Window = Window(3, 3, shift=False)
    """The cells around the peak among which the second best cell is not sought; outside value and sigma are unused."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The distribution round a true point that scores over `temperature` are compared with.

    `to_cells_*` first, then a Gaussian of width `sigma` on `kernel_size` cells along each axis. `temperature` is unused
    where a tensor gives it.
    """

    to_cells_x: AffineMap
    to_cells_y: AffineMap
    kernel_size: int
    sigma: float
    temperature: float


def smaller(a: int, b: int) -> int:
    """The minimum, which of symbols, torch.SymInt, is one again and no guess which of them is smaller."""
    if type(a) is int and type(b) is int:
        return min(a, b)
    import torch  # whose symbols they are

    return torch.sym_min(a, b)  # type: ignore[no-any-return]


def queries_within_budget(bytes_per_query: int) -> int:
    """How many queries may hold `bytes_per_query` bytes of scores each at one time; at least one."""
    return max(1, SCORE_BUDGET_BYTES // max(1, bytes_per_query))
