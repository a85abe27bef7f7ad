"""The SPair-71k layout: records, the cache, broken files, and the real data."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from simplematch.data import DataError, ImageError, SPair, open_dataset
from simplematch.data import spair as spair_module

from .trees import HEIGHT, WIDTH, edit_json, make_spair


def test_records(tmp_path: Path) -> None:
    files = make_spair(tmp_path)
    dataset = open_dataset("spair", tmp_path, "test")
    assert len(dataset) == 3 and dataset.categories == ["cat face"]
    info = dataset.info(1)
    record = json.loads(files[1].read_text())
    assert info.pair_id == "000001-b-2-c:cat face"
    assert info.source_path == tmp_path / "JPEGImages/cat face/b-2.jpg"
    assert info.source_size == info.target_size == (HEIGHT, WIDTH)
    assert info.target_box == (2, 3, 22, 28)
    np.testing.assert_array_equal(info.source_keypoints, record["src_kps"])
    np.testing.assert_array_equal(info.target_keypoints, record["trg_kps"])
    assert info.keypoint_ids == ("0", "1", "2", "3")
    assert info.variations == {"viewpoint_variation": "1", "scale_variation": "0"}
    assert dataset.variations == {"viewpoint_variation": ["0", "1"], "scale_variation": ["0"]}


def test_sample_is_decoded(tmp_path: Path) -> None:
    make_spair(tmp_path)
    sample = open_dataset("spair", tmp_path, "trn")[0]
    assert sample.source.shape == (3, HEIGHT, WIDTH) and str(sample.source.dtype) == "torch.uint8"
    assert sample.source_keypoints.canvas_size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(sample.target_keypoints.numpy(), sample.info.target_keypoints)


def test_images_have_all_their_keypoints(tmp_path: Path) -> None:
    make_spair(tmp_path)
    images = open_dataset("spair", tmp_path, "val").images()
    assert [image.path.stem for image in images] == ["a-1", "b-2", "c"]
    assert [len(image.keypoints) for image in images] == [6, 6, 6]  # the seventh is null


def test_all_splits_together(tmp_path: Path) -> None:
    make_spair(tmp_path)
    assert len(open_dataset("spair", tmp_path, "all")) == 9


def test_annotations_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_spair(tmp_path)
    first = open_dataset("spair", tmp_path, "test")
    with monkeypatch.context() as patch:
        patch.setattr(spair_module, "read_json", lambda path: pytest.fail(f"read {path} again"))
        second = open_dataset("spair", tmp_path, "test")
    for a, b in zip(map(first.info, range(3)), map(second.info, range(3)), strict=True):
        assert (a.pair_id, a.target_box, a.variations, a.keypoint_ids) == (
            b.pair_id,
            b.target_box,
            b.variations,
            b.keypoint_ids,
        )
        assert a.source_path == b.source_path and a.target_size == b.target_size
        np.testing.assert_array_equal(a.source_keypoints, b.source_keypoints)


def test_a_changed_annotation_is_read_again(tmp_path: Path) -> None:
    files = make_spair(tmp_path)
    open_dataset("spair", tmp_path, "test")
    edit_json(files[0], trg_bndbox=[0, 0, 7, 11.5])
    assert open_dataset("spair", tmp_path, "test").info(0).target_box == (0, 0, 7, 11.5)


def test_a_full_disk_leaves_no_half_cache(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_spair(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert len(open_dataset("spair", tmp_path, "test")) == 3
    assert not [path for path in cache_folder.rglob("*") if path.is_file()]


def test_a_damaged_cache_is_rebuilt(tmp_path: Path, cache_folder: Path) -> None:
    make_spair(tmp_path)
    open_dataset("spair", tmp_path, "test")
    (file,) = cache_folder.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert len(open_dataset("spair", tmp_path, "test")) == 3


def test_many_pairs_open_quickly_from_few_columns(tmp_path: Path) -> None:
    names = [f"i{i:03d}" for i in range(40)]
    make_spair(tmp_path, [(a, b) for a in names for b in names if a != b])
    dataset = open_dataset("spair", tmp_path, "trn")
    assert len(dataset) == 1560
    assert len(dataset.table._columns["_images"]) == 40  # each path is stored once


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("src_kps", None, "has no field 'src_kps'"),
        ("trg_imname", None, "has no field 'trg_imname'"),
        ("trg_bndbox", [5, 5, 5, 20], "field 'trg_bndbox' must be a box of positive area, got .5, 5, 5, 20."),
        ("trg_bndbox", [5, 5], "field 'trg_bndbox'"),
        ("src_imsize", 7, "field 'src_imsize' must be .*, got 7"),
        ("src_kps", [[1, 2]], "'src_kps' and 'trg_kps' must have as many points, got 1 and 3"),
        ("src_kps", "none", "field 'src_kps' must be .*, got 'none'"),
    ],
)
def test_broken_annotation(tmp_path: Path, field: str, value: object, message: str) -> None:
    files = make_spair(tmp_path)
    edit_json(files[0], **{field: value})
    with pytest.raises(DataError, match=message) as error:
        open_dataset("spair", tmp_path, "test")
    assert str(files[0]) in str(error.value)


def test_no_common_keypoint(tmp_path: Path) -> None:
    files = make_spair(tmp_path)
    edit_json(files[0], src_kps=[], trg_kps=[])
    with pytest.raises(DataError, match="'src_kps' must hold at least one common keypoint"):
        open_dataset("spair", tmp_path, "test")


def test_broken_annotations_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = make_spair(tmp_path)
    edit_json(files[0], src_kps=None)
    files[2].write_text("{")
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset("spair", tmp_path, "test", skip_broken=True)
    assert len(dataset) == 1 and "skipped 2 of 3 pairs" in caplog.text
    shutil.rmtree(tmp_path / "PairAnnotation/test")
    with pytest.raises(DataError, match="no usable pair"):
        open_dataset("spair", tmp_path, "test", skip_broken=True)


def test_missing_files(tmp_path: Path) -> None:
    files = make_spair(tmp_path)
    files[0].unlink()
    with pytest.raises(DataError, match="is missing"):
        SPair(tmp_path, "test")
    (tmp_path / "Layout/large/val.txt").unlink()
    with pytest.raises(DataError, match=r"val.txt is missing; it comes with SPair-71k.tar.gz"):
        SPair(tmp_path, "val")


def test_broken_images(tmp_path: Path) -> None:
    make_spair(tmp_path)
    dataset = open_dataset("spair", tmp_path, "test")
    image = tmp_path / "JPEGImages/cat face/a-1.jpg"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"a-1.jpg can't be decoded"):
        dataset[0]
    image.unlink()
    with pytest.raises(ImageError, match=r"a-1.jpg is missing"):
        dataset[0]
    shutil.copyfile(tmp_path / "JPEGImages/cat face/c.jpg", image)
    edit_json(tmp_path / "ImageAnnotation/cat face/a-1.json", image_width=WIDTH + 2)
    with pytest.raises(
        ImageError, match=f"must be {WIDTH + 2} x {HEIGHT} as in its annotation, got {WIDTH} x {HEIGHT}"
    ):
        open_dataset("spair", tmp_path, "test")[0]


def test_sizes_of_images_take_precedence_over_those_of_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = make_spair(tmp_path)
    edit_json(files[0], src_imsize=[HEIGHT, WIDTH, 3])
    with caplog.at_level(logging.WARNING):
        assert open_dataset("spair", tmp_path, "test").info(0).source_size == (HEIGHT, WIDTH)
    assert "1 images have another size" in caplog.text


def test_keypoints_of_images_take_precedence_over_those_of_pairs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The pair annotation belongs to a different crop of the image."""
    files = make_spair(tmp_path)
    plain = open_dataset("spair", tmp_path, "test").info(0)
    edit_json(files[0], src_kps=(plain.source_keypoints + 5).tolist(), src_bndbox=[1, 2, 3, 4])
    box = {"bndbox": [5, 6, 25, 26]}
    edit_json(tmp_path / f"ImageAnnotation/cat face/{plain.source_path.stem}.json", **box)
    with caplog.at_level(logging.WARNING):
        info = open_dataset("spair", tmp_path, "test").info(0)
    assert (info.source_keypoints == plain.source_keypoints).all() and info.source_box == (5, 6, 25, 26)
    assert (info.target_keypoints == plain.target_keypoints).all() and info.target_box == plain.target_box
    assert "1 images have other keypoints in PairAnnotation than in ImageAnnotation" in caplog.text
    pair = open_dataset("spair", tmp_path, "test", annotations="pair").info(0)
    assert (pair.source_keypoints == plain.source_keypoints + 5).all() and pair.source_box == (1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"annotations must be one of image, pair, got 'both'"):
        open_dataset("spair", tmp_path, "test", annotations="both")


def test_real_landmarks(shared_data: Path) -> None:
    root = shared_data / "data/Landmarks-SPair"
    sizes = {split: len(open_dataset("spair", root, split)) for split in ("trn", "val", "test")}
    assert sizes == {"trn": 3200, "val": 300, "test": 1000}
    dataset = open_dataset("auto", root, "test")
    assert dataset.categories == ["face", "people"]
    for index in range(0, 1000, 97):  # decoding compares the sizes with the annotations
        assert dataset[index].source.shape[1:] == dataset.info(index).source_size
    for info in map(dataset.info, range(1000)):
        height, width = info.target_size
        assert (info.target_keypoints <= (width, height)).all() and (info.target_keypoints >= 0).all()


def test_real_spair(shared_data: Path) -> None:
    dataset = open_dataset("spair", shared_data / "data/SPair-71k-mini", "test")
    assert len(dataset) == 6 and len(dataset.images()) == 12
    info = next(info for info in map(dataset.info, range(6)) if info.category == "cow")
    assert info.pair_id == "000005-2007_005797-2009_003189:cow"
    assert info.source_size == (375, 500) and info.target_box == (63, 150, 216, 414)
    assert info.variations["truncation"] == "1" and len(info.source_keypoints) == 7
    for index in range(6):
        assert dataset[index].target.shape[1:] == dataset.info(index).target_size
