"""Features of images, computed once each and kept only while a later pair needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Key = Hashable


class FeatureCache:
    """Features by image, in bounded memory.

    The whole order of use is known, so an image is dropped after its last use, and if memory still runs short, the
    one whose next use is farthest away goes first. Only then is an image encoded again.

    Attributes:
        encoded: how many images were encoded so far, repetitions included.
    """

    def __init__(self, encode: Callable[[Sequence[Key]], Any], uses: Sequence[Sequence[Key]], max_bytes: int) -> None:
        """Begin with nothing encoded.

        Args:
            encode: features of some images, as a tensor or a nest of tensors with the images along dimension 0.
            uses: the images that each step needs, in the order of the steps.
            max_bytes: what the features may take; those of one step are kept in any case.
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
            steps.reverse()  # the next use is the last entry
        self.encoded = 0

    def has(self, key: Key) -> bool:
        """Whether an image need not be encoded now."""
        return key in self._features

    def get(self, step: int, keys: Sequence[Key]) -> dict[Key, Any]:
        """The features of a step's images; steps come in order."""
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
    """Features of single images as those of a batch."""
    return tree_map(lambda *tensors: torch.cat(tensors), *features)
