"""Stands in for DIFT's program for homographies."""

import torch
from torch.nn import functional


def mnn_matcher(descriptors_a, descriptors_b, metric="cosine"):
    if metric == "cosine":
        descriptors_a, descriptors_b = functional.normalize(descriptors_a), functional.normalize(descriptors_b)
    distance = torch.cdist(descriptors_a, descriptors_b)
    there, back = distance.argmin(1), distance.argmin(0)
    first = (back[there] == torch.arange(len(there))).nonzero()[:, 0]
    return torch.stack((first, there[first]), 1).numpy()
