"""Stands in for XFeat."""

import torch
from torch import nn


class XFeat(nn.Module):
    @torch.inference_mode()
    def batch_match(self, feats1, feats2, min_cossim=-1):
        return [XFeat.match(self, a, b, min_cossim) for a, b in zip(feats1, feats2, strict=True)]

    @torch.inference_mode()
    def match(self, feats1, feats2, min_cossim=0.82):
        scores = feats1 @ feats2.T
        best, there = scores.max(1)
        good = scores.argmax(0)[there] == torch.arange(len(there))
        first = (good & (best > min_cossim) if min_cossim > 0 else good).nonzero()[:, 0]
        return first, there[first]

    def subpix_softmax2d(self, heatmaps, temp=3):
        height, width = heatmaps.shape[1:]
        number = torch.arange(height * width)
        offsets = torch.stack((number % width - width // 2, number // width - height // 2), 1).float()
        return torch.softmax(temp * heatmaps.flatten(1), 1) @ offsets
