"""Groups of images of one category, for training on every pair among them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from simplematch.data import ImageError, ImageGroups, PairTransform, WarpedImages, collate_groups, pair_visibility
from simplematch.data.groups import named_images
from simplematch.data.open import open_dataset

from .trees import make_spair

SIZE = 32
NAMES = ("a-1", "b-2", "c", "d", "e")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_spair(tmp_path, list(combinations(NAMES, 2)))
    return tmp_path


def groups(root: Path, size: int = 2, augment: float = 0.0, **options: object) -> ImageGroups:
    transform = PairTransform(SIZE, crop=augment, rotate=augment, photometric=augment, hflip=augment)
    return ImageGroups(open_dataset("spair", root, "trn"), transform, size, seed=3, **options)


def test_images_have_the_keypoints_of_all_their_pairs(root: Path) -> None:
    dataset = open_dataset("spair", root, "trn")
    images = {image.path.stem: image for image in named_images(dataset)}
    assert sorted(images) == sorted(NAMES)
    for info in map(dataset.info, range(len(dataset))):
        for name, source, target in zip(info.keypoint_ids, info.source_keypoints, info.target_keypoints, strict=True):
            assert (images[info.source_path.stem].keypoints[name] == source).all()
            assert (images[info.target_path.stem].keypoints[name] == target).all()


def test_an_epoch_has_every_image(root: Path) -> None:
    found = groups(root)
    for epoch in range(2):
        found.set_epoch(epoch)
        images = torch.cat([found[i].images for i in range(len(found))])
        assert len(found) == 3 and len(images) == 6  # the last group is filled
        assert len({image.sum().item() for image in images}) == 5


def test_other_epochs_have_other_groups_and_the_same_epoch_the_same(root: Path) -> None:
    found = groups(root, augment=1.0)
    first = found[0]
    found.set_epoch(1)
    assert not torch.equal(found[0].images, first.images)
    found.set_epoch(0)
    again = found[0]
    assert torch.equal(again.images, first.images) and torch.equal(again.keypoints, first.keypoints)


def test_keypoints_are_those_of_the_pairs_in_pixels_of_the_input(root: Path) -> None:
    found = groups(root)
    names = found.names["cat face"]
    images = found.categories["cat face"]
    for i in range(len(found)):
        sample = found[i]
        assert (sample.keypoints[~sample.visible] == -1).all()
        for member in range(2):
            for column in sample.visible[member].nonzero().flatten().tolist():
                known = [x.keypoints[names[column]] * SIZE / (40, 30) for x in images if names[column] in x.keypoints]
                distance = (torch.tensor(np.stack(known)) - sample.keypoints[member, column]).norm(dim=1)
                assert distance.min() < 1e-4


def test_a_group_is_mirrored_as_a_whole(root: Path) -> None:
    dataset = open_dataset("spair", root, "trn")
    plain = ImageGroups(dataset, PairTransform(SIZE), 2, seed=3)[0]
    mirrored = ImageGroups(dataset, PairTransform(SIZE, hflip=1.0), 2, seed=3)[0]
    assert torch.equal(mirrored.images, plain.images.flip(-1))
    visible = plain.visible & mirrored.visible
    torch.testing.assert_close(mirrored.keypoints[visible][:, 0], SIZE - plain.keypoints[visible][:, 0])


def test_batches_are_padded_and_pairs_counted(root: Path) -> None:
    found = groups(root)
    first, second = found[0], found[1]
    shorter = type(second)(second.images, second.keypoints[:, :4], second.visible[:, :4])
    batch = collate_groups([first, shorter])
    assert batch.images.shape == (2, 2, 3, SIZE, SIZE) and batch.keypoints.shape == (2, 2, 5, 2)
    assert not batch.visible[1, :, 4:].any() and (batch.keypoints[1, :, 4:] == -1).all()
    valid = pair_visibility(batch.visible)
    assert not valid[:, [0, 1], [0, 1]].any()  # an image with itself
    assert batch.count == 2 * sum((v[0] & v[1]).sum() for v in batch.visible)
    assert len(batch) == 4 and batch.images_encoded == 4


def test_broken_images_are_replaced_or_named(root: Path) -> None:
    (root / "JPEGImages/cat face/a-1.jpg").write_bytes(b"no image")
    strict, lenient = groups(root), groups(root, skip_broken=True)
    with pytest.raises(ImageError, match=r"a-1.jpg can't be decoded"):
        [strict[i] for i in range(3)]
    batch = collate_groups([lenient[i] for i in range(3)])
    assert batch.skipped and all("a-1.jpg" in reason for reason in batch.skipped)
    for name in NAMES[1:]:
        (root / f"JPEGImages/cat face/{name}.jpg").unlink()
    with pytest.raises(ImageError, match="none of the images of category cat face can be read"):
        lenient[0]


def test_keypoints_without_names_make_no_groups(root: Path) -> None:
    warped = WarpedImages(root, "trn")
    with pytest.raises(ValueError, match="has keypoints without names"):
        ImageGroups(warped, PairTransform(SIZE), 2)
