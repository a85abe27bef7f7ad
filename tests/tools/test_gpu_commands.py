"""The commands for a machine with a GPU, run here with a stub of one: no git, an empty folder, a run that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from simplematch_kernels import _backends, _native

pytest.importorskip("triton", reason="the stub is a driver for Triton")
if _backends.interpreting() or _native.why_not() is not None or shutil.which("make") is None:
    pytest.skip("needs make, the compiled module and Triton's compiler", allow_module_level=True)
ROOT = Path(__file__).parents[2]
TOOLS = ("make", "bash", "sh", "env", "mkdir", "tee", "head", "tr", "nproc", "cat", "rm", "find", "uname")
NVIDIA_SMI = """#!/bin/sh
case "$*" in *compute_cap*) echo 9.0;; *) echo "580.00, 1980 MHz, 2619 MHz, 1980 MHz, 700.00 W";; esac
"""
BENCHMARKS = "benchmarks/test_op.py -k 'smallest_call or (cuda_graph and 1)' --rounds 1"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of the other machine: nvidia-smi on the PATH and no git."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (programs / tool).symlink_to(found)
    (programs / "nvidia-smi").write_text(NVIDIA_SMI)
    (programs / "nvidia-smi").chmod(0o755)
    hidden = ("SIMPLEMATCH_", "PYTEST_", "MAKE", "MFLAGS", "CUDA")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    stub = {
        "PYTEST_ADDOPTS": "-p tests.gpu_stub.plugin -p no:cacheprovider",
        "SIMPLEMATCH_STUB_LOG": str(tmp_path / "log"),
    }
    return inherited | stub | {"PATH": str(programs)}


def make(
    target: str, results: Path, environment: dict[str, str], *variables: str, built: bool = True
) -> subprocess.CompletedProcess[str]:
    """`make` with the build taken as done, unless that is what is tested."""
    command = ["make", target, f"PYTHON={sys.executable}", f"RESULTS={results}", "JOBS=2", *variables]
    command += ["-o", "gpu-build"] if built else []
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_the_tests_of_a_gpu(tmp_path: Path, environment: dict[str, str]) -> None:
    """They pass on the stub, are recorded, and launch every kernel."""
    from ..gpu_stub.triton_driver import read_log  # which needs Triton

    run = make("test-gpu", tmp_path / "out", environment, "TESTS=tests/test_backends.py", "CASES=1")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    suite = ElementTree.parse(tmp_path / "out/tests.xml").getroot().find("testsuite")
    assert suite is not None and int(suite.attrib["tests"]) > 20
    assert "passed" in (tmp_path / "out/tests.log").read_text()
    steps = {kernel.removesuffix("_kernel") for kernel, _ in read_log(tmp_path / "log")}
    assert steps == {
        "similarity", "localize", "localize_backward", "similarity_gradient", "target_backward", "query_backward",
        "source_backward", "gather",
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["cuda", "triton"])
def test_a_backend_that_is_missing_fails_the_tests(missing: str, tmp_path: Path, environment: dict[str, str]) -> None:
    environment["SIMPLEMATCH_STUB_WITHOUT"] = missing
    run = make("test-gpu", tmp_path / "out", environment, "TESTS=tests/test_backends.py -k every_backend", "JOBS=0")
    assert run.returncode != 0
    assert f"not tested: {{'{missing}': 'the stub has no {missing}'}}" in run.stdout


def test_a_build_without_cuda_fails(tmp_path: Path, environment: dict[str, str]) -> None:
    """The recipe asks for CUDA, and asking for it without nvcc ends the build."""
    recipe = subprocess.run(
        ["make", "-n", "gpu-build", "JOBS=16"], cwd=ROOT, env=environment, capture_output=True, text=True
    ).stdout
    settings = dict(word.split("=", 1) for word in recipe.split() if "=" in word and word[0].isupper())
    assert settings["CMAKE_BUILD_PARALLEL_LEVEL"] == "16"
    asked = {name: settings[name] for name in ("SIMPLEMATCH_CUDA", "SIMPLEMATCH_REQUIRE_NATIVE")}
    command = [sys.executable, "setup.py", "build_ext", f"--build-temp={tmp_path}/temp", f"--build-lib={tmp_path}/lib"]
    without = {"CUDACXX": str(tmp_path / "no-nvcc"), "CUDAARCHS": "90", "PATH": os.environ["PATH"]}
    run = subprocess.run(command, cwd=ROOT, env=environment | asked | without, capture_output=True, text=True)
    if "no cmake found" in run.stderr:
        pytest.skip("no cmake here")
    assert run.returncode != 0
    assert "no-nvcc" in run.stderr


def test_a_machine_without_a_gpu_is_told_so(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "bin/nvidia-smi").unlink()
    run = make("gpu-build", tmp_path / "out", environment, built=False)
    assert run.returncode != 0 and "nvidia-smi must find a GPU here" in run.stdout


def test_the_benchmarks_of_a_gpu_lose_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    """A run is killed after its first test; the next measures what is missing, and its result has all rows."""
    results = tmp_path / "out"
    command = f"exec {sys.executable} -m pytest {BENCHMARKS} --save {results}"
    with subprocess.Popen(command, shell=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as killed:
        while killed.poll() is None and '"outcome"' not in "".join(lines_in(results)):
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    kept = [json.loads(line)["row"] for line in lines_in(results) if '"row"' in line]
    assert kept and not list(results.glob("*/*.json"))
    run = make("bench-gpu", results, environment, f"BENCHMARKS={BENCHMARKS} --missing")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    (path,) = results.glob("*/*.json")
    result = json.loads(path.read_text())
    assert path.name.endswith("-unknown.json") and result["commit"] == "unknown"
    assert result["machine"]["kind"] == "cuda" and result["machine"]["driver_version"] == "580.00"
    assert [row["mode"] for row in result["smallest_call"]] == ["forward", "forward+backward"]
    assert result["smallest_call"][0] == kept[0] and len(result["cuda_graph"]) == 1
    assert "passed" in (results / "bench.log").read_text()


def lines_in(results: Path) -> list[str]:
    """Of the journal, those that are whole."""
    text = "".join(path.read_text() for path in results.glob("*/*.jsonl"))
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_part_ends_within_eight_minutes_and_has_its_own_log(tmp_path: Path, environment: dict[str, str]) -> None:
    variables = ("PART=2/6", "BENCHMARKS=benchmarks/test_op.py --collect-only -q")
    run = make("bench-gpu", tmp_path / "out", environment, *variables)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "--part 2/6 --minutes 7" in run.stdout
    assert "tests collected" in (tmp_path / "out/bench-2of6.log").read_text()


def test_data_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/test_golden.py",
        "-k",
        "cats and reference",
        "-p",
        "no:cacheprovider",
    ]
    absent = {"SIMPLEMATCH_DATA": str(tmp_path / "absent")}
    run = subprocess.run(command, cwd=ROOT, env=os.environ | absent, capture_output=True, text=True)
    assert run.returncode != 0
    assert f"SIMPLEMATCH_DATA must name a folder that is there, got {tmp_path}/absent" in run.stdout
