"""Every backend computes what the float64 oracle computes, forward and backward, as well as PyTorch does or better."""

from __future__ import annotations

import pytest
import torch

import simplematch_kernels as smk
from simplematch_kernels import _backends, _native, _resolved

from .oracle import NEEDS, assert_as_good_as, gradients, relative_error, run_backend, run_reference
from .samples import BACKENDS, DEVICE, DTYPES, SAMPLES, SIMULATED, SPREAD, Sample

by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)
by_spread_sample = pytest.mark.parametrize("sample", SPREAD, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


@by_sample
@by_dtype
def test_agrees_with_the_oracle(sample: Sample, dtype: torch.dtype, backend: str, poisoned_memory: None) -> None:
    if _backends.interpreting() and dtype == (torch.bfloat16, torch.float16)[SAMPLES.index(sample) % 2]:
        pytest.skip("the interpreter is slow: every sample in one of the low precisions")
    inputs = sample.make(dtype)
    exact = run_reference(inputs.to(torch.float64), torch.float64, *NEEDS)
    rival = run_reference(inputs, dtype, *NEEDS)
    result = run_backend(inputs, backend, *NEEDS)
    if dtype in (torch.float64, torch.float32):  # else PyTorch's own rounding may move its peak
        assert torch.equal(rival.matches.peak, exact.matches.peak), "the sample has no clear best cell"
    assert_as_good_as(result, rival, exact, dtype, sample=sample)


@by_spread_sample
def test_scores_have_float32_grade(sample: Sample, backend: str) -> None:
    """Relative error below 1e-5 against float64: plain TF32 would not do."""
    inputs = sample.make(torch.float32)
    exact = run_reference(inputs.to(torch.float64), torch.float64)
    assert relative_error(run_backend(inputs, backend).matches.score, exact.matches.score) < 1e-5


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [768, 1536])
def test_scores_of_many_channels_have_float32_grade(channels: int, layout: str, backend: str) -> None:
    """Rounding grows with the sum's length: the same bound at the widest maps of published encoders."""
    sample = Sample(
        "deep", {"window_size": 5}, batch=1, queries=17, channels=channels, target_map=(12, 13), layout=layout
    )
    inputs = sample.make(torch.float32)
    exact = run_reference(inputs.to(torch.float64), torch.float64)
    assert relative_error(run_backend(inputs, backend).matches.score, exact.matches.score) < 1e-5


@by_spread_sample
def test_dtypes_and_shapes(sample: Sample, backend: str) -> None:
    inputs = sample.make(torch.bfloat16)
    result = run_backend(inputs, backend, *NEEDS)
    batch, queries = sample.batch, sample.queries
    assert result.matches.keypoints.shape == (batch, queries, 2)
    assert (
        result.matches.score.shape == result.matches.peak.shape == result.matches.log_sum_exp.shape == (batch, queries)
    )
    assert result.matches.keypoints.dtype == result.matches.score.dtype == torch.float32
    assert result.matches.peak.dtype == torch.int64
    for name, gradient in result.gradients.items():
        like = inputs.options["temperature"] if name == "temperature" else getattr(inputs, name)
        assert (gradient.shape, gradient.dtype) == (like.shape, like.dtype), name


@by_spread_sample
def test_repeats_bitwise(sample: Sample, backend: str) -> None:
    first, second = (run_backend(sample.make(), backend, *NEEDS) for _ in range(2))
    for a, b in zip(first.matches, second.matches, strict=True):
        assert torch.equal(a, b)
    assert first.gradients.keys() == second.gradients.keys()
    for name, gradient in first.gradients.items():
        assert torch.equal(gradient, second.gradients[name]), name


@by_spread_sample
@pytest.mark.parametrize("kept", ["none", "some"])
def test_scores_beyond_the_budget_are_computed_again(
    sample: Sample, kept: str, backend: str, poisoned_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small budget changes nothing but the memory: blocks of queries, kept scores for some of them or none."""
    if _backends.interpreting() and sample.queries > 100:
        pytest.skip("hundreds of interpreted launches; fewer queries make blocks as well")
    for dtype in (torch.float64,) if _backends.interpreting() else (torch.float64, torch.bfloat16):
        inputs = sample.make(dtype)
        with monkeypatch.context() as patch:
            whole = run_backend(inputs, backend, *NEEDS)
            cells = sample.target_map[0] * sample.target_map[1]
            patch.setattr(_resolved, "SCORE_BUDGET_BYTES", 4 * cells * sample.batch * 3 if kept == "some" else 1)
            blocked = run_backend(inputs, backend, *NEEDS)
        assert torch.equal(whole.matches.peak, blocked.matches.peak)
        for name in ("keypoints", "score", "log_sum_exp"):
            assert relative_error(getattr(blocked.matches, name), getattr(whole.matches, name)) < 1e-6
        for name, gradient in blocked.gradients.items():
            tolerance = 1e-11 if dtype == torch.float64 else 4e-3
            assert relative_error(gradient, whole.gradients[name]) < tolerance, name


@by_spread_sample
def test_descriptors_match_as_gathered_keypoints_do(sample: Sample, backend: str) -> None:
    """match_descriptors(gather_keypoints(...)) is sparse_window_match, values and gradients."""
    inputs = sample.make(torch.float64)
    exact = run_reference(inputs, torch.float64, "source", "target")
    leaves = inputs.requiring("source", "target")
    options = dict(leaves.options)
    gather = {"size": "source_size", "coords": "source_coords", "sampling": "sampling", "padding": "sampling_padding"}
    descriptors = smk.gather_keypoints(
        leaves.source,
        leaves.keypoints,
        **{name: options.pop(option) for name, option in gather.items() if option in options},
        backend=backend,
    )
    matches = smk.match_descriptors(descriptors, leaves.target, **options, backend=backend)
    for a, b in zip(matches, exact.matches, strict=True):
        assert relative_error(a, b) < 1e-10
    for name, gradient in gradients(matches, leaves, ("source", "target")).items():
        assert relative_error(gradient, exact.gradients[name]) < 1e-10, name


@by_spread_sample
def test_scores_localize_as_the_whole_operator_does(sample: Sample, backend: str) -> None:
    """localize(cosine_similarity(gather_keypoints(...))) is sparse_window_match, values and gradients."""
    if {"num_keypoints", "valid"} & set(sample.rows):
        pytest.skip("padded rows hold scores of padding")
    inputs = sample.make(torch.float64)
    exact = run_reference(inputs, torch.float64, "source", "target")
    leaves = inputs.requiring("source", "target")
    o = leaves.options
    pick = lambda *names: {name: o[name] for name in names if name in o}  # noqa: E731
    descriptors = smk.gather_keypoints(
        leaves.source,
        leaves.keypoints,
        size=o.get("source_size"),
        coords=o.get("source_coords", "corner"),
        padding=o.get("sampling_padding", "zeros"),
        **pick("sampling"),
        backend=backend,
    )
    scores = smk.cosine_similarity(descriptors, leaves.target, **pick("metric", "eps", "eps_mode"), backend=backend)
    matches = smk.localize(
        scores,
        **pick("target_size", "target_coords", "output_offset", "localization", "window_size", "window_shape"),
        **pick("disc_edge", "border", "outside_value", "sigma", "temperature", "target_mask"),
        backend=backend,
    )
    for a, b in zip(matches, exact.matches, strict=True):
        assert relative_error(a, b) < 1e-10
    for name, gradient in gradients(matches, leaves, ("source", "target")).items():
        assert relative_error(gradient, exact.gradients[name]) < 1e-10, name


def test_every_backend_that_should_run_here_is_tested() -> None:
    """On a GPU of NVIDIA Triton and CUDA C++ both, on a CPU the compiled kernels unless there is no compiled module."""
    if SIMULATED:
        assert len(BACKENDS) == 1
        return
    expected = {"reference"}
    if DEVICE.type == "cpu":
        expected |= {"cpu"} if _native.why_not() is None else set()
    elif torch.version.hip is None:
        expected |= {"triton", "cuda"} if torch.cuda.get_device_capability(DEVICE) >= (8, 0) else {"cuda"}
    else:
        expected |= {"triton"}
    missing = {name: _backends.why_not(name, DEVICE) for name in expected - set(BACKENDS)}
    assert not missing, f"not tested: {missing}"
    assert set(BACKENDS) == expected
