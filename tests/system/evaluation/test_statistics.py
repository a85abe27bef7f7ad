"""Keypoint fusion, against hand counts and on real data."""

from __future__ import annotations

from pathlib import Path

import pytest

from simplematch.data import open_dataset
from simplematch.evaluation import format_statistics, statistics

from ..data.trees import edit_json, make_pf_pascal, make_spair


def test_by_hand(tmp_path: Path) -> None:
    """Images of 40 x 30: a cell of the 4 x 4 grid is 10 x 7.5, of the 8 x 8 grid 5 x 3.75."""
    make_spair(tmp_path)
    points = [[1, 1], [9, 7], [6, 1], [10, 1], [39.9, 29.9], [40, 30]]
    for name in ("a-1", "b-2", "c"):
        kept = points if name == "a-1" else points[3:5]
        edit_json(tmp_path / f"ImageAnnotation/cat face/{name}.json", kps={str(i): p for i, p in enumerate(kept)})
    found = statistics(open_dataset("spair", tmp_path), grids=(4, 8))
    assert list(found) == ["cat face", "all"] and found["all"] == found["cat face"]
    fusion = found["all"]
    assert (fusion.images, fusion.keypoints) == (3, 10)
    assert fusion.shared == {4: 5, 8: 2} and fusion.largest == {4: 3, 8: 2}
    assert fusion.fraction(4) == 0.5
    assert "50.0 %   3" in format_statistics(found)
    with pytest.raises(ValueError, match="grids must be"):
        statistics(open_dataset("spair", tmp_path), grids=())


def test_images_without_annotation_of_their_own(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path)
    fusion = statistics(open_dataset("pf-pascal", tmp_path), grids=(2, 64))["bicycle"]
    assert (fusion.images, fusion.keypoints) == (2, 4)  # the keypoints of both images
    assert fusion.shared == {2: 0, 64: 0}


def test_real_landmarks(shared_data: Path) -> None:
    found = statistics(open_dataset("spair", shared_data / "data/Landmarks-SPair", "all"))
    percent = {name: [round(100 * found[name].fraction(g), 1) for g in (16, 32, 64)] for name in ("face", "people")}
    assert percent == {"face": [20.2, 2.2, 0.2], "people": [16.7, 3.1, 0.7]}
    assert [found[name].keypoints for name in ("face", "people", "all")] == [9113, 4811, 13924]
