"""PF-PASCAL in both forms, and PF-WILLOW."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from simplematch.data import DataError, PFWillow, open_dataset

from .trees import WIDTH, make_pf_pascal, make_pf_willow, write_image

LAYOUTS = ["", "PF-PASCAL", "PF-dataset-PASCAL", "pf-pascal/PF-dataset-PASCAL"]


@pytest.mark.parametrize("folder", LAYOUTS)
@pytest.mark.parametrize("listed", [False, True])
def test_pascal_layouts(tmp_path: Path, folder: str, listed: bool) -> None:
    make_pf_pascal(tmp_path, folder, listed=listed)
    for split in ("train", "val", "test"):
        dataset = open_dataset("auto", tmp_path, split)
        assert dataset.name == "pf-pascal" and len(dataset) == 1 and dataset.categories == ["bicycle"]
        assert dataset[0].source.shape == (3, 30, WIDTH)


def test_pascal_common_points_are_not_nan_in_either(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path)
    info = open_dataset("pf-pascal", tmp_path, "trn").info(0)
    np.testing.assert_array_equal(info.source_keypoints, [[1.5, 2.5], [20, 21]])
    np.testing.assert_array_equal(info.target_keypoints, [[3, 4], [30, 25]])
    assert info.keypoint_ids == ("0", "3") and info.target_box == (1, 2, 35, 28)


def test_pascal_points_of_the_csv(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path, listed=True)
    info = open_dataset("pf-pascal", tmp_path, "test").info(0)
    np.testing.assert_array_equal(info.source_keypoints, [[1, 4], [2.5, 5], [3, 6]])
    np.testing.assert_array_equal(info.target_keypoints, [[7, 10], [8, 11], [9, 12]])
    assert info.target_box is None


def test_pascal_flip_mirrors_images_points_and_boxes(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path / "plain")
    make_pf_pascal(tmp_path / "flipped", flip=1)
    plain, flipped = (open_dataset("pf-pascal", tmp_path / name, "trn")[0] for name in ("plain", "flipped"))
    assert torch.equal(flipped.source, plain.source.flip(-1)) and torch.equal(flipped.target, plain.target.flip(-1))
    expected = plain.info.source_keypoints * [-1, 1] + [WIDTH, 0]
    np.testing.assert_array_equal(flipped.source_keypoints.numpy(), expected)
    assert flipped.info.target_box == (WIDTH - 35, 2, WIDTH - 1, 28)
    assert flipped.info.source_key != plain.info.source_key


def test_pascal_bad_input(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path)
    path = tmp_path / "Annotations/bicycle/2009_000002.mat"
    savemat(path, {"kps": np.full((4, 2), np.nan), "bbox": np.array([[1.0, 2, 35, 28]])})
    with pytest.raises(DataError, match=r"line 2: .* have no common keypoint"):
        open_dataset("pf-pascal", tmp_path, "trn")
    savemat(path, {"bbox": np.array([[1.0, 2, 35, 28]])})
    with pytest.raises(DataError, match=r"2009_000002.mat has no field 'kps'"):
        open_dataset("pf-pascal", tmp_path, "trn")
    path.write_text("no matlab")
    with pytest.raises(DataError, match="can't be read as a MATLAB file"):
        open_dataset("pf-pascal", tmp_path, "trn")
    path.unlink()
    with pytest.raises(DataError, match=r"2009_000002.mat is missing"):
        open_dataset("pf-pascal", tmp_path, "trn")
    csv = tmp_path / "trn_pairs.csv"
    csv.write_text(csv.read_text().replace(",2,0", ",21,0"))
    with pytest.raises(DataError, match="column 'class' must be 1 to 20, got '21'"):
        open_dataset("pf-pascal", tmp_path, "trn")


def test_pascal_lists_of_real_data(shared_data: Path, tmp_path: Path) -> None:
    for path in (shared_data / "data/PF-PASCAL-csv").glob("*.csv"):
        (tmp_path / path.name).write_text(path.read_text())
    for line in (tmp_path / "test_pairs.csv").read_text().splitlines()[1:]:
        for name in line.split(",")[:2]:
            write_image(tmp_path / name, width=50, height=40)
    dataset = open_dataset("auto", tmp_path, "test")
    assert dataset.name == "pf-pascal" and len(dataset) == 299 and len(dataset.categories) == 20
    assert sum(len(dataset.info(i).source_keypoints) for i in range(299)) > 1800
    with pytest.raises(DataError, match=r"[.]mat is missing"):  # the keypoints are in missing .mat files
        open_dataset("pf-pascal", tmp_path, "trn")


@pytest.mark.parametrize("with_csv", [True, False])
def test_willow(tmp_path: Path, with_csv: bool) -> None:
    make_pf_willow(tmp_path, with_csv=with_csv)
    dataset = open_dataset("auto", tmp_path)
    assert dataset.name == "pf-willow" and len(dataset) == 12 and dataset.categories == ["car(G)", "duck(S)"]
    assert len(dataset.images()) == 6 and dataset[0].source.shape == (3, 30, WIDTH)


def test_willow_csv_and_annotations_agree(tmp_path: Path) -> None:
    make_pf_willow(tmp_path, with_csv=True)
    _compare(PFWillow(tmp_path), PFWillow(tmp_path, use_csv=False))


def test_willow_bad_input(tmp_path: Path) -> None:
    make_pf_willow(tmp_path, with_csv=True)
    with pytest.raises(ValueError, match="split must be one of test for pf-willow, got 'trn'"):
        open_dataset("pf-willow", tmp_path, "trn")
    path = tmp_path / "test_pairs.csv"
    text = path.read_text()
    path.write_text(text + "PF-dataset/car(G)/Image_000.png,PF-dataset/car(G)/Image_001.png,1,2\n")
    with pytest.raises(DataError, match="line 14 must have 42 columns, got 4"):
        open_dataset("pf-willow", tmp_path)
    path.write_text(text)
    (tmp_path / "PF-dataset/car(G)/Image_001.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"Image_001.png can't be decoded"):
        open_dataset("pf-willow", tmp_path)
    assert len(open_dataset("pf-willow", tmp_path, skip_broken=True)) == 8


def test_real_willow(shared_data: Path) -> None:
    root = shared_data / "data/PF-WILLOW"
    dataset = open_dataset("pf-willow", root)
    assert len(dataset) == 900 and len(dataset.images()) == 100 and len(dataset.categories) == 10
    _compare(PFWillow(root), PFWillow(root, use_csv=False))


def _compare(a: PFWillow, b: PFWillow) -> None:
    first, second = ({(i.source_key, i.target_key): i for i in map(d.info, range(len(d)))} for d in (a, b))
    assert first.keys() == second.keys()
    for key, info in first.items():
        np.testing.assert_allclose(info.source_keypoints, second[key].source_keypoints, atol=1e-5)
        np.testing.assert_allclose(info.target_keypoints, second[key].target_keypoints, atol=1e-5)
