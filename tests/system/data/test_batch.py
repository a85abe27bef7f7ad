"""Batches: padding, seeds, workers and broken images."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from simplematch.data import (
    ImageError,
    PairTransform,
    SkippedPairs,
    TransformedPairs,
    collate,
    open_dataset,
)

from .trees import make_spair


@pytest.fixture
def pairs(tmp_path: Path) -> TransformedPairs:
    make_spair(tmp_path)
    transform = PairTransform(32, max_keypoints=30, crop=0.5, rotate=0.5, photometric=1.0)
    return TransformedPairs(open_dataset("spair", tmp_path), transform, seed=4)


def test_padding(tmp_path: Path) -> None:
    make_spair(tmp_path)
    dataset = open_dataset("spair", tmp_path)
    batch = collate([TransformedPairs(dataset, PairTransform(32))[i] for i in range(3)])
    assert batch.source_images.shape == batch.target_images.shape == (3, 3, 32, 32)
    assert batch.source_keypoints.shape == batch.target_keypoints.shape == (3, 5, 2)
    assert batch.num_keypoints.tolist() == [3, 4, 5] and len(batch) == 3
    assert batch.valid.sum(1).tolist() == [3, 4, 5]
    assert (batch.source_keypoints[~batch.valid] == -1).all() and (batch.target_keypoints[batch.valid] >= 0).all()
    expected = torch.from_numpy(dataset.info(1).target_keypoints * [32 / 40, 32 / 30]).float()
    torch.testing.assert_close(batch.target_keypoints[1, :4], expected)
    moved = batch.to("meta")
    assert moved.source_images.device.type == "meta" and moved.infos is batch.infos
    with pytest.raises(ValueError, match="samples must have at least one item, got none"):
        collate([])


def test_samples_depend_on_seed_epoch_and_index_only(pairs: TransformedPairs) -> None:
    first, second = pairs[0], pairs[2]
    assert torch.equal(pairs[2].source, second.source) and torch.equal(pairs[0].source, first.source)
    pairs.set_epoch(1)
    assert not torch.equal(pairs[2].source, second.source)
    pairs.set_epoch(0)
    assert torch.equal(pairs[2].source, second.source)
    other = TransformedPairs(pairs.dataset, pairs.transform, seed=5)
    assert not torch.equal(other[2].source, second.source)


def test_workers_give_the_same_and_see_the_epoch(pairs: TransformedPairs) -> None:
    loader = DataLoader(pairs, 3, collate_fn=collate, num_workers=1, persistent_workers=True)
    for epoch in range(2):
        pairs.set_epoch(epoch)
        (batch,) = loader
        assert torch.equal(batch.source_images, collate([pairs[i] for i in range(3)]).source_images)
        assert batch.infos[1].pair_id == pairs.dataset.info(1).pair_id


def test_broken_images(pairs: TransformedPairs, caplog: pytest.LogCaptureFixture) -> None:
    (pairs.dataset.root / "JPEGImages/cat face/a-1.jpg").write_bytes(b"no image")  # in pairs 0 and 2
    with pytest.raises(ImageError, match=r"a-1.jpg can't be decoded"):
        pairs[0]
    lenient = TransformedPairs(pairs.dataset, pairs.transform, seed=4, skip_broken=True)
    batch = collate([lenient[i] for i in range(3)])
    assert [info.pair_id for info in batch.infos] == [pairs.dataset.info(1).pair_id] * 3
    assert len(batch.skipped) == 3 and torch.equal(lenient[0].source, pairs[1].source)
    skipped = SkippedPairs()
    with caplog.at_level(logging.WARNING):
        skipped.add(batch.skipped)
        skipped.add(batch.skipped)
    assert skipped.count == 6 and len(caplog.records) == 1 and "a-1.jpg" in caplog.text
    (pairs.dataset.root / "JPEGImages/cat face/c.jpg").unlink()
    with pytest.raises(ImageError, match="none of the 3 pairs can be read"):
        lenient[0]
