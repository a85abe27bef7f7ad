"""Stands in for TAPIR."""

import torch


def soft_argmax_heatmap_batched(softmax_val, threshold=5):
    height, width = softmax_val.shape[3:]
    number, weights = torch.arange(height * width), softmax_val.flatten(3)
    cells = torch.stack((number % width + 0.5, number // width + 0.5), 1)
    near = ((cells - cells[weights.argmax(3)][..., None, :]) ** 2).sum(-1) < threshold**2
    weights = weights * near
    return (weights @ cells) / weights.sum(3, keepdim=True).clamp(min=1e-12)


def heatmaps_to_points(all_pairs_softmax, image_shape, threshold=5, query_points=None):
    points = soft_argmax_heatmap_batched(all_pairs_softmax, threshold)
    cells = torch.tensor([all_pairs_softmax.shape[4], all_pairs_softmax.shape[3]])
    return points * torch.tensor([image_shape[3], image_shape[2]]) / cells
