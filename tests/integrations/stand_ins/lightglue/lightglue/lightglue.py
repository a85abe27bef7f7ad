"""Stands in for LightGlue: the logarithm of its assignment, with a row and a column for no match, and its matches."""

import torch
from torch import nn
from torch.nn.functional import logsigmoid


class MatchAssignment(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.matchability, self.final_proj = nn.Linear(dim, 1), nn.Linear(dim, dim)

    def forward(self, desc0, desc1):
        scores = self.final_proj(desc0) @ self.final_proj(desc1).mT / desc0.shape[2] ** 0.5
        z0, z1 = self.matchability(desc0), self.matchability(desc1)
        both = scores.log_softmax(1) + scores.log_softmax(2) + logsigmoid(z0) + logsigmoid(z1).mT
        row = torch.cat((logsigmoid(-z1).mT, torch.zeros(len(z1), 1, 1)), 2)
        return torch.cat((torch.cat((both, logsigmoid(-z0)), 2), row), 1), scores


def filter_matches(scores, th):
    best, first = scores[:, :-1, :-1].max(2)
    second = scores[:, :-1, :-1].argmax(1)
    found = []
    for there, back in ((first, second), (second, first)):
        mutual = back.gather(1, there) == torch.arange(there.shape[1])
        probability = (best if there is first else best.gather(1, second)).exp() * mutual
        found.append((torch.where(mutual & (probability > th), there, -1), probability))
    return found[0][0], found[1][0], found[0][1], found[1][1]
