"""Stands in for sd-dino's program for TSS."""

import torch
from torch.nn import functional


def nearest_neighbor_flow(src_descriptor, trg_descriptor, ori_shape, mask1=None, mask2=None):
    if mask1 is not None:
        return "with masks"
    height, width = src_descriptor.shape[2:]
    best = torch.cdist(trg_descriptor.flatten(2).mT, src_descriptor.flatten(2).mT)[0].argmin(1)
    number, long = torch.arange(height * width), max(ori_shape)
    flow = torch.stack((best % width - number % width, best / width - number // width)).view(1, 2, height, width)
    flow = functional.interpolate(flow.float(), (long, long), mode="bilinear") * long / 60
    top, left = (long - ori_shape[0]) // 2, (long - ori_shape[1]) // 2
    return flow[..., top : top + ori_shape[0], left : left + ori_shape[1]]
