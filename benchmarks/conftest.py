"""`pytest benchmarks`: every test measures and records rows, and the session writes them to one json file.

    pytest benchmarks/test_training_memory.py --save result.json
    pytest benchmarks/test_op.py --benchmark-json times.json      or another option of pytest-benchmark

Each row is written to result.jsonl as soon as it is measured. A later run appends to that file, so the parts of a run
(`--part 2/6`) make one result, and `--missing` continues a killed run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from . import journal, parts
from .machine import commit, device_name, machine
from .timings import Timings, recorded_clock

# Modules that need whole models and therefore timm, which a GPU machine may lack.
MODELS = ["test_scaling.py", "test_throughput.py", "test_training_memory.py", "test_training_step.py"]
collect_ignore = [] if find_spec("timm") else MODELS
SCOPES = ("quick", "usual", "full")
Record = Callable[[str, dict[str, Any]], None]
_JOURNAL = pytest.StashKey[journal.Journal | None]()
_DEADLINE = pytest.StashKey[parts.Deadline]()
_LATE = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to measure")
    parser.addoption("--scope", choices=SCOPES, default="usual", help="how much to measure: seconds, minutes, hours")
    parser.addoption("--rounds", type=int, help="measurements of each provider (default: 5 on a CPU, 25 on a GPU)")
    parser.addoption("--save", type=Path, help="json file for the results, or a folder of results by device")
    parser.addoption("--part", help="2/6: the second of six parts of similar duration")
    parser.addoption("--minutes", type=float, help="start no benchmark after this time")
    parser.addoption("--missing", action="store_true", help="only benchmarks without rows in the file of --save")


class WithoutPytestBenchmark:
    """A GPU machine may lack pytest-benchmark; our own result needs only pytest."""

    @pytest.fixture
    def benchmark(self) -> None:
        return None


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("benchmark"):
        config.pluginmanager.register(WithoutPytestBenchmark())
    config.stash[_DEADLINE] = parts.Deadline(config.getoption("--minutes"))
    config.stash[_JOURNAL] = None
    if config.getoption("--part"):
        try:
            parts.parse_part(config.getoption("--part"))
        except ValueError as error:
            raise pytest.UsageError(f"--part: {error}") from None


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("--save") is not None and not session.config.getoption("--collect-only"):
        session.config.stash[_JOURNAL] = _open_journal(session.config)


def _open_journal(config: pytest.Config) -> journal.Journal:
    about = machine(torch.device(config.getoption("--device")))
    path = journal.place(config.getoption("--save"), about["device"], commit())
    now = journal.now()
    return journal.Journal(path, {"date": now[:10], "time": now, "commit": commit(), "machine": about})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the requested part, and with --missing its missing benchmarks."""
    kept = list(items)
    if config.getoption("--part"):
        seconds = [parts.seconds_of(item) for item in items]
        kept = [items[i] for i in parts.chosen(seconds, *parts.parse_part(config.getoption("--part")))]
    file = config.stash[_JOURNAL]
    if config.getoption("--missing") and file is not None:
        passed = {entry["test"] for entry in journal.read([file.path]) if entry.get("outcome") == "passed"}
        kept = [item for item in kept if item.nodeid not in passed]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    if config.pluginmanager.hasplugin("benchmark"):
        for item in items:
            item.add_marker(pytest.mark.benchmark(timer=recorded_clock))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the facts that must be equal when times are compared."""
    device = device_name(torch.device(config.getoption("--device")))
    machine_info.update(device=device, threads=torch.get_num_threads(), torch=torch.__version__)


def pytest_report_header() -> str:
    return f"timm is not installed: {', '.join(collect_ignore)} left out" if collect_ignore else "whole models included"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise tests that take a `case` with their module's `cases(kind, scope)`."""
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
def timings(benchmark: Any, device: torch.device) -> Timings:
    """Return an object that measures times, and records them with pytest-benchmark if it is installed."""
    return Timings(benchmark, device)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Return a function that adds a row to a suite of the result and flushes it to disk."""
    file, test = request.config.stash[_JOURNAL], request.node.nodeid
    return lambda suite, row: None if file is None else file.row(test, suite, row)


@pytest.fixture(autouse=True)
def _in_time(request: pytest.FixtureRequest) -> None:
    if request.node.stash[_LATE]:
        minutes = request.config.getoption("--minutes")
        pytest.skip(f"the {minutes:g} minutes of --minutes are over; measure it with --missing")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    file, late = item.config.stash[_JOURNAL], item.config.stash[_DEADLINE].over
    item.stash[_LATE] = late
    if file is not None and not late:
        file.begin(item.nodeid)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the outcome of a test, which fails if any of its phases does."""
    report = yield
    file = item.config.stash[_JOURNAL]
    if file is not None and (report.failed or report.when == "call"):
        file.end(report.nodeid, report.outcome, report.duration)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the result, even if a test failed."""
    file = session.config.stash[_JOURNAL]
    if file is not None:
        entries = journal.read([file.path])
        if any("row" in entry for entry in entries):
            print(f"\nwritten to {journal.write_result(file.path.with_suffix('.json'), entries)}")
