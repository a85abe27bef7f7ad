"""A cache of image features, which keeps features only while a later pair needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Key = Hashable


class FeatureCache:
    """Caches features by image in bounded memory.

    The order of use is known, so an image is dropped after its last use. If memory runs short, the cache drops the
    image with the latest next use, which is encoded again when needed.

    Attributes:
        encoded: number of images encoded so far, repetitions included.
    """

    def __init__(self, encode: Callable[[Sequence[Key]], Any], uses: Sequence[Sequence[Key]], max_bytes: int) -> None:
        """Start empty.

        Args:
            encode: returns the features of images as a nest of tensors with the images along dimension 0.
            uses: the images that each step needs, in the order of the steps.
            max_bytes: memory for the features; the features of one step are always kept.
        """
        self._encode = encode
        self._max_bytes = max_bytes
        self._features: dict[Key, Any] = {}
        self._bytes: dict[Key, int] = {}
        self._uses: dict[Key, list[int]] = defaultdict(list)
        for step, keys in enumerate(uses):
            for key in set(keys):
                self._uses[key].append(step)
        for steps in self._uses.values():
            steps.reverse()  # so that the next use is the last entry
        self.encoded = 0

    def has(self, key: Key) -> bool:
        """Return whether an image's features are cached."""
        return key in self._features

    def get(self, step: int, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the features of a step's images; call it for the steps in order."""
        wanted = list(dict.fromkeys(keys))
        missing = [key for key in wanted if key not in self._features]
        if missing:
            features = self._encode(missing)
            self.encoded += len(missing)
            for i, key in enumerate(missing):
                self._store(key, tree_map(lambda tensor, i=i: tensor[i : i + 1].clone(), features))
        found = {key: self._features[key] for key in wanted}
        self._forget(step)
        return found

    def _store(self, key: Key, features: Any) -> None:
        self._features[key] = features
        self._bytes[key] = sum(leaf.nbytes for leaf in tree_leaves(features) if isinstance(leaf, Tensor))

    def _forget(self, step: int) -> None:
        for key in list(self._features):
            while self._uses[key] and self._uses[key][-1] <= step:
                self._uses[key].pop()
            if not self._uses[key]:
                self._drop(key)
        while sum(self._bytes.values()) > self._max_bytes:
            self._drop(max(self._features, key=lambda key: self._uses[key][-1]))

    def _drop(self, key: Key) -> None:
        del self._features[key], self._bytes[key]


def concatenate(features: Sequence[Any]) -> Any:
    """Concatenate the features of single images to those of a batch."""
    return tree_map(lambda *tensors: torch.cat(tensors), *features)
