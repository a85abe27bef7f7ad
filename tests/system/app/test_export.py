"""Files to download."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from simplematch.app import export

IMAGES = [
    {"file_name": 'left, of "it".png', "width": 320, "height": 240},
    {"file_name": "right.png", "width": 200, "height": 100},
]


def rows() -> list[dict[str, Any]]:
    numbers = ("confidence", "cycle_distance", "variance_x", "covariance_xy", "variance_y")
    found = {"x_a": 10.25, "y_a": 20, "x_b": 30, "y_b": 40.123456, "mutual": True, "corrected": False}
    moved = {"x_a": 50, "y_a": 60, "x_b": 70, "y_b": 80, "mutual": None, "corrected": True}
    values = dict(zip(numbers, (0.9, 1.5, 4, 0.5, 9), strict=True))
    return [found | values, moved | dict.fromkeys(numbers)]


def sent(**changes: Any) -> dict[str, Any]:
    return {"model": "a model", "images": IMAGES, "matches": rows()} | changes


def test_json_holds_the_format_of_match_with_corrections() -> None:
    found = json.loads(export.write_json(export.shown(sent())))
    assert found["image_a"] == IMAGES[0] and found["model"] == "a model"
    assert found["matches"][0] == rows()[0] | {"y_b": 40.1235}
    assert found["matches"][1] == rows()[1]


def test_csv_has_a_line_for_each_match() -> None:
    lines = list(csv.DictReader(io.StringIO(export.write_csv(export.shown(sent())))))
    assert [(line["x_a"], line["mutual"], line["corrected"]) for line in lines] == [
        ("10.25", "1", "0"),
        ("50.0", "", "1"),
    ]
    assert lines[1]["confidence"] == ""


def test_coco_keypoints_of_both_pictures_correspond() -> None:
    found = json.loads(export.write_coco(export.shown(sent())))
    images = {image["id"]: image for image in found["images"]}
    (category,) = found["categories"]
    points = {}
    for annotation in found["annotations"]:
        image = images[annotation["image_id"]]
        keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
        assert annotation["category_id"] == category["id"] and annotation["iscrowd"] == 0
        assert len(keypoints) == len(category["keypoints"]) == annotation["num_keypoints"] == 2
        assert (keypoints[:, 2] == 2).all() and (keypoints[:, :2] <= (image["width"], image["height"])).all()
        left, top, width, height = annotation["bbox"]
        assert (keypoints[:, :2].min(0) == (left, top)).all() and annotation["area"] == pytest.approx(width * height)
        points[image["file_name"]] = keypoints[:, :2].tolist()
    assert points == {IMAGES[0]["file_name"]: [[10.25, 20], [50, 60]], "right.png": [[30, 40.1235], [70, 80]]}
    assert category["keypoints"] == ["point 1", "point 2"] and category["skeleton"] == []


@pytest.mark.parametrize("kind", ["json", "csv", "coco"])
def test_downloads_have_names(client: TestClient, kind: str) -> None:
    answer = client.post(f"/api/export/{kind}", json=sent())
    assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment; filename=")
    assert client.post("/api/export/exe", json=sent()).status_code == 404


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[:1]}, "images must be two, got 1"),
        (
            {"images": [IMAGES[0], {"file_name": "b", "width": 0, "height": 3}]},
            "width must be 1 to 100000 pixels, got 0",
        ),
        ({"images": [IMAGES[0], {"file_name": 1, "width": 3, "height": 3}]}, "file_name must be a text"),
        ({"matches": []}, "matches must be a list of 1 to 4096"),
        ({"matches": [1]}, "matches must be a list of objects"),
        ({"matches": [{**rows()[0], "x_b": None}]}, "x_b must be a number, got None"),
        ({"matches": [{**rows()[0], "corrected": None}]}, "corrected must be true or false"),
        ({"matches": [{**rows()[0], "mutual": "yes"}]}, "mutual must be true or false"),
    ],
)
def test_wrong_fields_are_refused(client: TestClient, changes: dict[str, Any], message: str) -> None:
    answer = client.post("/api/export/json", json=sent(**changes))
    assert answer.status_code == 400 and message in answer.json()["error"]
