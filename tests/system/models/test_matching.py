"""The four matching variants give the same results and gradients."""

from __future__ import annotations

import pytest
import torch

from simplematch.models.config import MATCHING
from simplematch.models.matching import KeypointMatcher
from simplematch_kernels import Matches

SIZE = 48


def _inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    source, target = torch.randn(2, 2, 6, 9, 12, generator=generator, dtype=torch.float64)
    keypoints = SIZE * torch.rand(2, 7, 2, generator=generator, dtype=torch.float64)
    keypoints[0, 0], keypoints[0, 1] = torch.tensor([0.0, 0.0]), torch.tensor([SIZE, SIZE])  # clamped to the last cell
    return source.requires_grad_(), target.requires_grad_(), keypoints, torch.tensor([7, 4])


def _matcher(matching: str, window: int | None) -> KeypointMatcher:
    torch.manual_seed(4)
    return KeypointMatcher(6, window, 0.1, matching).double()


def _run(matching: str, window: int | None) -> tuple[Matches, list[torch.Tensor]]:
    source, target, keypoints, counts = _inputs()
    matcher = _matcher(matching, window)
    matches: Matches = matcher(source, target, keypoints, counts, SIZE)
    weights = torch.linspace(-1, 1, matches.keypoints.numel(), dtype=torch.float64).view_as(matches.keypoints)
    loss = (matches.keypoints * weights).sum() + matches.score.sum() + 0.1 * matches.log_sum_exp.sum()
    return matches, list(torch.autograd.grad(loss, [source, target, *matcher.parameters()]))


@pytest.mark.parametrize("window", [None, 1, 4, 5, 10, 45])
@pytest.mark.parametrize("matching", [x for x in MATCHING if x != "fused"])
def test_switches_agree(matching: str, window: int | None) -> None:
    expected, expected_gradients = _run("fused", window)
    matches, gradients = _run(matching, window)
    for x, y in zip(matches, expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-8)
    for x, y in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("matching", MATCHING)
def test_projected_maps_give_the_same_answer(matching: str) -> None:
    source, target, keypoints, counts = _inputs()
    matcher = _matcher(matching, 5)
    expected = matcher(source, target, keypoints, counts, SIZE)
    matches = matcher.match(matcher.project(source), matcher.project(target), keypoints, counts, SIZE)
    for x, y in zip(matches, expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-8)


def test_without_counts_every_row_is_valid() -> None:
    source, target, keypoints, _ = _inputs()
    for matching in MATCHING:
        matches = _matcher(matching, 5)(source, target, keypoints, None, SIZE)
        assert (matches.keypoints >= 0).all()
        assert (matches.peak >= 0).all()


def test_sparse_matching_keeps_less_than_dense() -> None:
    """Count the elements saved for the backward, as in Table 11 of the paper."""
    kept = {matching: _kept_elements(matching) for matching in MATCHING}
    assert kept["dense"] > kept["dense-window"] > kept["sparse"] > kept["fused"]


def _kept_elements(matching: str) -> int:
    source, target, keypoints, counts = _inputs()
    matcher = _matcher(matching, 5)
    sizes: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        matches = matcher(source, target, keypoints, counts, SIZE)
    total = sum(sizes.values())
    assert matches.keypoints.requires_grad  # keeps the graph and its saved tensors alive
    return total
