"""Every address of the server: what it answers, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import simplematch.app
from simplematch.app import server
from simplematch.app.models import Models
from simplematch.app.sessions import Sessions

from .conftest import MODEL, SHIFT, Page, encoded


def refused(answer: Any, status: int, message: str) -> None:
    assert answer.status_code == status
    assert re.search(message, answer.json()["error"]), answer.json()["error"]


def test_the_page_and_all_that_it_names_are_there(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    named = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
    modules = [path for path in named if path.endswith(".js")]
    while modules:
        text = client.get(modules.pop()).text
        found = {f"/static/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)}
        modules += found - named
        named |= found
    assert len(named) > 10
    for path in named:
        assert client.get(path).status_code == 200, path
    folder = Path(simplematch.app.__file__).parent / "static"
    assert {Path(path).name for path in named} | {"index.html"} == {path.name for path in folder.iterdir()}


def test_nothing_comes_from_elsewhere(client: TestClient) -> None:
    """The page works offline, and its policy allows nothing else."""
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy
    assert client.get("/").headers["x-content-type-options"] == "nosniff"
    folder = Path(simplematch.app.__file__).parent / "static"
    for path in folder.iterdir():
        addresses = re.findall(r"https?://[^\s\"']+", path.read_text())
        assert addresses in ([], ["http://www.w3.org/2000/svg"]), path


@pytest.mark.parametrize(
    "name", ["../server.py", "%2e%2e%2fserver.py", "..%2f..%2fcli.py", "%2fetc%2fpasswd", "server.py"]
)
def test_paths_open_no_file(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404
    assert client.get(f"/api/examples/{name}/a").status_code == 404


def test_options_name_models_backends_and_limits(client: TestClient) -> None:
    found = client.get("/api/options").json()
    assert found["default"] == MODEL
    models = {choice["name"]: choice["reason"] for choice in found["models"]}
    assert models[MODEL] is None and models["efficientnet-lite0-448-nn"] is None
    assert "train it" in models["resnet101-256"]
    backends = {choice["name"]: choice["reason"] for choice in found["backends"]}
    assert backends["auto"] is backends["reference"] is None and "CUDA" in backends["cuda"]
    assert found["limits"]["points"] >= 1600  # the largest grid of the page


def test_examples_can_be_read(client: TestClient) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    path = f"/api/sessions/{client.post('/api/sessions').json()['session']}/pictures"
    examples = client.get("/api/options").json()["examples"]
    assert len(examples) == 3
    for example in examples:
        sizes = set()
        for side in "ab":
            sent = client.post(path, content=client.get(f"/api/examples/{example['name']}/{side}").content).json()
            sizes.add((sent["width"], sent["height"]))
        assert len(sizes) == 1
    assert client.get("/api/examples/cat/c").status_code == 404


def test_features_are_unit_vectors_of_half_precision(page: Page) -> None:
    answer = page.client.get(f"{page.path}/features/{page.a}", params={"model": MODEL})
    facts = json.loads(answer.headers["x-features"])
    rows = np.frombuffer(answer.content, "<f2").astype(float)
    rows = rows.reshape(facts["height"] * facts["width"], facts["channels"])
    assert (facts["height"], facts["width"], facts["bilinear"], facts["window"]) == (32, 32, True, 5)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 2e-3
    again = page.client.get(f"{page.path}/features/{page.a}", params={"model": MODEL})
    assert again.content == answer.content
    assert json.loads(again.headers["x-features"])["milliseconds"] < facts["milliseconds"]  # it was kept


def test_matches_find_the_shift(page: Page) -> None:
    points = [[x, y] for x in range(80, 280, 40) for y in range(80, 200, 40)]
    found = page.match(points=points).json()["matches"]
    there = np.array([(match["x"], match["y"]) for match in found])
    distance = np.linalg.norm(there - (np.array(points) - SHIFT), axis=1)
    assert np.median(distance) < 5 and distance.max() < 20  # a cell is 10 x 7.5 pixels
    assert all(match["variance_x"] > 0 and match["variance_y"] > 0 for match in found)
    assert np.mean([match["mutual"] for match in found]) > 0.5
    assert np.median([match["cycle_distance"] for match in found]) < 6


def test_backends_agree_and_settings_matter(page: Page) -> None:
    here = page.match(backend="cpu").json()["matches"][0]
    for name, value in page.match(backend="reference").json()["matches"][0].items():
        assert value == pytest.approx(here[name], rel=1e-3, abs=1e-3), name
    wide = page.match(window=31, temperature=1.0).json()["matches"][0]
    assert wide["variance_x"] > 4 * here["variance_x"] and wide["confidence"] == here["confidence"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": []}, "points must be a list of 1 to 4096"),
        ({"points": [[1, 2]] * 4097}, "points must be a list of 1 to 4096"),
        ({"points": [[1, 2, 3]]}, "points must be pairs of numbers"),
        ({"points": [[1, "2"]]}, "points must be pairs of numbers"),
        ({"points": [[321, 2]]}, "points must lie in the picture of 320 x 240"),
        ({"points": [[-1, 2]]}, "points must lie in the picture of 320 x 240"),
        ({"window": 0}, "window must be a whole number from 1 to 99, got 0"),
        ({"window": 5.5}, "window must be a whole number, got 5.5"),
        ({"window": True}, "window must be a whole number, got True"),
        ({"temperature": 0}, "temperature must be a number from 0.0001 to 100, got 0"),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ({"backend": "fastest"}, "backend must be one of"),
        ({"backend": "cuda"}, "backend 'cuda' can't run on cpu"),
        ({"model": "resnet101-256"}, "model resnet101-256 can't be used: it is not trained"),
        ({"model": "/etc"}, "model must be one of the picker's"),
        ({"model": 3}, "model must be a text"),
        ({"a": "x" * 400}, "a must be a text of at most 300 characters"),
    ],
)
def test_wrong_requests_are_refused(page: Page, changes: dict[str, Any], message: str) -> None:
    refused(page.match(**changes), 400, message)


def test_bodies_must_be_json_objects(page: Page) -> None:
    path, headers = f"{page.path}/matches", {"content-type": "application/json"}
    refused(page.client.post(path, content=b"{", headers=headers), 400, "must be a JSON object")
    refused(page.client.post(path, content=b"[]", headers=headers), 400, "must be a JSON object, got list")
    refused(page.client.post(path, content=b'{"a": NaN}', headers=headers), 400, "NaN is not a JSON number")
    refused(page.client.post(path, content=b'{"a": 1, "a": 1}', headers=headers), 400, "appears twice")
    refused(page.client.post(path, content=json.dumps(page.asked())), 415, "content type application/json")
    refused(page.client.post(path, content=b" " * (5 << 20), headers=headers), 413, "at most 4 MiB")


def test_unknown_sessions_and_pictures_are_gone(page: Page) -> None:
    client = page.client
    refused(client.post("/api/sessions/nobody/pictures", content=b"x"), 410, "no longer has this page's pictures")
    refused(client.get(f"{page.path}/pictures/nothing"), 410, "no longer has this picture")
    refused(client.get(f"{page.path}/features/nothing", params={"model": MODEL}), 410, "no longer has this picture")
    refused(page.match(b="nothing"), 410, "no longer has this picture")
    assert client.get("/api/nothing").status_code == 404
    assert client.get("/api/sessions").status_code == 405


def test_pages_do_not_see_each_other(page: Page, crops: tuple[Image.Image, Image.Image]) -> None:
    other = f"/api/sessions/{page.client.post('/api/sessions').json()['session']}"
    refused(page.client.get(f"{other}/pictures/{page.a}"), 410, "no longer has this picture")
    before = page.match().json()["matches"]
    page.client.post(f"{other}/pictures", content=encoded(crops[1]))
    assert page.match().json()["matches"] == before


def test_dropped_sessions_tell_so(models: Models, crops: tuple[Image.Image, Image.Image]) -> None:
    app = server.make_app(models, sessions=Sessions(most=1))
    with TestClient(app, base_url="http://localhost") as client:
        first, second = (client.post("/api/sessions").json()["session"] for _ in range(2))
        upload = {"content": encoded(crops[0])}
        refused(client.post(f"/api/sessions/{first}/pictures", **upload), 410, "send them again")
        assert client.post(f"/api/sessions/{second}/pictures", **upload).status_code == 201


def test_an_unforeseen_error_is_a_sentence(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(content: bytes) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(server, "store_picture", fail)
    answer = page.client.post(f"{page.path}/pictures", content=b"x")
    refused(answer, 500, "an error that it doesn't know \\(KeyError\\)")
    assert "surprise" not in answer.text
