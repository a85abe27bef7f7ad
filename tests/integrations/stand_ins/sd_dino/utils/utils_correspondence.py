"""Stands in for sd-dino."""

import torch
from torch.nn import functional


def chunk_cosine_sim(x, y):
    return functional.normalize(x, dim=3) @ functional.normalize(y, dim=3).mT


def pairwise_sim(x, y, p=2, normalize=False):
    if normalize:
        x, y = functional.normalize(x, dim=3), functional.normalize(y, dim=3)
    return -torch.cdist(x, y, p=float(p))
