"""The tools of the benchmarks: measurement, claims and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import journal, machine, measure, parts
from benchmarks.claims import Claim, claims
from benchmarks.compare import compare
from benchmarks.live_storage import counted, peak_of
from benchmarks.measure import ratio
from benchmarks.report import RESULTS, page, read
from benchmarks.test_scaling import exponent

MIB = 2**20


def test_live_storage_counts_what_is_alive_at_one_time() -> None:
    with counted() as storage:
        kept = torch.empty(MIB, dtype=torch.uint8)

        def work() -> None:
            first = torch.empty(2 * MIB, dtype=torch.uint8)
            view = first.view(2, MIB)[0]
            del first  # the view keeps its storage alive
            torch.empty(4 * MIB, dtype=torch.uint8)
            del view
            torch.empty(5 * MIB, dtype=torch.uint8)

        assert peak_of(work, storage) == 7 * MIB  # kept, the view's storage, and four more
        assert storage.live == kept.nbytes


def test_live_storage_counts_what_autograd_keeps() -> None:
    with counted() as storage:
        x = torch.empty(MIB // 4, requires_grad=True)
        y = x.sin().exp().sum()
        assert storage.live == 2 * MIB + 4  # x, which sin keeps, the result that exp keeps, the sum
        y.backward()
        assert storage.live == 2 * MIB + 4  # x, its gradient, the sum


@pytest.mark.parametrize(
    "claim, verdict",
    [
        (Claim("at least", bar=2, figure=2), "pass"),
        (Claim("at least", bar=2, figure=1.9), "FAIL"),
        (Claim("at most", bar=2, figure=2.1, at_most=True), "FAIL"),
        (Claim("known", bar=2, figure=1.9, known_miss="the floor"), "MISSED"),
        (Claim("known, yet met", bar=2, figure=2.1, known_miss="the floor"), "pass"),
        (Claim("not a number", bar=2, figure=float("nan")), "FAIL"),
    ],
    ids=lambda x: x.text if isinstance(x, Claim) else x,
)
def test_verdict(claim: Claim, verdict: str) -> None:
    assert claim.verdict == verdict
    assert str(claim).startswith(verdict)


def test_claims_of_memory_compare_with_dense() -> None:
    variants = {"dense": 1000.0, "fused + checkpointing": 480.0, "fused + checkpointing + bf16": 310.0}
    rows = [{"preset": "resnet101-256", "variant": name, "counted_mib": mib} for name, mib in variants.items()]
    found = claims({"machine": {"kind": "cpu"}, "training_memory": rows})
    assert [(claim.bar, claim.figure, claim.verdict) for claim in found] == [
        (51, pytest.approx(52), "pass"),
        (70, pytest.approx(69), "FAIL"),
    ]


def test_a_bar_that_was_met_must_stay_met() -> None:
    """Only known misses are allowed."""
    shape = {"batch": 8, "channels": 768, "side": 63, "localization": "window", "dtype": "float32"}
    medians = {"ours": 10.0, "eager": 39.0, "compile": 39.0}
    measured = {"times": {name: times(ms, 1.0) for name, ms in medians.items()}, "peak_bytes": {"ours": 11}}
    row = shape | measured | {"mode": "forward", "layout": "contiguous", "floor_bytes": 100, "kept_bytes": {"ours": 3}}
    found = {claim.text: claim.verdict for claim in claims({"machine": {"kind": "cpu"}, "op": [row]})}
    assert found == {
        "forward, contiguous, faster than eager": "FAIL",
        "forward, contiguous, faster than compile": "MISSED",
        "forward, contiguous, faster than every rival": "pass",
        "forward, contiguous, transient memory, of a feature map": "FAIL",
        "forward, contiguous, kept for the backward, of a feature map": "pass",
    }


def test_claims_are_made_of_what_was_measured() -> None:
    """A run of a few benchmarks has few claims."""
    result = {
        "machine": {"kind": "cpu"},
        "training_memory": [{"preset": "resnet101-256", "variant": "dense", "counted_mib": 1000.0}],
        "stage_memory": [{"side": 64, "matching": "fused", "counted_mib": 90.0}],
    }
    assert claims(result) == []


def times(median: float, spread: float) -> dict[str, float]:
    return {"median_ms": median, "q1_ms": median - spread, "q3_ms": median + spread}


@pytest.mark.parametrize("spread, mark", [(0.5, " *"), (2.0, "")])
def test_compare_marks_what_lies_apart(spread: float, mark: str) -> None:
    """Overlapping quartiles are not a change."""

    def result(median: float) -> dict[str, Any]:
        row = {"mode": "forward", "times": {"ours": times(median, spread), "eager": times(50.0, 1.0)}}
        return {"op": [row], "commit": "abc"}

    (line,) = compare(result(10.0), result(12.0))
    assert line == f"op mode=forward: ours 10.000 -> 12.000 ms, 1.20x{mark}"


def test_ratio_is_taken_round_by_round() -> None:
    assert ratio([1.0, 10.0, 2.0], [3.0, 30.0, 2.0]) == 3.0  # a slow round is slow for both


def test_exponent() -> None:
    assert exponent([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]) == pytest.approx(2)


RUN = {"time": "2026-01-01T00:00:00", "date": "2026-01-01", "commit": "abc", "machine": {"kind": "cpu", "device": "A"}}


def test_a_row_is_on_the_disk_when_it_is_measured(tmp_path: Path) -> None:
    file = journal.Journal(tmp_path / "out" / "x.jsonl", RUN)
    file.begin("t")
    file.row("t", "steps", {"ms": 1})
    assert [entry["row"] for entry in journal.read([file.path]) if "row" in entry] == [{"ms": 1}]


def test_a_line_that_a_killed_run_cut_off_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    first = journal.Journal(path, RUN)
    first.row("a", "steps", {"ms": 1})
    with open(path, "a") as file:
        file.write('{"test": "b", "suite": "steps", "ro')
    journal.Journal(path, RUN | {"time": "2026-01-01T01:00:00"}).row("c", "steps", {"ms": 3})
    result = journal.result_of(journal.read([path]))
    assert result["steps"] == [{"ms": 1}, {"ms": 3}] and result["time"] == "2026-01-01T01:00:00"


def test_parts_make_one_result_and_a_test_that_ran_again_counts_once(tmp_path: Path) -> None:
    early, late = (journal.Journal(tmp_path / f"{n}.jsonl", RUN | {"time": f"2026-01-0{n}"}) for n in (1, 2))
    for file, value in ((late, 2), (early, 1)):
        file.begin("again")
        file.row("again", "steps", {"ms": value})
        file.end("again", "failed" if file is early else "passed", 0.1)
    early.row("first", "cost", {"ms": 5})
    result = journal.result_of(journal.sorted_runs([late.path, early.path]))
    assert (result["steps"], result["cost"], result["failed_tests"]) == ([{"ms": 2}], [{"ms": 5}], 0)
    assert result["time"] == "2026-01-02"


def test_a_result_without_its_journal_is_not_written_over(tmp_path: Path) -> None:
    path = journal.place(tmp_path, "AMD EPYC 1", "abc")
    assert path.parent.name == "amd-epyc-1" and path.name.endswith("-abc.jsonl")
    path.parent.mkdir()
    path.with_suffix(".json").write_text("{}")
    assert journal.place(tmp_path, "AMD EPYC 1", "abc").name.endswith("-abc-2.jsonl")
    path.write_text("")  # the next part of the same run
    assert journal.place(tmp_path, "AMD EPYC 1", "abc") == path


def test_a_commit_needs_no_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SIMPLEMATCH_COMMIT", raising=False)
    assert machine.commit() == "unknown"
    monkeypatch.setenv("SIMPLEMATCH_COMMIT", "abc")
    assert machine.commit() == "abc"


def test_parts_are_the_whole_and_alike() -> None:
    seconds = [120.0] * 5 + [15.0] * 60 + [40.0] * 10
    found = [parts.chosen(seconds, part, 4) for part in (1, 2, 3, 4)]
    assert sorted(index for part in found for index in part) == list(range(len(seconds)))
    lengths = [sum(seconds[index] for index in part) for part in found]
    assert max(lengths) - min(lengths) <= 15
    assert all(part == sorted(part) for part in found)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "-1/2", "1/0"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"a part must be I/N with I from 1 to N, got '{text}'"):
        parts.parse_part(text)


def test_the_caches_are_flushed_by_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing would leave dirty lines, which are written back while a provider is timed."""
    filler = torch.ones(8)
    monkeypatch.setattr(measure, "_l2_filler", lambda device: filler)
    measure._flush_l2(torch.device("cpu"))
    assert filler._version == 0 and torch.equal(filler, torch.ones(8))


def test_two_milliseconds_of_launches_are_hidden() -> None:
    fastest_clock = 1.98e9  # H100
    assert measure._LAUNCH_CYCLES / fastest_clock >= 2e-3


def test_of_every_suite_the_newest_rows_count(tmp_path: Path) -> None:
    def save(time: str, device: str, **suites: list[int]) -> Path:
        path = tmp_path / f"{time}.json"
        about = {"time": time, "date": time, "commit": f"commit-{time}", "machine": {"device": device}}
        path.write_text(json.dumps(about | suites))
        return path

    paths = [save("3", "A", op=[3]), save("1", "A", op=[1], cost=[1]), save("2", "B", op=[2])]
    first, second = read(paths)
    assert (first["op"], first["cost"], second["op"]) == ([3], [1], [2])
    assert first["measured"] == {"op": "3, commit commit-3", "cost": "1, commit commit-1"}


def test_the_page_is_that_of_the_newest_results(tmp_path: Path) -> None:
    results = read(list(RESULTS.glob("*/*.json")))
    written = (Path(__file__).parents[2] / "docs/benchmarks.md").read_text()
    assert written == page(results, tmp_path) + "\n"
    assert sorted(path.name for path in tmp_path.iterdir())  # and its pictures
