"""Encodes every copy of every image once, before a run whose encoder is frozen."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .._json import loads, to_json
from ..data import ImageCopies, ImageError
from ..models import SimpleMatch
from .feature_store import FeatureStore
from .fetch import CatchingDataset, Failure, fetch
from .stop import ignore_signals

FORMAT = 1  # of the files and of what a copy is drawn from
BATCH = 16  # images encoded at once
REPORTS = 10  # log entries while encoding
_log = logging.getLogger(__name__)


@dataclass
class Filling:
    """How to fill a cache.

    Attributes:
        device: device of the encoder.
        autocast: makes the context that images are encoded in.
        workers: processes that load images.
        skip_broken: leave out images that can't be read.
        rank, world: this process encodes every `world`-th missing copy, beginning with number `rank`.
        stopping: tells whether to stop.
        progress: receives the number of copies done and the total.
    """

    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    workers: int = 0
    skip_broken: bool = False
    rank: int = 0
    world: int = 1
    stopping: Callable[[], bool] = field(default=lambda: False)
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)


class CachedCopies:
    """The features of the copies of a data set.

    Attributes:
        copies: the copies; `use` makes them read features.
        store: the features.
        every: key and number of every copy.
        broken: why images can't be read, by key.
    """

    def __init__(self, folder: Path, network: SimpleMatch, copies: ImageCopies, precision: str, weights: str) -> None:
        """Find what is cached already; `weights` is the `identity.digest` of the encoder."""
        transform = asdict(copies.transform)
        for name in ("max_keypoints", "swap"):  # of samples, not of images
            del transform[name]
        config = network.config
        settings = {
            "format": FORMAT, "encoder": config.encoder, "kind": config.kind, "encoder_options": config.encoder_options,
            "weights": weights, "precision": precision, "maps": network.rows.shapes, "transform": transform,
            "seed": copies.seed if is_random(copies) else None,
        }  # fmt: skip
        self.copies = copies
        self.store = FeatureStore(folder, settings, network.rows.length)
        self.broken: dict[tuple[str, str], str] = {}
        self.every = [(key, copy) for key in copies.images for copy in range(copies.count)]

    @property
    def total(self) -> int:
        return len(self.every)

    def missing(self) -> list[tuple[tuple[str, str], int]]:
        """Return the copies that are not cached and not broken."""
        name = self.copies.name_of
        return [(key, copy) for key, copy in self.every if key not in self.broken and name(key, copy) not in self.store]

    def describe(self) -> str:
        """Return the size of the whole cache."""
        images, count = len(self.copies.images), self.copies.count
        size = self.total * self.store.row_bytes
        there = self.total - len(self.missing())
        return (
            f"cache {self.store.folder}: {images} images x {count} {'copy' if count == 1 else 'copies'}, "
            f"{size / 1e9:.2f} GB, of which {there * self.store.row_bytes / 1e9:.2f} GB are there"
        )

    def fill(self, network: SimpleMatch, how: Filling) -> bool:
        """Encode what is missing; return False if it was stopped. What is done by then stays.

        Raises:
            OSError: the features can't be written.
            ChildProcessError: a data loader worker was killed.
            DataError: an image can't be read and `skip_broken` is False.
        """
        todo = self.missing()[how.rank :: how.world]
        loader: DataLoader[Any] = DataLoader(
            CatchingDataset(_Drawn(self.copies, todo)), BATCH, num_workers=how.workers, collate_fn=list,
            worker_init_fn=ignore_signals,
        )  # fmt: skip
        size, waiting = self.store.rows_of_a_file(self.total), _Waiting()
        done, start, reported = 0, time.monotonic(), 0
        batches = iter(loader)
        while (batch := fetch(batches)) is not None and not how.stopping():
            if isinstance(batch, Failure):
                raise batch.error
            members = self._readable(batch, todo[done : done + BATCH], how.skip_broken)
            if members:
                pixels = torch.stack([drawn for _, drawn, _ in members]).to(how.device)
                with how.autocast():
                    rows = network.encode_images(pixels).cpu()
                waiting.add([name for name, _, _ in members], rows, torch.stack([affine for *_, affine in members]))
            if waiting.count >= size:
                self.store.write(*waiting.take())
            done += len(batch)
            how.progress(done, len(todo))
            if done * REPORTS // len(todo) > reported and how.rank == 0:
                reported = done * REPORTS // len(todo)
                speed = done / (time.monotonic() - start)
                left = (len(todo) - done) / speed / 60
                _log.info("encoded %d of %d, %.1f images/s, %.0f minutes left", done, len(todo), speed, left)
        if waiting.count:
            self.store.write(*waiting.take())
        return done == len(todo)

    def _readable(self, batch: list[Any], keys: list[Any], skip_broken: bool) -> list[tuple[str, Tensor, Tensor]]:
        """Return name, pixels and map of the images that could be read."""
        members = []
        for drawn, (key, copy) in zip(batch, keys, strict=True):
            if isinstance(drawn, Failure):
                if not (skip_broken and isinstance(drawn.error, ImageError)):
                    raise drawn.error
                self.broken[key] = str(drawn.error)
            else:
                members.append((self.copies.name_of(key, copy), *drawn))
        return members

    def use(self) -> None:
        """Let the copies read their features; an image that isn't cached raises ImageError."""
        self.store.refresh()
        self.copies.read = partial(read_features, self)


def read_features(cached: CachedCopies, key: tuple[str, str], copy: int) -> tuple[Tensor, Tensor]:
    """Return the features (F,) float16 of a copy and the map (2, 3) of its points."""
    name = cached.copies.name_of(key, copy)
    if name not in cached.store:
        raise ImageError(
            cached.broken.get(key, f"image {key[0]} has no features, because another process can't read it.")
        )
    return cached.store.read(name)


def is_random(copies: ImageCopies) -> bool:
    """Return whether copies with different seeds differ."""
    transform = copies.transform
    return any((transform.crop, transform.rotate, transform.photometric, transform.affine))


def other_settings(store: FeatureStore) -> str:
    """Name the settings in which the features of the same cache that come closest differ, or return ""."""
    mine = _flat(store.settings)
    different = [
        [f"{name} {theirs.get(name)!r} (here {mine.get(name)!r})" for name in mine if theirs.get(name) != mine[name]]
        for theirs in map(_flat, store.others())
    ]
    return ", ".join(sorted(different, key=len)[0]) if different else ""


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = loads(to_json(settings).encode())
    transform = plain.pop("transform", {})
    return plain | (transform if isinstance(transform, dict) else {})


class _Drawn(Dataset[Any]):
    def __init__(self, copies: ImageCopies, todo: Sequence[tuple[tuple[str, str], int]]) -> None:
        self.copies, self.todo = copies, todo

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.copies.draw(*self.todo[index])


class _Waiting:
    """Encoded copies that no file holds yet."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: list[Tensor] = []
        self.affine: list[Tensor] = []

    @property
    def count(self) -> int:
        return len(self.names)

    def add(self, names: list[str], rows: Tensor, affine: Tensor) -> None:
        self.names += names
        self.rows.append(rows)
        self.affine.append(affine)

    def take(self) -> tuple[list[str], Tensor, Tensor]:
        taken = (self.names, torch.cat(self.rows), torch.cat(self.affine))
        self.names, self.rows, self.affine = [], [], []
        return taken
