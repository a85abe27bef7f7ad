"""`pytest benchmarks`: every test measures some rows and records them; the session writes them as one json file.

pytest benchmarks/test_training_memory.py --save result.json
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from .claims import claims
from .machine import commit, machine, save

# What needs whole models, and so timm; a machine with a GPU may not have it.
MODELS = ["test_scaling.py", "test_throughput.py", "test_training_memory.py", "test_training_step.py"]
collect_ignore = [] if find_spec("timm") else MODELS
SCOPES = ("quick", "usual", "full")
Record = Callable[[str, dict[str, Any]], None]
_ROWS = pytest.StashKey[dict[str, list[dict[str, Any]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to measure")
    parser.addoption("--scope", choices=SCOPES, default="usual", help="how much to measure: seconds, minutes, hours")
    parser.addoption("--rounds", type=int, help="measurements of each provider (default: 5 on a CPU, 25 on a GPU)")
    parser.addoption("--save", type=Path, help="json file for the results, or a folder of results by device")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = {}


def pytest_report_header() -> str:
    return f"timm is not installed: {', '.join(collect_ignore)} left out" if collect_ignore else "whole models included"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module's `cases(kind, scope)` are the cases of its tests that take a `case`."""
    if "case" in metafunc.fixturenames:
        kind = torch.device(metafunc.config.getoption("--device")).type
        metafunc.parametrize("case", metafunc.module.cases(kind, metafunc.config.getoption("--scope")), ids=str)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--scope"))


@pytest.fixture
def rounds(request: pytest.FixtureRequest, device: torch.device) -> int:
    return int(request.config.getoption("--rounds") or (5 if device.type == "cpu" else 25))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Add a row to a suite of the result."""
    rows = request.config.stash[_ROWS]
    return lambda suite, row: rows.setdefault(suite, []).append(row)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What was measured is written even if a test failed."""
    path, rows = session.config.getoption("--save"), session.config.stash[_ROWS]
    if path is None or not rows:
        return
    about = machine(torch.device(session.config.getoption("--device")))
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    result = {"date": now[:10], "time": now, "commit": commit(), "failed_tests": session.testsfailed}
    result |= {"machine": about, **rows}
    result["claims"] = [claim.to_dict() for claim in claims(result)]
    print(f"\nwritten to {save(result, path)}")
