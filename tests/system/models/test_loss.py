"""The loss against a computation by hand."""

from __future__ import annotations

import pytest
import torch

from simplematch.models import keypoint_loss, multi_scale_loss
from simplematch_kernels import Matches


def test_mean_over_the_valid_keypoints_of_the_batch() -> None:
    predicted = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[6.0, 8.0], [-1.0, -1.0]]])
    truth = torch.zeros(2, 2, 2)
    loss = keypoint_loss(predicted, truth, torch.tensor([2, 1]))
    assert loss.item() == pytest.approx((0 + 5 + 10) / 3)
    assert keypoint_loss(predicted, truth).item() == pytest.approx((0 + 5 + 10 + 2**0.5) / 4)


def test_padding_may_hold_anything() -> None:
    predicted = torch.tensor([[[3.0, 4.0], [float("nan"), 1.0]]], requires_grad=True)
    truth = torch.tensor([[[0.0, 0.0], [float("inf"), float("nan")]]])
    loss = keypoint_loss(predicted, truth, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 5.0
    assert torch.equal(predicted.grad, torch.tensor([[[0.6, 0.8], [0.0, 0.0]]]))


def test_gradient_is_zero_at_the_truth_and_without_keypoints() -> None:
    predicted = torch.ones(1, 2, 2, requires_grad=True)
    for counts in (torch.tensor([2]), torch.tensor([0])):
        loss = keypoint_loss(predicted, torch.ones(1, 2, 2), counts)
        (gradient,) = torch.autograd.grad(loss, predicted)
        assert loss.item() == 0
        assert torch.equal(gradient, torch.zeros(1, 2, 2))


def test_one_loss_for_each_scale() -> None:
    row = torch.zeros(1, 1)
    scales = [Matches(torch.full((1, 1, 2), x), row, row.long(), row) for x in (3.0, 0.0)]
    losses = multi_scale_loss(scales, torch.zeros(1, 1, 2))
    assert [x.item() for x in losses] == pytest.approx([18**0.5, 0.0])


def test_wrong_shapes_are_one_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"predicted and truth must both be \(B, N, 2\), got \(1, 2, 2\) and \(1, 3, 2\)"
    ):
        keypoint_loss(torch.zeros(1, 2, 2), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match=r"num_keypoints must be \(1,\), got \(2,\)"):
        keypoint_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.tensor([1, 2]))
