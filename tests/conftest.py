"""Backends, samples and data that the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.parts import parse_part
from simplematch_kernels import _backends

from .interpreter import prepare_language_once_per_launch
from .samples import BACKENDS, DEVICE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, help="at most so many cases of each test and backend, spread over its list")
    parser.addoption("--share", help="2/4: the second of four shares of the tests")


def pytest_configure(config: pytest.Config) -> None:
    try:
        parse_part(config.getoption("--share") or "1/1")
    except ValueError as error:
        raise pytest.UsageError(f"--share: {error}") from None
    if _backends.interpreting():
        patch = pytest.MonkeyPatch()
        prepare_language_once_per_launch(patch)
        config.add_cleanup(patch.undo)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = list(items)
    if config.getoption("--cases"):
        kept = few_of_each(kept, config.getoption("--cases"))
    if config.getoption("--share"):
        kept = share_of(kept, *parse_part(config.getoption("--share")))
    if len(kept) < len(items):
        chosen = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = kept


def few_of_each(items: list[pytest.Item], most: int) -> list[pytest.Item]:
    """At most so many cases of each test and backend: the first, the last, and those evenly between them."""
    groups: dict[tuple[str, object], list[pytest.Item]] = {}
    for item in items:
        call = getattr(item, "callspec", None)
        backend = None if call is None else call.params.get("backend", call.params.get("name"))
        groups.setdefault((item.nodeid.split("[")[0], backend), []).append(item)
    kept = {group[round(i * (len(group) - 1) / max(1, most - 1))] for group in groups.values() for i in range(most)}
    return [item for item in items if item in kept]


def share_of(items: list[pytest.Item], part: int, parts: int) -> list[pytest.Item]:
    """A share of every test: its cases in turn, so that shares take about as long as each other."""
    return [item for index, item in enumerate(items) if index % parts == part - 1]


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
    """Folder with the golden vectors and data sets: SIMPLEMATCH_DATA, which must be there, or `shared` beside us."""
    named = os.environ.get("SIMPLEMATCH_DATA")
    folder = Path(named or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        if named:
            pytest.fail(f"SIMPLEMATCH_DATA must name a folder that is there, got {named}")
        pytest.skip(f"no data folder {folder}; SIMPLEMATCH_DATA names another")
    return folder
