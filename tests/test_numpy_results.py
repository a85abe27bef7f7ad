"""`center`, `return_scores`, `top_k` and normalization "sum" on arrays: the results of the CPU backend on tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _native, _resolved

from .test_given_windows import REFUSED, WINDOWS, centers
from .test_results import SUMS, WRONG

if _native.why_not() is not None:
    pytest.skip("needs the compiled module", allow_module_level=True)

import simplematch_kernels.numpy as smn

B, N, C, H, W = 2, 5, 6, 7, 9


def tensors(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(  # type: ignore[return-value]
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((B, N, C), (B, C, H, W), (B, N, H, W))
    )


def as_array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def compare(function: str, inputs: tuple[Tensor, ...], **options: Any) -> None:
    theirs = getattr(smk, function)(*inputs, **options, backend="cpu")
    ours = getattr(smn, function)(*map(as_array, inputs), **{k: as_array(v) for k, v in options.items()})
    assert ours._fields == theirs._fields
    for name, one, other in zip(ours._fields, ours, theirs, strict=True):
        assert (one is None) == (other is None), name
        if other is not None:
            assert one.dtype == other.numpy().dtype
            largest = float(other.double().nan_to_num(0, 0, 0).abs().amax()) if other.numel() else 0.0
            torch.testing.assert_close(torch.from_numpy(one), other, rtol=2e-6, atol=2e-6 * largest, msg=name)


@pytest.mark.parametrize("kind", ["cells", "points"])
@pytest.mark.parametrize("window", WINDOWS)
def test_centers(window: str, kind: str) -> None:
    descriptors, target, scores = tensors()
    center = centers(kind).cpu()
    valid = torch.ones(B, N, dtype=torch.bool)
    valid[1, 3] = False
    options: dict[str, Any] = {**WINDOWS[window], "center": center, "valid": valid, "temperature": 0.3}
    options |= {"target_mask": scores[:, 0] > -0.8}
    compare("match_descriptors", (descriptors, target), **options)
    compare("localize", (scores,), return_covariance=True, target_size=(70, 45), output_offset=0.5, **options)
    sizes = torch.tensor([[70, 45], [14, 90]])
    compare("localize", (scores.double(),), return_covariance=True, target_size=sizes, **options)


@pytest.mark.parametrize("name", SUMS)
def test_sums(name: str) -> None:
    _, _, scores = tensors()
    weights = scores.clamp(min=0)
    weights[0, 0] = 0
    details = {"return_covariance": True, "return_second": True, "target_size": (70, 45), "target_coords": "half_pixel"}
    compare("localize", (weights,), normalization="sum", target_mask=scores[:, 0] > -0.8, **details, **SUMS[name])


def test_sums_round_centers() -> None:
    _, _, scores = tensors(torch.float64)
    compare("localize", (scores.exp(),), normalization="sum", center=centers("points").cpu(), window_size=3)


@pytest.mark.parametrize(
    "options", [{"top_k": 4, "top_radius": 1}, {"return_scores": True}, {"return_scores": True, "top_k": 2}]
)
def test_ranks_and_scores(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors, target, scores = tensors()
    counts = torch.tensor([5, 2])
    descriptors[1, 3] = torch.nan
    compare("match_descriptors", (descriptors, target), num_keypoints=counts, return_second=True, **options)
    source, points = target.flip(0), torch.tensor([[[1.0, 2.0], [8.0, 6.0]]]).expand(B, -1, -1)
    compare("sparse_window_match", (source, target, points), target_size=(70, 90), **options)
    if "return_scores" not in options:
        compare("localize", (scores,), **options)
        monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 1)
        compare("match_descriptors", (descriptors, target), num_keypoints=counts, **options)


@pytest.mark.parametrize("case", [*REFUSED, *WRONG])
def test_refuses_what_torch_refuses(case: str) -> None:
    options, error, message = REFUSED[case] if case in REFUSED else WRONG[case]
    shape = (1, 2, 3, 4) if case in REFUSED else (1, 1, 3, 3)
    with pytest.raises(error, match=message.replace("a tensor", "an array")):
        smn.localize(torch.zeros(shape).numpy(), **{k: as_array(v) for k, v in options.items()})
