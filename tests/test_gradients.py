"""Analytic gradients equal numerical ones, for every mode and for any subset of inputs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

import simplematch_kernels as smk
from simplematch_kernels import _backends

from .oracle import run_backend
from .samples import DEVICE, Sample

LOCALIZATIONS: dict[str, dict[str, Any]] = {
    "argmax": {"localization": "argmax"},
    "window": {"window_size": 3},
    "window-outside": {"window_size": (3, 2), "outside_value": 0.1},
    "disc": {"window_size": 2.9, "window_shape": "disc", "disc_edge": "closed"},
    "plus": {"window_size": 3, "window_shape": "plus"},
    "global": {"localization": "global"},
    "gaussian": {"localization": "gaussian", "sigma": 1.3},
}
SAMPLINGS = ("floor", "round", "bilinear")
METRICS = ("cosine", "dot", "l2", "l1")
TEMPERATURES = ("number", "scalar", "rows")
MODES = list(product(LOCALIZATIONS, ("shift", "shrink"), SAMPLINGS, METRICS, TEMPERATURES))
MODES_OF_TRITON = MODES[::5]
"""Each is a kernel to compile or interpret: every fifth, which meets every pair of values; samples cover the rest."""
if _backends.interpreting():
    MODES = MODES_OF_TRITON
Function = Callable[..., tuple[torch.Tensor, ...] | torch.Tensor]
SUBSETS = (
    ("source",),
    ("target",),
    ("keypoints",),
    ("temperature",),
    ("source", "temperature"),
    ("target", "keypoints"),
    ("source", "target", "keypoints", "temperature"),
)


def small(options: dict[str, Any], **fields: Any) -> Sample:
    return Sample("small", options, batch=1, queries=3, channels=4, source_map=(4, 5), target_map=(5, 4), **fields)


def differentiates(function: Function, inputs: tuple[torch.Tensor, ...], backend: str, fast: bool = True) -> bool:
    """gradcheck in float64. `fast` projects on a random direction; so does Triton, in three runs and for all outputs
    at once: for each set of them it compiles another kernel.
    """
    if backend == "triton" and fast:
        return differentiates_along_a_line(function, inputs)
    return torch.autograd.gradcheck(function, inputs, fast_mode=fast, atol=1e-5, rtol=1e-3)


def differentiates_along_a_line(function: Function, inputs: tuple[torch.Tensor, ...], step: float = 1e-6) -> bool:
    """A random sum of all outputs changes along a random direction of all inputs as its gradients say."""
    generator = torch.Generator().manual_seed(5)
    random = lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)  # noqa: E731
    directions, weights = [random(x) for x in inputs], []

    def total(*values: torch.Tensor) -> torch.Tensor:
        outputs = function(*values)
        outputs = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        weights.extend(random(x) for x in outputs[len(weights) :])
        return sum(
            ((w * x).sum() for w, x in zip(weights, outputs, strict=True)),
            torch.zeros((), dtype=torch.float64).to(DEVICE),
        )

    gradients = torch.autograd.grad(total(*inputs), inputs)
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    with torch.no_grad():
        up, down = (total(*(x + s * d for x, d in zip(inputs, directions, strict=True))) for s in (step, -step))
    numeric = float(up - down) / (2 * step)
    assert numeric == pytest.approx(analytic, abs=1e-5, rel=1e-3)
    return True


def check(sample: Sample, backend: str, needs: tuple[str, ...], fast: bool = True) -> None:
    """Of all outputs by the inputs named."""
    inputs = sample.make(torch.float64).requiring(*needs)
    leaves = inputs.leaves()

    def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = {"source": inputs.source, "target": inputs.target, "keypoints": inputs.keypoints, **inputs.options}
        given.update(zip(leaves, values, strict=True))
        matches = smk.sparse_window_match(**given, backend=backend)
        return matches.keypoints, matches.score, matches.log_sum_exp

    if leaves:
        assert differentiates(run, tuple(leaves.values()), backend, fast)


@pytest.mark.parametrize(("localization", "border", "sampling", "metric", "temperature"), MODES)
def test_every_mode(localization: str, border: str, sampling: str, metric: str, temperature: str, backend: str) -> None:
    if backend == "triton" and (localization, border, sampling, metric, temperature) not in MODES_OF_TRITON:
        pytest.skip("Triton would compile kernels for each mode; it takes every fifth")
    options = {**LOCALIZATIONS[localization], "border": border, "sampling": sampling, "metric": metric}
    if temperature == "number":
        options["temperature"] = 0.3
    needs = ("source", "target", *(["keypoints"] if sampling == "bilinear" else []))
    check(
        small(options, temperature=temperature),
        backend,
        (*needs, *(["temperature"] if temperature != "number" else [])),
    )


@pytest.mark.parametrize("needs", SUBSETS, ids="+".join)
@pytest.mark.parametrize("localization", LOCALIZATIONS)
def test_every_subset_of_inputs(localization: str, needs: tuple[str, ...], backend: str) -> None:
    sample = small({**LOCALIZATIONS[localization], "sampling": "bilinear"}, temperature="rows")
    check(sample, backend, needs)


@pytest.mark.parametrize("needs", SUBSETS, ids="+".join)
def test_a_subset_gets_the_gradients_of_the_whole(needs: tuple[str, ...], backend: str) -> None:
    inputs = small({"window_size": 3, "sampling": "bilinear"}, temperature="rows").make(torch.float64)
    whole = run_backend(inputs, backend, *SUBSETS[-1]).gradients
    part = run_backend(inputs, backend, *needs).gradients
    assert set(part) == set(needs)
    for name in needs:
        torch.testing.assert_close(part[name], whole[name])


@pytest.mark.parametrize(
    "rows",
    [("num_keypoints",), ("valid",), ("target_mask",), ("empty_target_mask", "valid"), ("query_masks",)],
    ids="+".join,
)
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_restricted_rows_and_cells(rows: tuple[str, ...], padding: str, backend: str) -> None:
    options = {"window_size": 3, "outside_value": 0.2, "sampling": "bilinear", "sampling_padding": padding}
    sample = Sample(
        "rows", options, queries=4, channels=3, source_map=(3, 4), target_map=(4, 4), rows=rows, keypoints="border"
    )
    check(sample, backend, ("source", "target"))


@pytest.mark.parametrize("eps_mode", ["add", "clamp"])
def test_eps_takes_part(eps_mode: str, backend: str) -> None:
    for eps in (1e-8, 0.7, 10.0):
        check(small({"eps": eps, "eps_mode": eps_mode, "temperature": 0.3}), backend, ("source", "target"))


def test_element_by_element(backend: str) -> None:
    """The full Jacobian, not only a random direction of it."""
    if backend == "triton" and DEVICE.type == "cpu":
        pytest.skip("hundreds of interpreted launches; the fast mode covers them")
    for localization in LOCALIZATIONS.values():
        sample = small({**localization, "sampling": "bilinear"}, temperature="rows")
        check(sample, backend, SUBSETS[-1], fast=False)


def test_zero_vectors_have_zero_gradients(backend: str) -> None:
    """|x| has no derivative at zero; like PyTorch we take zero, not NaN."""
    inputs = small({"window_size": 3}).make(torch.float64)
    inputs.source[:, :, 0, 0] = 0
    inputs.target[:, :, 1, 1] = 0
    inputs.keypoints[:, 0] = 0
    for name, gradient in run_backend(inputs, backend, "source", "target").gradients.items():
        assert gradient.isfinite().all(), name


def test_localize_and_similarity_and_gather(backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    make = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_()  # noqa: E731
    scores, descriptors, target, features = make(2, 3, 4, 5), make(2, 3, 4), make(2, 4, 3, 4), make(2, 4, 3, 4)
    points = (torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) * 2.9).to(DEVICE).requires_grad_()
    temperature = torch.full((2, 3), 0.4, dtype=torch.float64, device=DEVICE, requires_grad=True)
    for options in LOCALIZATIONS.values():

        def run(s: torch.Tensor, t: torch.Tensor, options: dict[str, Any] = options) -> tuple[torch.Tensor, ...]:
            matches = smk.localize(s, temperature=t, **options, backend=backend)
            return matches.keypoints, matches.score, matches.log_sum_exp

        assert differentiates(run, (scores, temperature), backend)
    for metric in METRICS:
        run_similarity = lambda d, t, m=metric: smk.cosine_similarity(d, t, metric=m, backend=backend)  # noqa: E731
        assert differentiates(run_similarity, (descriptors, target), backend)
    for padding in ("zeros", "border"):
        run_gather = lambda f, p, b=padding: smk.gather_keypoints(f, p, sampling="bilinear", padding=b, backend=backend)  # noqa: E731
        assert differentiates(run_gather, (features, points), backend)

    def windows(s: torch.Tensor) -> torch.Tensor:
        found, _ = smk.extract_windows(s, window_size=3, border="shrink", backend=backend)
        return found.nan_to_num(neginf=0.0)

    assert differentiates(windows, (scores,), backend)
