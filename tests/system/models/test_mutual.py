"""Mutual nearest neighbours of a few cells are those of all cells."""

from __future__ import annotations

import torch

from simplematch.models.mutual import mutual_cells
from simplematch_kernels import match_all


def test_mutual_cells_are_those_of_match_all() -> None:
    torch.manual_seed(0)
    source, target = torch.randn(2, 1, 8, 6, 7)
    cells = torch.arange(42)[None]
    expected = match_all(source, target).mutual
    assert 0 < expected.sum() < 42
    assert (mutual_cells(source, target, cells) == expected).all()
