"""Stands in for Diffusion Hyperfeatures."""

import torch
from torch.nn import functional


def chunk_cosine_sim(x, y):
    return functional.normalize(x, dim=3) @ functional.normalize(y, dim=3).mT


def find_nn_source_correspondences(img1_feats, img2_feats, source_points, output_size, load_size):
    source, target = (functional.interpolate(x, load_size, mode="bilinear")[0] for x in (img1_feats, img2_feats))
    points = torch.from_numpy(source_points)
    y, x = points.round().long().clamp(0, load_size[0] - 1).T
    best = (functional.normalize(source[:, y, x], dim=0).T @ functional.normalize(target, dim=0).flatten(1)).argmax(1)
    return points, torch.stack((best // load_size[0], best % load_size[0]), 1)
