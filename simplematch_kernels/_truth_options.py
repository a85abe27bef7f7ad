"""The options of the cross entropy with a true point, beside those that `_options.py` has for every function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypedDict

from ._check_options import check_choice, check_number, check_size, check_whole
from ._options import (
    COORDINATES,
    DEFAULT_TEMPERATURE,
    Array,
    RowsKeywords,
    SamplingKeywords,
    SimilarityKeywords,
    Size,
    axes,
    cached,
    pick,
)
from ._resolved import Truth, cells_from_pixels, smaller

REDUCTIONS = ("mean", "sum", "none")


class TruthKeywords(TypedDict, Generic[Array], total=False):
    kernel_size: int
    sigma: float | None
    target_size: Size | Array
    target_coords: str


class TruthOptions(NamedTuple):
    """The distribution round a true point. `fixed_temperature` is None where a tensor has one for each query."""

    kernel_size: int = 1
    sigma: float | None = None
    target_size: Size = None
    target_coords: str = "corner"
    fixed_temperature: float | None = DEFAULT_TEMPERATURE

    def checked(self) -> TruthOptions:
        check_choice("target_coords", self.target_coords, COORDINATES)
        return TruthOptions(
            kernel_size=check_whole("kernel_size", self.kernel_size, 1, "cell"),
            sigma=None if self.sigma is None else check_number("sigma", self.sigma, above=0.0),
            target_size=check_size("target_size", self.target_size),
            target_coords=self.target_coords,
            fixed_temperature=self.fixed_temperature,
        )

    def resolve(self, height: int, width: int) -> Truth:
        return _resolve_truth(self, height, width)


@cached
def _resolve_truth(o: TruthOptions, height: int, width: int) -> Truth:
    x, y = axes(cells_from_pixels, o.target_coords, o.target_size, height, width)
    return Truth(
        to_cells_x=x,
        to_cells_y=y,
        kernel_size=smaller(o.kernel_size, 2 * (height + width)),  # which covers the map from any cell
        sigma=max(1, o.kernel_size // 2) / 2 if o.sigma is None else o.sigma,
        temperature=1.0 if o.fixed_temperature is None else o.fixed_temperature,
    )


class DescriptorsCrossEntropyKeywords(
    SimilarityKeywords, TruthKeywords[Array], RowsKeywords[Array], Generic[Array], total=False
):
    """Options of `match_descriptors_cross_entropy`."""

    temperature: float | Array


class CrossEntropyKeywords(
    SamplingKeywords[Array], DescriptorsCrossEntropyKeywords[Array], Generic[Array], total=False
):
    """Options of `sparse_match_cross_entropy`."""

    source_shape: Size


def truth_options(options: Mapping[str, Any], temperature: float | None) -> TruthOptions:
    """Those of a call, checked, with its temperature if that is a number."""
    return pick(TruthOptions, {**options, "fixed_temperature": temperature}).checked()
