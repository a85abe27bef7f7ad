"""Many queries, whose products take another way through the caches: each query's results are those it has among few.

The sizes lie on both sides of the limits of csrc/cpu: kManyQueries queries, scores beyond kScoresInCache, results that
are written past the caches. `SIMPLEMATCH_SIMD` chooses the instructions, as for all tests.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import _native, _resolved

from .oracle import WIDER, relative_error
from .samples import DEVICE, lay_out

pytestmark = pytest.mark.skipif(
    DEVICE.type != "cpu" or _native.why_not() is not None, reason="the ways are those of the compiled CPU kernels"
)

MANY, FEW = 1541, 700  # no whole groups of rows
CHANNELS = 70  # more than are read at a time, and no whole vectors
FIRST = slice(0, FEW)


def inputs(queries: int, height: int, width: int, dtype: torch.dtype = torch.float32, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    descriptors = torch.randn(batch, queries, CHANNELS, generator=generator, dtype=torch.float64)
    target = torch.randn(batch, CHANNELS, height, width, generator=generator, dtype=torch.float64)
    return [descriptors.to(dtype), target.to(dtype)]


def similarity(descriptors: Tensor, target: Tensor, **options: Any) -> Tensor:
    return smk.cosine_similarity(descriptors, target, backend="cpu", **options)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_scores_are_those_among_few(dtype: torch.dtype, metric: str, layout: str) -> None:
    descriptors, target = inputs(MANY, 9, 17, dtype)
    target = lay_out(target, layout)
    many = similarity(descriptors, target, metric=metric)
    few = [similarity(part, target, metric=metric) for part in descriptors.split(FEW, dim=1)]
    assert torch.equal(many, torch.cat(few, 1))
    exact = smk.cosine_similarity(descriptors.double(), target.double(), metric=metric, backend="reference")
    assert relative_error(many, exact) <= WIDER[dtype if dtype == torch.float64 else torch.float32]


@pytest.mark.parametrize("width", [60, 61])  # rows of whole lines of the cache, and others
def test_scores_beyond_the_caches(width: int) -> None:
    descriptors, target = inputs(1600, 50, width, batch=1)
    many = similarity(descriptors, target)
    assert many.nbytes > 16 * 2**20
    few = [similarity(part, target) for part in descriptors.split(800, dim=1)]
    assert torch.equal(many, torch.cat(few, 1))


def test_numbers_that_are_not_finite_stay_in_their_rows_and_cells() -> None:
    descriptors, target = inputs(MANY, 9, 17)
    expected = similarity(descriptors, target)
    descriptors[0, 5, 3], descriptors[1, 1540, 0] = float("nan"), float("inf")
    target[0, 2, 8, 16] = float("nan")
    found = similarity(descriptors, target)
    lost = torch.zeros_like(found, dtype=torch.bool)
    lost[0, 5] = lost[1, 1540] = lost[0, :, 8, 16] = True
    assert torch.equal(found.isnan(), lost)
    assert torch.equal(found[~lost], expected[~lost])


@pytest.mark.parametrize("localization", ["window", "global"])
def test_matches_of_several_blocks_are_those_among_few(localization: str) -> None:
    """The scores of one block stay in the cache, so these take several; images without padding and with."""
    options: dict[str, Any] = {"localization": localization, "temperature": 0.1, "window_size": 5, "backend": "cpu"}
    descriptors, target = inputs(4500, 32, 31)
    num_keypoints = torch.tensor([4500, 100])
    found = smk.match_descriptors(descriptors, target, num_keypoints=num_keypoints, **options)
    whole = [smk.match_descriptors(part, target[:1], **options) for part in descriptors[:1].split(1000, dim=1)]
    alone = smk.match_descriptors(descriptors[1:, :100], target[1:], **options)
    for name in ("keypoints", "score", "log_sum_exp"):
        value = getattr(found, name)
        assert torch.equal(value[:1], torch.cat([getattr(part, name) for part in whole], 1)), name
        assert torch.equal(value[1:, :100], getattr(alone, name)), name


def gradients(descriptors: Tensor, target: Tensor, upstream: Tensor, **options: Any) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in (descriptors, target)]
    return torch.autograd.grad(similarity(*leaves, **options), leaves, upstream)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients(dtype: torch.dtype, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the reference in float64, in one block of queries or several. A query's gradient is that among few."""
    descriptors, target = inputs(MANY, 9, 17, dtype)
    upstream = torch.randn(2, MANY, 9, 17, generator=torch.Generator().manual_seed(1)).to(dtype)
    leaves = [x.double().requires_grad_() for x in (descriptors, target)]
    scores = smk.cosine_similarity(*leaves, metric=metric, backend="reference")
    exact = torch.autograd.grad(scores, leaves, upstream.double())
    many = gradients(descriptors, target, upstream, metric=metric)
    few = gradients(descriptors[:, FIRST], target, upstream[:, FIRST], metric=metric)
    assert torch.equal(many[0][:, FIRST], few[0])
    monkeypatch.setattr(_resolved, "SCORE_BUDGET_BYTES", 200_000)
    for found in (many, gradients(descriptors, target, upstream, metric=metric)):
        for value, wanted in zip(found, exact, strict=True):
            assert relative_error(value, wanted) <= WIDER[dtype]


@pytest.mark.parametrize("shape", [(1, 9, 17), (7, 9, 17), (300, 5, 3)])
def test_gradients_that_arrive_are_read_in_any_strides(shape: tuple[int, int, int]) -> None:
    """Rows are read where they lie, others are copied, and so are those that hold a number that is not finite."""
    queries, height, width = shape
    descriptors, target = inputs(queries, height, width)
    upstream = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    expected = gradients(descriptors, target, upstream)
    strides = {
        "rows apart": torch.stack((upstream, upstream), 2)[:, :, 1],
        "images apart": torch.stack((upstream, upstream), 1)[:, 1],
        "targets-major": upstream.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        "upside down": upstream.flip(2).contiguous().flip(2),
        "transposed": upstream.transpose(2, 3).contiguous().transpose(2, 3),
    }
    for name, given in strides.items():
        assert all(map(torch.equal, gradients(descriptors, target, given), expected)), name
    one = torch.ones(()).expand(upstream.shape)
    assert all(map(torch.equal, gradients(descriptors, target, one), gradients(descriptors, target, one.contiguous())))


def test_gradients_that_are_not_finite_stay_in_their_rows_and_cells() -> None:
    descriptors, target = inputs(7, 9, 17)
    upstream = torch.randn(2, 7, 9, 17, generator=torch.Generator().manual_seed(1))
    expected = gradients(descriptors, target, upstream)
    upstream[0, 3, 8, 16] = float("inf")
    found = gradients(descriptors, target, upstream)
    lost = [torch.zeros_like(x, dtype=torch.bool) for x in found]
    lost[0][0, 3] = lost[1][0, :, 8, 16] = True
    for value, wanted, mask in zip(found, expected, lost, strict=True):
        assert torch.equal(value.isnan(), mask)
        assert torch.equal(value[~mask], wanted[~mask])


def test_a_gradient_of_zero_does_not_meet_a_score_that_is_not_finite() -> None:
    descriptors, target = inputs(7, 9, 17)
    upstream = torch.randn(2, 7, 9, 17, generator=torch.Generator().manual_seed(1))
    upstream[1, 2] = 0
    upstream[1, :, 0, 3] = 0
    expected = gradients(descriptors, target, upstream)
    descriptors[1, 2, 6] = target[1, 1, 0, 3] = float("nan")
    found = gradients(descriptors, target, upstream)
    assert not any(x.isnan().any() for x in found)
    others = [x for x in range(7) if x != 2]
    assert torch.equal(found[0][1, others], expected[0][1, others])
