"""NaN, infinities, ties and extreme magnitudes, as docs/semantics.md says. tests/test_fuzz.py draws combinations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import simplematch_kernels as smk

from .samples import DEVICE

NAN, INF = math.nan, math.inf


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def exact_cosine(descriptors: Tensor, target: Tensor) -> Tensor:
    q, f = descriptors.double(), target.double().flatten(2)
    return (q @ f / q.norm(dim=2)[..., None] / f.norm(dim=1)[:, None]).unflatten(2, target.shape[2:])


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-22, 1e-15, 1e15, 1e22, 1e30, 1e36])
def test_a_cosine_does_not_depend_on_the_scale(scale: float, backend: str) -> None:
    descriptors, target = random(1, 3, 20) * scale, random(1, 20, 4, 5, seed=1) * scale
    scores = smk.cosine_similarity(descriptors, target, eps=0.0, backend=backend)
    torch.testing.assert_close(scores.double(), exact_cosine(descriptors, target), rtol=1e-5, atol=1e-6)
    mixed = smk.cosine_similarity(descriptors, random(1, 20, 4, 5, seed=1), eps=0.0, backend=backend)
    torch.testing.assert_close(
        mixed.double(), exact_cosine(descriptors, random(1, 20, 4, 5, seed=1)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_gradients_scale_with_the_inverse(scale: float, backend: str) -> None:
    """The cosine of c x has 1 / c the gradient."""
    found = []
    for c in (1.0, scale):
        descriptors, target = (x.mul(c).requires_grad_() for x in (random(1, 3, 20), random(1, 20, 4, 5, seed=1)))
        matches = smk.match_descriptors(descriptors, target, eps=0.0, window_size=3, backend=backend)
        loss = matches.keypoints.sum() + matches.score.sum()
        found.append([g.double() * c for g in torch.autograd.grad(loss, (descriptors, target))])
    for plain, scaled in zip(*found, strict=True):
        torch.testing.assert_close(scaled, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


@pytest.mark.parametrize("eps", [0.0, 1e-30, 1e-8, 0.5])
@pytest.mark.parametrize("eps_mode", ["add", "clamp"])
def test_the_cosine_of_a_zero_vector_is_zero(eps: float, eps_mode: str, backend: str) -> None:
    descriptors, target = random(1, 2, 6), random(1, 6, 3, 3)
    descriptors[:, 0] = 0
    target[:, :, 1, 1] = 0
    options = {"eps": eps, "eps_mode": eps_mode, "backend": backend}
    scores = smk.cosine_similarity(descriptors, target, **options)
    assert (scores[:, 0] == 0).all() and (scores[:, :, 1, 1] == 0).all() and scores.isfinite().all()
    assert smk.match_descriptors(descriptors, target, **options).peak[0, 0] == 0


def test_square_distances_are_exact_near_zero(backend: str) -> None:
    """A map against itself: each query's own cell is at distance 0, none is at less, and small distances are right."""
    target = 4 * random(1, 300, 5, 6)
    descriptors = target.flatten(2).mT
    scores = smk.cosine_similarity(descriptors, target, metric="l2", backend=backend)
    assert (scores <= 0).all() and (scores.flatten(2).diagonal(dim1=1, dim2=2) == 0).all()
    near = descriptors + 1e-3 * random(1, 30, 300, seed=1)
    scores = smk.cosine_similarity(near, target, metric="l2", backend=backend)
    exact = -(near.double()[:, :, :, None] - target.double().flatten(2)[:, None]).square().sum(2)
    torch.testing.assert_close(scores.flatten(2).double(), exact, rtol=1e-5, atol=0)
    assert torch.equal(
        smk.match_descriptors(near, target, metric="l2", backend=backend).peak[0], torch.arange(30, device=DEVICE)
    )


@pytest.mark.parametrize("channels", [31, 65])
def test_square_distances_of_constant_vectors_keep_their_digits(channels: int, backend: str) -> None:
    """Sums of equal products round in one direction, and a distance is the difference of such sums."""
    descriptors = (0.3 + random(1, 6, 1).abs()).expand(1, 6, channels)
    target = (0.3 + random(1, 1, 20, 20, seed=1).abs()).expand(1, channels, 20, 20)
    scores = smk.cosine_similarity(descriptors, target, metric="l2", backend=backend)
    exact = smk.cosine_similarity(descriptors.double(), target.double(), metric="l2", backend="reference")
    torch.testing.assert_close(scores.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
def test_bitwise_equal_cells_tie_to_the_lowest(metric: str, backend: str) -> None:
    """Where a product of matrices rounds by position too."""
    for seed in range(8):
        cell, other = random(1, 67, 1, seed=seed), 1e-2 * random(1, 67, 37, seed=seed + 100)
        target = torch.cat((other[..., :5], cell, other[..., 5:], cell, cell), 2).unflatten(2, (5, 8))
        descriptors = cell.mT + 1e-3 * random(1, 3, 67, seed=seed + 200)
        assert (smk.match_descriptors(descriptors, target, metric=metric, backend=backend).peak == 5).all()


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "l1"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_the_peak_is_never_a_masked_cell(metric: str, value: float, backend: str) -> None:
    descriptors, target = random(1, 2, 4), random(1, 4, 3, 3)
    descriptors[0, 0, 1] = value
    mask = torch.ones(1, 3, 3, dtype=torch.bool, device=DEVICE)
    mask[0, 0, :2] = False
    peak = smk.match_descriptors(descriptors, target, metric=metric, target_mask=mask, backend=backend).peak
    assert (peak >= 2).all()
    scores = torch.full((1, 1, 3, 3), -INF, device=DEVICE)
    match = smk.localize(scores, target_mask=mask, backend=backend)
    assert match.peak == 2 and match.log_sum_exp == -INF and match.score == -INF and match.keypoints.isnan().all()


def test_infinite_features_score_as_ieee_says(backend: str) -> None:
    descriptors = torch.tensor([[[1.0, 2.0], [0.0, 1.0], [INF, 1.0]]], device=DEVICE)
    target = torch.tensor([[[INF, -INF, 1.0], [1.0, 1.0, 1.0]]], device=DEVICE).reshape(1, 2, 1, 3)
    expected = {
        "dot": [[INF, -INF, 3.0], [NAN, NAN, 1.0], [INF, -INF, INF]],
        "l2": [[-INF, -INF, -1.0], [-INF, -INF, -1.0], [NAN, -INF, -INF]],
        "l1": [[-INF, -INF, -1.0], [-INF, -INF, -1.0], [NAN, -INF, -INF]],
        "cosine": [[NAN, NAN, 3 / math.sqrt(10)], [NAN, NAN, 1 / math.sqrt(2)], [NAN, NAN, NAN]],
    }
    for metric, scores in expected.items():
        found = smk.cosine_similarity(descriptors, target, metric=metric, backend=backend)[0, :, 0]
        torch.testing.assert_close(found, torch.tensor(scores, device=DEVICE), equal_nan=True)


def gradients_of_nan_target(upstream: Tensor, backend: str, **options: object) -> tuple[Tensor, Tensor]:
    """Of descriptors and target, of which cell (1, 2) of image 0 holds a NaN."""
    descriptors, target = random(2, 3, 5), random(2, 5, 6, 6)
    target[0, 3, 1, 2] = NAN
    leaves = descriptors.requires_grad_(), target.requires_grad_()
    matches = smk.match_descriptors(*leaves, window_size=3, **options, backend=backend)  # type: ignore[arg-type]
    found = torch.autograd.grad(matches.keypoints, leaves, upstream)
    return found[0], found[1]


def test_nan_reaches_the_window_and_the_descriptor(backend: str) -> None:
    of_descriptors, of_target = gradients_of_nan_target(torch.ones(2, 3, 2, device=DEVICE), backend)
    assert of_descriptors[0].isnan().all() and of_descriptors[1].isfinite().all()
    inside = torch.zeros(6, 6, dtype=torch.bool, device=DEVICE)
    inside[0:3, 1:4] = True  # the window around the cell
    assert of_target[0, :, inside].isnan().all()
    assert (of_target[0, :, ~inside] == 0).all() and of_target[1].isfinite().all()


def test_rows_without_an_upstream_gradient_pass_on_zeros(backend: str) -> None:
    """So a loss may leave out the rows that answered NaN."""
    upstream = torch.ones(2, 3, 2, device=DEVICE)
    upstream[0] = 0
    of_descriptors, of_target = gradients_of_nan_target(upstream, backend)
    assert (of_descriptors[0] == 0).all() and (of_target[0] == 0).all()
    assert of_descriptors[1].isfinite().all() and of_target[1].abs().sum() > 0


def test_a_masked_cell_may_hold_anything(backend: str) -> None:
    mask = torch.ones(2, 6, 6, dtype=torch.bool, device=DEVICE)
    mask[0, 1, 2] = False
    of_descriptors, of_target = gradients_of_nan_target(torch.ones(2, 3, 2, device=DEVICE), backend, target_mask=mask)
    assert of_descriptors.isfinite().all() and of_target.isfinite().all() and (of_target[0, :, 1, 2] == 0).all()


@pytest.mark.parametrize("value", [NAN, INF])
def test_an_upstream_nan_stays_in_its_row(value: float, backend: str) -> None:
    upstream = torch.ones(2, 3, 2, device=DEVICE)
    clean = torch.autograd.grad(*_scores_and_keypoints(backend), upstream)[0]
    upstream[0, 1, 0] = value
    dirty = torch.autograd.grad(*_scores_and_keypoints(backend), upstream)[0]
    assert dirty[0, 1].isnan().sum() == 9  # the window
    dirty[0, 1] = clean[0, 1] = 0
    assert torch.equal(dirty, clean)


def _scores_and_keypoints(backend: str) -> tuple[Tensor, Tensor]:
    scores = random(2, 3, 6, 6).requires_grad_()
    return smk.localize(scores, window_size=3, temperature=0.5, backend=backend).keypoints, scores


def test_constant_scores_do_not_move_the_temperature(backend: str) -> None:
    """Their softmax is uniform at any temperature."""
    temperature = torch.full((2, 3), 0.02, device=DEVICE, requires_grad=True)
    scores = torch.full((2, 3, 6, 6), 0.7, device=DEVICE)
    matches = smk.localize(scores, localization="global", temperature=temperature, backend=backend)
    assert (torch.autograd.grad(matches.keypoints.sum(), temperature)[0] == 0).all()


def test_an_infinite_score_survives_the_gaussian(backend: str) -> None:
    scores = random(1, 1, 9, 40)
    scores[0, 0, 0, 0], scores[0, 0, 8, 39] = 9.0, -INF
    match = smk.localize(scores, localization="gaussian", sigma=0.5, backend=backend)
    assert match.keypoints.isfinite().all() and match.log_sum_exp.isfinite()


def test_a_sample_does_not_read_cells_of_weight_zero(backend: str) -> None:
    features = random(1, 4, 3, 3)
    features[0, :, :, 2] = NAN
    on_a_cell = torch.tensor([[[1.0, 1.0]]], device=DEVICE)
    found = smk.gather_keypoints(features, on_a_cell, sampling="bilinear", backend=backend)
    assert torch.equal(found[0, 0], features[0, :, 1, 1])


def test_forward_mode_through_windows() -> None:
    """`extract_windows` is a gather of its scores, so it has a tangent."""
    scores, tangent = random(1, 2, 5, 5), random(1, 2, 5, 5, seed=1)
    windows, moved = torch.func.jvp(lambda x: smk.extract_windows(x, window_size=5)[0], (scores,), (tangent,))
    assert torch.equal(windows, scores) and torch.equal(moved, tangent)
