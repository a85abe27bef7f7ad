"""The usual soft-argmax of given maps on the CPU: map sizes, rows that lie side by side, numbers of threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels._backends import why_not

pytestmark = pytest.mark.skipif(why_not("cpu", torch.device("cpu")) is not None, reason="no compiled module")
SIZES = [(1, 1), (3, 3), (8, 8), (1, 65), (5, 13), (20, 9), (40, 33)]


def results(scores: Tensor, backend: str) -> tuple[Tensor, ...]:
    """Every result, and the gradient of a sum over them with different factors."""
    leaf = scores.detach().requires_grad_()
    found = smk.localize(leaf, localization="global", temperature=0.1, backend=backend)
    factors = torch.linspace(-1, 1, found.keypoints.numel()).to(scores).view_as(found.keypoints)
    loss = (found.keypoints * factors).sum() + (found.score * factors[..., 0]).sum() + found.log_sum_exp.sum()
    return (*(x.detach() for x in found), *torch.autograd.grad(loss, leaf))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("queries", [1, 3, 5, 17, 66])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_layouts_and_threads(size: tuple[int, int], queries: int, dtype: torch.dtype) -> None:
    scores = torch.randn(2, queries, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[0, 0, -1, 0] = torch.inf if queries > 1 else 0  # one row that isn't finite among others that are
    scores[1, -1, 0, 0] = -torch.inf if size != (1, 1) else 0
    expected = results(scores.double(), "reference")
    found = results(scores, "cpu")
    tolerance = 3e-5 if dtype == torch.float32 else 1e-11
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.to(other), other, rtol=tolerance, atol=tolerance * max(size), equal_nan=True)
    targets_major = scores.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    threads = torch.get_num_threads()
    for other_threads in (1, 3):
        torch.set_num_threads(other_threads)
        again = results(targets_major, "cpu")
        torch.set_num_threads(threads)
        for one, other in zip(again, found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
