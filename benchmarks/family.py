"""The problems of the operators beside `sparse_window_match`, each with ours and its rivals on the same inputs.

A rival is the code that users write by hand, or a library that is installed. The first one defines the result: its
float64 run on the same inputs is the exact result that all providers are compared with.
"""

from __future__ import annotations

import importlib.util
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import simplematch_kernels as smk

from .family_maps import absolute, all_scores, given_windows, many_descriptors, ranked
from .family_problem import (
    SAME_PRODUCTS,
    TEMPERATURE,
    Problem,
    Provider,
    Tensors,
    soft_argmax,
    soft_argmax_in_window,
    xy_of,
)

# ---- match_all -----------------------------------------------------------------------------------------------------


def mutual(queries: int, channels: int, rivals: dict[str, Provider], heavy: bool = False) -> Problem:
    """Mutual nearest neighbours of two sets of unit descriptors, the second a noisy permutation of the first."""

    def inputs(generator: torch.Generator) -> Tensors:
        a = torch.randn(queries, channels, generator=generator)
        b = a[torch.randperm(queries, generator=generator)] + 0.7 * torch.randn(queries, channels, generator=generator)
        return F.normalize(a, dim=1), F.normalize(b, dim=1)

    def ours(a: Tensor, b: Tensor) -> Tensors:
        found = smk.match_all(a[None], b[None], metric="dot", return_log_sum_exp=False)
        return found.index_a[0], found.index_b[0], found.mutual[0]

    sizes = {"N": queries, "M": queries, "C": channels}
    bars = {name: {"matmul, max": 1.0, "blocks": 3.0}.get(name, 1.3) for name in rivals}
    rounds = 1 if heavy else None
    return Problem(
        "match_all", sizes, inputs, {"ours": ours} | rivals, bars={"forward": bars}, heavy=heavy, rounds=rounds
    )


def by_matmul_and_max(a: Tensor, b: Tensor) -> Tensors:
    scores = a @ b.T
    return mutual_of(scores.max(1).indices, scores.max(0).indices)


def by_two_matmuls(a: Tensor, b: Tensor) -> Tensors:
    """As XFeat: a product for each direction."""
    return mutual_of((a @ b.T).max(1).indices, (b @ a.T).max(1).indices)


def by_top_two(a: Tensor, b: Tensor) -> Tensors:
    """As glue-factory: the two best of each direction, of which the ratio test reads both."""
    scores = torch.einsum("nc,mc->nm", a, b)
    return mutual_of(scores.topk(2, dim=1).indices[:, 0], scores.T.topk(2, dim=1).indices[:, 0])


def by_kornia(a: Tensor, b: Tensor) -> Tensors:
    from kornia.feature import match_mnn

    mutual = torch.zeros(len(a), dtype=torch.bool)
    mutual[match_mnn(a, b)[1][:, 0]] = True
    none = torch.empty(0, dtype=torch.int64)
    return none, none, mutual


def by_faiss(a: Tensor, b: Tensor) -> Tensors:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    found = []
    for queries, database in ((a, b), (b, a)):
        index = faiss.IndexFlatIP(a.shape[1])
        index.add(database.numpy())
        found.append(torch.from_numpy(index.search(queries.numpy(), 1)[1][:, 0]))
    return mutual_of(*found)


def by_blocks(a: Tensor, b: Tensor, block: int = 4096) -> Tensors:
    """As MASt3R: the scores of one block of rows and columns at a time."""
    best_a = [torch.full((len(a),), -math.inf), torch.zeros(len(a), dtype=torch.int64)]
    best_b = [torch.full((len(b),), -math.inf), torch.zeros(len(b), dtype=torch.int64)]
    for i in range(0, len(a), block):
        for j in range(0, len(b), block):
            scores = a[i : i + block] @ b[j : j + block].T
            for best, start, offset, dim in ((best_a, i, j, 1), (best_b, j, i, 0)):
                score, index = scores.max(dim)
                part = slice(start, start + len(score))
                better = score > best[0][part]
                best[0][part] = torch.where(better, score, best[0][part])
                best[1][part] = torch.where(better, index + offset, best[1][part])
    return mutual_of(best_a[1], best_b[1])


def mutual_of(index_a: Tensor, index_b: Tensor) -> Tensors:
    return index_a, index_b, index_b[index_a] == torch.arange(len(index_a))


def installed(**rivals: Provider) -> dict[str, Provider]:
    """The rivals whose package, which is their name, is installed."""
    return {name: rival for name, rival in rivals.items() if importlib.util.find_spec(name) is not None}


def dual_softmax(queries: int, channels: int) -> Problem:
    """The negative log-likelihood of given pairs under the dual softmax of LoFTR."""

    def inputs(generator: torch.Generator) -> Tensors:
        a = torch.randn(1, queries, channels, generator=generator)
        order = torch.randperm(queries, generator=generator)
        noise = 2 * torch.randn(a.shape, generator=generator)  # with less the loss is 0 but for rounding
        return a, a[:, order] + noise, order.argsort()

    def ours(a: Tensor, b: Tensor, pairs: Tensor) -> Tensors:
        found = smk.match_all(a, b, temperature=TEMPERATURE)
        rows = torch.arange(a.shape[1])
        score = smk.pair_scores(a, b, rows[None], pairs[None])
        assert found.log_sum_exp_a is not None and found.log_sum_exp_b is not None
        return (2 * score / TEMPERATURE - found.log_sum_exp_a - found.log_sum_exp_b[:, pairs],)

    def eager(a: Tensor, b: Tensor, pairs: Tensor) -> Tensors:
        scores = F.normalize(a, dim=2) @ F.normalize(b, dim=2).transpose(1, 2) / TEMPERATURE
        log_probability = scores.log_softmax(1) + scores.log_softmax(2)
        return (log_probability[:, torch.arange(a.shape[1]), pairs],)

    sizes = {"N": queries, "M": queries, "C": channels, "loss": "dual softmax"}
    providers = {"ours": ours, "eager": eager}
    bars = {"forward+backward": {"eager": 2.0, "compile": 1.3}}
    misses = {"forward+backward": "without N x M numbers in memory it makes four products where the rivals make three"}
    modes = ("forward", "forward+backward")
    return Problem("match_all", sizes, inputs, providers, modes, bars=bars, compiled=True, known_misses=misses)


# ---- dense_match ---------------------------------------------------------------------------------------------------


def flow(side: int, channels: int, localization: str, heavy: bool = False) -> Problem:
    """The flow from every cell of one map to another, the second the shifted first."""

    def inputs(generator: torch.Generator) -> Tensors:
        source = torch.randn(1, channels, side, side, generator=generator)
        noise = 2 * torch.randn(source.shape, generator=generator)  # with less the softmax is one cell, and no gradient
        return source, source.roll((3, 5), (2, 3)) + noise

    def ours(source: Tensor, target: Tensor) -> Tensors:
        found = smk.dense_match(source, target, localization=localization, window_size=15, temperature=TEMPERATURE)
        return (found.flow,)

    def chunked(source: Tensor, target: Tensor) -> Tensors:
        cells = F.normalize(target.flatten(2), dim=1)
        queries = F.normalize(source.flatten(2), dim=1).transpose(1, 2)
        xy = xy_of(side, side, source)
        localize = soft_argmax_in_window if localization == "window" else soft_argmax
        found = [
            checkpoint(localize, part, cells, xy, use_reentrant=False)  # else the scores of all blocks would be kept
            for part in queries.split(1024, dim=1)
        ]
        return ((torch.cat(found, 1) - xy).transpose(1, 2).unflatten(2, (side, side)),)

    sizes = {"map": f"{side}x{side}", "C": channels, "localization": localization}
    providers = {"ours": ours, "chunked": chunked}
    modes = ("forward", "forward+backward")
    bars = {mode: {"chunked": 3.0} for mode in modes}
    misses = dict.fromkeys(modes, SAME_PRODUCTS)
    if localization == "window":  # the backward makes the products of windows alone
        misses["forward+backward"] = (
            "" if side > 100 else "the forward's product is half of the time of a map this small"
        )
    return Problem("dense_match", sizes, inputs, providers, modes, 1e-3, bars, heavy=heavy, known_misses=misses)


# ---- upsample ------------------------------------------------------------------------------------------------------


def upsampled(side: int, size: tuple[int, int], channels: int, queries: int) -> Problem:
    """The best pixel of an upsampled map, as DIFT finds it."""

    def inputs(generator: torch.Generator) -> Tensors:
        target = torch.randn(1, channels, side, side, generator=generator)
        return torch.randn(1, queries, channels, generator=generator), target

    def ours(descriptors: Tensor, target: Tensor) -> Tensors:
        found = smk.match_descriptors(descriptors, target, upsample=size, localization="argmax")
        return (found.keypoints,)

    def interpolated(descriptors: Tensor, target: Tensor) -> Tensors:
        cells = F.normalize(F.interpolate(target, size, mode="bilinear").flatten(2), dim=1)
        peak = (F.normalize(descriptors, dim=2) @ cells).argmax(-1)
        return (torch.stack((peak % size[1], peak // size[1]), -1).to(descriptors.dtype),)

    sizes = {"map": f"{side}x{side}", "upsampled": f"{size[0]}x{size[1]}", "C": channels, "N": queries}
    bars = {"forward": {"interpolated": 10.0}}
    return Problem("upsample", sizes, inputs, {"ours": ours, "interpolated": interpolated}, bars=bars)


# ---- local_correlation ---------------------------------------------------------------------------------------------


def lookup(side: int, channels: int, radius: int) -> Problem:
    """The correlation of every cell with a window round its estimate, as iterative flow estimators look it up."""

    def inputs(generator: torch.Generator) -> Tensors:
        queries = torch.randn(1, side * side, channels, generator=generator)
        target = torch.randn(1, channels, side, side, generator=generator)
        moved = xy_of(side, side, target) + 4 * torch.randn(2, generator=generator)
        return queries, target, moved[None] + torch.randn(1, side * side, 2, generator=generator)

    def ours(queries: Tensor, target: Tensor, coords: Tensor) -> Tensors:
        return (smk.local_correlation(queries, target, coords, radius=radius),)

    def sampled(queries: Tensor, target: Tensor, coords: Tensor) -> Tensors:
        """grid_sample of every window, then the products. The operator never makes these windows (B, C, N, K)."""
        steps = torch.arange(-radius, radius + 1)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        points = coords[:, :, None, None] + torch.stack((x, y), -1)
        grid = 2 * points.flatten(2, 3) / (side - 1) - 1
        windows = F.grid_sample(target, grid, align_corners=True)
        return (torch.einsum("bnc,bcnk->bnk", queries, windows).unflatten(2, (len(steps), len(steps))),)

    sizes = {"map": f"{side}x{side}", "C": channels, "radius": radius, "N": side * side}
    modes = ("forward", "forward+backward")
    bars = {"forward+backward": {"grid_sample": 3.0}}
    return Problem("local_correlation", sizes, inputs, {"ours": ours, "grid_sample": sampled}, modes, bars=bars)


# ---- sparse_match_cross_entropy ------------------------------------------------------------------------------------


def cross_entropy(batch: int, queries: int, channels: int, side: int) -> Problem:
    """Cross entropy with the nearest cell of the true point as the label."""

    def inputs(generator: torch.Generator) -> Tensors:
        source, target = (torch.randn(batch, channels, side, side, generator=generator) for _ in range(2))
        points = [(torch.rand(batch, queries, 2, generator=generator) * (side - 1)).floor() for _ in range(2)]
        return source, target, points[0].long(), points[1].long()

    def ours(source: Tensor, target: Tensor, points: Tensor, true: Tensor) -> Tensors:
        loss = smk.sparse_match_cross_entropy(
            source, target, points.float(), true.float(), temperature=TEMPERATURE, reduction="none"
        )
        return (loss,)

    def eager(source: Tensor, target: Tensor, points: Tensor, true: Tensor) -> Tensors:
        rows = torch.arange(batch)[:, None]
        queries_ = F.normalize(source[rows, :, points[..., 1], points[..., 0]], dim=2)
        logits = queries_ @ F.normalize(target.flatten(2), dim=1) / TEMPERATURE
        label = true[..., 1] * side + true[..., 0]
        return (F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view(batch, -1),)

    sizes = {"B": batch, "N": queries, "C": channels, "map": f"{side}x{side}"}
    providers = {"ours": ours, "eager": eager}
    modes, bars = ("forward+backward",), {"forward+backward": {"eager": 3.0}}
    return Problem("sparse_match_cross_entropy", sizes, inputs, providers, modes, bars=bars, compiled=True)


def problems() -> list[Problem]:
    libraries = installed(kornia=by_kornia, faiss=by_faiss)
    by_hand: dict[str, Provider] = {
        "matmul, max": by_matmul_and_max, "two matmuls": by_two_matmuls, "top two": by_top_two
    }  # fmt: skip
    return [
        mutual(3600, 768, by_hand | libraries),
        mutual(32768, 24, {"blocks": by_blocks}),
        mutual(196608, 24, {"blocks": by_blocks}, heavy=True),
        dual_softmax(4096, 256),
        dual_softmax(2048, 256),
        flow(56, 768, "window"),
        flow(56, 768, "global"),
        flow(112, 768, "window", heavy=True),
        flow(112, 768, "global", heavy=True),
        absolute(32, 256),
        absolute(60, 768, heavy=True),
        all_scores(1, 1024, 256, 32),
        all_scores(1, 4096, 256, 64),
        all_scores(2, 1024, 768, 56),
        many_descriptors(1024, 256, 32),
        given_windows(4096, 128, 64, 5),
        ranked(4096, 256, 64, 10),
        upsampled(48, (375, 500), 1280, 20),
        lookup(64, 256, 4),
        cross_entropy(8, 30, 768, 63),
    ]
