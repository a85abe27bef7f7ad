"""Points without a match: of other categories, hidden by a piece of another image, or lost by a warp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simplematch.data import DataError, PairDataset, open_dataset
from simplematch.data.records import FloatArray
from simplematch.data.table import PairTable
from simplematch.data.unmatched import OccludedImages, different_categories

from .trees import make_pf_willow, make_spair


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> PairDataset:
    """Pairs of four smooth images with warped copies of themselves."""
    folder = tmp_path_factory.mktemp("smooth")
    random = np.random.default_rng(0)
    for i in range(4):
        coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return open_dataset("images", folder)


def colours(image: torch.Tensor, points: FloatArray) -> FloatArray:
    """The pixels (N, 3) of an image (3, H, W) at points (x, y)."""
    x, y = points.T.astype(int)
    return np.asarray(image.numpy()[:, y, x].T.astype(float))


def test_points_are_where_the_copy_shows_them(smooth: PairDataset) -> None:
    """Where it shows them, it has their colour; where they are hidden, no point of the copy is known."""
    copies = OccludedImages(smooth, copies=3, num_keypoints=40)
    assert len(copies) == 3 * (4 + 4 * 3)
    hidden = []
    for index in range(0, len(copies), 2):
        pair = copies[index]
        lost = np.isnan(pair.info.target_keypoints).any(1)
        hidden.append(lost.mean())
        source = colours(pair.source, pair.info.source_keypoints[~lost])
        target = colours(pair.target, pair.info.target_keypoints[~lost])
        assert np.median(np.abs(source - target)) < 5  # resampled; the mean would have the edges of black corners
        assert np.isnan(pair.info.target_keypoints[lost]).all()
    assert 0.25 < np.mean(hidden) < 0.55 and max(hidden) < 1


def test_pieces_come_from_other_images(smooth: PairDataset) -> None:
    plain = smooth.subset([i for i in range(len(smooth)) if smooth.info(i).target_variant.endswith(":0")])
    copies = OccludedImages(plain, copies=2)
    same = OccludedImages(plain, copies=2)
    other = OccludedImages(plain, copies=2, seed=1)
    assert (copies[3].target == same[3].target).all() and (copies[3].target != other[3].target).any()
    assert (copies.info(3).source_keypoints == same.info(3).source_keypoints).all()
    first = {len(np.unique(pair.target.numpy().reshape(3, -1), axis=1).T) for pair in (copies[0], copies[1])}
    assert min(first) > 500  # neither blank nor black


def test_a_single_image_is_not_enough(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    one = open_dataset("images", tmp_path)
    alone = one.subset([0])
    info = alone.info(0)
    alone.table = PairTable.of([type(info)(**{**vars(info), "target_variant": ""})], tmp_path)
    with pytest.raises(DataError, match="must have at least two images, got one"):
        OccludedImages(alone)


def test_pairs_of_different_categories(tmp_path: Path) -> None:
    make_pf_willow(tmp_path, with_csv=False)
    pairs = open_dataset("pf-willow", tmp_path)
    found = different_categories(pairs, 20, seed=3)
    assert len(found) == 20 and found.name == "pf-willow"
    sources = {pairs.info(i).source_path: pairs.info(i).source_keypoints for i in range(len(pairs))}
    for index in range(20):
        info = found.info(index)
        assert info.source_path.parent != info.target_path.parent
        assert (info.source_keypoints == sources[info.source_path]).all()
        assert info.target_keypoints.shape == info.source_keypoints.shape and np.isnan(info.target_keypoints).all()
        assert found[index].target.shape[1:] == info.target_size
    again = different_categories(pairs, 20, seed=3)
    assert [again.info(i).pair_id for i in range(20)] == [found.info(i).pair_id for i in range(20)]


def test_one_category_is_not_enough(tmp_path: Path) -> None:
    make_spair(tmp_path)
    with pytest.raises(DataError, match="must have pairs of two categories or more, got only cat face"):
        different_categories(open_dataset("spair", tmp_path), 4)
