"""Uses of the operators in other people's code in which a few fast calls of PyTorch do the same, at their shapes.

Little can be saved there, and a call's own overhead counts. Each problem has what its users write as the rival.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

import simplematch_kernels as smk
from simplematch_kernels import numpy as smk_numpy

from .family import by_matmul_and_max, dual_softmax, mutual, mutual_of
from .family_maps import all_scores
from .family_problem import TEMPERATURE, Problem, Tensors, soft_argmax, soft_argmax_in_window, xy_of

BAR = 1 / 1.15
"""A ratio of times within 15 % of 1 says nothing on a busy machine."""

BOTH = ("forward", "forward+backward")
CALL = "a call from Python costs more than the arithmetic of a few small maps: docs/performance.md"
FEW_LINES = "a line of memory for each channel of few samples; taking them plane by plane instead was slower still"
UNFOLDED = "the windows are nine copies of the map, which the rival's pooling does not make"
STEPS = "its sums are some sixty operations of PyTorch, whose calls cost more than the arithmetic of few maps"


# ---- given score maps ----------------------------------------------------------------------------------------------


def localized(maps: tuple[int, int, int, int], layout: str = "contiguous", known_miss: str = "") -> Problem:
    """Soft-argmax of score maps (B, N, H, W): heads of pose estimators, cost volumes, refinement windows."""
    batch, queries, height, width = maps

    def inputs(generator: torch.Generator) -> Tensors:
        scores = 0.3 * torch.randn(maps, generator=generator)
        if layout == "targets first":  # (B, H, W, N), as products of all cells of two maps may be made
            scores = scores.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return (scores,)

    def ours(scores: Tensor) -> Tensors:
        return (smk.localize(scores, localization="global", temperature=TEMPERATURE).keypoints,)

    cells = xy_of(height, width, torch.empty(0))

    def plain(scores: Tensor) -> Tensors:
        return ((scores.flatten(2) / TEMPERATURE).softmax(-1) @ cells.to(scores),)

    sizes = {"maps": f"{batch}x{queries}x{height}x{width}", "layout": layout}
    misses = dict.fromkeys(BOTH, known_miss) if known_miss else {}
    return Problem("localize", sizes, inputs, {"ours": ours, "plain": plain}, BOTH, known_misses=misses)


def expected(maps: tuple[int, int, int, int]) -> Problem:
    """The expected point of maps that are probabilities already."""

    def inputs(generator: torch.Generator) -> Tensors:
        return ((3 * torch.randn(maps, generator=generator)).flatten(2).softmax(2).view(maps),)

    def ours(maps_: Tensor) -> Tensors:
        return (smk.localize(maps_, localization="global", normalization="sum").keypoints,)

    cells = xy_of(*maps[2:], torch.empty(0))

    def plain(maps_: Tensor) -> Tensors:
        return (maps_.flatten(2) @ cells.to(maps_),)

    sizes = {"maps": "x".join(map(str, maps)), "normalization": "sum"}
    misses = {"forward": STEPS}
    return Problem("localize", sizes, inputs, {"ours": ours, "plain": plain}, known_misses=misses)


def volumes(count: int, side: int) -> Problem:
    """Soft-argmax of 3-D score volumes: ours localizes the slices, whose log_sum_exp weighs them."""
    shape = (2, count, side, side, side)

    def inputs(generator: torch.Generator) -> Tensors:
        return (2 * torch.randn(shape, generator=generator),)

    def ours(scores: Tensor) -> Tensors:
        slices = smk.localize(scores.flatten(1, 2), localization="global", temperature=1.0)
        weights = slices.log_sum_exp.unflatten(1, (count, side)).softmax(2)
        xy = (weights[..., None] * slices.keypoints.unflatten(1, (count, side))).sum(2)
        return (torch.cat((xy, (weights @ torch.arange(side).to(scores))[..., None]), 2),)

    def plain(scores: Tensor) -> Tensors:
        probability = scores.flatten(2).softmax(2).view(shape)
        line = torch.arange(side).to(scores)
        return (torch.stack([probability.sum(others) @ line for others in ((2, 3), (2, 4), (3, 4))], 2),)

    return Problem("localize", {"volumes": f"2x{count}x{side}^3"}, inputs, {"ours": ours, "plain": plain}, BOTH)


def around_every_cell(height: int, width: int) -> Problem:
    """The expected point of the 3 x 3 cells around every cell, as convolutional soft-argmax makes them."""

    def inputs(generator: torch.Generator) -> Tensors:
        return (torch.randn(1, 1, height, width, generator=generator),)

    def ours(scores: Tensor) -> Tensors:
        windows = F.unfold(scores, 3).mT.unflatten(2, (3, 3))
        return (smk.localize(windows, localization="global", temperature=1.0).keypoints,)

    def plain(scores: Tensor) -> Tensors:
        weights = (scores - scores.amax()).exp()
        x = torch.arange(width).to(scores).expand(height, width)
        y = torch.arange(height).to(scores)[:, None].expand(height, width)
        total, of_x, of_y = (F.avg_pool2d(weights * each, 3, 1) for each in (torch.ones_like(x), x, y))
        left, top = x[: height - 2, : width - 2], y[: height - 2, : width - 2]
        return (torch.stack((of_x / total - left, of_y / total - top), -1).flatten(1, 3),)

    sizes = {"windows": f"3x3 of 1x1x{height}x{width}"}
    misses = {"forward+backward": UNFOLDED}
    return Problem("localize", sizes, inputs, {"ours": ours, "plain": plain}, BOTH, 1e-3, known_misses=misses)


def numpy_maxima(maps: tuple[int, int, int, int]) -> Problem:
    """The greatest score of each map and its cell, in NumPy."""

    def inputs(generator: torch.Generator) -> Tensors:
        return (torch.randn(maps, generator=generator),)

    def ours(scores: Tensor) -> Tensors:
        found = smk_numpy.localize(scores.numpy(), localization="argmax", threads=1)
        return torch.from_numpy(found.score), torch.from_numpy(found.peak)

    def plain(scores: Tensor) -> Tensors:
        lines = scores.numpy().reshape(*maps[:2], -1)
        return torch.from_numpy(lines.max(2)), torch.from_numpy(lines.argmax(2))

    return Problem("numpy.localize", {"maps": "x".join(map(str, maps))}, inputs, {"ours": ours, "plain": plain})


# ---- gathers -------------------------------------------------------------------------------------------------------


def gathered(size: tuple[int, int, int, int], keypoints: int, layout: str) -> Problem:
    """Bilinear samples of a map (B, C, H, W) at keypoints."""
    height, width = size[2:]

    def inputs(generator: torch.Generator) -> Tensors:
        features = torch.randn(size, generator=generator)
        sixteenths = torch.rand(size[0], keypoints, 2, generator=generator) * 16 * torch.tensor([width - 1, height - 1])
        if layout == "NHWC":
            features = features.contiguous(memory_format=torch.channels_last)
        return features, sixteenths.long()  # integers, so that only the features have a gradient

    def ours(features: Tensor, sixteenths: Tensor) -> Tensors:
        return (smk.gather_keypoints(features, (sixteenths / 16).to(features), sampling="bilinear"),)

    def plain(features: Tensor, sixteenths: Tensor) -> Tensors:
        grid = (sixteenths / 16).to(features) * (2 / torch.tensor([width - 1, height - 1]).to(features)) - 1
        return (F.grid_sample(features, grid[:, None], align_corners=True)[:, :, 0].mT,)

    sizes = {"features": "x".join(map(str, size)), "N": keypoints, "layout": layout}
    misses = {"forward": FEW_LINES} if layout == "NCHW" and keypoints < height * width / 16 else {}
    return Problem("gather_keypoints", sizes, inputs, {"ours": ours, "plain": plain}, BOTH, known_misses=misses)


# ---- dense sets ----------------------------------------------------------------------------------------------------


def shuffled(count: int, channels: int) -> Callable[[torch.Generator], Tensors]:
    """Two sets (N, C), the second a noisy permutation of the first."""

    def inputs(generator: torch.Generator) -> Tensors:
        a = torch.randn(count, channels, generator=generator)
        order = torch.randperm(count, generator=generator)
        return a, a[order] + 0.7 * torch.randn(count, channels, generator=generator)

    return inputs


def nearest(side: int, channels: int) -> Problem:
    """The most similar cell of every cell of another map."""

    def inputs(generator: torch.Generator) -> Tensors:
        a, b = shuffled(side * side, channels)(generator)
        return a[None], b.mT.reshape(1, channels, side, side)

    def ours(queries: Tensor, target: Tensor) -> Tensors:
        return (smk.match_descriptors(queries, target, localization="argmax").peak,)

    def plain(queries: Tensor, target: Tensor) -> Tensors:
        return ((F.normalize(queries, dim=2) @ F.normalize(target.flatten(2), dim=1)).argmax(2),)

    sizes = {"map": f"{side}x{side}", "C": channels, "N": side * side, "localization": "argmax"}
    return Problem("match_descriptors", sizes, inputs, {"ours": ours, "plain": plain})


def flow(side: int, channels: int, localization: str) -> Problem:
    """The expected point of every cell of one map in another, all scores at once."""

    def inputs(generator: torch.Generator) -> Tensors:
        source = torch.randn(1, channels, side, side, generator=generator)
        return source, source.roll((3, 5), (2, 3)) + 2 * torch.randn(source.shape, generator=generator)

    def ours(source: Tensor, target: Tensor) -> Tensors:
        queries = source.flatten(2).mT
        options = {"localization": localization, "window_size": 7, "temperature": TEMPERATURE}
        return (smk.match_descriptors(queries, target, **options).keypoints,)  # type: ignore[arg-type]

    def plain(source: Tensor, target: Tensor) -> Tensors:
        queries, cells = F.normalize(source.flatten(2), dim=1).mT, F.normalize(target.flatten(2), dim=1)
        xy = xy_of(side, side, source)
        if localization == "global":
            return (soft_argmax(queries, cells, xy),)
        return (soft_argmax_in_window(queries, cells, xy, 7),)

    sizes = {"map": f"{side}x{side}", "C": channels, "N": side * side, "localization": localization}
    modes = BOTH if localization == "global" else BOTH[:1]
    return Problem("match_descriptors", sizes, inputs, {"ours": ours, "plain": plain}, modes, 1e-3)


def mutual_distances(count: int, channels: int) -> Problem:
    """Mutual nearest neighbours by Euclidean distance."""

    def ours(a: Tensor, b: Tensor) -> Tensors:
        found = smk.match_all(a[None], b[None], metric="l2", return_log_sum_exp=False)
        return found.index_a[0], found.index_b[0], found.mutual[0]

    def plain(a: Tensor, b: Tensor) -> Tensors:
        distances = torch.cdist(a, b)
        return mutual_of(distances.argmin(1), distances.argmin(0))

    sizes = {"N": count, "M": count, "C": channels, "metric": "l2"}
    return Problem("match_all", sizes, shuffled(count, channels), {"ours": ours, "plain": plain})


def second_best(a_count: int, b_count: int, channels: int, both_ways: bool) -> Problem:
    """The two least distances of each descriptor, for the ratio test, one way or both ways."""

    def inputs(generator: torch.Generator) -> Tensors:
        a, b = shuffled(a_count, channels)(generator)
        return a, b[:b_count]

    def ours(a: Tensor, b: Tensor) -> Tensors:
        found = smk.match_all(a[None], b[None], metric="l2", return_log_sum_exp=False, return_second=True)
        assert found.second_a is not None and found.second_b is not None
        of_a = (-found.score_a[0]).sqrt(), (-found.second_a[0]).sqrt(), found.index_a[0]
        return (*of_a, (-found.score_b[0]).sqrt(), (-found.second_b[0]).sqrt()) if both_ways else of_a

    def plain(a: Tensor, b: Tensor) -> Tensors:
        distances = torch.cdist(a, b)
        of_a, of_b = distances.topk(2, 1, largest=False), distances.topk(2, 0, largest=False)
        found = of_a.values[:, 0], of_a.values[:, 1], of_a.indices[:, 0]
        return (*found, of_b.values[0], of_b.values[1]) if both_ways else found

    sizes = {"N": a_count, "M": b_count, "C": channels, "second": "both ways" if both_ways else "one way"}
    return Problem("match_all", sizes, inputs, {"ours": ours, "plain": plain})


# ---- the smallest calls ---------------------------------------------------------------------------------------------


def smallest_calls() -> dict[str, Callable[[], object]]:
    """Each function forward on maps of 4 x 4 cells, 8 channels and four queries: what a call itself costs."""
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(1, 8, 4, 4, generator=generator) for _ in range(2))
    keypoints, queries = 3 * torch.rand(1, 4, 2, generator=generator), torch.randn(1, 4, 8, generator=generator)
    scores, partner = torch.randn(1, 4, 4, 4, generator=generator), torch.tensor([[3, 2, 1, 0]])
    return {
        "sparse_window_match": lambda: smk.sparse_window_match(source, target, keypoints, window_size=3),
        "match_descriptors": lambda: smk.match_descriptors(queries, target, window_size=3),
        "localize": lambda: smk.localize(scores, window_size=3),
        "gather_keypoints": lambda: smk.gather_keypoints(source, keypoints),
        "cosine_similarity": lambda: smk.cosine_similarity(queries, target),
        "match_all": lambda: smk.match_all(queries, queries),
        "pair_scores": lambda: smk.pair_scores(queries, queries, None, partner),
        "dense_match": lambda: smk.dense_match(source, target, window_size=3),
        "local_correlation": lambda: smk.local_correlation(queries, target, keypoints, radius=1),
        "sparse_match_cross_entropy": lambda: smk.sparse_match_cross_entropy(source, target, keypoints, keypoints),
    }


# ---- all of them ---------------------------------------------------------------------------------------------------

FEW = [(32, 1, 20, 20), (1, 1, 64, 64), (1, 64, 1, 256)]
SMALL = [(16, 17, 64, 48), (1, 3000, 3, 3), (1, 2000, 8, 8), (4, 256, 16, 16), (1, 30, 64, 64), *FEW]
MAPS = [*SMALL, (1, 1024, 32, 32), (1, 2304, 48, 48), (8, 17, 64, 48), (4, 17, 64, 48)]
GATHERS = [
    ((1, 64, 80, 60), 500), ((1, 64, 80, 60), 4096), ((2, 128, 96, 128), 400), ((8, 768, 64, 64), 30),
    ((1, 256, 60, 80), 2048), ((1, 768, 60, 60), 1),
]  # fmt: skip


def problems(scope: str) -> list[Problem]:
    """Quick: score maps. Usual: all."""
    found = [localized(shape, known_miss=CALL if shape in FEW else "") for shape in SMALL]
    if scope != "quick":
        found += [localized(shape) for shape in MAPS if shape not in SMALL]
        found += [localized(shape, "targets first") for shape in MAPS if shape not in FEW]
        found += [expected((4, 17, 64, 48)), volumes(21, 16), around_every_cell(64, 48), numpy_maxima((32, 17, 64, 48))]
        found += [gathered(size, count, layout) for size, count in GATHERS for layout in ("NCHW", "NHWC")]
        found += [nearest(60, 768), nearest(64, 384), flow(60, 768, "window"), flow(60, 768, "global")]
        found += [flow(48, 256, "global"), reused(all_scores(1, 3600, 768, 60)), reused(dual_softmax(1600, 256))]
        found += [
            mutual(count, channels, {"plain": by_matmul_and_max}) for count, channels in ((3000, 384), (4096, 64))
        ]
        found += [mutual_distances(3600, 768), second_best(3000, 3000, 768, False)]
        found += [second_best(2000, 1900, 128, False), second_best(2000, 1900, 128, True)]
    return [replace(each, bars={mode: {"plain": BAR} for mode in each.modes}) for each in found]


def reused(problem: Problem) -> Problem:
    """A problem of the family with the one rival that users write."""
    ours, rival = problem.providers.values()
    return replace(problem, providers={"ours": ours, "plain": rival}, known_misses={}, compiled=False)
