"""The options of the public functions, in groups: names, defaults, checks, and what they mean for a map of H x W cells.

A group is a record (`SamplingOptions`, ...) that all functions, operators and backends share:

    keyword arguments  ->  group.checked()  ->  operator  ->  group.resolve(H, W)  ->  backend  ->  kernel

and a TypedDict of its keyword arguments (`SamplingKeywords`, ...), from which type checkers and editors know the
functions that take `**options`. An option is added to both, to `checked` and to `resolve`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

from ._check_options import (
    check_choice,
    check_disc_size,
    check_no_token_shape,
    check_number,
    check_size,
    check_token_shape,
    check_whole,
    check_window_size,
)
from ._check_shapes import TokenShape
from ._resolved import (
    IDENTITY,
    LARGEST_DISC,
    AffineMap,
    Localization,
    Metric,
    Sampling,
    Window,
    cells_from_pixels,
    disc_box,
    pixels_from_cells,
    smaller,
)
from ._result_options import (
    DEFAULTS,
    CenterKeywords,
    DetailKeywords,
    NormalizationKeywords,
    ScoreKeywords,
)
from ._signatures import Function, show_options

LAYOUTS = ("map", "tokens")
SAMPLINGS = ("floor", "round", "bilinear")
SAMPLING_PADDINGS = ("zeros", "border")
INTERPOLATIONS = ("features", "matches")
COORDINATES = ("corner", "half_pixel", "align_corners")
METRICS = ("cosine", "dot", "l2", "l1")
EPS_MODES = ("add", "clamp")
LOCALIZATIONS = ("argmax", "window", "global", "gaussian")
WINDOW_SHAPES = ("square", "plus", "disc")
DISC_EDGES = ("open", "closed")
BORDERS = ("shift", "shrink")
DEFAULT_TEMPERATURE = 0.02

Size = Sequence[int] | None
Record = TypeVar("Record")
Resolved = TypeVar("Resolved")
Array = TypeVar("Array")
_MOST = 1024  # resolved options that are kept


def cached(resolve: Callable[[Any, int, int], Resolved]) -> Callable[[Any, int, int], Resolved]:
    """Keep what options mean for maps of H x W cells; not for symbolic sizes, which have no hash."""
    known = lru_cache(maxsize=_MOST)(resolve)

    def resolved(options: Any, height: int, width: int) -> Resolved:
        try:
            return known(options, height, width)
        except TypeError:
            return resolve(options, height, width)

    return resolved


class LayoutKeywords(TypedDict, total=False):
    layout: str
    target_shape: Size


class LayoutOptions(NamedTuple):
    """How features hold their cells: maps (B, C, H, W), or tokens (B, H*W, C) and the (H, W) of source and target."""

    layout: str = "map"
    source_shape: Size = None
    target_shape: Size = None

    def of_source(self, name: str = "source_shape") -> TokenShape | None:
        """The shape of its tokens, None if it is a map, or a TypeError or ValueError; `name` is that of its shape."""
        return self._checked(name, self.source_shape)

    def of_target(self) -> TokenShape | None:
        return self._checked("target_shape", self.target_shape)

    def _checked(self, name: str, shape: Size) -> TokenShape | None:
        check_choice("layout", self.layout, LAYOUTS)
        if self.layout == "tokens":
            return check_token_shape(name, shape)
        check_no_token_shape(name, shape)
        return None


class SamplingKeywords(TypedDict, Generic[Array], total=False):
    source_size: Size | Array
    source_coords: str
    sampling: str
    sampling_padding: str


class SamplingOptions(NamedTuple):
    """How keypoints read the source map. `source_size` is None where a tensor has one for each image."""

    source_size: Size = None
    source_coords: str = "corner"
    sampling: str = "floor"
    sampling_padding: str = "zeros"

    def checked(self, names: Mapping[str, str] | None = None) -> SamplingOptions:
        """Itself with plain values, or a TypeError or ValueError; `names` are those of a function that differ."""
        name = names or {}
        check_choice(name.get("source_coords", "source_coords"), self.source_coords, COORDINATES)
        check_choice("sampling", self.sampling, SAMPLINGS)
        check_choice(name.get("sampling_padding", "sampling_padding"), self.sampling_padding, SAMPLING_PADDINGS)
        size = check_size(name.get("source_size", "source_size"), self.source_size)
        return SamplingOptions(size, self.source_coords, self.sampling, self.sampling_padding)

    def resolve(self, height: int, width: int, *, image_sizes: Any = None) -> Sampling:
        """image_sizes: (B, 2) int64, contiguous, in place of `source_size`."""
        sampling = _resolve_sampling(self, height, width)
        return sampling if image_sizes is None else dataclasses.replace(sampling, image_sizes=image_sizes)


@cached
def _resolve_sampling(o: SamplingOptions, height: int, width: int) -> Sampling:
    x, y = axes(cells_from_pixels, o.source_coords, o.source_size, height, width)
    return Sampling(x, y, mode=o.sampling, padding=o.sampling_padding, coordinates=o.source_coords)


def axes(
    convert: Callable[[str, int, int], AffineMap], coords: str, size: Size, height: int, width: int
) -> tuple[AffineMap, AffineMap]:
    """The maps of x and y between the cells of a map and the pixels of an image; identities without an image."""
    if size is None:
        return IDENTITY, IDENTITY
    return convert(coords, width, size[1]), convert(coords, height, size[0])


GATHER_NAMES = {"source_size": "size", "source_coords": "coords", "sampling_padding": "padding"}
"""The sampling options of a function that has one map."""


class InterpolationKeywords(TypedDict, total=False):
    source_interpolation: str


class InterpolationOptions(NamedTuple):
    """What is interpolated for a keypoint between cells: the features there, or the matches of the cells around it."""

    source_interpolation: str = "features"

    def checked(self) -> InterpolationOptions:
        check_choice("source_interpolation", self.source_interpolation, INTERPOLATIONS)
        return self


class MetricKeywords(TypedDict, total=False):
    metric: str
    eps: float
    eps_mode: str


class MetricOptions(NamedTuple):
    """How a query is compared with a cell."""

    metric: str = "cosine"
    eps: float = 1e-8
    eps_mode: str = "add"

    def checked(self) -> MetricOptions:
        check_choice("metric", self.metric, METRICS)
        check_choice("eps_mode", self.eps_mode, EPS_MODES)
        return MetricOptions(self.metric, check_number("eps", self.eps, at_least=0.0), self.eps_mode)

    def resolve(self) -> Metric:
        return _resolve_metric(self)


@lru_cache(maxsize=_MOST)
def _resolve_metric(o: MetricOptions) -> Metric:
    return Metric(kind=o.metric, eps=o.eps, clamp_eps=o.eps_mode == "clamp")


class SimilarityKeywords(LayoutKeywords, MetricKeywords, total=False):
    """Options of `cosine_similarity`."""


class LocalizationKeywords(TypedDict, Generic[Array], total=False):
    localization: str
    window_size: float | Sequence[float]
    window_shape: str
    disc_edge: str
    border: str
    outside_value: float
    sigma: float | None
    target_size: Size | Array
    target_coords: str
    output_offset: float


class LocalizationOptions(NamedTuple):
    """How scores become coordinates.

    `fixed_temperature` is None where a tensor has one for each query, `target_size` where it has one for each image.
    Checked, `window_size` is the box of a disc, and `disc_size` its own (kh, kw); else that is None.
    """

    localization: str = "window"
    window_size: int | Sequence[int] = 45
    window_shape: str = "square"
    disc_edge: str = "open"
    border: str = "shift"
    outside_value: float = -math.inf
    sigma: float | None = None
    target_size: Size = None
    target_coords: str = "corner"
    output_offset: float = 0.0
    fixed_temperature: float | None = DEFAULT_TEMPERATURE
    second_radius: int | None = None
    disc_size: Sequence[float] | None = None

    def checked(self) -> LocalizationOptions:
        check_choice("localization", self.localization, LOCALIZATIONS)
        check_choice("window_shape", self.window_shape, WINDOW_SHAPES)
        check_choice("disc_edge", self.disc_edge, DISC_EDGES)
        check_choice("border", self.border, BORDERS)
        check_choice("target_coords", self.target_coords, COORDINATES)
        if self.localization == "gaussian" and self.sigma is None:
            raise ValueError("sigma must be given, in cells, for localization 'gaussian', got None")
        box, disc = self._checked_window()
        return LocalizationOptions(
            localization=self.localization,
            window_size=box,
            window_shape=self.window_shape,
            disc_edge=self.disc_edge,
            border=self.border,
            outside_value=check_number("outside_value", self.outside_value, or_minus_infinity=True),
            sigma=None if self.sigma is None else check_number("sigma", self.sigma, above=0.0),
            target_size=check_size("target_size", self.target_size),
            target_coords=self.target_coords,
            output_offset=check_number("output_offset", self.output_offset),
            fixed_temperature=self.fixed_temperature,
            second_radius=_radius_of_second(self.second_radius),
            disc_size=disc,
        )

    def _checked_window(self) -> tuple[tuple[int, int], tuple[float, float] | None]:
        """(rows, columns) of the box, and (kh, kw) of a disc."""
        if self.window_shape != "disc":
            return check_window_size(self.window_size, "; other sizes need window_shape='disc'"), None
        height, width = (min(side, LARGEST_DISC) for side in check_disc_size(self.window_size))
        closed = self.disc_edge == "closed"
        return (disc_box(height, closed), disc_box(width, closed)), (height, width)

    def resolve(self, height: int, width: int, *, image_sizes: Any = None) -> Localization:
        """image_sizes: (B, 2) int64, contiguous, in place of `target_size`."""
        localization = _resolve_localization(self, height, width)
        return localization if image_sizes is None else dataclasses.replace(localization, image_sizes=image_sizes)


PEAK = LocalizationOptions("argmax", window_size=(1, 1), fixed_temperature=1.0)
"""The peak of scores and nothing else."""


def _radius_of_second(value: object) -> int | None:
    return None if value is None else check_whole("second_radius", value, 0, "cell", " or None")


@cached
def _resolve_localization(o: LocalizationOptions, height: int, width: int) -> Localization:
    x, y = axes(pixels_from_cells, o.target_coords, o.target_size, height, width)
    window = _window(o, height, width)
    return Localization(
        window=window,
        temperature=1.0 if o.fixed_temperature is None else o.fixed_temperature,
        from_cells_x=x,
        from_cells_y=y,
        output_offset=o.output_offset,
        coordinates=o.target_coords,
        second=_second(o, window, height, width),
    )


def _second(o: LocalizationOptions, window: Window, height: int, width: int) -> Window:
    """The cells that the second best is not one of: those within the radius, of the window, or next to the peak."""
    if o.second_radius is not None:
        reach_y, reach_x = smaller(o.second_radius, height), smaller(o.second_radius, width)
        return Window(2 * reach_y + 1, 2 * reach_x + 1, shift=False)
    if o.localization == "window":
        return window
    return Window(3, 3, shift=False)


def _window(o: LocalizationOptions, height: int, width: int) -> Window:
    if o.localization == "argmax":
        return Window(1, 1)
    if o.localization == "window":
        rows, columns = check_window_size(o.window_size)
        disc_height, disc_width = o.disc_size or (0.0, 0.0)
        shape = "closed_disc" if o.disc_size and o.disc_edge == "closed" else o.window_shape
        shift = o.border == "shift" and shape != "plus"
        return Window(rows, columns, shift, shape, disc_height, disc_width, o.outside_value)
    return Window(height, width, sigma=o.sigma or 0.0 if o.localization == "gaussian" else 0.0)


class RowsKeywords(TypedDict, Generic[Array], total=False):
    """Arrays are tensors, or those of NumPy."""

    num_keypoints: Array | None
    valid: Array | None
    target_mask: Array | None


class UpsampleKeywords(TypedDict, total=False):
    upsample: Size


class MapKeywords(
    RowsKeywords[Array],
    LocalizationKeywords[Array],
    DetailKeywords,
    CenterKeywords[Array],
    UpsampleKeywords,
    Generic[Array],
    total=False,
):
    """Options of everything that finds queries in a map of scores."""

    temperature: float | Array


class LocalizeKeywords(MapKeywords[Array], NormalizationKeywords, Generic[Array], total=False):
    """Options of `localize`."""


class DescriptorKeywords(SimilarityKeywords, MapKeywords[Array], ScoreKeywords, Generic[Array], total=False):
    """Options of `match_descriptors`."""


class DenseKeywords(LayoutKeywords, MetricKeywords, LocalizationKeywords[Array], Generic[Array], total=False):
    """Options of `dense_match`."""

    source_shape: Size
    source_size: Size | Array
    source_coords: str
    target_mask: Array | None
    temperature: float | Array


class MatchKeywords(
    SamplingKeywords[Array], InterpolationKeywords, DescriptorKeywords[Array], Generic[Array], total=False
):
    """Options of `sparse_window_match`."""

    source_shape: Size


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(RowsKeywords.__annotations__),
    **LayoutOptions._field_defaults,
    **SamplingOptions._field_defaults,
    **InterpolationOptions._field_defaults,
    **MetricOptions._field_defaults,
    **LocalizationOptions._field_defaults,
    "kernel_size": 1,
    "temperature": DEFAULT_TEMPERATURE,
    **DEFAULTS,
    "upsample": None,
}


def with_options(keywords: type[Any], array: Any = None) -> Callable[[Function], Function]:
    """`show_options` of one of the TypedDicts above; `array`: what `Array` stands for in it."""
    return show_options(keywords, _DEFAULTS, array)


def pick(group: type[Record], given: Mapping[str, Any]) -> Record:
    """The record of those keyword arguments that belong to a group, a NamedTuple; the others have their defaults."""
    defaults: dict[str, Any] = group._field_defaults  # type: ignore[attr-defined]
    return group(*[given.get(name, default) for name, default in defaults.items()])
