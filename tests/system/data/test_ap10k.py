"""AP-10K: preparation from the raw json, and other prepared layouts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from simplematch.data import DataError, open_dataset, prepare_ap10k

from .trees import edit_json, make_ap10k, write_json


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    root = tmp_path_factory.mktemp("ap10k")
    make_ap10k(root / "raw")
    return root, prepare_ap10k(root / "raw", root / "ap-10k")


def test_split_of_images(prepared: tuple[Path, dict[str, int]]) -> None:
    root, counts = prepared
    assert set(counts) == {"trn", "val", "val_cross_species", "val_cross_family"} | {
        "test",
        "test_cross_species",
        "test_cross_family",
    }
    used = {split: _image_ids(root, split) for split in ("trn", "val", "test")}
    # 60 images a species; the first three are unusable (few keypoints, crowd, two animals)
    assert [len(used[split]) for split in ("trn", "val", "test")] == [7 * 3, 20 * 3, 30 * 3]
    assert max(used["trn"]) < min(used["val"]) and max(used["val"]) < min(used["test"])


def test_pairs(prepared: tuple[Path, dict[str, int]]) -> None:
    root, counts = prepared
    dataset = open_dataset("ap10k", root, "test")
    assert len(dataset) == counts["test"] and dataset.categories == ["arctic fox", "cat", "lion"]
    for info in map(dataset.info, range(0, len(dataset), 7)):
        assert len(info.source_keypoints) >= 3 and info.source_path.parent == info.target_path.parent
        assert info.target_box == (1, 2, 11, 10) and info.target_size == (16, 20)
    assert counts["test"] == _count_matching(root)
    assert max(Counter(i.source_path for i in _infos(root, "trn")).values()) <= 50


def test_pairs_across(prepared: tuple[Path, dict[str, int]]) -> None:
    root, counts = prepared
    assert counts["test_cross_family"] == 30 and counts["val_cross_family"] == 20
    assert counts["test_cross_species"] <= 900 and counts["val_cross_species"] <= 400
    for info in _infos(root, "test_cross_species"):
        assert info.category == "Felidae" and info.source_path.parent != info.target_path.parent
        assert info.variations == {"pairs": "cross-species"}
    for info in _infos(root, "test_cross_family"):
        assert info.source_path.parents[1] != info.target_path.parents[1] and info.category == "Canidae-Felidae"


def test_preparing_again_gives_the_same_pairs(prepared: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    root, counts = prepared
    for part in ("train", "val", "test"):  # in another order
        path = root / f"raw/annotations/ap10k-{part}-split1.json"
        content = json.loads(path.read_text())
        write_json(tmp_path / f"annotations/{path.name}", {k: v[::-1] for k, v in content.items()})
    (tmp_path / "data").symlink_to(root / "raw/data")
    assert prepare_ap10k(tmp_path, tmp_path, images="copy") == counts
    for split in counts:
        names = [sorted(p.name for p in (r / "PairAnnotation" / split).iterdir()) for r in (root / "ap-10k", tmp_path)]
        assert names[0] == names[1]
    with pytest.raises(DataError, match="already has pairs"):
        prepare_ap10k(tmp_path, tmp_path)


def test_images_have_all_visible_keypoints(prepared: tuple[Path, dict[str, int]]) -> None:
    root, _ = prepared
    images = open_dataset("ap10k", root, "val").images()
    assert len(images) == 60
    for image in images:
        file = root / "ap-10k/ImageAnnotation" / image.path.relative_to(root / "ap-10k/JPEGImages").with_suffix(".json")
        visible = np.array(json.loads(file.read_text())["keypoints"][2::3]) > 0
        assert len(image.keypoints) == visible.sum()


def test_paths_of_another_machine_are_rerooted(prepared: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    root, _ = prepared
    for name in ("ImageAnnotation", "JPEGImages"):
        (tmp_path / name).symlink_to(root / "ap-10k" / name)
    for path in (root / "ap-10k/PairAnnotation/val").iterdir():
        record = {k: f"../some/where/data/ap-10k/{v}" for k, v in json.loads(path.read_text()).items()}
        write_json(tmp_path / "PairAnnotation/val" / path.name, record)
    dataset = open_dataset("auto", tmp_path, "val")
    assert dataset.name == "ap10k" and dataset[0].source.shape == (3, 16, 20)


def test_bad_input(prepared: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ap10k-train-split1.json is missing; it comes with AP-10K from"):
        prepare_ap10k(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="images must be 'link' or 'copy', got 'move'"):
        prepare_ap10k(tmp_path, tmp_path, images="move")
    annotation = {"bbox": [0, 0, 9, 9], "width": 20, "height": 16, "keypoints": [1, 2, 2] * 3}
    files = [write_json(tmp_path / f"ImageAnnotation/F/s/{name}.json", annotation) for name in "ab"]
    record = {"src_json_path": "ImageAnnotation/F/s/a.json", "trg_json_path": "ImageAnnotation/F/s/b.json"}
    pair = write_json(tmp_path / "PairAnnotation/test/000000-a-b:s.json", record)
    assert len(open_dataset("ap10k", tmp_path, "test")) == 1
    edit_json(files[1], bbox=[3, 4, 0, 9])
    with pytest.raises(DataError, match=r"b.json: field 'bbox' must be a box of positive area, got .3, 4, 0, 9."):
        open_dataset("ap10k", tmp_path, "test")
    edit_json(files[1], bbox=[3, 4, 5, 9], keypoints=[1, 2, 0] * 3)
    with pytest.raises(DataError, match="no common keypoint"):
        open_dataset("ap10k", tmp_path, "test")
    edit_json(pair, trg_json_path=None)
    with pytest.raises(DataError, match="has no field 'trg_json_path'"):
        open_dataset("ap10k", tmp_path, "test")
    with pytest.raises(DataError, match=r"PairAnnotation/val is missing; prepare_ap10k writes it"):
        open_dataset("ap10k", tmp_path, "val")


def _infos(root: Path, split: str) -> list:
    dataset = open_dataset("ap10k", root, split)
    return [dataset.info(i) for i in range(len(dataset))]


def _image_ids(root: Path, split: str) -> set[int]:
    return {int(path.stem) for info in _infos(root, split) for path in (info.source_path, info.target_path)}


def _count_matching(root: Path) -> int:
    """All unordered pairs of a species' test images with three common keypoints, the slow way."""
    visible: dict[str, list[list[bool]]] = {}
    for path in sorted((root / "ap-10k/ImageAnnotation").rglob("*.json")):
        record = json.loads(path.read_text())
        visible.setdefault(path.parent.name, []).append([v > 0 for v in record["keypoints"][2::3]])
    total = 0
    for members in visible.values():
        test = members[-30:]
        for i in range(30):
            for j in range(i + 1, 30):
                total += sum(a and b for a, b in zip(test[i], test[j], strict=True)) >= 3
    return total
