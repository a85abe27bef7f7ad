"""Stands in for LoFTR."""

import math

import torch
from torch import nn


class FineMatching(nn.Module):
    def forward(self, feat_f0, feat_f1, data):
        self.W = math.isqrt(feat_f0.shape[1])
        self.scale = data["hw0_i"][0] / data["hw0_f"][0]
        if len(feat_f0) == 0:
            data["expec_f"] = torch.empty(0, 3)
            return
        weights = torch.softmax((feat_f1 @ feat_f0[:, self.W**2 // 2, :, None])[..., 0] / feat_f0.shape[2] ** 0.5, 1)
        line = torch.linspace(-1, 1, self.W)
        cells = torch.cartesian_prod(line, line).flip(1)
        mean = weights @ cells
        spread = (weights @ cells**2 - mean**2).clamp(min=1e-10).sqrt().sum(1, keepdim=True)
        data["expec_f"] = torch.cat((mean, spread), 1)
        self.get_fine_match(mean, data)

    @torch.no_grad()
    def get_fine_match(self, coords_normed, data):
        data["mkpts1_f"] = data["mkpts1_c"] + coords_normed * (self.W // 2) * self.scale
