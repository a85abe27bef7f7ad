"""Stands in for kornia's matching."""

import torch


def between_all(desc1, desc2, dm: torch.Tensor | None):
    return torch.cdist(desc1, desc2) if dm is None else dm


def match_nn(desc1, desc2, dm: torch.Tensor | None = None):
    distance, there = between_all(desc1, desc2, dm).min(1)
    return distance[:, None], torch.stack((torch.arange(len(there)), there), 1)


def match_mnn(desc1, desc2, dm=None):
    between = between_all(desc1, desc2, dm)
    there, back = between.argmin(1), between.argmin(0)
    if len(there) <= len(back):
        first = (back[there] == torch.arange(len(there))).nonzero()[:, 0]
        second = there[first]
    else:
        second = (there[back] == torch.arange(len(back))).nonzero()[:, 0]
        first = back[second]
    return between[first, second][:, None], torch.stack((first, second), 1)


def match_snn(desc1, desc2, th=0.8, dm=None):
    between = between_all(desc1, desc2, dm)
    near = between.sort(1).values
    ratio = near[:, 0] / near[:, 1]
    first = (ratio <= th).nonzero()[:, 0]
    return ratio[first, None], torch.stack((first, between.argmin(1)[first]), 1)


def match_smnn(desc1, desc2, th=0.95, dm=None):
    between = between_all(desc1, desc2, dm)
    there, back = between.argmin(1), between.argmin(0)
    rows, columns = (x.sort(1).values for x in (between, between.T))
    ratio = torch.maximum(rows[:, 0] / rows[:, 1], (columns[:, 0] / columns[:, 1])[there])
    first = ((back[there] == torch.arange(len(there))) & (ratio <= th)).nonzero()[:, 0]
    return ratio[first, None], torch.stack((first, there[first]), 1)


class DescriptorMatcher(torch.nn.Module):
    def forward(self, desc1, desc2):
        return match_nn(desc1, desc2)
