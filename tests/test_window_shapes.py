"""Which cells a window has: listed by hand, against distances, and in the box that keeps their scores."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

import simplematch_kernels as smk
from simplematch_kernels import _native
from simplematch_kernels._options import LocalizationOptions

from .samples import DEVICE

FULL = ["#####"] * 5
ROUND = [".###.", "#####", "#####", "#####", ".###."]  # d^2 <= 5
DIAMOND = ["..#..", ".###.", "#####", ".###.", "..#.."]  # d <= 2
SQUARE = [".....", ".###.", ".###.", ".###.", "....."]  # d^2 <= 2
CROSS = [".....", "..#..", ".###.", "..#..", "....."]  # d <= 1
ALONE = [".....", ".....", "..#..", ".....", "....."]
DISC, CLOSED = {"window_shape": "disc"}, {"window_shape": "disc", "disc_edge": "closed"}
PLUS = {"window_shape": "plus"}

CELLS: list[tuple[dict[str, Any], list[str]]] = [
    ({"window_size": 5}, FULL),
    ({"window_size": 5, **DISC}, ROUND),
    ({"window_size": 5.0, "border": "shrink", **DISC}, ROUND),
    ({"window_size": 5, **CLOSED}, ROUND),
    ({"window_size": 4, **DISC}, SQUARE),
    ({"window_size": 4, **CLOSED}, DIAMOND),
    ({"window_size": 4.5, **DISC}, ROUND),
    ({"window_size": 4.5, **CLOSED}, ROUND),
    ({"window_size": 3.5, **DISC}, SQUARE),
    ({"window_size": 2, **DISC}, ALONE),
    ({"window_size": 2, **CLOSED}, CROSS),
    ({"window_size": 2.5, **DISC}, CROSS),
    ({"window_size": 1, **CLOSED}, ALONE),
    ({"window_size": 1.9, **CLOSED}, ALONE),
    # r = k / 2 is a root, which no float is
    ({"window_size": 2 * math.sqrt(2), **DISC}, CROSS),
    ({"window_size": 2 * math.sqrt(2), **CLOSED}, SQUARE),
    ({"window_size": 2 * math.sqrt(5), **DISC}, DIAMOND),
    ({"window_size": 2 * math.sqrt(5), **CLOSED}, ROUND),
    # ellipses, with cells on their edges
    ({"window_size": (3, 5), **DISC}, [".....", ".###.", "#####", ".###.", "....."]),
    ({"window_size": (2, 4), **DISC}, [".....", ".....", ".###.", ".....", "....."]),
    ({"window_size": (2, 4), **CLOSED}, [".....", "..#..", "#####", "..#..", "....."]),
    ({"window_size": (4.0, 2.5), **CLOSED}, ["..#..", ".###.", ".###.", ".###.", "..#.."]),
    ({"window_size": (4.0, 2), **CLOSED}, ["..#..", "..#..", ".###.", "..#..", "..#.."]),
    ({"window_size": 3, **PLUS}, CROSS),
    ({"window_size": 3, "border": "shrink", **PLUS}, CROSS),
    ({"window_size": 5, **PLUS}, ["..#..", "..#..", "#####", "..#..", "..#.."]),
    ({"window_size": 4, **PLUS}, ["..#..", "..#..", "####.", "..#..", "....."]),
    ({"window_size": (4, 1), **PLUS}, ["..#..", "..#..", "..#..", "..#..", "....."]),
    ({"window_size": 1, **PLUS}, ALONE),
]


def support(peak: tuple[int, int], size: tuple[int, int], backend: str, **options: Any) -> torch.Tensor:
    """The cells of a map whose score moves the log-sum-exp."""
    scores = torch.zeros(1, 1, *size, dtype=torch.float64, device=DEVICE)
    scores[0, 0, peak[0], peak[1]] = 0.1
    scores.requires_grad_()
    found = smk.localize(scores, temperature=1.0, **options, backend=backend)
    (gradient,) = torch.autograd.grad(found.log_sum_exp.sum(), scores)
    cells = gradient[0, 0] != 0
    assert found.log_sum_exp.item() == pytest.approx(math.log(int(cells.sum()) - 1 + math.exp(0.1)), rel=1e-12)
    return cells.cpu()


def drawn(picture: list[str]) -> torch.Tensor:
    return torch.tensor([[cell == "#" for cell in row] for row in picture])


@pytest.mark.parametrize(("options", "picture"), CELLS, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_cells_by_hand(options: dict[str, Any], picture: list[str], backend: str) -> None:
    """Amid a map, and in its corner, where all shapes but the square stay round the peak."""
    expected = torch.zeros(9, 11, dtype=torch.bool)
    expected[2:7, 3:8] = drawn(picture)
    assert torch.equal(support((4, 5), (9, 11), backend, **options), expected)
    if "window_shape" in options:
        corner = support((0, 0), (9, 11), backend, **options)
        assert torch.equal(corner[:3, :3], drawn(picture)[2:, 2:]) and corner[:3, :3].sum() == corner.sum()


@pytest.mark.parametrize("edge", ["open", "closed"])
def test_discs_are_distances(edge: str, backend: str) -> None:
    """d < r or d <= r for the roots of whole numbers and of sums of their halves, in exact arithmetic."""
    for r in [
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        4.0,
        5.0,
        6.5,
        7.25,
        *(math.sqrt(d) for d in (2, 5, 8, 10, 13, 17, 18, 20, 25, 41)),
    ]:
        square = Fraction(r) ** 2
        if abs(square - round(square)) < 1e-9:  # the root of a whole number
            square = Fraction(round(square))
        y, x = torch.meshgrid(torch.arange(17) - 8, torch.arange(19) - 9, indexing="ij")
        squares = (x**2 + y**2).flatten().tolist()
        inside = [d < square if edge == "open" else d <= square for d in squares]
        found = support((8, 9), (17, 19), backend, window_size=2 * r, window_shape="disc", disc_edge=edge)
        assert found.flatten().tolist() == inside, r


def test_large_discs_have_a_whole_map(backend: str) -> None:
    for size in (1e3, 2.0**40, 1e300, (1e18, 200)):
        for edge in ("open", "closed"):
            options = {"window_size": size, "window_shape": "disc", "disc_edge": edge}
            assert support((3, 4), (7, 9), backend, **options).all()


def test_ellipses_of_large_maps(backend: str) -> None:
    """Cells on the edge of an ellipse of hundreds of cells: (3/5, 4/5) of its half axes."""
    for edge, on_edge in (("open", False), ("closed", True)):
        found = support((60, 40), (121, 81), backend, window_size=(100, 70), window_shape="disc", disc_edge=edge)
        for y, x in ((30, 28), (40, 21), (50, 0), (0, 35)):
            assert {bool(found[60 + i * y, 40 + j * x]) for i in (-1, 1) for j in (-1, 1)} == {on_edge}
            assert found[60 + max(0, y - 1), 40 + max(0, x - 1)]
        assert not found[60 + 31, 40 + 28] and not found[60 + 30, 40 + 29]


@pytest.mark.parametrize(
    ("options", "box"),
    [
        ({"window_size": 5.5, **DISC}, (5, 5)),
        ({"window_size": 4, **DISC}, (3, 3)),
        ({"window_size": 4, **CLOSED}, (5, 5)),
        ({"window_size": (6.0, 3.9), **DISC}, (5, 3)),
        ({"window_size": 2 * math.sqrt(2), **CLOSED}, (3, 3)),
        ({"window_size": (4, 3), **PLUS}, (4, 3)),
        ({"window_size": 40.5, **CLOSED}, (7, 9)),
    ],
    ids=str,
)
def test_the_box_covers_the_shape(options: dict[str, Any], box: tuple[int, int]) -> None:
    assert LocalizationOptions(**options).checked().resolve(7, 9).window.box(7, 9) == box


FALLING = ((4, 6), (4, 7), (3, 7), (4, 8), (1, 1))
"""The peak, a cell beside it, one across its corner, one two cells away and one far from it: the best cells in turn."""


@pytest.mark.parametrize(
    ("options", "second"),
    [
        ({"window_size": 3}, 3),
        ({"window_size": 3, **PLUS}, 2),
        ({"window_size": 5, **PLUS}, 2),
        ({"window_size": 2.5, **DISC}, 2),
        ({"window_size": 3, **DISC}, 3),
        ({"window_size": 2 * math.sqrt(2), **DISC}, 2),
        ({"window_size": 2 * math.sqrt(2), **CLOSED}, 3),
        ({"window_size": 4, **CLOSED}, 4),
    ],
    ids=str,
)
def test_the_second_best_lies_outside_the_shape(options: dict[str, Any], second: int, backend: str) -> None:
    scores = torch.zeros(1, 1, 9, 11, device=DEVICE)
    for i, (y, x) in enumerate(FALLING):
        scores[0, 0, y, x] = 5 - i
    found = smk.localize(scores, **options, return_second=True, backend=backend)
    assert found.second_peak is not None and found.second_score is not None
    assert found.peak.item() == 4 * 11 + 6
    assert found.second_peak.item() == FALLING[second][0] * 11 + FALLING[second][1]
    assert found.second_score.item() == 5 - second


@pytest.mark.parametrize(("options", "picture"), CELLS, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_shapes_round_given_points(options: dict[str, Any], picture: list[str], backend: str) -> None:
    """Between cells too, the samples whose whole offsets from the point are those of the shape."""
    scores = torch.zeros(1, 1, 9, 11, dtype=torch.float64, device=DEVICE)
    for point in ((5.0, 4.0), (5.3, 4.1), (4.9999, 3.7)):
        center = torch.tensor([[point]], dtype=torch.float64, device=DEVICE)
        found = smk.localize(scores, center=center, temperature=1.0, **options, backend=backend)
        assert found.log_sum_exp.item() == pytest.approx(math.log(int(drawn(picture).sum())), abs=1e-12)


def test_descriptors_find_what_localize_finds(backend: str) -> None:
    """The kept scores of windows are laid out by their box: the backward of a match reads them."""
    generator = torch.Generator().manual_seed(0)
    descriptors, target = (
        torch.randn(s, generator=generator, dtype=torch.float64).to(DEVICE) for s in ((2, 6, 5), (2, 5, 8, 9))
    )
    for options, _ in CELLS[::3]:
        gradients = []
        for through_scores in (False, True):
            q, f = descriptors.clone().requires_grad_(), target.clone().requires_grad_()
            if through_scores:
                found = smk.localize(
                    smk.cosine_similarity(q, f, backend=backend), **options, temperature=0.3, backend=backend
                )
            else:
                found = smk.match_descriptors(q, f, **options, temperature=0.3, backend=backend)
            gradients.append(torch.autograd.grad(found.keypoints.sin().sum() + found.log_sum_exp.sum(), (q, f)))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.skipif(_native.why_not() is not None, reason="there is no compiled module")
def test_codes_have_the_names_of_shapes() -> None:
    codes = _native.load().CODES
    assert [codes[name] for name in ("square", "plus", "disc", "closed_disc")] == [0, 1, 2, 3]
