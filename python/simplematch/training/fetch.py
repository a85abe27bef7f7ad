"""Fetches batches; read errors are returned to the training loop, so that it can save before it raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from .._files import DataError
from .stop import defer_worker_errors


@dataclass(frozen=True)
class Failure:
    """The reason why there is no batch."""

    error: Exception


class CatchingDataset(Dataset[Any]):
    """Wraps a data set to return a Failure instead of raising a DataError.

    PyTorch would re-raise the error with the traceback of the worker as its message.
    """

    def __init__(self, samples: Dataset[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        try:
            return self.samples[index]
        except DataError as error:
            return Failure(error)


class CatchingCollate:
    """Wraps a collate function to return the first Failure among the samples, if any."""

    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        failures = (sample for sample in samples if isinstance(sample, Failure))
        return next(failures, None) or self.collate(samples)


def fetch(batches: Iterator[Any]) -> Any:
    """Return the next batch, a Failure, or None after the last batch."""
    try:
        return next(batches, None)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        number = re.search(r"\d+", str(error))
        return Failure(
            ChildProcessError(
                f"a data loader worker (process {number[0] if number else 'unknown'}) was killed, for example because "
                "memory or shared memory ran out: use fewer workers or a smaller batch_size."
            )
        )
    finally:
        defer_worker_errors()
