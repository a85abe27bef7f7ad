"""Groups of images: every pair of a group gives the same result as alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from simplematch.training.losses import GroupLosses

from .tiny import tiny_model

NAME, SIZE, COUNT = "efficientnet-lite0-256", 64, 3


def group() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two groups of three images with four keypoints, some of them invisible."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(2, COUNT, 3, SIZE, SIZE, generator=generator)
    keypoints = SIZE * torch.rand(2, COUNT, 4, 2, generator=generator)
    visible = torch.rand(2, COUNT, 4, generator=generator) < 0.8
    return images, keypoints.masked_fill(~visible[..., None], -1.0), visible


@pytest.mark.parametrize("matching", ["fused", "sparse"])
def test_a_group_is_all_its_pairs(matching: str) -> None:
    model = tiny_model(NAME, matching=matching).eval()
    images, keypoints, visible = group()
    levels = model.match_groups(images, keypoints)
    for source in range(COUNT):
        for target in range(COUNT):
            pairs = model.match_levels(images[:, source], images[:, target], keypoints[:, source])
            seen = visible[:, source]
            for level, expected in zip(levels, pairs, strict=True):
                found = level.matches.keypoints[:, target, source]
                torch.testing.assert_close(found[seen], expected.keypoints[seen], atol=1e-3, rtol=1e-4)


def test_log_probability_is_of_the_true_cell() -> None:
    """At the coarsest level, it is the softmax of the cosines over all cells, at the target's own keypoint."""
    model = tiny_model(NAME).eval()
    images, keypoints, visible = group()
    (coarse, *others) = model.match_groups(images, keypoints)
    assert coarse.log_probability is not None and all(level.log_probability is None for level in others)
    maps = model._decode(images.flatten(0, 1))[0]
    projected = model._matcher(0).project(maps).unflatten(0, images.shape[:2])  # (B, G, C, 4, 4)
    unit = torch.nn.functional.normalize(projected, dim=2).flatten(3)
    cells = (keypoints * 4 / SIZE).long().clamp(0, 3)
    flat = cells[..., 1] * 4 + cells[..., 0]
    for b, t, s, p in torch.cartesian_prod(*[torch.arange(n) for n in coarse.log_probability.shape]).tolist():
        if visible[b, t, p] and visible[b, s, p]:
            scores = unit[b, s, :, flat[b, s, p]] @ unit[b, t] / model.config.temperature
            expected = scores.log_softmax(0)[flat[b, t, p]]
            torch.testing.assert_close(coarse.log_probability[b, t, s, p], expected, atol=1e-3, rtol=1e-4)


def test_the_loss_is_the_mean_over_pairs_that_see_the_point() -> None:
    model = tiny_model(NAME).eval()
    images, keypoints, visible = group()
    levels = model.match_groups(images, keypoints)
    distances: list[list[float]] = [[] for _ in levels]
    for b, t, s, p in torch.cartesian_prod(*[torch.arange(n) for n in (2, COUNT, COUNT, 4)]).tolist():
        if t != s and visible[b, t, p] and visible[b, s, p]:
            for found, level in zip(distances, levels, strict=True):
                found.append((level.matches.keypoints[b, t, s, p] - keypoints[b, t, p]).norm().item())
    losses = GroupLosses(model, contrast=2.0)(images, keypoints, visible)
    for loss, found in zip(losses, distances, strict=False):
        assert loss.item() == pytest.approx(sum(found) / len(found), rel=1e-5)
    assert len(losses) == len(levels) + 1 and losses[-1] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, k: m.match_groups(x[0], k), r"images must be \(B, G, 3, H, W\)"),
        (lambda m, x, k: m.match_groups(x, k[:1]), "with the same B and G"),
    ],
)
def test_wrong_groups(call: Callable[..., object], message: str) -> None:
    images, keypoints, _ = group()
    with pytest.raises(ValueError, match=message):
        call(tiny_model(NAME), images, keypoints)


def test_contrast_needs_a_scale_that_sees_the_whole_map() -> None:
    model = tiny_model(NAME, levels=(2,), windows=(5,))
    with pytest.raises(ValueError, match=r"windows must have None for a scale if contrast is set, got \(5,\)"):
        GroupLosses(model, contrast=1.0)


def test_dense_matching_takes_no_groups() -> None:
    images, keypoints, _ = group()
    with pytest.raises(ValueError, match='matching must be "fused" or "sparse" for groups of images, got \'dense\''):
        tiny_model(NAME, matching="dense").match_groups(images, keypoints)
