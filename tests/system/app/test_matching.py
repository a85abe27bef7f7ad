"""Matches of the app are those of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import simplematch
from simplematch.app.matching import NEAREST_TEMPERATURE, NEAREST_WINDOW, Network, Settings, unit_rows
from simplematch.app.models import Models
from simplematch.models import load_model

from ..models.tiny import tiny_model
from .conftest import MODEL, SHIFT

POINTS = np.array([[120.0, 90.0], [30.5, 200.0], [319.0, 1.0], [320.0, 240.0]])


@pytest.mark.parametrize("changes", [{}, {"image_size": (64, 96), "resize": "letterbox"}], ids=["square", "bars"])
def test_a_trained_model_matches_as_the_command_does(
    crops: tuple[Image.Image, Image.Image], changes: dict[str, Any]
) -> None:
    model = tiny_model("efficientnet-lite0-256", **changes)
    network = Network(model, "tiny", torch.device("cpu"))
    assert (network.settings.window, network.settings.temperature) == (30, 0.02) and not network.bilinear
    size = (crops[0].height, crops[0].width)
    a, b = (network.encode(crop) for crop in crops)
    found = network.match(a, b, POINTS[:3], size, size, network.settings)
    expected = simplematch.match(*crops, POINTS[:3], model=model, device="cpu")
    for name in ("matches", "confidence", "cycle_distance", "covariance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-3, err_msg=name)
    assert expected.mutual is not None and (found.mutual == expected.mutual).all()


def test_every_point_of_a_picture_matches_itself(models: Models, crops: tuple[Image.Image, Image.Image]) -> None:
    network = models.get(MODEL)
    assert network.settings == Settings(NEAREST_WINDOW, NEAREST_TEMPERATURE) and network is models.get(MODEL)
    a, size = network.encode(crops[0]), (240, 320)
    found = network.match(a, a, POINTS, size, size, Settings(1, 0.02))
    cells = np.array([320, 240]) / a.shape[-1]
    assert (np.abs(found.matches - POINTS) <= cells).all()  # a window of one cell gives its centre
    assert found.mutual is not None and found.mutual.all() and found.confidence.min() > 0.9


def test_bars_round_a_picture_are_left_out(crops: tuple[Image.Image, Image.Image]) -> None:
    model = load_model(MODEL, image_size=(320, 320), resize="letterbox")
    network = Network(model, "bars", torch.device("cpu"))
    size = (240, 320)
    assert network.frame(size) == [0, 40 / 320, 1, 240 / 320]
    a, b = (network.encode(crop) for crop in crops)
    points = np.array([[x, y] for x in range(80, 280, 40) for y in range(80, 200, 40)], float)
    found = network.match(a, b, points, size, size, network.settings)
    assert np.median(np.linalg.norm(found.matches - (points - SHIFT), axis=1)) < 5


def test_unit_rows_are_little_endian_and_cell_after_cell() -> None:
    features = torch.tensor([3.0, 4.0, 0.0, 5.0]).reshape(1, 2, 1, 2)  # cells (3, 0) and (4, 5)
    expected = np.array([1, 0, 4 / 41**0.5, 5 / 41**0.5], "<f2")
    assert unit_rows(features) == expected.tobytes()


@pytest.mark.parametrize(("name", "message"), [("nothing", "model must be the folder"), ("./none/x", "model must be")])
def test_unknown_models_are_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Models([name], "cpu")


def test_named_models_come_first() -> None:
    models = Models(["dinov2-s14-252-nn"], "cpu")
    assert models.default == "dinov2-s14-252-nn" and models.choices[1].name == "efficientnet-lite0-448-nn"
    names = [choice.name for choice in models.choices]
    assert len(names) == len(set(names))
