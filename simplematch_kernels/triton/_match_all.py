"""The launches of `match_all`: its own kernels, and those of the other operators for its backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _resolved
from .._resolved import IDENTITY, Sampling
from .._types import (
    Given,
    MatchAllGradients,
    MatchAllProblem,
    MatchAllResult,
    MatchAllUpstream,
    Rows,
    accumulation_dtype,
    empty_match_all_result,
)
from . import _arguments as to
from . import _launch, _steps
from ._launch import Tile, ceil_div, describe_maps, launch, precision
from ._records import Best
from ._step_records import Gradient, Queries, Source
from .match_all import match_all_kernel, match_all_reduce_kernel
from .match_all_gradient import match_all_gradient_kernel, match_all_upstream_kernel

CELLS = Sampling(IDENTITY, IDENTITY, "floor", "zeros")
REDUCE_BLOCK = 256


def match_all(p: MatchAllProblem) -> MatchAllResult:
    result = empty_match_all_result(p.a, p.b, p.log_sum_exp, p.second)
    B, N, M = p.a.shape[0], cells_of(p.a), cells_of(p.b)
    if B == 0:
        return result
    for x, norm in ((p.a, result.norm_a), (p.b, result.norm_b)):
        _steps.norms(x, norm)
    dtype = result.score_a.dtype
    tile = match_all_tile(p.a.dtype, p.metric.kind)
    tiles = ceil_div(N, tile.n) if M else 0
    # Column parts of all tiles of rows would be N M / BLOCK_N: as many at a time as fit the budget.
    width = 4 + dtype.itemsize * (1 + p.second + p.log_sum_exp)
    step = _resolved.queries_within_budget(B * M * width)
    splits = _splits(B, tiles, ceil_div(M, tile.m), _launch.multiprocessors(p.a.device))
    rows = _parts(p, (splits, B, N))
    columns = _parts(p, (1 + min(tiles, step), B, M))
    launched = range(0, max(1, tiles), step)
    for first in launched:
        count = min(step, tiles - first)
        if count > 0 and M > 0:
            _tiles(p, result, rows, columns, tile, first, count, splits)
        last = first == launched[-1]
        if last:
            _reduce(p, result, rows, "a", 0, splits if tiles else 0, last)
        _reduce(p, result, columns, "b", 0 if first else 1, 1 + max(0, count), last)
    return result


def cells_of(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]


def match_all_tile(dtype: torch.dtype, metric: str) -> Tile:
    if metric in ("l2", "l1"):
        return Tile(32, 32, 1, 4, 1) if dtype == torch.float64 else Tile(64, 64, 1, 8, 1)
    if dtype == torch.float64:
        return Tile(32, 32, 16, 4, 2)
    return Tile(64, 64, 32, 8, 3) if dtype == torch.float32 else Tile(64, 128, 64, 8, 3)


def _splits(B: int, row_tiles: int, column_tiles: int, processors: int) -> int:
    """Parts of the columns that programs take apart, so that few rows still fill the chip."""
    return max(1, min(column_tiles, 2 * processors // max(1, B * row_tiles), 32))


def _parts(p: MatchAllProblem, shape: tuple[int, int, int]) -> Best:
    dtype = accumulation_dtype(p.a)
    key = torch.int64 if dtype == torch.float64 else torch.int32
    wanted = ((key, True), (torch.int32, True), (key, p.second), (dtype, p.log_sum_exp))
    return Best(*(torch.empty(shape, dtype=kind, device=p.a.device) if want else None for kind, want in wanted))


def _tiles(
    p: MatchAllProblem,
    result: MatchAllResult,
    rows: Best,
    columns: Best,
    tile: Tile,
    first: int,
    count: int,
    splits: int,
) -> None:
    (layout_a, (strides_a,)), (layout_b, (strides_b,)) = describe_maps(p.a), describe_maps(p.b)
    arguments = {
        "a": p.a, "b": p.b, "norm_a": result.norm_a, "norm_b": result.norm_b,
        "num_a": p.rows.num_a, "valid_a": p.rows.valid_a, "num_b": p.rows.num_b, "valid_b": p.rows.valid_b,
        "temperature": p.temperature, "rows": rows, "columns": columns,
        "N": cells_of(p.a), "M": cells_of(p.b), "C": p.a.shape[1], "W_a": p.a.shape[3], "W_b": p.b.shape[3],
        "first_tile": first, "row_tiles": count, "splits": splits,
        "valid_a_b": _image_stride(p.rows.valid_a), "valid_b_b": _image_stride(p.rows.valid_b),
        "temperature_b": _image_stride(p.temperature), "a_strides": strides_a, "b_strides": strides_b,
        "eps": p.metric.eps, "fixed_temperature": p.fixed_temperature,
        "METRIC": to.metric_switches(p.metric), "PRECISION": precision(result.score_a.dtype),
        "SCALED": p.a.dtype != torch.float16, "WALKS": (layout_a.walk(), layout_b.walk()),
        "SUM": p.log_sum_exp, "SECOND": p.second, "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c,
    }  # fmt: skip
    programs = count * splits * p.a.shape[0]
    launch(match_all_kernel, programs, p.a.device, arguments, tile.warps, tile.stages, _launch.ALL_REGISTERS)


def _reduce(
    p: MatchAllProblem, result: MatchAllResult, parts: Best, side: str, first: int, slots: int, last: bool
) -> None:
    of_a = side == "a"
    cells, others = (cells_of(x) for x in ((p.a, p.b) if of_a else (p.b, p.a)))
    if cells == 0:
        return
    rows = p.rows.of_a if of_a else p.rows.of_b
    arguments = {
        "parts": parts, "num": rows.num_keypoints, "valid": rows.valid,
        "temperature": p.temperature, "bin_score": p.bin_score,
        "index": getattr(result, f"index_{side}"), "score": getattr(result, f"score_{side}"),
        "log_sum_exp": getattr(result, f"log_sum_exp_{side}") if p.log_sum_exp else None,
        "second": getattr(result, f"second_{side}") if p.second else None,
        "mutual": result.mutual, "index_a": None if of_a else result.index_a,
        "B": p.a.shape[0], "cells": cells, "others": others, "first_slot": first, "slots": slots, "last": int(last),
        "valid_b": _image_stride(rows.valid), "temperature_b": _image_stride(p.temperature),
        "bin_b": _image_stride(p.bin_score),
        "fixed_temperature": p.fixed_temperature, "fixed_bin": p.fixed_bin_score,
        "BIN": p.has_bin, "SUM": p.log_sum_exp, "SECOND": p.second, "BLOCK": REDUCE_BLOCK,
    }  # fmt: skip
    programs = ceil_div(cells, REDUCE_BLOCK) * p.a.shape[0]
    launch(match_all_reduce_kernel, programs, p.a.device, arguments)


def _image_stride(x: Given) -> int:
    return 0 if x is None else x.stride(0)


# ---- backward -------------------------------------------------------------------------------------------------------


def match_all_backward(
    p: MatchAllProblem, result: MatchAllResult, upstream: MatchAllUpstream, needs: MatchAllGradients[bool]
) -> MatchAllGradients[Given]:
    """Blocks of rows of a: their scores again, ds, and the steps that `cosine_similarity` has for both gradients."""
    if not p.log_sum_exp:
        upstream = upstream._replace(log_sum_exp_a=None, log_sum_exp_b=None)
    B, N, M = p.a.shape[0], cells_of(p.a), cells_of(p.b)
    of_a = _arriving(p, p.rows.of_a, result[:3], (upstream.score_a, upstream.log_sum_exp_a))
    of_b = _arriving(p, p.rows.of_b, result[4:7], (upstream.score_b, upstream.log_sum_exp_b))
    out_a, out_b = (torch.empty_like(x) if need else None for x, need in zip((p.a, p.b), needs[:2], strict=True))
    moment = torch.zeros((B, N), dtype=result.score_a.dtype, device=p.a.device)
    if B * N * M == 0:
        for out in (out_a, out_b):
            if out is not None:
                out.zero_()
    else:
        _gradients(p, result, of_a, of_b, out_a, out_b, moment)
    of_numbers = _number_gradients(p, result, of_a[1], of_b[1], moment, needs)
    return MatchAllGradients(out_a, out_b, *of_numbers)


def _arriving(
    p: MatchAllProblem, rows: Rows, result: tuple[Tensor, ...], upstream: tuple[Given, Given]
) -> tuple[Tensor, Given]:
    """(peaked, weight) (B, N) of a side: see `match_all_upstream_kernel`."""
    (score, index, log_sum_exp), (of_score, of_log_sum_exp) = result, upstream
    peaked = torch.empty_like(score)
    weight = None if of_log_sum_exp is None else torch.empty_like(score)
    B, count = score.shape
    if B * count == 0:
        return peaked, weight
    score_b, score_n = (0, 0) if of_score is None else of_score.stride()
    sum_b, sum_n = (0, 0) if of_log_sum_exp is None else of_log_sum_exp.stride()
    arguments = {
        "index": index, "score": score, "log_sum_exp": log_sum_exp, "of_score": of_score,
        "of_log_sum_exp": of_log_sum_exp, "num": rows.num_keypoints, "valid": rows.valid, "temperature": p.temperature,
        "peaked": peaked, "weight": weight, "count": count, "score_b": score_b, "score_n": score_n,
        "log_sum_exp_b": sum_b, "log_sum_exp_n": sum_n, "valid_b": _image_stride(rows.valid),
        "temperature_b": _image_stride(p.temperature), "fixed_temperature": p.fixed_temperature, "BLOCK": REDUCE_BLOCK,
    }  # fmt: skip
    launch(match_all_upstream_kernel, ceil_div(count, REDUCE_BLOCK) * B, p.a.device, arguments)
    return peaked, weight


def _gradients(
    p: MatchAllProblem,
    result: MatchAllResult,
    of_a: tuple[Tensor, Given],
    of_b: tuple[Tensor, Given],
    out_a: Given,
    out_b: Given,
    moment: Tensor,
) -> None:
    B, C = p.a.shape[:2]
    N, (H, W), dtype = cells_of(p.a), p.b.shape[2:], result.score_a.dtype
    step = min(N, _resolved.queries_within_budget(2 * B * H * W * dtype.itemsize))
    every, source, as_row = slice(None), _as_source(p.a), None if out_a is None else _as_row(out_a)
    sums = None
    if out_b is not None and step < N and out_b.dtype != dtype:
        sums = torch.empty_like(out_b, dtype=dtype)
    for first in range(0, N, step):
        n = slice(first, min(N, first + step))
        of_block = source.part(every, n)
        scores, ds = p.b.new_empty((2, B, n.stop - first, H, W), dtype=dtype)
        _steps.similarity(
            of_block, p.b, _block_rows(p.rows.of_a, n), p.metric, scores, None, first_query=first, with_best=False
        )
        scale, own = p.b.new_empty((2, B, n.stop - first), dtype=dtype)
        queries = Queries(of_block, p.metric, p.b.new_empty((1, B, n.stop - first, C), dtype=dtype), scale, own)
        _score_gradient(p, result, of_a, of_b, scores, ds, queries, moment, first)
        gradient = Gradient(ds, scores, None, None)
        if out_b is not None:
            written = out_b if sums is None or n.stop == N else sums
            before = None if first == 0 else sums if sums is not None else out_b
            _steps.target_backward(gradient, queries, result.norm_b, p.b, before, written)
        if out_a is not None:
            into = queries.values if as_row is None else as_row[:, :, 0, n].transpose(1, 2)[None]
            _steps.query_backward(gradient, queries, result.norm_b, p.b, into)
            if as_row is None:
                _write_cells(out_a, into[0], first)


def _score_gradient(
    p: MatchAllProblem,
    result: MatchAllResult,
    of_a: tuple[Tensor, Given],
    of_b: tuple[Tensor, Given],
    scores: Tensor,
    ds: Tensor,
    queries: Queries,
    moment: Tensor,
    first: int,
) -> None:
    """Fill ds, `queries` and the moments of the rows of a block."""
    B, rows, H, W = scores.shape
    source = queries.source
    block = _launch.row_block(H * W)
    of_queries, sizes = _steps.of_queries(queries), _steps.row_sizes(rows, (H, W), queries, queries.scale)
    arguments: dict[str, Any] = {
        "scores": scores, "ds_out": ds, "num_b": p.rows.num_b, "valid_b_mask": p.rows.valid_b,
        "temperature": p.temperature, "index_a": result.index_a, "peaked_a": of_a[0], "weight_a": of_a[1],
        "log_sum_exp_a": result.log_sum_exp_a, "index_b": result.index_b, "peaked_b": of_b[0], "weight_b": of_b[1],
        "log_sum_exp_b": result.log_sum_exp_b, "moment": moment, "keypoints": source.keypoints,
        "first_row": first, "N": moment.shape[1], "valid_b": _image_stride(p.rows.valid_b),
        "temperature_b": _image_stride(p.temperature), "sizes": sizes, "scores_strides": to.score_strides(scores),
        "keypoints_strides": to.point_strides(source.keypoints), "to_cells": to.to_cells(source.sampling),
        "fixed_temperature": p.fixed_temperature, "OF_A": of_a[1] is not None, "OF_B": of_b[1] is not None,
        "BLOCK": block, **of_queries,
    }  # fmt: skip
    warps = _launch.row_warps(max(block, arguments["BLOCK_C"]))
    launch(match_all_gradient_kernel, B * rows, scores.device, arguments, warps)


def _as_row(x: Tensor) -> Tensor | None:
    """A view (B, C, 1, N) of a map, if its cells follow each other in memory."""
    layout, (strides,) = describe_maps(x)
    if not layout.flat:
        return None
    return x.as_strided((x.shape[0], x.shape[1], 1, cells_of(x)), (strides.b, strides.c, 0, strides.w))


def _as_source(x: Tensor) -> Source:
    """The cells of a map as queries: a list of descriptors, or keypoints at each cell."""
    row = _as_row(x)
    if row is not None:
        return Source(row, None, None)
    cell = torch.arange(cells_of(x), device=x.device)
    points = torch.stack((cell % x.shape[3], cell // x.shape[3]), -1).double()
    return Source(x, points.expand(x.shape[0], -1, -1), CELLS)


def _write_cells(x: Tensor, rows: Tensor, first: int) -> None:
    """Rows (B, n, C) as the cells of a map from `first` on."""
    cell = torch.arange(first, first + rows.shape[1], device=x.device)
    x[:, :, cell // x.shape[3], cell % x.shape[3]] = rows.transpose(1, 2).to(x.dtype)


def _block_rows(rows: Rows, n: slice) -> Rows:
    return Rows(rows.num_keypoints, None if rows.valid is None else rows.valid[:, n])


def _number_gradients(
    p: MatchAllProblem,
    result: MatchAllResult,
    weight_a: Given,
    weight_b: Given,
    moment: Tensor,
    needs: MatchAllGradients[bool],
) -> tuple[Given, Given]:
    """(dT, dz) (B,): what the pairs gave, and the bins, a few numbers for each descriptor."""
    wants_t = needs.temperature and p.temperature is not None
    wants_z = needs.bin_score and p.bin_score is not None
    if not (wants_t or wants_z):
        return None, None
    temperature, z = (
        moment.new_full((moment.shape[0],), fixed) if given is None else given
        for given, fixed in ((p.temperature, p.fixed_temperature), (p.bin_score, p.fixed_bin_score))
    )
    total, of_bins = moment.sum(1), torch.zeros_like(temperature)
    for weight, log_sum_exp in ((weight_a, result.log_sum_exp_a), (weight_b, result.log_sum_exp_b)):
        if weight is None:
            continue
        if p.has_bin:
            of_bin = ((z / temperature)[:, None] - log_sum_exp).exp()
            of_bins = of_bins + torch.where(weight != 0, weight * of_bin, 0).sum(1)
        total = torch.where(weight.isnan().any(1), torch.nan, total)
    if p.has_bin:
        total = total + torch.where(of_bins != 0, of_bins * z, 0)
    return -total / temperature if wants_t else None, of_bins if wants_z else None
