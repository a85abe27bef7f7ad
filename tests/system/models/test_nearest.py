"""The untrained matchers against a direct computation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simplematch.models import NEAREST_PRESETS, NearestNeighbour
from simplematch.models.nearest import NearestConfig

from .tiny import pair


@pytest.fixture(scope="module", params=["efficientnet-lite0", "dinov2-s14"])
def matcher(request: pytest.FixtureRequest) -> NearestNeighbour:
    torch.manual_seed(0)
    if request.param == "dinov2-s14":
        return NearestNeighbour(NearestConfig("vit_small_patch14_dinov2", 1, image_size=84))
    return NearestNeighbour(NearestConfig("tf_efficientnet_lite0", None, image_size=96))


def test_answers_are_those_of_the_definition(matcher: NearestNeighbour) -> None:
    source, target, keypoints, counts = pair(matcher.image_size)
    rows = matcher.encode(torch.cat((source, target)))
    matches = matcher.match_features(rows[:2], rows[2:], keypoints, counts)
    with torch.no_grad():
        maps = matcher._features(torch.cat((source, target)))
    scores = _cosines(maps[:2], maps[2:], keypoints, matcher.image_size)
    best, cell = scores.flatten(2).max(-1)
    side = matcher.image_size // 4
    expected = torch.stack((cell % side + 0.5, cell // side + 0.5), -1) * 4
    for b, count in enumerate(counts.tolist()):
        torch.testing.assert_close(matches.score[b, :count], best[b, :count], atol=1e-5, rtol=0)
        torch.testing.assert_close(matches.keypoints[b, :count], expected[b, :count])
        assert (matches.keypoints[b, count:] == -1).all()


def _cosines(source: Tensor, target: Tensor, keypoints: Tensor, size: int) -> Tensor:
    """Compute scores (B, N, S/4, S/4) of bilinear queries and the upsampled normalised target."""
    grid = (keypoints + 0.5) * 2 / size - 1
    queries = F.grid_sample(source, grid[:, :, None], align_corners=False, padding_mode="border")[..., 0]
    upsampled = F.interpolate(F.normalize(target, dim=1), (size // 4, size // 4), mode="bilinear")
    return torch.einsum("bcn,bchw->bnhw", F.normalize(queries, dim=1), F.normalize(upsampled, dim=1))


def test_forward_is_encode_and_match(matcher: NearestNeighbour) -> None:
    source, target, keypoints, counts = pair(matcher.image_size)
    expected = matcher.match_features(matcher.encode(source), matcher.encode(target), keypoints, counts)
    assert all(torch.equal(x, y) for x, y in zip(matcher(source, target, keypoints, counts), expected, strict=True))


def test_an_image_matches_itself(matcher: NearestNeighbour) -> None:
    source = pair(matcher.image_size)[0]
    centres = 4 * torch.tensor([[[8.5, 7.5], [12.5, 11.5]]]).expand(2, -1, -1)
    rows = matcher.encode(source)
    assert (matcher.match_features(rows, rows, centres).keypoints - centres).norm(dim=-1).max() < 8


def test_nothing_trains(matcher: NearestNeighbour) -> None:
    matcher.train()
    assert not any(x.training for x in matcher.modules())
    assert not any(x.requires_grad for x in matcher.parameters())


def test_wrong_arguments_are_one_sentence(matcher: NearestNeighbour) -> None:
    names = ", ".join(NEAREST_PRESETS)
    with pytest.raises(ValueError, match=rf"preset must be one of {names}, got 'nn'"):
        NearestNeighbour.from_preset("nn")
    size = matcher.image_size
    with pytest.raises(ValueError, match=rf"images must be \(B, 3, {size}, {size}\), got \(1, 3, 8, 8\)"):
        matcher.encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"image_size must be a multiple of 8 and 4, got 60"):
        NearestNeighbour(NearestConfig("tf_efficientnet_lite0", None, image_size=60))
