"""Backends, samples and data that the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .samples import BACKENDS, DEVICE


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that can run in this process."""
    name: str = request.param
    return name


@pytest.fixture
def device() -> torch.device:
    return DEVICE


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh tensors hold NaN (integers: a large value), so that an element nobody writes shows."""
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True
        yield
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the golden vectors and data sets: SIMPLEMATCH_DATA, or `shared` beside the checkout."""
    folder = Path(os.environ.get("SIMPLEMATCH_DATA", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no data folder {folder}; set SIMPLEMATCH_DATA")
    return folder
