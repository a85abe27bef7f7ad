"""`match_all` on NumPy arrays gives the results of the CPU backend of torch, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import simplematch_kernels as smk
from simplematch_kernels import _native

from .samples import DEVICE, SIMULATED
from .set_samples import SAMPLES, Sample

if _native.why_not() is not None or DEVICE.type != "cpu" or SIMULATED:
    pytest.skip("these need the compiled kernels of the CPU", allow_module_level=True)

import simplematch_kernels.numpy as smn


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_equals_torch(sample: Sample, dtype: torch.dtype) -> None:
    a, b, options = sample.make(dtype)
    expected = smk.match_all(a, b, **options, return_second=True, backend="cpu")
    arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    found = smn.match_all(a.numpy(), b.numpy(), **arrays, return_second=True)
    for name, x, y in zip(smn.AllMatches._fields, found, expected, strict=True):
        np.testing.assert_array_equal(x, y.numpy(), err_msg=name)
        assert x.dtype == y.numpy().dtype


def test_what_is_not_asked_for_is_none() -> None:
    a, b, _ = Sample("x").make()
    found = smn.match_all(a.numpy(), b.numpy()[:, :, ::-1, ::-1], return_log_sum_exp=False)
    assert found.log_sum_exp_a is found.log_sum_exp_b is found.second_a is found.second_b is None
    expected = smk.match_all(a, b.flip(2, 3), return_log_sum_exp=False, backend="cpu")
    np.testing.assert_array_equal(found.index_b, expected.index_b.numpy())


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_pair_scores_equal_torch(metric: str, dtype: torch.dtype) -> None:
    """Of lists and of a map, with padding, a zero vector without eps, and one block of pairs after another."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 8, generator=generator), torch.randn(2, 8, 3, 5, generator=generator)
    a[0, 1] = 0
    a, b = a.to(dtype), b.to(dtype)
    index_a, index_b = (
        torch.randint(-1, 6, (2, 11), generator=generator),
        torch.randint(-2, 15, (2, 11), generator=generator),
    )
    for first, second in ((index_a, index_b), (index_a[:, :6], None)):
        b_used = b if second is not None else b[:, :, :2, :3]
        expected = smk.pair_scores(a, b_used, first, second, metric=metric, eps=0.0, backend="cpu")
        other = None if second is None else second.numpy()
        found = smn.pair_scores(a.numpy(), b_used.numpy(), first.numpy(), other, metric=metric, eps=0.0)
        assert found.dtype == expected.numpy().dtype
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-7)


def test_pair_scores_refuse() -> None:
    with pytest.raises(ValueError, match="index_a or index_b must be given, got None for both"):
        smn.pair_scores(A, B, None, None)
    with pytest.raises(ValueError, match="index_b must be below the number of descriptors of b, 6, or negative"):
        smn.pair_scores(A, B, None, np.full((2, 5), 6))
    with pytest.raises(ValueError, match="index_a must have the same number of pairs as index_b"):
        smn.pair_scores(A, B, None, np.full((2, 4), 0))
    with pytest.raises(TypeError, match="index_a must hold integers"):
        smn.pair_scores(A, B, np.zeros((2, 6)), None)


A, B = np.zeros((2, 5, 4), np.float32), np.zeros((2, 6, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (
            {"a": torch.zeros(2, 5, 4)},
            TypeError,
            r"a must be an array of shape \(B, N, C\) or \(B, C, H, W\), got Tensor",
        ),
        ({"a": A[0]}, ValueError, r"a must have shape \(B, N, C\) or \(B, C, H, W\)"),
        ({"b": B.astype(np.float64)}, TypeError, "a and b must have one dtype"),
        ({"b": B[:, :, :3]}, ValueError, "a must have the same number of channels as b"),
        ({"num_a": np.array([5, 6])}, ValueError, "num_a must lie between 0 and the number of descriptors of a, 5"),
        ({"num_b": np.array([1.0, 2.0])}, TypeError, "num_b must hold integers"),
        ({"valid_b": np.ones((2, 5), bool)}, ValueError, r"valid_b must have shape \(B, M\) = \(2, 6\)"),
        ({"valid_a": np.ones((2, 5))}, TypeError, "valid_a must be bool"),
        ({"temperature": np.zeros(2, np.float32)}, ValueError, "temperature must be above zero, got 0.0"),
        ({"temperature": np.ones(3, np.float32)}, ValueError, "temperature must be a number, a 0-d array or of shape"),
        ({"bin_score": np.nan}, ValueError, "bin_score must be a finite number"),
        ({"return_second": None}, TypeError, "return_second must be True or False"),
        ({"threads": 0}, ValueError, "threads"),
    ],
)
def test_faults_in_one_sentence(change: dict[str, Any], error: type[Exception], sentence: str) -> None:
    arguments: dict[str, Any] = {"a": A, "b": B, **change}
    with pytest.raises(error, match=sentence):
        smn.match_all(**arguments)
