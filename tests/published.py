"""What published codebases compute, written anew in plain PyTorch, in the dtype of the arguments and by their formulas.

Each function is named after a preset. Maps are (B, C, H, W), keypoints (B, N, 2) as (x, y) in pixels of a square image
of `side` pixels, as there; nothing of the package is used.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def centres(height: int, width: int, like: Tensor) -> Tensor:
    """(H * W, 2) coordinates (x, y) of the cells, row by row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y), -1).flatten(0, 1).to(like)


def at(cells: Tensor, width: int) -> Tensor:
    """(x, y) of flat cells."""
    return torch.stack((cells % width, cells // width), -1)


def mean_cell(weights: Tensor, height: int, width: int) -> Tensor:
    """The mean (..., 2) of the cells under weights (..., H * W) that sum to one."""
    return weights @ centres(height, width, weights)


def normalise(x: Tensor, dim: int, eps: float) -> Tensor:
    return x / (x.norm(dim=dim, keepdim=True) + eps)


def truncated(source: Tensor, keypoints: Tensor, stride: float) -> Tensor:
    """(B, N, C) features of the cells that hold the points."""
    cell = (keypoints / stride).long()
    image = torch.arange(len(source), device=source.device)[:, None]
    return source[image, :, cell[..., 1], cell[..., 0]]


def sampled(source: Tensor, cells: Tensor, padding: str) -> Tensor:
    """(B, N, C) features between cells, by a grid whose ends are the centres of the outer cells."""
    height, width = source.shape[2:]
    grid = 2 * cells / cells.new_tensor([width - 1, height - 1]) - 1
    return F.grid_sample(source, grid[:, :, None], align_corners=True, padding_mode=padding)[..., 0].mT


def around_peak(scores: Tensor, width: int, sigma: float) -> Tensor:
    """Scores (..., H * W) times a Gaussian round the best of them."""
    cells = centres(scores.shape[-1] // width, width, scores)
    peak = at(scores.argmax(-1), width).to(scores)
    return scores * torch.exp(-(cells - peak[..., None, :]).square().sum(-1) / (2 * sigma**2))


def simplematch(source: Tensor, target: Tensor, keypoints: Tensor, side: int, window: int) -> Tensor:
    """The k x k scores round the best cell are cut out, and their mean is counted from the window's corner."""
    cells = target.shape[3]
    stride = side / cells
    query = normalise(truncated(source, keypoints, stride), 2, 1e-8)
    scores = query @ normalise(target.flatten(2), 1, 1e-8)
    window = min(window, cells)
    corner = (at(scores.argmax(-1), cells) - window // 2).clamp(0, cells - window)
    maps = scores.unflatten(2, (cells, cells))
    rows, columns = (corner[..., i, None] + torch.arange(window, device=corner.device) for i in (1, 0))
    cut = maps.gather(2, rows[..., None].expand(-1, -1, -1, cells)).gather(
        3, columns[..., None, :].expand(-1, -1, window, -1)
    )
    return (mean_cell((cut.flatten(2) / 0.02).softmax(-1), window, window) + corner) * stride


def sd4match(mode: str, source: Tensor, target: Tensor, keypoints: Tensor, side: int) -> Tensor:
    """Also semantic_correspondence. Image and map share the centres of their corners; the source is square."""
    cells = target.shape[3]
    points = keypoints / (side - 1) * (source.shape[3] - 1)

    def scores(points: Tensor) -> Tensor:
        query = normalise(sampled(source, points, "zeros"), 2, 1e-6)
        return query @ normalise(target, 1, 1e-6).flatten(2)

    if mode == "nn":
        found = at(scores(points).argmax(-1), cells).to(target)
    elif mode == "bilinear":
        points = points.clamp(1e-5, source.shape[3] - 1 - 1e-5)
        found = torch.zeros_like(points)
        for corner in (points.new_tensor([x, y]) for x in (0, 1) for y in (0, 1)):
            cell = points.floor() + corner
            weight = (1 - (points - cell).abs()).prod(-1, keepdim=True)
            found = found + weight * at(scores(cell).argmax(-1), cells)
    else:
        weighted = scores(points) if mode == "softargmax" else around_peak(scores(points), cells, 7)
        found = mean_cell((weighted / 0.04).softmax(-1), cells, cells)
    return found / (cells - 1) * (side - 1)


def geoaware(mode: str, source: Tensor, target: Tensor, keypoints: Tensor, side: int) -> Tensor:
    cells = target.shape[3]
    stride = side / cells
    scores = normalise(truncated(source, keypoints, stride), 2, 1e-10) @ normalise(target.flatten(2), 1, 1e-10)
    if mode == "argmax":
        found = at(scores.argmax(-1), cells)
    else:
        if mode == "window":  # a mask of zeros and ones, so that the other cells have scores of zero
            distance = centres(cells, cells, scores) - at(scores.argmax(-1), cells).to(scores)[..., None, :]
            scores = scores * (distance.abs().amax(-1) <= 7)
        if mode == "gaussian":
            scores = around_peak(scores, cells, 5)
        found = mean_cell((scores / 0.02).softmax(-1), cells, cells)
    return found * stride + stride // 2


def marco(source: Tensor, target: Tensor, keypoints: Tensor, side: int, sigma: float | None = 7) -> Tensor:
    """sigma: None in its loss on dense matches."""
    cells = target.shape[3]
    query = sampled(source, keypoints * source.shape[3] / side, "border")
    scores = query @ target.flatten(2)
    if sigma is not None:
        scores = around_peak(scores, cells, sigma)
    return mean_cell((scores / 10).softmax(-1), cells, cells) / (cells - 1) * (side - 1)


def sd_dino(distance: str, source: Tensor, target: Tensor, keypoints: Tensor, side: int) -> Tensor:
    cells = target.shape[3]
    patch = side // cells
    query, tokens = truncated(source, keypoints, side / cells)[:, :, None], target.flatten(2).mT[:, None]
    if distance == "cos":
        scores = F.cosine_similarity(query, tokens, dim=3)
    else:
        scores = -torch.linalg.vector_norm(query - tokens + 1e-6, ord=int(distance[1]), dim=3)
    return at(scores.argmax(-1), cells) * patch + patch // 2 - 0.5


def dift(
    source: Tensor, target: Tensor, keypoints: Tensor, of_source: tuple[int, int], of_target: tuple[int, int]
) -> Tensor:
    """Whole pixels of images of any shape, each of which its map is upsampled to."""
    source, target = (F.interpolate(x, size, mode="bilinear") for x, size in ((source, of_source), (target, of_target)))
    query = F.normalize(truncated(source, keypoints, 1), dim=2)
    return at((query @ F.normalize(target.flatten(2), dim=1)).argmax(-1), of_target[1])


def hyperfeatures(source: Tensor, target: Tensor, keypoints: Tensor, load: int, of_target: tuple[int, int]) -> Tensor:
    """Points in pixels of the loaded image, upsampled maps, and the match in pixels of the target's image."""
    source, target = (F.interpolate(x, (load, load), mode="bilinear") for x in (source, target))
    query = truncated(source, keypoints.clamp(0, load - 1).round(), 1)
    found = at((normalise(query, 2, 0) @ normalise(target.flatten(2), 1, 0)).argmax(-1), load)
    return found * target.new_tensor([of_target[1] / load, of_target[0] / load])


def hyperfeatures_loss(source: Tensor, target: Tensor, of_source: Tensor, of_target: Tensor) -> Tensor:
    """Of one pair of maps and the flat cells of true pairs: cross entropy both ways, at a scale of 1 / 0.07."""
    scores = normalise(source[0].flatten(1).T, 1, 0) @ normalise(target[0].flatten(1), 0, 0) / 0.07
    return (F.cross_entropy(scores[of_source], of_target) + F.cross_entropy(scores.T[of_target], of_source)) / 2


def cats(correlation: Tensor) -> Tensor:
    """(B, 2, h, w) from (B, T, h, w): the mean of target cells for each source cell, on axes from -1 to 1 and back."""
    side = correlation.shape[3]
    axis = torch.linspace(-1, 1, side, dtype=correlation.dtype, device=correlation.device)
    share = (correlation / 0.02).softmax(1).unflatten(1, (side, side))
    normal = [(axis[:, None, None] * weights).sum(1) for weights in (share.sum(1), share.sum(2))]
    return (torch.stack(normal, 1) + 1) * (side - 1) / 2


def chm(correlation: Tensor, keypoints: Tensor, side: int) -> Tensor:
    """Points from (B, S, T): the mean matches of the source cells near them, weighted by nearness."""
    cells = round(correlation.shape[2] ** 0.5)
    matched = mean_cell(around_peak(correlation, cells, 17).softmax(-1), cells, cells) / (cells - 1) * 2 - 1
    grid = centres(cells, cells, matched) / (cells - 1) * 2 - 1
    points = keypoints / (side // 2) - 1
    near = (0.1 - ((grid - points[..., None, :]).square().sum(-1) + 1e-5).sqrt()).clamp(min=0)
    return (near / near.sum(-1, keepdim=True) @ matched + 1) * (side // 2)


def tapir(logits: Tensor, image: tuple[int, int]) -> Tensor:
    """(B, N, 2) in pixels: a softmax over the map, then the mean of the centres within five cells of the best."""
    height, width = logits.shape[2:]
    share = (logits.flatten(2) * 20).softmax(-1)
    cells = centres(height, width, logits) + 0.5
    best = cells[share.argmax(-1)]
    share = share * ((cells - best[..., None, :]).square().sum(-1) < 25)
    mean = share @ cells / share.sum(-1, keepdim=True).clamp(min=1e-12)
    return mean * mean.new_tensor([image[1] / width, image[0] / height])


class Fine(NamedTuple):
    keypoints: Tensor
    deviation: Tensor


def loftr_fine(first: Tensor, second: Tensor) -> Fine:
    """Expectation and standard deviation, on axes from -1 to 1, for windows (M, W * W, C)."""
    window = round(first.shape[1] ** 0.5)
    scores = torch.einsum("mc,mrc->mr", first[:, first.shape[1] // 2], second)
    share = (scores / first.shape[2] ** 0.5).softmax(-1)
    grid = centres(window, window, share) / (window - 1) * 2 - 1
    mean = share @ grid
    variance = share @ grid.square() - mean.square()
    return Fine(mean, variance.clamp(min=1e-10).sqrt().sum(-1))


class Pairs(NamedTuple):
    """Best partners, (N,) of a and (M,) of b, and the pairs that are each other's, as a (K, 2) list."""

    of_a: Tensor
    of_b: Tensor
    mutual: Tensor


def nearest(scores: Tensor) -> Pairs:
    """Of scores (N, M)."""
    of_a, of_b = scores.argmax(1), scores.argmax(0)
    rows = torch.arange(len(of_a), device=scores.device)
    kept = of_b[of_a] == rows
    return Pairs(of_a, of_b, torch.stack((rows[kept], of_a[kept]), 1))


def xfeat_loss(a: Tensor, b: Tensor) -> Tensor:
    """Of pairs (n, n) of (N, C) descriptors: cross entropy both ways."""
    scores, true = 0.2 * (a @ b.T), torch.arange(len(a), device=a.device)
    return F.cross_entropy(scores, true) + F.cross_entropy(scores.T, true)


def xfeat_refined(logits: Tensor) -> Tensor:
    """(N, 2) offsets from cell (H // 2, W // 2) of (N, H, W)."""
    height, width = logits.shape[1:]
    share = (3 * logits.flatten(1)).softmax(-1)
    return mean_cell(share, height, width) - share.new_tensor([width // 2, height // 2])


def lightglue(a: Tensor, b: Tensor, matchable_a: Tensor, matchable_b: Tensor) -> Tensor:
    """The log assignment (N, M) of projected descriptors (N, C) and (M, C) and logits (N,) and (M,)."""
    scores = (a / a.shape[1] ** 0.25) @ (b / b.shape[1] ** 0.25).T
    certainty = F.logsigmoid(matchable_a)[:, None] + F.logsigmoid(matchable_b)
    return scores.log_softmax(1) + scores.log_softmax(0) + certainty


def mast3r_loss(a: Tensor, b: Tensor) -> Tensor:
    """Of pairs (n, n): minus the logarithms of both shares of the true pair, averaged."""
    exponentials = ((a @ b.T) / 0.05).exp()
    true = exponentials.diagonal()
    return -((true / exponentials.sum(0)).log() + (true / exponentials.sum(1)).log()).mean()


class Ratios(NamedTuple):
    distance: Tensor
    ratio: Tensor
    of_a: Tensor


def kornia_ratios(a: Tensor, b: Tensor) -> Ratios:
    """Distance of each a to the nearest b, and its ratio to the next."""
    distances, found = torch.cdist(a, b).topk(2, 1, largest=False)
    return Ratios(distances[:, 0], distances[:, 0] / distances[:, 1], found[:, 0])


def kornia_expectation(share: Tensor) -> Tensor:
    """(B, N, 2), on axes from -1 to 1, of maps (B, N, H, W) that sum to one."""
    height, width = share.shape[2:]
    grid = centres(height, width, share) / share.new_tensor([width - 1, height - 1]) * 2 - 1
    return share.flatten(2) @ grid
