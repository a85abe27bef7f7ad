"""Collects the evidence of a model on the points of a data set, with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.dataset import PairDataset
from ...data.records import BoolArray, FloatArray, PairInfo, Size
from ...data.table import PairTable
from ...data.transforms import PairTransform
from ...data.unmatched import OccludedImages, different_categories
from ...models.evidence import CellMatches, Encoded, Evidence, encode_images, gather_evidence, match_cells
from ...models.salience import salient_points
from ...sizes import Placement, height_width, place
from ..features import FeatureCache

_BATCH = 16  # pairs whose images are encoded at once
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of a data set, with a model's evidence and the truth.

    Attributes:
        evidence: of N points.
        errors: (N, 2) of the matches in pixels of the model's input; NaN where a point has no match.
        scale: (N, 2) factors (x, y) from pixels of the target image to pixels of the model's input.
        pair: (N,) number of the pair.
        category: (N,) name of the pair's category.
        photographs: (N, 2) files of the source and the target.
    """

    evidence: Evidence
    errors: FloatArray
    scale: FloatArray
    pair: npt.NDArray[np.int64]
    category: npt.NDArray[np.str_]
    photographs: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def unmatched(self) -> BoolArray:
        """Which points (N,) have no match."""
        return np.asarray(np.isnan(self.errors).any(axis=1))

    @property
    def pairs(self) -> int:
        """The number of pairs."""
        return len(np.unique(self.pair))


class EncodedPair(NamedTuple):
    """A pair with its number, and both images encoded."""

    number: int
    info: PairInfo
    source: Encoded
    target: Encoded


def collect_samples(network: Any, dataset: PairDataset, progress: Progress | None = None) -> Samples:
    """Gather the evidence of a model on all keypoints of a data set.

    Args:
        network: a model that `gives_evidence`.
        dataset: the pairs; the target keypoint of a point without a match is NaN.
        progress: called after each pair with the number of pairs done and the total.
    """
    parts = []
    for pair in encoded_pairs(network, dataset):
        cells = match_cells(network, pair.source, pair.target)
        parts.append(_at_keypoints(network, pair, cells))
        if progress is not None:
            progress(pair.number + 1, len(dataset))
    return joined_samples(parts)


@dataclass(frozen=True, eq=False)
class Collected:
    """What a calibration is fitted to, or measured on.

    Attributes:
        matched: keypoints of the data set's pairs.
        different: keypoints of pairs of different categories.
        occluded: points of copies that are hidden in part.
        same_salient, different_salient: the model's own points on the pairs of `matched` and of `different`; their
            truth is NaN.
    """

    matched: Samples
    different: Samples
    occluded: Samples
    same_salient: Samples
    different_salient: Samples


def collect(
    network: Any, dataset: PairDataset, *, copies: int = 2, seed: int = 0, progress: Progress | None = None
) -> Collected:
    """Collect all samples of a data set: as many pairs of different categories as of the same one, and copies.

    Args:
        network: a model that `gives_evidence`.
        dataset: pairs of at least two categories.
        copies: number of copies of each image that are hidden in part.
        seed: seed of the pairs of different categories and of the copies.
        progress: called after each pair with the number of pairs done and the total.

    Raises:
        DataError: all pairs have one category.
    """
    different = different_categories(dataset, len(dataset), seed)
    occluded = OccludedImages(dataset, copies=copies, seed=seed)
    total = len(dataset) + len(different) + len(occluded)
    keypoints, own = [], []
    for pair in encoded_pairs(network, _both(dataset, different)):
        cells = match_cells(network, pair.source, pair.target)
        keypoints.append(_at_keypoints(network, pair, cells))
        own.append(_at_salient_points(network, pair, cells))
        if progress is not None:
            progress(pair.number + 1, total)
    hidden = collect_samples(network, occluded, progress and (lambda done, _: progress(len(keypoints) + done, total)))
    known = [not part.unmatched.any() for part in keypoints]
    return Collected(
        matched=_chosen(keypoints, known),
        different=_chosen(keypoints, [not x for x in known]),
        occluded=hidden,
        same_salient=_chosen(own, known),
        different_salient=_chosen(own, [not x for x in known]),
    )


def _chosen(parts: list[Samples], keep: list[bool]) -> Samples:
    return joined_samples([part for part, wanted in zip(parts, keep, strict=True) if wanted])


def _both(first: PairDataset, second: PairDataset) -> PairDataset:
    """Join the pairs of two data sets of the same images."""
    infos = [dataset.info(i) for dataset in (first, second) for i in range(len(dataset))]
    joined = first.subset([])
    joined.table = PairTable.of(infos, first.root)
    return joined


def _at_keypoints(network: Any, pair: EncodedPair, cells: CellMatches) -> Samples:
    source, target = (placed_in(network, x) for x in (pair.info.source_size, pair.info.target_size))
    points = source.to_input(pair.info.source_keypoints)
    evidence = gather_evidence(network, pair.source, pair.target, points, cells)
    return _samples(network, pair, evidence, evidence.matches - target.to_input(pair.info.target_keypoints))


def _at_salient_points(network: Any, pair: EncodedPair, cells: CellMatches) -> Samples:
    points = salient_points(cells) * height_width(network.image_size)[::-1]
    evidence = gather_evidence(network, pair.source, pair.target, points, cells)
    return _samples(network, pair, evidence, np.full((len(points), 2), np.nan))


def _samples(network: Any, pair: EncodedPair, evidence: Evidence, errors: FloatArray) -> Samples:
    count, info = len(evidence), pair.info
    return Samples(
        evidence,
        errors,
        np.tile(placed_in(network, info.target_size).scale, (count, 1)),
        np.full(count, pair.number),
        np.full(count, info.category),
        np.tile([str(info.source_path), str(info.target_path)], (count, 1)),
    )


def encoded_pairs(network: Any, dataset: PairDataset) -> Iterator[EncodedPair]:
    """Yield every pair with the features of both images; pairs of the same images are neighbours."""
    infos = sorted(map(dataset.info, range(len(dataset))), key=lambda x: (x.category, x.source_key, x.target_key))
    transform = PairTransform(network.image_size, tuple(network.mean), tuple(network.std), resize=network.resize)
    images = {key: view for info in infos for key, view in _views(info).items()}

    def encode(keys: Sequence[Any]) -> Encoded:
        inputs = [transform.prepare(dataset.load_image(*images[key])) for key in keys]
        return encode_images(network, torch.stack(inputs).to(_device(network)))

    steps = [infos[i : i + _BATCH] for i in range(0, len(infos), _BATCH)]
    uses = [[key for info in step for key in _views(info)] for step in steps]
    cache = FeatureCache(encode, uses, 2 << 30)
    number = 0
    for step, wanted in enumerate(uses):
        features = cache.get(step, wanted)
        for info in steps[step]:
            yield EncodedPair(number, info, features[info.source_key], features[info.target_key])
            number += 1


def placed_in(network: Any, size: Size) -> Placement:
    """Return where an image (height, width) lies in a model's input."""
    return place(size, network.image_size, network.resize)


def _views(info: PairInfo) -> dict[tuple[str, str], tuple[Any, Size, str]]:
    return {
        info.source_key: (info.source_path, info.source_size, info.source_variant),
        info.target_key: (info.target_path, info.target_size, info.target_variant),
    }


def _device(network: torch.nn.Module) -> torch.device:
    tensor: Tensor = next(network.parameters())
    return tensor.device


def joined_samples(parts: list[Samples]) -> Samples:
    """Join the points of several pairs or data sets; pairs must have different numbers to be told apart."""
    fields = ("errors", "scale", "pair", "category", "photographs")
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in fields)
    return Samples(Evidence.joined([part.evidence for part in parts]), *columns)
