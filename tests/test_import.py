"""The package imports quickly, and without Triton, the compiled module or a GPU; it says what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import simplematch_kernels as smk
from simplematch_kernels import _backends, _native

MATCH = """
import torch, simplematch_kernels as smk
smk.sparse_window_match(torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3), torch.zeros(1, 2, 2){})
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIMPLEMATCH_B", "TRITON_INTERPRET"))}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env={**clean, **environment}
    )


def without(*modules: str) -> str:
    """Code that makes importing these modules fail."""
    return "".join(f"import sys; sys.modules[{name!r}] = None\n" for name in modules)


def test_imports_without_triton_and_without_the_compiled_module() -> None:
    code = without("triton", "simplematch_kernels._C") + MATCH.format("")
    code += "print(smk.explain('cpu'))"
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert "cpu: reference runs" in result.stdout
    assert "backend 'cpu' is not used on cpu" in result.stderr  # said, and once
    assert result.stderr.count("is not used") == 1


def test_a_backend_asked_for_by_name_raises_its_reason() -> None:
    result = run(without("triton") + MATCH.format(", backend='triton'"))
    assert "RuntimeError: backend 'triton' can't run on cpu: Triton is not installed" in result.stderr
    result = run(without("simplematch_kernels._C") + MATCH.format(", backend='cpu'"))
    assert "RuntimeError: backend 'cpu' can't run on cpu: the compiled module" in result.stderr
    result = run(MATCH.format(", backend='triton'"))
    assert "it takes CUDA tensors; CPU tensors only with TRITON_INTERPRET=1" in result.stderr


@pytest.mark.parametrize(
    ("triton", "numpy", "runs"),
    [("3.6.0", "2.3.5", True), ("3.6.0", "2.4.6", False), ("3.6.0", "2.5.2", False), ("3.9.0", "2.5.5", True)],
)
def test_the_interpreter_of_triton_36_needs_an_older_numpy(
    triton: str, numpy: str, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(_backends.metadata, "version", {"triton": triton, "numpy": numpy}.__getitem__)
    _backends._why_not_interpreted.cache_clear()
    reason = _backends.can_run_triton(torch.device("cpu"))
    _backends._why_not_interpreted.cache_clear()
    expected = f"the interpreter of Triton {triton} needs NumPy below 2.4, got {numpy} (or install Triton 3.7 or newer)"
    assert reason == (None if runs else expected)


def test_a_triton_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older torch brings an older Triton, so its CUDA tensors use the next backend."""
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(_backends.metadata, "version", {"triton": "3.2.0"}.__getitem__)
    expected = "Triton must be 3.6 or newer, got 3.2.0 (torch 2.10 and newer bring one)"
    assert _backends.can_run_triton(torch.device("cpu")) == expected
    assert _backends.can_run_triton(torch.device("cuda")) == expected


def test_the_compiled_module_exports_its_entry_alone() -> None:
    """Names of the CPU and the CUDA kernels would meet those of another library in the process."""
    reason = _native.why_not()
    if reason is not None or shutil.which("nm") is None:
        pytest.skip(reason or "no nm here")
    checker = Path(__file__).parent / "c/check_symbols.py"
    command = [sys.executable, str(checker), "module", str(_native.load().__file__)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_environment_variable_chooses() -> None:
    code = MATCH.format("") + "print(smk.explain('cpu'))"
    assert "cpu: reference runs" in run(code, SIMPLEMATCH_BACKEND="reference").stdout
    refused = run(code, SIMPLEMATCH_BACKEND="fast").stderr
    assert "SIMPLEMATCH_BACKEND must be one of 'auto', 'triton', 'cuda', 'cpu', 'reference', got 'fast'" in refused


def test_import_is_quick_and_lazy() -> None:
    """Under 0.3 s beyond torch; neither Triton, nor the compiled module, nor the presets are loaded until used."""
    code = """
        import sys, time, torch
        start = time.perf_counter()
        import simplematch_kernels
        seconds = time.perf_counter() - start
        lazy = "triton", "simplematch_kernels._C", "simplematch_kernels.presets"
        print(seconds, *(name in sys.modules for name in lazy))
    """
    results = [run(code).stdout.split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in results) < 0.3
    assert results[0][1:] == ["False"] * 3


def test_use_backend_nests_and_restores() -> None:
    device = torch.device("cpu")
    before = _backends.requested(None)
    with smk.use_backend("reference"):
        chosen = _backends.select(_backends.requested(None), device)
        assert chosen is _backends.select(_backends.WHEN_IT_RUNS, device) is _backends.select("reference", device)
        assert chosen is not _backends.select("auto", device)  # the automatic choice has the compiled module
        with smk.use_backend("auto"):
            assert _backends.requested(None) == "auto"
        assert _backends.requested(None) == "reference"
        assert _backends.requested("auto") == "auto"  # an argument goes before the context
    assert _backends.requested(None) == before
    with pytest.raises(ValueError, match="backend must be one of"), smk.use_backend("fastest"):
        pass


def test_module_prints_what_runs_where() -> None:
    result = subprocess.run([sys.executable, "-m", "simplematch_kernels"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"simplematch-kernels {smk.__version__}" in result.stdout
    assert "torch" in result.stdout and "compiled module:" in result.stdout and "reference" in result.stdout


def test_module_prints_what_to_install() -> None:
    code = "import runpy; runpy.run_module('simplematch_kernels', run_name='__main__')"
    printed = run(without("triton", "simplematch_kernels._C") + code).stdout
    assert "Triton is not installed (a CUDA build of torch brings it; else pip install 'triton>=3.6,<4')" in printed
    assert "reinstall with a C++ compiler" in printed


def test_the_compiled_module_is_built_here() -> None:
    """The test environment has a compiler; a missing CPU backend is a failure, not a skip."""
    assert _native.why_not() is None
