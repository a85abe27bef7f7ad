"""Augmentation: keypoints follow the pixels, and results depend only on the seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from simplematch._torchvision import tv_tensors
from simplematch.configs import recipe
from simplematch.data import PairInfo, PairSample, PairTransform
from simplematch.data.photometric import photometric
from simplematch.data.transforms import crop_around

DOTS = torch.tensor([[30.5, 20.5], [90.5, 60.5], [60.5, 85.5], [45.5, 50.5]], dtype=torch.float64)
COLOURS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]])
SIZE = (100, 120)


def dotted_sample(category: str = "cat", mark: int = 0) -> PairSample:
    """Coloured squares around the keypoints on black."""
    images = []
    for i in range(2):
        image = torch.zeros(3, *SIZE, dtype=torch.uint8)
        for (x, y), colour in zip(DOTS.long().tolist(), COLOURS, strict=True):
            image[:, y - 4 : y + 5, x - 4 : x + 5] = colour[:, None, None]
        image[:, 0, 0] = mark + i
        images.append(tv_tensors.Image(image))
    points = [tv_tensors.KeyPoints(DOTS, canvas_size=SIZE) for _ in range(2)]
    box = (20.0, 10.0, 100.0, 95.0)
    keypoints = DOTS.numpy()
    paths = (Path("a"), Path("b"))
    info = PairInfo("pair", category, *paths, SIZE, SIZE, box, box, keypoints, keypoints)
    return PairSample(info, *images, *points)


PLAIN = PairTransform(96, mean=(0, 0, 0), std=(1, 1, 1))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colours_at(image: Tensor, points: Tensor) -> Tensor:
    x, y = points.long().unbind(-1)
    return image[:, y, x].T


def test_squash_scales_each_axis() -> None:
    result = PLAIN(dotted_sample())
    assert result.source.shape == (3, 96, 96) and result.source.dtype == torch.float32
    torch.testing.assert_close(result.source_keypoints, (DOTS * torch.tensor([96 / 120, 96 / 100])).float())
    assert type(result.source) is Tensor and type(result.source_keypoints) is Tensor


def test_normalisation() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain, normal = PLAIN(dotted_sample()).source, PairTransform(96, mean, std)(dotted_sample()).source
    expected = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(normal, expected)


@pytest.mark.parametrize(
    "change",
    [{"crop": 1.0}, {"rotate": 1.0}, {"affine": 1.0}, {"hflip": 1.0}, {"crop": 1.0, "rotate": 1.0, "affine": 1.0}],
)
@pytest.mark.parametrize("category", ["cat", "bottle"])
def test_pixels_follow_the_keypoints(change: dict[str, float], category: str) -> None:
    transform = replace(PLAIN, **change)
    moved = 0.0
    for seed in range(20):
        result = transform(dotted_sample(category), generator(seed))
        for image, points in (
            (result.source, result.source_keypoints),
            (result.target, result.target_keypoints),
        ):
            inside = ((points > 1) & (points < 95)).all(-1)
            kept = colours_at(image, points)[inside]
            distance = (kept[:, None] - COLOURS[None] / 255).abs().amax(-1)
            assert (distance.amin(1) < 0.3).all(), seed  # a point still lies on a coloured square
            assert (distance.argmin(1).unique(return_counts=True)[1] == 1).all(), seed  # each on its own
            moved += float((points[0] - DOTS[0].float() * torch.tensor([0.8, 0.96])).abs().sum())
    assert moved > 20


def test_crop_keeps_box_and_points() -> None:
    points = tv_tensors.KeyPoints(DOTS, canvas_size=SIZE)
    crops = {crop_around(points, (40.0, 5.0, 110.0, 70.0), generator(seed)) for seed in range(200)}
    for top, left, height, width in crops:
        assert 0 <= top <= 5 and 0 <= left <= 30
        assert 86 <= top + height <= 100 and 110 <= left + width <= 120
    assert len(crops) > 100


def test_rotation_angles_and_sides() -> None:
    transform = replace(PLAIN, rotate=1.0)
    plain = PLAIN(dotted_sample())
    sides = {"source": 0, "target": 0, "both": 0}
    largest = {"cat": 0.0, "bottle": 0.0}
    for category in largest:
        for seed in range(40):
            result = transform(dotted_sample(category), generator(seed))
            if len(result.source_keypoints) < len(DOTS):
                continue  # a corner point is outside the image
            turned = [not torch.equal(getattr(result, s), getattr(plain, s)) for s in ("source", "target")]
            sides["both" if all(turned) else "source" if turned[0] else "target"] += 1
            before, after = (p[0] - p[2] for p in (plain.source_keypoints, result.source_keypoints))
            cosine = torch.nn.functional.cosine_similarity(before, after, dim=0).clamp(-1, 1)
            largest[category] = max(largest[category], float(cosine.arccos().rad2deg()))
    assert min(sides.values()) > 5
    assert 20 < largest["cat"] <= 30.01 < 120 < largest["bottle"]


def test_points_that_leave_are_dropped_from_both() -> None:
    sample = dotted_sample("bottle")
    corner = torch.cat((DOTS, torch.tensor([[6.0, 6.0]])))
    points = tv_tensors.KeyPoints(corner, canvas_size=SIZE)
    sample = replace(sample, source_keypoints=points, target_keypoints=points)
    results = [replace(PLAIN, rotate=1.0)(sample, generator(seed)) for seed in range(40)]
    assert {len(result.source_keypoints) for result in results} >= {4, 5}
    for result in results:
        assert len(result.source_keypoints) == len(result.target_keypoints)
        for points in (result.source_keypoints, result.target_keypoints):
            assert ((points >= 0) & (points < 96)).all()


def test_swap() -> None:
    sample = dotted_sample(mark=7)
    result = replace(PLAIN, swap=1.0)(sample, generator(0))
    assert result.info.source_path == Path("b") and result.info.target_path == Path("a")
    torch.testing.assert_close(result.source, PLAIN(sample).target)
    assert recipe("ibot-pf-pascal-256")["swap"] == 0.5 and recipe("ibot-spair-256").get("swap", 0) == 0


def test_keypoints_are_thinned_to_a_sorted_subset() -> None:
    result = replace(PLAIN, max_keypoints=2)(dotted_sample(), generator(1))
    full = PLAIN(dotted_sample())
    rows = [full.source_keypoints.tolist().index(point) for point in result.source_keypoints.tolist()]
    assert len(rows) == 2 and rows == sorted(rows)
    torch.testing.assert_close(result.target_keypoints, full.target_keypoints[rows])


def test_a_seed_decides_everything() -> None:
    transform = PairTransform(64, max_keypoints=40, crop=0.5, rotate=0.5, photometric=1.0, swap=0.5)
    a, b, c = (transform(dotted_sample(), generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(a.source, b.source) and torch.equal(a.target_keypoints, b.target_keypoints)
    assert not torch.equal(a.source, c.source)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    transform(dotted_sample(), generator(7))
    assert torch.equal(before, torch.random.get_rng_state())  # the global generator is unchanged
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator"):
        transform(dotted_sample())


def test_photometric_probabilities() -> None:
    noise = torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8, generator=generator(0))
    unchanged = sum(torch.equal(photometric(noise, 1.0, generator(seed)), noise) for seed in range(400)) / 400
    assert abs(unchanged - 0.9 * 0.8**6) < 0.07
    changed = photometric(noise, 5.0, generator(3))
    assert changed.dtype == torch.uint8 and changed.shape == noise.shape and not torch.equal(changed, noise)
    grays = sum(bool((photometric(noise, 1.0, generator(s)).float().std(0) == 0).all()) for s in range(400)) / 400
    assert abs(grays - 0.1) < 0.05
    assert np.isfinite(changed.float().mean().item())
