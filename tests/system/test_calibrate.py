"""`simplematch calibrate`, and what matches tell with a calibration."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import simplematch
from simplematch._json import read_json, write_json
from simplematch.certainty import find_calibration
from simplematch.cli import main
from simplematch.data import open_dataset
from simplematch.evaluation.calibration import Calibration, calibrate, measure
from simplematch.models import SimpleMatch, load_model
from simplematch.models.evidence import gives_evidence

from .data.trees import make_pf_willow, write_image
from .models.tiny import tiny_model

LEVELS = ["--levels", "0.5,0.9", "--copies", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of ten photographs, a model calibrated on it, and two pictures."""
    root = tmp_path_factory.mktemp("calibrated")
    make_pf_willow(root / "data", with_csv=False, images=5)
    tiny_model("efficientnet-lite0-256").save_pretrained(root / "model")
    data = ["--dataset", "pf-willow", "--root", str(root / "data"), "--split", "test"]
    main(["calibrate", *data, "--checkpoint", str(root / "model"), *LEVELS])
    for i, name in enumerate("ab"):
        write_image(root / f"{name}.png", i, 80, 60)
    return root


def test_command_writes_what_the_library_fits(folder: Path) -> None:
    written = Calibration.load(folder / "model/calibration.json")
    pairs = open_dataset("pf-willow", folder / "data")
    model = SimpleMatch.from_pretrained(folder / "model")
    fitted = calibrate(model, pairs, name=str(folder / "model"), levels=(0.5, 0.9), copies=1)
    assert written.to_dict() == json.loads(json.dumps(fitted.to_dict()))
    assert written.data["pairs"] == 40 and written.data["photographs"] == 10
    assert written.data["points_with_match"] == written.data["different_points"] == 400
    assert written.data["occluded_pairs"] == 10
    told = measure(model, written, pairs, copies=1, seed=0)
    assert told["coverage"]["all"]["0.5"]["coverage"] == pytest.approx(0.5, abs=0.06)  # of the same points
    assert 0 <= told["no_match_occluded"]["all"]["auroc"] <= 1 and told["pairs"]["pairs"] == [40, 40]


def test_matches_tell_radius_and_probability(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = [(20.0, 20.0), (40.0, 33.0), (60.0, 11.0)]
    images = folder / "a.png", folder / "b.png"
    found = simplematch.match(*images, points, model=folder / "model")
    half = simplematch.match(*images, points, model=folder / "model", level=0.5)
    calibration = Calibration.load(folder / "model/calibration.json")
    assert found.radius is not None and half.radius is not None and found.no_match is not None
    assert found.covariance is not None and found.level == 0.9 and isinstance(found.different, bool)
    deviation = np.sqrt(np.trace(found.covariance, axis1=1, axis2=2) / 2)
    assert found.radius == pytest.approx(calibration.radii[0.9] * deviation)
    assert half.radius / found.radius == pytest.approx(np.full(3, calibration.radii[0.5] / calibration.radii[0.9]))
    assert ((found.no_match > 0) & (found.no_match < 1)).all()

    main(["match", *map(str, images), "--points", "20,20 40,33 60,11", "--model", str(folder / "model"),
          "--output", str(tmp_path / "out")])  # fmt: skip
    printed = capsys.readouterr().out
    assert "90% radius, pixels" in printed and "of 3 points probably have no match" in printed
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["level"] == 0.9 and content["different"] == found.different
    for row, entry, radius, chance in zip(rows, content["matches"], found.radius, found.no_match, strict=True):
        assert float(row["radius"]) == entry["radius"] == pytest.approx(radius, abs=1e-4)
        assert float(row["no_match_probability"]) == entry["no_match_probability"] == pytest.approx(chance, abs=1e-4)
        assert row["no_match"] == str(int(chance > 0.5)) and entry["no_match"] == (chance > 0.5)


def test_models_without_calibration_tell_neither(folder: Path) -> None:
    found = simplematch.match(
        folder / "a.png", folder / "b.png", [(20, 20)], model=tiny_model("efficientnet-lite0-256")
    )
    assert found.radius is found.no_match is found.level is found.different is None
    assert "radius" not in found.to_csv() and "level" not in found.to_json()


def test_calibration_of_another_model_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "model/calibration.json"
    other = tiny_model("efficientnet-lite0-256")
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    message = (
        r"calibration .* must belong to the model x, got that of '.*model', one with other weights: run simplematch"
    )
    with pytest.raises(ValueError, match=message):
        find_calibration(other, "x", file)
    larger = tiny_model("efficientnet-lite0-256", image_size=96)
    with pytest.raises(ValueError, match=r"one with image_size 64, not 96: run simplematch calibrate for x"):
        find_calibration(larger, "x", file)
    with pytest.raises(ValueError, match=r"a SimpleMatch, not a NearestNeighbour"):
        find_calibration(load_model("efficientnet-lite0-256-nn"), "x", file)
    dense = tiny_model("efficientnet-lite0-256", matching="dense")
    assert not gives_evidence(dense)
    with pytest.raises(ValueError, match=r'a model with matching "fused" for a calibration, got x'):
        find_calibration(dense, "x", file)
    assert find_calibration(dense, "x", None) is None
    other.save_pretrained(tmp_path / "model")
    write_json(tmp_path / "model/calibration.json", read_json(file))
    with pytest.raises(SystemExit):
        main(["match", *(str(folder / f"{x}.png") for x in "ab"), "--model", str(tmp_path / "model")])
    assert "one with other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "output must name a file for the calibration of a preset, got none"),
        (["--output", "c.json", "--report", "r.json"], "check_split must name a split for a report, got none"),
        (
            ["--output", "c.json", "--levels", "0.5,1"],
            "levels must be comma-separated numbers between 0 and 1, got '0.5,1'",
        ),
        (["--output", "c.json", "--check_split", "test"], "must have no photograph in common, got"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--dataset", "pf-willow", "--root", str(folder / "data"), "--split", "test"]
    with pytest.raises(SystemExit):
        main(["calibrate", *data, *arguments])
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_plain_images_are_refused(folder: Path) -> None:
    pairs = open_dataset("images", folder / "data")
    with pytest.raises(ValueError, match=r"a calibration needs annotated pairs, got .* as plain images"):
        calibrate(tiny_model("efficientnet-lite0-256"), pairs, name="x")
