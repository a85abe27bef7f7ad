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
