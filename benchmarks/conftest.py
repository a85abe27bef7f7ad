"""`pytest benchmarks`: every test measures some rows and records them; the session writes them as one json file.

pytest benchmarks/test_training_memory.py --save result.json
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from .machine import commit, machine, save

Record = Callable[[str, dict[str, Any]], None]
_ROWS = pytest.StashKey[dict[str, list[dict[str, Any]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to measure")
    parser.addoption("--rounds", type=int, default=15, help="measurements of each provider (default: 15)")
    parser.addoption("--full", action="store_true", help="also what takes long on a CPU")
    parser.addoption("--save", type=Path, help="json file for the results, or a folder of results by device")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = {}


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Add a row to a suite of the result."""
    rows = request.config.stash[_ROWS]
    return lambda suite, row: rows.setdefault(suite, []).append(row)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path, rows = session.config.getoption("--save"), session.config.stash[_ROWS]
    if path is None or not rows:
        return
    about = machine(torch.device(session.config.getoption("--device")))
    result = {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": about, **rows}
    save(result, path)
