"""What the tests of the system share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own cache of annotations."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SIMPLEMATCH_CACHE", str(folder))
    return folder
