"""Counts the memory of a training step without data and without a GPU.

Under `FakeTensorMode` every operator runs on shapes only. Each storage that an operator creates is counted until its
release; the peak is the largest total. The scratch memory of kernels is not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Network = TypeVar("Network", bound=nn.Module)


class LiveStorage(TorchDispatchMode):
    """Counts the bytes of all storages that operators return while it is active.

    Attributes:
        live: bytes in use.
        peak: largest `live` since `reset_peak`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage once, even if tensors share it."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, size)

    def reset_peak(self) -> None:
        self.peak = self.live

    def _release(self, size: int) -> None:
        self.live -= size


@contextmanager
def counted() -> Iterator[LiveStorage]:
    """Count the storages of fake tensors while the block runs."""
    with FakeTensorMode(allow_non_fake_inputs=False), LiveStorage() as storage:
        yield storage


def empty_weights(network: Network, device: str = "cpu") -> Network:
    """Replace a network's parameters and buffers, which may be on "meta", by empty tensors."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            fresh = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            setattr(module, name, nn.Parameter(fresh, requires_grad=parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))
    return network


def peak_of(step: Callable[[], object], storage: LiveStorage) -> int:
    """Return the peak during a call, including storages created before it."""
    storage.reset_peak()
    step()
    return storage.peak
