"""Fixtures of the system tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test its own annotation cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SIMPLEMATCH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two smooth images of 80 x 96 pixels; the data set makes three pairs of each by known warps."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for i in range(2):
        coarse = Image.fromarray(random.integers(0, 256, (8, 10, 3), dtype=np.uint8))
        coarse.resize((96, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder
