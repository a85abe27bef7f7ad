"""The launch of each step: tensors and options in, kernel arguments out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._resolved import Localization, Metric, Sampling
from .._types import AnyUpstream, Matches, Rows
from . import _arguments as to
from . import _launch
from ._groups import LocalizeSizes, PointSizes, RowShape, RowSizes, SourceSizes, UpstreamStrides, encode
from ._launch import ceil_div, describe_maps, precision
from ._launch import launch as launch
from ._step_records import Gradient, LocalizeOutputs, Queries, Source
from .gather import gather_kernel
from .localize import localize_kernel
from .localize_backward import localize_backward_kernel
from .norms import norms_kernel
from .query_backward import query_backward_kernel
from .similarity import similarity_kernel
from .similarity_gradient import similarity_gradient_kernel
from .source_backward import source_backward_kernel
from .target_backward import target_backward_kernel


def similarity(
    source: Source,
    target: Tensor,
    rows: Rows,
    metric: Metric,
    scores: Tensor,
    norms: Tensor | None,
    first_query: int = 0,
    with_best: bool = True,
) -> Tensor | None:
    """Fill scores (B, N, H, W), norms (B, M); return the best cell of each tile, (2, B, N, tiles), if `with_best`."""
    B, C, H, W = target.shape
    N, M, features = scores.shape[1], H * W, source.features
    layout, (target_strides,) = describe_maps(target)
    of_points = (0, 0, 0) if source.keypoints is None else source.keypoints.stride()
    native, processors = source.is_native(target), _launch.multiprocessors(target.device)
    tile = _launch.similarity_tile(target.dtype, native, B, N, M, processors, metric.kind)
    tiles = ceil_div(M, tile.m)
    best = torch.empty((2, B, N, tiles), dtype=torch.int64, device=target.device) if with_best else None
    mask = rows.target_mask if with_best else None
    per_query = mask is not None and mask.dim() == 3
    arguments = {
        "source": features, "keypoints": source.keypoints, "num_keypoints": rows.num_keypoints, "valid": rows.valid,
        "target": target, "target_mask": mask, "mask_strides": to.mask_strides(mask) if per_query else None,
        "scores": scores, "norms": norms, "best": best, "C": C, "M": M, "W": W,
        "N": N, "source_H": features.shape[2], "source_W": features.shape[3], "first_query": first_query,
        "valid_b": 0 if rows.valid is None else rows.valid.stride(0),
        "keypoints_b": of_points[0], "keypoints_n": of_points[1], "keypoints_d": of_points[2],
        "source_strides": to.map_strides(features),
        "target_strides": target_strides, "to_cells": to.to_cells(source.sampling),
        "source_sizes": to.source_sizes(source.sampling), "eps": metric.eps,
        "SAMPLING": to.sampling_switches(source.sampling), "NATIVE": native, "METRIC": to.metric_switches(metric),
        "PRECISION": precision(scores.dtype), "WALK": layout.walk(even_c=C % tile.c == 0),
        "PREFETCH": features.element_size() < 4 and features.stride(1) != 1,
        "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c,
    }  # fmt: skip
    programs = ceil_div(N, tile.n) * tiles * B
    registers = _launch.similarity_registers(tile)
    launch(similarity_kernel, programs, target.device, arguments, tile.warps, tile.stages, registers)
    return best


def norms(x: Tensor, norm: Tensor) -> None:
    """Fill norm (B, M) with those of the cells of x (B, C, H, W)."""
    cells = x.shape[2] * x.shape[3]
    if cells == 0:
        return
    layout, (strides,) = describe_maps(x)
    arguments = {
        "x": x, "norm": norm, "cells": cells, "C": x.shape[1], "W": x.shape[3], "strides": strides,
        "WALK": layout.walk(), "BLOCK_M": 32, "BLOCK_C": 64,
    }  # fmt: skip
    launch(norms_kernel, ceil_div(cells, 32) * x.shape[0], x.device, arguments)


def localize(
    scores: Tensor,
    best: Tensor | None,
    rows: Rows,
    temperature: Tensor | None,
    localization: Localization,
    outputs: Matches,
    window_scores: Tensor | None,
    first_query: int = 0,
) -> None:
    """Fill outputs and window_scores from scores (B, N, H, W)."""
    B, N, H, W = scores.shape
    window = localization.window
    box_rows, box_columns = window.box(H, W)
    kept = 0 if window_scores is None else window_scores.shape[1]
    temperature_b, temperature_n = to.row_strides(temperature)
    mask_b, mask_n = to.mask_strides(rows.target_mask)
    sizes = LocalizeSizes(
        encode(N), encode(H), encode(W),
        tiles=encode(0 if best is None else best.shape[3]), first_query=encode(first_query),
        valid_b=to.row_strides(rows.valid)[0], temperature_b=temperature_b, temperature_n=temperature_n,
        out_b=encode(outputs.score.stride(0)), kept=encode(kept),
        kept_b=encode(0 if window_scores is None else window_scores.stride(0) // (box_rows * box_columns)),
        mask_b=mask_b, mask_n=mask_n,
    )  # fmt: skip
    block = _launch.row_block(box_rows * box_columns, 512 if outputs.score.dtype == torch.float64 else 2048)
    arguments = {
        "scores": scores, "best": best, "num_keypoints": rows.num_keypoints, "valid": rows.valid,
        "target_mask": rows.target_mask, "temperature": temperature,
        "keypoints_out": outputs.keypoints, "score_out": outputs.score, "peak_out": outputs.peak,
        "log_sum_exp_out": outputs.log_sum_exp, "window_scores": window_scores if kept else None,
        "sizes": sizes, "scores_strides": to.score_strides(scores),
        "window": to.window_size(window, box_rows, box_columns), "from_cells": to.from_cells(localization),
        "target_sizes": localization.image_sizes,
        "temperature_value": to.temperature_value(localization), "outside_value": window.outside_value,
        "sigma": window.sigma, "output_offset": localization.output_offset,
        "WINDOW": to.window_switches(window), "BLOCK": block,
    }  # fmt: skip
    registers = _launch.ALL_REGISTERS if window.is_disc else None
    launch(localize_kernel, B * N, scores.device, arguments, _launch.row_warps(block), registers=registers)


def localize_backward(
    upstream: AnyUpstream,
    scores: Tensor,
    peak: Tensor,
    map_size: tuple[int, int],
    target_mask: Tensor | None,
    temperature: Tensor | None,
    localization: Localization,
    outputs: LocalizeOutputs,
    kept: bool = False,
    dense: bool = False,
    covariance: Tensor | None = None,
) -> None:
    """Fill the outputs from scores (B, N, H, W), or the windows of them if `kept`.

    covariance: (B, N, 2, 2) of the forward, if a gradient of it arrives.

    ds is (B, N, rows, columns), or (B, N, H, W) if `dense`. peak (B, N) may be a slice.
    """
    (B, N), (H, W) = peak.shape, map_size
    window, queries, temperature_out = localization.window, outputs.queries, outputs.temperature
    box_rows, box_columns = window.box(H, W)
    block = _launch.row_block(H * W if dense else box_rows * box_columns, 512)
    scalars = temperature_out if queries is None else queries.scale
    arguments = {
        "scores": scores, "peak": peak, "target_mask": target_mask, "temperature": temperature,
        "upstream_keypoints": upstream.keypoints, "upstream_score": upstream.score,
        "upstream_log_sum_exp": upstream.log_sum_exp, "upstream_covariance": upstream.covariance,
        "covariance": None if upstream.covariance is None else covariance,
        "ds_out": outputs.ds, "window_scores": outputs.window_scores,
        "temperature_out": temperature_out,
        "sizes": row_sizes(N, map_size, queries, scalars, peak, temperature, target_mask),
        "scores_strides": to.score_strides(scores),
        "ds_strides": None if outputs.ds is None else to.score_strides(outputs.ds),
        "upstream_strides": _upstream_strides(upstream, covariance),
        "window": to.window_size(window, box_rows, box_columns), "from_cells": to.from_cells(localization),
        "source_sizes": None if queries is None else to.source_sizes(queries.source.sampling),
        "target_sizes": localization.image_sizes, "temperature_value": to.temperature_value(localization),
        "outside_value": window.outside_value, "sigma": window.sigma,
        "WINDOW": to.window_switches(window),
        **(NO_QUERIES if queries is None else of_queries(queries)),
    }  # fmt: skip
    shape = RowShape(kept, dense, block, arguments.pop("BLOCK_C"))
    arguments["SHAPE"] = shape
    if queries is not None:
        source = queries.source
        arguments["keypoints"], arguments["keypoints_strides"] = source.keypoints, to.point_strides(source.keypoints)
        arguments["to_cells"] = to.to_cells(source.sampling)
    warps = _launch.row_warps(max(block, shape.BLOCK_C))
    registers = _launch.ALL_REGISTERS if window.is_disc else None
    launch(localize_backward_kernel, B * N, scores.device, arguments, warps, registers=registers)


def similarity_gradient(given: Tensor, scores: Tensor, queries: Queries) -> Tensor:
    """Fill queries for ds that came from upstream, (B, N, H, W); return it, NaN where it or its score isn't finite."""
    B, N, H, W = given.shape
    ds = torch.empty_like(scores)
    block = _launch.row_block(H * W)
    arguments = {
        "given": given, "scores": scores, "ds_out": ds, "sizes": row_sizes(N, (H, W), queries, queries.scale),
        "given_strides": to.score_strides(given), "scores_strides": to.score_strides(scores),
        "ds_strides": to.score_strides(ds), "BLOCK": block, **of_queries(queries),
    }  # fmt: skip
    warps = _launch.row_warps(max(block, arguments["BLOCK_C"]))
    launch(similarity_gradient_kernel, B * N, scores.device, arguments, warps)
    return ds


def _upstream_strides(upstream: AnyUpstream, covariance: Tensor | None) -> UpstreamStrides:
    points = to.point_strides(upstream.keypoints) or (to.ZERO,) * 3
    return UpstreamStrides(
        *points, *to.row_strides(upstream.score), *to.row_strides(upstream.log_sum_exp),
        *to.matrix_strides(upstream.covariance), to.ZERO if covariance is None else encode(covariance.stride(0)),
    )  # fmt: skip


def row_sizes(
    N: int,
    map_size: tuple[int, int],
    queries: Queries | None,
    scalars: Tensor | None,
    peak: Tensor | None = None,
    temperature: Tensor | None = None,
    target_mask: Tensor | None = None,
) -> RowSizes:
    temperature_b, temperature_n = to.row_strides(temperature)
    mask_b, mask_n = to.mask_strides(target_mask)
    C = source_H = source_W = queries_b = 0
    if queries is not None:
        C, queries_b = queries.values.shape[3], queries.values.stride(1)
        source_H, source_W = queries.source.features.shape[2:]
    return RowSizes(
        encode(N), encode(C), encode(map_size[0]), encode(map_size[1]), encode(source_H), encode(source_W),
        peak_b=to.row_strides(peak)[0], temperature_b=temperature_b, temperature_n=temperature_n,
        scalar_b=to.row_strides(scalars)[0], queries_b=encode(queries_b), mask_b=mask_b, mask_n=mask_n,
    )  # fmt: skip


NO_QUERIES = {
    "source": None, "keypoints": None, "queries": None, "query_scale": None, "query_own": None,
    "source_strides": None, "keypoints_strides": None, "to_cells": None, "eps": 0.0,
    "SAMPLING": to.DESCRIPTORS, "METRIC": to.DOT, "BLOCK_C": _launch.row_block(1),
}  # fmt: skip


def of_queries(queries: Queries) -> dict[str, Any]:
    source = queries.source
    return {
        "source": source.features, "queries": queries.values, "query_scale": queries.scale,
        "query_own": queries.own, "source_strides": to.encoded_map_strides(source.features),
        "eps": queries.metric.eps, "SAMPLING": to.sampling_switches(source.sampling),
        "METRIC": to.metric_switches(queries.metric), "BLOCK_C": _launch.row_block(queries.values.shape[3]),
    }  # fmt: skip


def target_backward(
    gradient: Gradient,
    queries: Queries,
    norms: Tensor,
    target: Tensor,
    sum_before: Tensor | None,
    target_out: Tensor,
) -> None:
    """Fill target_out (B, C, H, W) with the gradient of the target, added to `sum_before` if that is given."""
    B, C, H, W = target.shape
    N = gradient.ds.shape[1]
    # The walk suits what is written.
    maps = (target_out, target) if sum_before is None else (target_out, target, sum_before)
    layout, strides = describe_maps(*maps)
    kind = queries.metric.kind
    tile = _launch.target_backward_tile(target.dtype, N, kind)
    arguments = {
        **gradient.arguments(), "window_scores": gradient.scores,
        "queries": queries.values, "query_scale": queries.scale, "norms": norms, "target": target,
        "sum_before": sum_before, "gradient": target_out, "C": C, "H": H, "W": W,
        "scalar_b": queries.scale.stride(0), "scores_strides": to.score_strides(gradient.scores),
        "scores_h": gradient.scores.stride(2), "queries_b": queries.values.stride(1),
        "target_strides": strides[1], "before_strides": None if sum_before is None else strides[2],
        "gradient_strides": strides[0], "eps": queries.metric.eps,
        "METRIC": to.metric_switches(queries.metric),
        "PRECISION": precision(queries.values.dtype), "NATIVE": queries.source.is_native(target),
        "WALK": layout.walk(_is_wide(gradient, queries)),
        "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c,
    }  # fmt: skip
    programs = ceil_div(C, tile.c) * ceil_div(H * W, tile.m) * B
    registers = _launch.target_backward_registers(target.dtype, layout.channels_last, gradient.window is None, kind)
    launch(target_backward_kernel, programs, target.device, arguments, tile.warps, tile.stages, registers)


def query_backward(gradient: Gradient, queries: Queries, norms: Tensor, target: Tensor, query_out: Tensor) -> None:
    """Fill query_out (splits, B, N, C) with the gradient of the queries, as partial sums."""
    B, C, H, W = target.shape
    N, splits = gradient.ds.shape[1], query_out.shape[0]
    layout, (target_strides,) = describe_maps(target)
    kind = queries.metric.kind
    tile = _launch.query_backward_tile(target.dtype, N, kind)
    arguments = {
        **gradient.arguments(), "queries": queries.values, "query_scale": queries.scale,
        "query_own": queries.own, "norms": norms, "target": target, "gradient": query_out,
        "C": C, "H": H, "W": W, "splits": splits,
        "scalar_b": queries.scale.stride(0), "queries_b": queries.values.stride(1),
        "target_strides": target_strides, "gradient_strides": to.query_strides(query_out),
        "eps": queries.metric.eps,
        "METRIC": to.metric_switches(queries.metric),
        "PRECISION": precision(queries.values.dtype),
        "WALK": layout.walk(_is_wide(gradient, queries), even_c=C % tile.c == 0),
        "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c,
    }  # fmt: skip
    programs = splits * ceil_div(C, tile.c) * ceil_div(N, tile.n) * B
    registers = _launch.query_backward_registers(
        target.dtype, layout.channels_last, target_strides, queries.source.keypoints is None, kind
    )
    launch(query_backward_kernel, programs, target.device, arguments, tile.warps, tile.stages, registers)


def _is_wide(gradient: Gradient, queries: Queries) -> bool:
    """Whether the scores of an image, or its queries, need 64-bit offsets."""
    return any(_launch.is_wide(x) for x in (gradient.ds, gradient.scores, queries.values[0]))


def source_backward(
    query_gradient: Tensor,
    peak: Tensor | None,
    keypoints: Tensor,
    source: Tensor,
    sampling: Sampling,
    source_out: Tensor | None,
    keypoints_out: Tensor | None,
) -> None:
    """Fill source_out (B, C, H, W) and keypoints_out (B, N, 2) from query_gradient (splits, B, N, C)."""
    B, C, H, W = source.shape
    splits, N = query_gradient.shape[0], query_gradient.shape[2]
    layout, (out_strides,) = describe_maps(source if source_out is None else source_out)
    tile = _launch.source_backward_tile(source.dtype, layout.channels_last)
    source_programs = 0 if source_out is None else ceil_div(C, tile.c) * ceil_div(H * W, tile.m) * B
    arguments = {
        "gradient": query_gradient, "peak": peak, "keypoints": keypoints, "source": source,
        "source_out": source if source_out is None else source_out, "keypoints_out": keypoints_out, "C": C, "W": W,
        "sizes": SourceSizes(encode(N), encode(H), encode(splits), encode(source_programs)),
        "gradient_strides": to.query_strides(query_gradient), "keypoints_strides": to.point_strides(keypoints),
        "source_strides": to.encoded_map_strides(source), "out_strides": out_strides,
        "keypoints_out_strides": to.point_strides(keypoints_out), "to_cells": to.to_cells(sampling),
        "source_sizes": sampling.image_sizes,
        "SAMPLING": to.sampling_switches(sampling), "WALK": layout.walk(),
        "BLOCK_N": tile.n, "TILE": (tile.m, tile.c), "BLOCK_ROW": min(512, _launch.row_block(C)),
    }  # fmt: skip
    programs = source_programs + (0 if keypoints_out is None else B * N)
    launch(source_backward_kernel, programs, source.device, arguments, tile.warps, tile.stages, _launch.ALL_REGISTERS)


def gather(source: Tensor, keypoints: Tensor, sampling: Sampling, descriptors: Tensor) -> None:
    """Fill descriptors (B, N, C) with the source (B, C, H, W) sampled at keypoints (B, N, 2)."""
    B, C, H, W = source.shape
    N = keypoints.shape[1]
    block = min(256, _launch.row_block(C))
    arguments = {
        "source": source, "keypoints": keypoints, "descriptors": descriptors, "C": C,
        "sizes": PointSizes(encode(N), encode(H), encode(W)), "source_strides": to.map_strides(source),
        "keypoints_strides": to.point_strides(keypoints), "to_cells": to.to_cells(sampling),
        "source_sizes": sampling.image_sizes,
        "SAMPLING": to.sampling_switches(sampling), "BLOCK_N": 4, "BLOCK_C": block,
    }  # fmt: skip
    launch(gather_kernel, ceil_div(C, block) * ceil_div(N, 4) * B, source.device, arguments)
