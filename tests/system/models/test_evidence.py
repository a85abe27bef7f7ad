"""What models tell about their matches, and the points worth matching, against plain PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from simplematch.models import NearestNeighbour, load_model
from simplematch.models.evidence import TEMPERATURE, Encoded, encode_images, gather_evidence, match_cells
from simplematch.models.identity import difference, identity
from simplematch.models.nearest import NearestConfig
from simplematch.models.salience import salient_points, spread_cells

from .tiny import tiny_model


def encoded(network: Any) -> tuple[Encoded, Encoded]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 9, 9, generator=generator)
    size = network.image_size
    images = F.interpolate(coarse, (size + 16, size + 16), mode="bicubic")
    return encode_images(network, images[:1, :, :size, :size]), encode_images(network, images[:1, :, 16:, 16:])


@pytest.fixture(scope="module", params=["trained", "untrained"])
def network(request: pytest.FixtureRequest) -> Any:
    if request.param == "trained":
        return tiny_model("efficientnet-lite0-256").eval()
    torch.manual_seed(0)
    return NearestNeighbour(NearestConfig("tf_efficientnet_lite0", None, 128))


def unit_cells(network: Any, image: Encoded) -> torch.Tensor:
    features = image.features
    cells = network.feature_map(features)
    return F.normalize(cells[0].flatten(1).double(), dim=0)


def test_cells_against_plain_pytorch(network: Any) -> None:
    source, target = encoded(network)
    a, b = unit_cells(network, source), unit_cells(network, target)
    scores, side = a.T @ b, round(a.shape[1] ** 0.5)
    y, x = np.divmod(np.arange(side * side), side)
    radius = max(1, side // 16)
    near = (np.abs(y[:, None] - y) <= radius) & (np.abs(x[:, None] - x) <= radius)
    rivals = [(c.T @ c).masked_fill(torch.from_numpy(near), -1).max(1).values for c in (a, b)]
    found = match_cells(network, source, target)
    best = scores.max(1)
    assert source.rivals[0].double() == pytest.approx(rivals[0], abs=1e-5)
    assert found.salience.double() == pytest.approx(best.values - (rivals[0] + rivals[1][best.indices]) / 2, abs=1e-5)
    assert found.shape == (side, side)


def test_evidence_against_plain_pytorch(network: Any) -> None:
    source, target = encoded(network)
    size = network.image_size
    points = np.random.default_rng(0).uniform(0.1 * size, 0.9 * size, (7, 2))
    found = gather_evidence(network, source, target, points)
    keypoints = torch.from_numpy(points).float()[None]
    matches = network.match_features(source.features, target.features, keypoints)
    assert (found.matches == matches.keypoints[0].double().numpy()).all()
    back = network.match_features(target.features, source.features, matches.keypoints).keypoints[0]
    assert found.cycle == pytest.approx((back - keypoints[0]).norm(dim=1).numpy(), abs=1e-4)
    cells = match_cells(network, source, target)
    best = cells.salience[cells.mutual].sort(descending=True).values[:32].mean().item()
    assert found.pair_salience == pytest.approx(np.full(7, best), abs=1e-6)
    assert found.mutual_share == pytest.approx(np.full(7, cells.mutual.float().mean().item()))
    assert (found.second <= found.similarity).all() and (found.salience < found.similarity).all()
    if isinstance(network, NearestNeighbour):
        details = network.match_softmax(source.features, target.features, keypoints, TEMPERATURE)
        assert details.covariance is not None
        offset = (details.keypoints - matches.keypoints)[0].double().numpy()
        expected = details.covariance[0].double().numpy() + offset[:, :, None] * offset[:, None]
        assert found.spread == pytest.approx(expected, rel=1e-4, abs=1e-3)
    else:
        exact = network.match_features(source.features, target.features, keypoints, return_covariance=True)
        assert found.spread == pytest.approx(exact.covariance[0].double().numpy())


def test_salient_points_are_mutual(network: Any) -> None:
    cells = match_cells(network, *encoded(network))
    points = salient_points(cells, 5)
    assert 1 <= len(points) <= 5 and ((points > 0) & (points < 1)).all()
    y, x = (points[:, ::-1] * cells.shape).astype(int).T
    chosen = y * cells.shape[1] + x
    assert cells.mutual[chosen].all()
    first = cells.salience.masked_fill(~cells.mutual, -torch.inf).argmax()
    assert chosen[0] == first
    assert (cells.salience[chosen].diff() <= 0).all()


def test_cells_are_spread() -> None:
    """The best first, none within the distance of an earlier one, NaN last, and the first of equals."""
    salience = np.zeros((8, 8))
    salience[1, 1], salience[1, 2], salience[6, 6], salience[3, 5] = 3, 2.5, 2, np.nan
    chosen = spread_cells(salience.ravel(), np.ones(64, bool), (8, 8), 8)
    assert chosen[:3].tolist() == [9, 54, 3]  # then the first zero that is over two cells from both
    y, x = np.divmod(chosen, 8)
    distance = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 + 99 * np.eye(len(chosen))
    assert distance.min() > 4  # 64 / (2 * 8)
    few = spread_cells(salience.ravel(), np.arange(64) == 29, (8, 8), 8)
    assert few.tolist() == [29]


def test_identities_differ_by_weights_and_settings() -> None:
    model = tiny_model("efficientnet-lite0-256")
    own = identity(model)
    assert difference(own, model) is None
    assert difference(own | {"settings": {"of_a_later_version": 1}}, model) is None
    assert difference(own, tiny_model("efficientnet-lite0-256", dropout=0.5)) is None  # of training only
    assert (
        difference(own, tiny_model("efficientnet-lite0-256", temperature=0.5)) == "one with temperature 0.02, not 0.5"
    )
    assert difference(own, load_model("efficientnet-lite0-256-nn")) == "a SimpleMatch, not a NearestNeighbour"
    with torch.no_grad():
        list(model.parameters())[-1].view(-1)[0] += 1e-3
    assert difference(own, model) == "one with other weights"
