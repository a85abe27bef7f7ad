"""Stands in for the matching of SD4Match and Semantic-Correspondence."""

import torch
from torch.nn import functional


def scores_of(source, target, query, l2_norm):
    size = torch.tensor([source.shape[3] - 1.0, source.shape[2] - 1.0])
    sampled = functional.grid_sample(source, (2 * query / size - 1)[:, :, None], align_corners=True)
    queries, cells = sampled[..., 0].mT, target.flatten(2)
    if l2_norm:
        queries, cells = (x / (x.norm(dim=d, keepdim=True) + 1e-6) for x, d in ((queries, 2), (cells, 1)))
    return queries @ cells


def cells_of(target):
    number = torch.arange(target.shape[2] * target.shape[3])
    return torch.stack((number % target.shape[3], number // target.shape[3]), 1).float()


def nn_get_matches(src_featmaps, trg_featmaps, query, l2_norm=True):
    return cells_of(trg_featmaps)[scores_of(src_featmaps, trg_featmaps, query, l2_norm).argmax(2)]


def bilinear_get_matches(src_featmaps, trg_featmaps, query, l2_norm=True):
    last = torch.tensor([src_featmaps.shape[3] - 1.0, src_featmaps.shape[2] - 1.0])
    query = torch.minimum(query.clamp(min=1e-5), last - 1e-5)
    found = 0
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corner = query.floor() + torch.tensor(step)
        weight = (1 - (query - corner).abs()).prod(-1, keepdim=True)
        found = found + weight * nn_get_matches(src_featmaps, trg_featmaps, corner, l2_norm)
    return found


def softargmax_get_matches(src_featmaps, trg_featmaps, query, softmax_temp, l2_norm=True):
    scores = scores_of(src_featmaps, trg_featmaps, query, l2_norm)
    return torch.softmax(scores / softmax_temp, 2) @ cells_of(trg_featmaps)


def kernel_softargmax_get_matches(src_featmaps, trg_featmaps, query, softmax_temp, sigma=7, l2_norm=True):
    scores, cells = scores_of(src_featmaps, trg_featmaps, query, l2_norm), cells_of(trg_featmaps)
    away = ((cells - cells[scores.argmax(2)][:, :, None]) ** 2).sum(3)
    return torch.softmax(scores * torch.exp(-away / (2 * sigma**2)) / softmax_temp, 2) @ cells
