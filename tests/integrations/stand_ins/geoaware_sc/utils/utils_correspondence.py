"""Stands in for GeoAware-SC."""

import torch
from torch.nn import functional


def calculate_keypoint_transformation(args, img1_desc, img2_desc, img1_patch_idx, num_patches):
    scores, stride = img1_desc[0] @ img2_desc[0].T, args.ANNO_SIZE / num_patches
    if args.SOFT_EVAL:
        points = get_flow(scores, args.SOFT_EVAL_WINDOW, num_patches).reshape(-1, 2).clamp(0, num_patches - 1)
    else:
        best = scores.argmax(1)
        points = torch.stack((best % num_patches, best // num_patches), 1)
    return points[img1_patch_idx] * stride + stride // 2


def get_flow(corr, flow_window=0, num_patches=60):
    corr, number = corr.double(), torch.arange(num_patches**2)
    cells = torch.stack((number % num_patches, number // num_patches), 1)
    away = cells - cells[corr.argmax(1)][:, None]
    if flow_window > 0:
        corr = corr * (away.abs().amax(2) <= flow_window)
    elif flow_window < 0:
        corr = corr * torch.exp(-(away**2).sum(2) / (2 * flow_window**2))
    weights, line = torch.softmax(corr / 0.02, 1).unflatten(1, (num_patches, num_patches)), torch.arange(num_patches)
    points = torch.stack(((weights.sum(1) * line).sum(1), (weights.sum(2) * line).sum(1)), 1)
    return points.float().view(1, num_patches, num_patches, 2)


def get_distance(feature1, feature2, mask1, mask2, RESOLUTION=64):
    kept = []
    for features, mask in ((feature1, mask1), (feature2, mask2)):
        cells = functional.interpolate(features[0].T.reshape(1, -1, 60, 60), (RESOLUTION,) * 2, mode="bilinear")
        inside = functional.interpolate(mask[None, None], (RESOLUTION,) * 2, mode="nearest")[0, 0] == 1
        kept.append(cells[0][:, inside].T)
    return torch.cdist(*kept).amin(1).mean()


def get_distance_mutual_nn(feature1, feature2):
    distance = torch.cdist(feature1[0], feature2[0])
    there, back = distance.argmin(1), distance.argmin(0)
    mutual = back[there] == torch.arange(len(there))
    return distance.amin(1)[mutual].mean()


def chunk_cosine_sim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.normalize(x, dim=3) @ functional.normalize(y, dim=3).mT


def pairwise_sim(x: torch.Tensor, y: torch.Tensor, p=2, normalize=False) -> torch.Tensor:
    if normalize:
        x, y = functional.normalize(x, dim=3), functional.normalize(y, dim=3)
    return -torch.cdist(x, y, p=float(p))
