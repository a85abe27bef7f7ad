"""`sparse_match_cross_entropy` as a citizen of torch, on NumPy arrays, and its errors."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _backends, _native

from .oracle import relative_error
from .samples import DEVICE, Sample
from .test_sparse_match_cross_entropy import BY_NAME, NEEDS, by_sample, losses, run, truth_of
from .traces import Calls, compiled


@pytest.mark.skipif(_backends.interpreting(), reason="the same registration, at seconds a launch")
@pytest.mark.parametrize("name", ["gaussian", "temperature-rows", "all-restrictions", "sliced", "no-queries"])
def test_opcheck(name: str, backend: str) -> None:
    inputs = BY_NAME[name].make()
    with Calls() as calls:
        run(inputs, truth_of(BY_NAME[name], inputs), backend, *NEEDS)
    assert len(calls.made) == (1 if name == "no-queries" else 2) or name == "no-queries"
    calls.check(backend)


def test_compiles_whole(backend: str) -> None:
    inputs = BY_NAME["temperature-rows"].make(torch.float64)
    truth = truth_of(BY_NAME["temperature-rows"], inputs)
    function = lambda *given, **o: smk.sparse_match_cross_entropy(*given, **o, backend=backend)  # noqa: E731
    plain = losses(function, inputs, truth, *NEEDS)
    fast = losses(compiled(function, backend), inputs, truth, *NEEDS)
    for name, value in plain.items():
        assert relative_error(fast[name], value) < 1e-12, name


def test_vmap_is_a_loop_and_tangents_are_the_slope(backend: str) -> None:
    draw = lambda *shape: torch.randn(shape, dtype=torch.float64, device=DEVICE)  # noqa: E731
    points = torch.rand(3, 1, 4, 2, dtype=torch.float64, device=DEVICE) * 4
    source, target = draw(3, 1, 5, 6, 6), draw(3, 1, 5, 6, 6)
    one = lambda s, t, p: smk.sparse_match_cross_entropy(  # noqa: E731
        s, t, p, p.flip(0), sampling="bilinear", kernel_size=3, temperature=0.5, backend=backend
    )
    found = torch.vmap(one)(source, target, points)
    torch.testing.assert_close(found, torch.stack([one(*x) for x in zip(source, target, points, strict=True)]))
    primals = (source[0], target[0], points[0])
    tangents = tuple(1e-6 * draw(*x.shape) for x in primals)
    fixed = lambda s, t, p: smk.sparse_match_cross_entropy(  # noqa: E731
        s, t, p, points[0], sampling="bilinear", kernel_size=3, temperature=0.5, backend=backend
    )
    _, moved = torch.func.jvp(fixed, primals, tangents)
    ahead, behind = (fixed(*(x + s * d for x, d in zip(primals, tangents, strict=True))) for s in (1, -1))
    torch.testing.assert_close(moved, (ahead - behind) / 2, rtol=1e-4, atol=1e-12)


def test_keeps_a_number_for_each_cell_and_two_for_each_row(backend: str) -> None:
    sample = Sample("memory", {"kernel_size": 7}, batch=2, queries=30, channels=256, target_map=(16, 16))
    leaves = sample.make().requiring("source", "target")
    truth = truth_of(sample, leaves)
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        smk.sparse_match_cross_entropy(
            leaves.source, leaves.target, leaves.keypoints, truth, **leaves.options, reduction="none", backend=backend
        )
    for given in (leaves.source, leaves.target, leaves.keypoints, truth):
        kept.pop(given.untyped_storage().data_ptr())
    assert 0 < sum(kept.values()) <= 2 * 256 * 4 + 2 * 30 * (4 + 8)
    assert sum(kept.values()) < 0.01 * leaves.target.nbytes


# ---- NumPy ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(_native.why_not() is not None, reason="NumPy needs the compiled module")
@by_sample
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_numpy_gives_the_bits_of_the_cpu_backend(sample: Sample, dtype: str) -> None:
    import simplematch_kernels.numpy as smn

    inputs = sample.make(getattr(torch, dtype), torch.device("cpu"))
    truth = truth_of(sample, inputs)
    options = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in inputs.options.items()}
    arrays = [x.numpy() for x in (inputs.source, inputs.target, inputs.keypoints, truth)]
    expected = smk.sparse_match_cross_entropy(
        inputs.source, inputs.target, inputs.keypoints, truth, **inputs.options, reduction="none", backend="cpu"
    )
    found = smn.sparse_match_cross_entropy(*arrays, **options, reduction="none")
    assert found.dtype == expected.numpy().dtype and found.tobytes() == expected.numpy().tobytes()
    counted = max(1, int((expected != 0).sum()))
    for reduction, total in (("sum", expected.sum()), ("mean", expected.sum() / counted)):
        if bool((expected > 0).sum() == counted):  # no valid row has a loss of zero
            assert smn.sparse_match_cross_entropy(*arrays, **options, reduction=reduction) == pytest.approx(
                total.item(), rel=1e-6
            )


@pytest.mark.skipif(_native.why_not() is not None, reason="NumPy needs the compiled module")
@pytest.mark.parametrize("name", ["sparse_match_cross_entropy", "match_descriptors_cross_entropy"])
def test_numpy_has_the_signatures_of_torch(name: str) -> None:
    import simplematch_kernels.numpy as smn

    theirs, ours = (inspect.signature(getattr(module, name)).parameters for module in (smk, smn))
    assert [*ours] == [*list(theirs)[:-1], "threads"]
    assert all(ours[k].default == theirs[k].default for k in list(ours)[:-1])


# ---- errors --------------------------------------------------------------------------------------------------------

GIVEN = {
    "source": torch.zeros(1, 4, 5, 5),
    "target": torch.zeros(1, 4, 5, 5),
    "keypoints": torch.zeros(1, 3, 2),
    "target_keypoints": torch.zeros(1, 3, 2),
}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1 cell, got 0"),
        ({"kernel_size": 2.5}, TypeError, "kernel_size must be a whole number of cells, got 2.5"),
        ({"sigma": 0.0}, ValueError, "sigma must be a finite number above 0.0, got 0.0"),
        ({"sigma": "wide"}, TypeError, "sigma must be a number, got str"),
        ({"reduction": "max"}, ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'max'"),
        ({"target_coords": "centre"}, ValueError, "target_coords must be one of"),
        (
            {"target_size": (5,)},
            TypeError,
            r"target_size must be \(height, width\) in whole pixels, \(B, 2\) integers or None",
        ),
        ({"temperature": -1.0}, ValueError, "temperature must be a finite number above 0.0, got -1.0"),
        ({"window_size": 3}, TypeError, "unexpected keyword argument 'window_size'"),
        (
            {"target_keypoints": torch.zeros(1, 2, 2)},
            ValueError,
            "target_keypoints must have the same number of rows as keypoints, got 2 and 3",
        ),
        (
            {"target_keypoints": torch.zeros(2, 3, 2)},
            ValueError,
            "target_keypoints must have the same batch size as target, got 2 and 1",
        ),
        (
            {"target_keypoints": torch.zeros(1, 3, 3)},
            ValueError,
            r"target_keypoints must have shape \(B, N, 2\), got \(1, 3, 3\)",
        ),
        (
            {"target_keypoints": torch.full((1, 3, 2), torch.nan)},
            ValueError,
            r"target_keypoints must be finite in valid rows, got \[nan, nan\] in batch 0, row 0",
        ),
    ],
)
def test_errors_are_one_sentence(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        smk.sparse_match_cross_entropy(**{**GIVEN, **changes})
