"""The problems of queries scored in a map: by absolute differences, many at once, in given windows, ranked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk

from .family_problem import SAME_PRODUCTS, TEMPERATURE, Problem, Provider, Tensors, soft_argmax, xy_of

# ---- metric="l1" ---------------------------------------------------------------------------------------------------


def absolute(side: int, channels: int, heavy: bool = False) -> Problem:
    """Expected points and best scores under absolute differences; the queries are the shuffled and moved cells.

    Three operations for each number of a difference where a product has one multiply-add; the rival reads both vectors
    for each pair.
    """

    def inputs(generator: torch.Generator) -> Tensors:
        target = torch.randn(1, channels, side, side, generator=generator)
        queries = target.flatten(2).mT[:, torch.randperm(side * side, generator=generator)]
        return queries + 0.7 * torch.randn(queries.shape, generator=generator), target

    temperature = channels / 16

    def ours(queries: Tensor, target: Tensor) -> Tensors:
        found = smk.match_descriptors(
            queries, target, metric="l1", localization="global", temperature=temperature
        )  # fmt: skip
        return found.keypoints, found.score

    def cdist(queries: Tensor, target: Tensor) -> Tensors:
        scores = -torch.cdist(queries, target.flatten(2).mT, p=1)
        xy = xy_of(side, side, scores)
        return (scores / temperature).softmax(2) @ xy, scores.max(2).values

    sizes = {"map": f"{side}x{side}", "C": channels, "N": side * side, "metric": "l1"}
    modes = ("forward", "forward+backward")
    bars = {mode: {"cdist": 4.0} for mode in modes}
    providers = {"ours": ours, "cdist": cdist}
    rounds = 1 if heavy else None
    return Problem("match_descriptors", sizes, inputs, providers, modes, 1e-3, bars, heavy=heavy, rounds=rounds)


# ---- cosine_similarity, match_descriptors ---------------------------------------------------------------------------


def all_scores(batch: int, queries: int, channels: int, side: int) -> Problem:
    """The scores of so many descriptors that their products are those of large matrices."""

    def inputs(generator: torch.Generator) -> Tensors:
        descriptors = torch.randn(batch, queries, channels, generator=generator)
        return descriptors, torch.randn(batch, channels, side, side, generator=generator)

    def ours(descriptors: Tensor, target: Tensor) -> Tensors:
        return (smk.cosine_similarity(descriptors, target),)

    def eager(descriptors: Tensor, target: Tensor) -> Tensors:
        scores = F.normalize(descriptors, dim=2) @ F.normalize(target.flatten(2), dim=1)
        return (scores.unflatten(2, (side, side)),)

    sizes = {"B": batch, "N": queries, "C": channels, "map": f"{side}x{side}"}
    providers = {"ours": ours, "eager": eager}
    modes = ("forward", "forward+backward")
    bars = {mode: {"eager": 1.0, "compile": 1.0} for mode in modes}
    misses = {"forward+backward": SAME_PRODUCTS}
    return Problem("cosine_similarity", sizes, inputs, providers, modes, bars=bars, compiled=True, known_misses=misses)


def many_descriptors(queries: int, channels: int, side: int) -> Problem:
    """The expected point of many descriptors over the whole map."""

    def inputs(generator: torch.Generator) -> Tensors:
        descriptors = torch.randn(1, queries, channels, generator=generator)
        return descriptors, torch.randn(1, channels, side, side, generator=generator)

    def ours(descriptors: Tensor, target: Tensor) -> Tensors:
        found = smk.match_descriptors(descriptors, target, localization="global", temperature=TEMPERATURE)
        return (found.keypoints,)

    def eager(descriptors: Tensor, target: Tensor) -> Tensors:
        xy = xy_of(side, side, target)
        cells = F.normalize(target.flatten(2), dim=1)
        return (soft_argmax(F.normalize(descriptors, dim=2), cells, xy),)

    sizes = {"N": queries, "C": channels, "map": f"{side}x{side}", "localization": "global"}
    providers = {"ours": ours, "eager": eager}
    bars = {"forward+backward": {"compile": 1.3}}
    modes = ("forward", "forward+backward")
    misses = {"forward+backward": SAME_PRODUCTS}
    return Problem("match_descriptors", sizes, inputs, providers, modes, 1e-3, bars, compiled=True, known_misses=misses)


# ---- center, top_k ---------------------------------------------------------------------------------------------------


def given_windows(queries: int, channels: int, side: int, window: int) -> Problem:
    """The expected point in a window round a given point between cells, as matchers refine coarse matches.

    The rival gathers all samples of the map, window^2 vectors a query; ours scores (window + 1)^2 cells where they are.
    """

    def inputs(generator: torch.Generator) -> Tensors:
        descriptors = torch.randn(1, queries, channels, generator=generator)
        target = torch.randn(1, channels, side, side, generator=generator)
        return descriptors, target, window + torch.rand(1, queries, 2, generator=generator) * (side - 2 * window)

    def ours(descriptors: Tensor, target: Tensor, center: Tensor) -> Tensors:
        options = {"center": center, "window_size": window, "temperature": TEMPERATURE}
        return (smk.match_descriptors(descriptors, target, **options).keypoints,)  # type: ignore[arg-type]

    def sampled(descriptors: Tensor, target: Tensor, center: Tensor) -> Tensors:
        step = torch.arange(-(window // 2), window // 2 + 1).to(center)
        y, x = torch.meshgrid(step, step, indexing="ij")
        points = center[:, :, None] + torch.stack((x, y), -1).flatten(0, 1)
        samples = F.grid_sample(F.normalize(target, dim=1), 2 * points / (side - 1) - 1, align_corners=True)
        scores = torch.einsum("bnc,bcnk->bnk", F.normalize(descriptors, dim=2), samples)
        return (((scores / TEMPERATURE).softmax(2)[..., None] * points).sum(2),)

    sizes = {"N": queries, "C": channels, "map": f"{side}x{side}", "window": window, "center": "points"}
    modes = ("forward", "forward+backward")
    bars = {mode: {"grid_sample": 3.0} for mode in modes}
    return Problem("match_descriptors", sizes, inputs, {"ours": ours, "grid_sample": sampled}, modes, 1e-3, bars)


def ranked(queries: int, channels: int, side: int, count: int) -> Problem:
    """The best cells of every query: ours holds the scores of a block of queries at a time, the rival all of them."""

    def inputs(generator: torch.Generator) -> Tensors:
        descriptors = torch.randn(1, queries, channels, generator=generator)
        return descriptors, torch.randn(1, channels, side, side, generator=generator)

    def ours(descriptors: Tensor, target: Tensor) -> Tensors:
        found = smk.match_descriptors(descriptors, target, localization="argmax", top_k=count)
        assert found.top_score is not None and found.top_peak is not None
        return found.top_score, found.top_peak

    def topk(descriptors: Tensor, target: Tensor) -> Tensors:
        best = (F.normalize(descriptors, dim=2) @ F.normalize(target.flatten(2), dim=1)).topk(count)
        return best.values, best.indices

    sizes = {"N": queries, "C": channels, "map": f"{side}x{side}", "top_k": count}
    providers: dict[str, Provider] = {"ours": ours, "topk": topk}
    return Problem("match_descriptors", sizes, inputs, providers, bars={"forward": {"topk": 1.0}})
