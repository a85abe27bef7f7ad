"""Copies of images: drawn once from seed, image and number, flipped together, with the map of their points."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest
import torch

from simplematch.data import CopiedGroups, CopiedPairs, ImageCopies, ImageError, PairTransform, open_dataset
from simplematch.data.copies import is_flipped
from simplematch.data.transforms import apply_map, is_inside

from .trees import make_spair

SIZE = 32
NAMES = ("a-1", "b-2", "c", "d", "e")
AUGMENTED = PairTransform(SIZE, crop=1.0, rotate=1.0, photometric=1.0, affine=1.0, hflip=0.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_spair(tmp_path, list(combinations(NAMES, 2)))
    return tmp_path


def copies(root: Path, transform: PairTransform = AUGMENTED, count: int = 4, seed: int = 3) -> ImageCopies:
    return ImageCopies(open_dataset("spair", root, "trn"), transform, count, seed)


def test_a_copy_is_the_same_in_every_call_and_others_differ(root: Path) -> None:
    found, again, other = copies(root), copies(root), copies(root, seed=4)
    first, second = list(found.images)[:2]
    pixels, affine = found.draw(first, 1)
    for same in (found, again):
        assert torch.equal(same.draw(first, 1)[0], pixels) and torch.equal(same.draw(first, 1)[1], affine)
    for different in (found.draw(first, 2), found.draw(second, 1), other.draw(first, 1)):
        assert not torch.equal(different[1], affine)


def test_the_map_takes_points_where_their_pixels_go(root: Path) -> None:
    """A map with any points is the one that moves the keypoints of `augment`, and a flip turns it over."""
    found = copies(root)
    image = next(iter(found.images.values()))
    points = torch.tensor(image.keypoints)
    for copy in range(4):
        _, affine = found.draw((str(image.path), ""), copy)
        moved = apply_map(affine, points)
        assert is_inside(moved, (SIZE, SIZE)).any()
        assert (torch.det(affine[:, :2]) < 0) == is_flipped(copy, 0.5)
    plain = copies(root, PairTransform(SIZE), 1)
    pixels, affine = plain.draw((str(image.path), ""), 0)
    expected = points * SIZE / torch.tensor([40, 30])
    torch.testing.assert_close(apply_map(affine, points), expected)
    assert torch.equal(pixels, plain.transform.prepare(plain.dataset.load_image(image.path, image.size)))


def test_a_share_of_the_first_copies_is_flipped() -> None:
    for hflip in (0.1, 0.3, 0.5, 0.9, 1.0):
        for count in range(1, 40):
            flipped = sum(is_flipped(copy, hflip) for copy in range(count))
            assert flipped == int(count * hflip + 1e-9)


def test_too_few_copies_for_a_flip(root: Path) -> None:
    with pytest.raises(ValueError, match=r"cache_copies must be at least 4 for hflip 0\.3, .* got 3"):
        copies(root, PairTransform(SIZE, hflip=0.3), 3)
    assert copies(root, PairTransform(SIZE, hflip=0.3), 4).choose(torch.Generator(), True) == 3


def test_pairs_and_groups_are_flipped_as_a_whole(root: Path) -> None:
    dataset = open_dataset("spair", root, "trn")
    found = copies(root, PairTransform(SIZE, hflip=0.5))
    reads: list[bool] = []

    def read(key: tuple[str, str], copy: int) -> tuple[torch.Tensor, torch.Tensor]:
        reads.append(is_flipped(copy, 0.5))
        return found.draw(key, copy)

    found.read = read
    pairs, groups = CopiedPairs(dataset, found, seed=1), CopiedGroups(dataset, found, 2, seed=1)
    seen = set()
    for epoch in range(3):
        for samples in (pairs, groups):
            samples.set_epoch(epoch)
            for i in range(len(samples)):
                reads.clear()
                sample = samples[i]
                assert len(set(reads)) == 1
                seen.add(reads[0])
    assert seen == {False, True}
    assert sample.images.shape == (2, 3, SIZE, SIZE)


def test_keypoints_of_pairs_follow_the_copies(root: Path) -> None:
    dataset = open_dataset("spair", root, "trn")
    found = copies(root)
    drawn: list[torch.Tensor] = []

    def read(key: tuple[str, str], copy: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn.append(found.draw(key, copy)[1])
        return torch.zeros(7), drawn[-1]

    found.read = read
    samples = CopiedPairs(dataset, found, seed=1)
    for i in range(len(samples)):
        drawn.clear()
        sample = samples[i]
        assert sample.source.shape == (7,) and len(sample.source_keypoints) == len(sample.target_keypoints) > 0
        source, target = (apply_map(affine, torch.tensor(points)) for affine, points in zip(
            drawn[-2:], (sample.info.source_keypoints, sample.info.target_keypoints), strict=True
        ))  # fmt: skip
        both = is_inside(source, (SIZE, SIZE)) & is_inside(target, (SIZE, SIZE))
        torch.testing.assert_close(sample.source_keypoints, source[both].float())
        torch.testing.assert_close(sample.target_keypoints, target[both].float())


def test_a_changed_image_has_another_name(root: Path) -> None:
    key = next(iter(copies(root).images))
    name = copies(root).name_of(key, 1)
    assert name == copies(root).name_of(key, 1) != copies(root).name_of(key, 0)
    os.utime(key[0], ns=(1, 1))
    assert copies(root).name_of(key, 1) != name


def test_broken_images_are_replaced_or_named(root: Path) -> None:
    (root / "JPEGImages/cat face/a-1.jpg").write_bytes(b"no image")
    dataset = open_dataset("spair", root, "trn")
    strict = CopiedGroups(dataset, copies(root), 5)
    lenient = CopiedGroups(dataset, copies(root), 5, skip_broken=True)
    with pytest.raises(ImageError, match=r"a-1.jpg can't be decoded"):
        strict[0]
    assert "a-1.jpg" in lenient[0].skipped[0]
