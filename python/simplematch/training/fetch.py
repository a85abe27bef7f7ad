"""Batches for the loop: what can't be read is an object that the loop gets, so that it can save before it raises."""

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
    """Why there is no batch."""

    error: Exception


class CatchingDataset(Dataset[Any]):
    """A data set that returns a Failure where the other one raises a DataError.

    PyTorch would raise it again with the traceback of the process that read the image as its text.
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
    """A batch of samples, or the first Failure among them."""

    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        failures = (sample for sample in samples if isinstance(sample, Failure))
        return next(failures, None) or self.collate(samples)


def fetch(batches: Iterator[Any]) -> Any:
    """The next batch, a Failure, or None after the last."""
    try:
        return next(batches, None)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        number = re.search(r"\d+", str(error))
        return Failure(
            ChildProcessError(
                f"a process that reads images (process {number[0] if number else 'unknown'}) was killed, as happens "
                "where memory or shared memory is short: use fewer workers, or a smaller batch_size."
            )
        )
    finally:
        defer_worker_errors()
