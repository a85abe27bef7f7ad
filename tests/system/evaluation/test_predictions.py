"""Predictions files: exact, atomic, and read strictly."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplematch import _files
from simplematch._files import WriteError
from simplematch.data import DataError
from simplematch.evaluation import Prediction, Predictions

from .models import random_pairs


@pytest.fixture
def predictions() -> Predictions:
    infos, found = random_pairs(3)
    items = [Prediction(i, p, np.linspace(0.1, 0.9, len(p))) for i, p in zip(infos, found, strict=True)]
    items[0].predicted[0] = np.nan, np.inf
    items[1].score[0] = -np.inf
    return Predictions(items, 64)


def test_every_number_comes_back(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    predictions.save(path)
    again = Predictions.load(path)
    for item, other in zip(predictions.items, again.items, strict=True):
        np.testing.assert_array_equal(item.predicted, other.predicted)
        np.testing.assert_array_equal(item.score, other.score)
        np.testing.assert_array_equal(item.info.source_keypoints, other.info.source_keypoints)
        assert (item.info.source_size, item.info.target_box) == (other.info.source_size, other.info.target_box)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_full_disk_leaves_the_earlier_file(
    predictions: Predictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("earlier")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(WriteError, match=r"a\.jsonl can't be written, no space left on device"):
        predictions.save(path)
    assert path.read_text() == "earlier" and os.listdir(tmp_path) == ["a.jsonl"]


def test_a_file_that_was_cut_off_is_named(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    predictions.save(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"a\.jsonl must have the 3 pairs of its header, got 2"):
        Predictions.load(path)
    path.write_text("".join(lines)[:-9])
    with pytest.raises(DataError, match=r"a\.jsonl, line 4 can't be read as JSON"):
        Predictions.load(path)
    path.write_text("")
    with pytest.raises(DataError, match=r"a\.jsonl must begin with the header"):
        Predictions.load(path)


def test_files_of_earlier_versions_say_no_number_of_pairs(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    predictions.save(path)
    header, rest = path.read_text().split("\n", 1)
    path.write_text(header.replace(', "pairs": 3', "") + "\n" + rest)
    assert len(Predictions.load(path).items) == 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("predicted", [[1, 2]], r"field 'predicted' must be a list of numbers of shape \(\d+, 2\)"),
        ("predicted", "none", "field 'predicted' must be a list, got 'none'"),
        ("predicted", [["1", "2"]] * 9, "field 'predicted' must be a list of numbers"),
        ("score", [[1]], r"field 'score' must be a list of numbers of shape"),
        ("score", [], r"field 'score' must be a list of numbers of shape"),
        ("source_size", [1], "field 'source_size' must be positive integers, got .*"),
        ("source_size", 5, "field 'source_size' must be a list, got 5"),
        ("source_box", [1, 2], "field 'source_box' must be four numbers, got .*"),
        ("source_path", 5, "field 'source_path' must be text, got 5"),
        ("variations", [], r"field 'variations' must be an object, got \[\]"),
        ("keypoint_ids", "a", "field 'keypoint_ids' must be a list, got 'a'"),
        ("source_keypoints", [[1, "x"]], "field 'source_keypoints' must be a list of points, got .*"),
    ],
)
def test_values_of_a_wrong_kind(field: str, value: Any, message: str, predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    predictions.save(path)
    header, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, json.dumps(json.loads(first) | {field: value}), *rest]))
    with pytest.raises(DataError, match=rf"a\.jsonl, line 2: {message}"):
        Predictions.load(path)


def test_lines_that_are_no_objects(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    predictions.save(path)
    path.write_text(path.read_text().splitlines()[0] + "\n[1]\n")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2 must be an object with the field .*, got \[1\]"):
        Predictions.load(path)
