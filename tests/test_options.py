"""Every pixel/cell convention is one rational affine map, and each map has its inverse."""

from __future__ import annotations

from fractions import Fraction

import pytest

from simplematch_kernels._options import COORDINATES
from simplematch_kernels._resolved import AffineMap, Window, cells_from_pixels, pixels_from_cells


def apply(affine: AffineMap, x: Fraction) -> Fraction:
    return (x * affine.numerator + affine.shift) / affine.denominator


@pytest.mark.parametrize("cells", [2, 18, 63])
@pytest.mark.parametrize("pixels", [2, 63, 252, 255])
def test_conventions(cells: int, pixels: int) -> None:
    half = Fraction(1, 2)
    for x in (Fraction(0), Fraction(7, 3), Fraction(pixels - 1)):
        scale = Fraction(cells, pixels)
        assert apply(cells_from_pixels("corner", cells, pixels), x) == x * scale
        assert apply(cells_from_pixels("half_pixel", cells, pixels), x) == (x + half) * scale - half
        assert apply(cells_from_pixels("align_corners", cells, pixels), x) == x * Fraction(cells - 1, pixels - 1)
        for coords in COORDINATES:
            cell = apply(cells_from_pixels(coords, cells, pixels), x)
            assert apply(pixels_from_cells(coords, cells, pixels), cell) == x


def test_a_side_of_one_has_no_corners_to_align() -> None:
    assert apply(cells_from_pixels("align_corners", 7, 1), Fraction(0)) == 0
    assert apply(pixels_from_cells("align_corners", 1, 7), Fraction(5)) == 0


def test_integer_pixels_fall_on_exact_cells() -> None:
    """A scale rounded first would put pixel 49 of 1/49 a hair below cell 1."""
    for pixels in range(1, 300):
        affine = cells_from_pixels("corner", 1, pixels)
        assert (float(pixels) * affine.numerator + affine.shift) / affine.denominator == 1.0


def test_box_is_cut_to_the_map() -> None:
    window = Window(45, 3)
    assert window.box(20, 30) == (20, 3)
