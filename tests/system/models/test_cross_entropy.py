"""The cross entropy of every scale, against plain PyTorch, over pairs and groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from simplematch.models import SimpleMatch
from simplematch.training.losses import GroupLosses, PairLosses

from .test_match_groups import COUNT, NAME, SIZE, group
from .tiny import pair, tiny_model

GAUSSIAN = {"kernel_size": 3, "sigma": 0.8}


def by_hand(model: SimpleMatch, source: Tensor, target: Tensor, points: Tensor, truth: Tensor, index: int) -> Tensor:
    """The loss (B, N) of one scale: log-softmax over all cells, a Gaussian on 3 x 3 of them."""
    matcher, level, size = model._matcher(index), model.config.levels[index], model.image_size
    maps = [matcher.project(x[level]) for x in model._decode_pair(source, target)]
    height, width = maps[1].shape[-2:]
    unit = [torch.nn.functional.normalize(x, dim=1) for x in maps]
    cells = (points * width / size).long().clamp(0, width - 1)
    rows = torch.stack([unit[0][b, :, cells[b, :, 1], cells[b, :, 0]].T for b in range(len(points))])
    log_probability = (rows @ unit[1].flatten(2) / model.config.temperature).log_softmax(-1)
    centre = (truth * width / size).clamp(0, width - 1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack((x, y), -1).flatten(0, 1)
    near = ((grid - centre.round()[:, :, None]).abs() <= 1).all(-1)
    squared = (grid - centre[:, :, None]).square().sum(-1)
    gaussian = torch.where(near, torch.exp(-squared / (2 * 0.8**2)), 0.0)
    return -(gaussian / gaussian.sum(-1, keepdim=True) * log_probability).sum(-1)


@pytest.mark.parametrize("name", [NAME, "dinov2-b14-252"])
@pytest.mark.parametrize("matching", ["fused", "dense"])
def test_every_scale_has_its_cross_entropy(name: str, matching: str) -> None:
    model = tiny_model(name, matching=matching).eval()
    source, target, points, counts = pair(model.image_size)
    truth = points.flip(1)
    losses = PairLosses(model, GAUSSIAN)(source, target, points, truth, counts)
    assert len(losses) == len(model.config.levels)
    valid = torch.arange(points.shape[1]) < counts[:, None]
    for i, loss in enumerate(losses):
        expected = by_hand(model, source, target, points, truth, i)
        torch.testing.assert_close(loss, expected[valid].mean(), atol=1e-3, rtol=1e-4)
    torch.stack(losses).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)
    assert all(g is None or g.isfinite().all() for g in gradients)


def test_a_group_is_all_its_pairs() -> None:
    model = tiny_model(NAME).eval()
    images, keypoints, visible = group()
    found = GroupLosses(model, gaussian=GAUSSIAN)(images, keypoints, visible)
    for i, loss in enumerate(found):
        each: list[Tensor] = []
        for s, t in ((s, t) for s in range(COUNT) for t in range(COUNT) if s != t):
            seen = visible[:, s] & visible[:, t]
            points, truth = keypoints[:, s].clamp(0, SIZE - 1), keypoints[:, t]
            each.append(by_hand(model, images[:, s], images[:, t], points, truth, i)[seen])
        torch.testing.assert_close(loss, torch.cat(each).mean(), atol=1e-3, rtol=1e-4)


def test_contrast_belongs_to_the_distance() -> None:
    with pytest.raises(ValueError, match=r"contrast must be 0 for a cross entropy, got 1\.0"):
        GroupLosses(tiny_model(NAME), contrast=1.0, gaussian=GAUSSIAN)
