"""The launch of each step: tensors and options in, kernel arguments out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._resolved import Localization, Metric, Sampling, Window
from .._types import Rows, Upstream, accumulation_dtype
from . import _launch
from ._arguments import (
    is_native,
    of_affine,
    of_metric,
    of_sampling,
    of_strides,
    of_temperature,
    of_window,
)
from ._launch import ceil_div, describe_map, launch, precision
from .gather import gather_kernel
from .localize import localize_kernel
from .localize_backward import localize_backward_kernel
from .query_backward import query_backward_kernel
from .similarity import similarity_kernel
from .source_backward import source_backward_kernel
from .target_backward import target_backward_kernel


@dataclass(frozen=True, slots=True)
class Queries:
    """Where queries come from, and what `localize_backward` leaves of them for the steps that follow.

    values: (splits, B, N, C) in the arithmetic's dtype: the queries in values[0], which `query_backward` turns into
    their gradient, as partial sums. scale and second: (B, N), the factors of `query_scale` and `query_second`.
    """

    source: Tensor
    keypoints: Tensor | None
    sampling: Sampling | None
    metric: Metric
    values: Tensor
    scale: Tensor
    second: Tensor

    def part(self, b: slice, n: slice) -> Queries:
        """The queries n of the images b."""
        source = self.source[b] if self.keypoints is not None else self.source[b, :, :, n]
        keypoints = None if self.keypoints is None else self.keypoints[b, n]
        return Queries(
            source, keypoints, self.sampling, self.metric, self.values[:, b, n], self.scale[b, n], self.second[b, n]
        )


@dataclass(frozen=True, slots=True)
class Gradient:
    """ds (B, N, rows, columns), with the scores in the same layout, of windows around `peak`; of the map without it."""

    ds: Tensor
    scores: Tensor
    peak: Tensor | None
    window: Window | None


def similarity(
    source: Tensor,
    keypoints: Tensor | None,
    target: Tensor,
    rows: Rows,
    sampling: Sampling | None,
    metric: Metric,
    scores: Tensor,
    norms: Tensor | None,
    first_query: int = 0,
    with_best: bool = True,
) -> Tensor | None:
    """Fill scores (B, N, H, W), norms (B, M); return the best cell of each tile, (2, B, N, tiles), if `with_best`."""
    B, C, H, W = target.shape
    N, M = scores.shape[1], H * W
    layout, (target_strides,) = describe_map(target)
    tile = _launch.similarity_tile(
        target.dtype, is_native(source, target, sampling), B, N, M, _launch.multiprocessors(target.device)
    )
    tiles = ceil_div(M, tile.m)
    best = torch.empty((2, B, N, tiles), dtype=torch.int64, device=target.device) if with_best else None
    arguments = {
        "source": source, "keypoints": keypoints, "num_keypoints": rows.num_keypoints, "valid": rows.valid,
        "target": target, "target_mask": rows.target_mask if with_best else None,
        "scores": scores, "norms": norms, "best": best,
        "N": N, "C": C, "M": M, "W": W, "source_H": source.shape[2], "source_W": source.shape[3],
        "first_query": first_query, "valid_b": 0 if rows.valid is None else rows.valid.stride(0),
        **of_strides("source", "bchw", source), **of_strides("keypoints", "bnd", keypoints),
        **of_strides("target", "bchw", target_strides), **of_sampling(sampling), **of_metric(metric),
        "NATIVE": is_native(source, target, sampling), "PRECISION": precision(scores.dtype),
        "CHANNELS_LAST": layout.channels_last, "FLAT": layout.flat, "WIDE": layout.wide, "EVEN_C": C % tile.c == 0,
        "PREFETCH": source.element_size() < 4 and source.stride(1) != 1,
        "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c,
    }  # fmt: skip
    programs = ceil_div(N, tile.n) * tiles * B
    registers = _launch.similarity_registers(tile)
    launch(similarity_kernel, programs, target.device, arguments, tile.warps, tile.stages, registers)
    return best


def localize(
    scores: Tensor,
    best: Tensor | None,
    rows: Rows,
    temperature: Tensor | None,
    localization: Localization,
    outputs: tuple[Tensor, Tensor, Tensor, Tensor],
    window_scores: Tensor | None,
    first_query: int = 0,
) -> None:
    """Fill outputs (keypoints, score, peak, log_sum_exp) and window_scores from scores (B, N, H, W)."""
    B, N, H, W = scores.shape
    keypoints_out, score_out, peak_out, log_sum_exp_out = outputs
    box = of_window(localization.window, H, W)
    kept = 0 if window_scores is None else window_scores.shape[1]
    arguments = {
        "scores": scores, "best": best, "num_keypoints": rows.num_keypoints, "valid": rows.valid,
        "target_mask": rows.target_mask,
        "keypoints_out": keypoints_out, "score_out": score_out, "peak_out": peak_out,
        "log_sum_exp_out": log_sum_exp_out, "window_scores": window_scores if kept else None,
        "N": N, "H": H, "W": W, "tiles": 0 if best is None else best.shape[3], "kept": kept,
        "first_query": first_query, "out_b": score_out.stride(0),
        "kept_b": 0 if window_scores is None else window_scores.stride(0) // (box["rows"] * box["columns"]),
        "valid_b": 0 if rows.valid is None else rows.valid.stride(0),
        **of_strides("scores", "bnhw", scores), **of_temperature(temperature, localization), **box,
        **of_affine("", localization.from_cells_x, localization.from_cells_y),
        "output_offset": localization.output_offset,
        "BLOCK": _launch.row_block(box["rows"] * box["columns"], 512 if score_out.dtype == torch.float64 else 2048),
    }  # fmt: skip
    warps = _launch.row_warps(arguments["BLOCK"])
    registers = _launch.ALL_REGISTERS if box["DISC"] else None
    launch(localize_kernel, B * N, scores.device, arguments, warps, registers=registers)


def localize_backward(
    upstream: Upstream,
    scores: Tensor,
    peak: Tensor,
    map_size: tuple[int, int],
    target_mask: Tensor | None,
    temperature: Tensor | None,
    localization: Localization,
    *,
    kept: bool,
    ds: Tensor | None,
    window_scores: Tensor | None,
    temperature_out: Tensor | None,
    queries: Queries | None,
    dense: bool = False,
) -> None:
    """Fill ds, window_scores, temperature_out and queries from scores (B, N, H, W), or kept windows of them.

    ds is (B, N, rows, columns), or (B, N, H, W) if `dense`; peak and the outputs (B, N) may be slices.
    """
    H, W = map_size
    box = of_window(localization.window, H, W)
    cells = H * W if dense else box["rows"] * box["columns"]
    arguments = {
        "peak": peak, "target_mask": target_mask, "given": None,
        "upstream_keypoints": upstream.keypoints, "upstream_score": upstream.score,
        "upstream_log_sum_exp": upstream.log_sum_exp, "ds_out": ds, "window_scores": window_scores,
        "temperature_out": temperature_out,
        "peak_b": peak.stride(0),
        **of_strides("ds", "bnhw", ds),
        **of_strides("upstream_keypoints", "bnd", upstream.keypoints),
        **of_strides("upstream_score", "bn", upstream.score),
        **of_strides("upstream_log_sum_exp", "bn", upstream.log_sum_exp), **of_strides("given", "bnhw", None),
        **of_temperature(temperature, localization), **box,
        "scale_x": localization.from_cells_x.numerator / localization.from_cells_x.denominator,
        "scale_y": localization.from_cells_y.numerator / localization.from_cells_y.denominator,
        "KEPT": kept, "DENSE": dense, "BLOCK": _launch.row_block(cells, 512),
    }  # fmt: skip
    scalar_b = temperature_out.stride(0) if temperature_out is not None else 0
    _launch_localize_backward(scores, map_size, queries, scalar_b, arguments)


def similarity_gradient(given: Tensor, scores: Tensor, queries: Queries) -> Tensor:
    """Fill queries for ds that came from upstream, (B, N, H, W); return it, NaN where it or its score isn't finite."""
    H, W = given.shape[2:]
    ds = torch.empty_like(scores)
    nothing = Window(1, 1, True, False, 0.0, 0.0)
    arguments = {
        **dict.fromkeys((
            "peak", "target_mask", "temperature", "upstream_keypoints", "upstream_score", "upstream_log_sum_exp",
            "window_scores", "temperature_out",
        )),
        "given": given, "ds_out": ds, "peak_b": 0, "temperature_value": 1.0, **of_strides("ds", "bnhw", ds),
        **of_strides("temperature", "bn", None), **of_strides("upstream_keypoints", "bnd", None),
        **of_strides("upstream_score", "bn", None), **of_strides("upstream_log_sum_exp", "bn", None),
        **of_strides("given", "bnhw", given), **of_window(nothing, H, W),
        "scale_x": 1.0, "scale_y": 1.0,
        "KEPT": False, "DENSE": False, "BLOCK": _launch.row_block(H * W),
    }  # fmt: skip
    _launch_localize_backward(scores, (H, W), queries, 0, arguments)
    return ds


def _launch_localize_backward(
    scores: Tensor, map_size: tuple[int, int], queries: Queries | None, scalar_b: int, arguments: dict[str, Any]
) -> None:
    B, N = scores.shape[:2]
    accumulation = accumulation_dtype(scores)
    if queries is None:
        C = 1
        of_queries: dict[str, Any] = {
            **dict.fromkeys(("source", "keypoints", "queries", "query_scale", "query_second")),
            "source_H": 1, "source_W": 1, "queries_b": 0, **of_strides("source", "bchw", None),
            **of_strides("keypoints", "bnd", None), **of_sampling(None, "to_"), "eps": 0.0, "METRIC": 1,
            "CLAMP_EPS": False,
        }  # fmt: skip
    else:
        C, scalar_b = queries.values.shape[3], queries.scale.stride(0)
        of_queries = {
            "source": queries.source, "keypoints": queries.keypoints, "queries": queries.values,
            "query_scale": queries.scale, "query_second": queries.second,
            "source_H": queries.source.shape[2], "source_W": queries.source.shape[3],
            "queries_b": queries.values.stride(1), **of_strides("source", "bchw", queries.source),
            **of_strides("keypoints", "bnd", queries.keypoints), **of_sampling(queries.sampling, "to_"),
            **of_metric(queries.metric),
        }  # fmt: skip
    arguments.update(of_queries)
    arguments.update(
        scores=scores, N=N, C=C, H=map_size[0], W=map_size[1], scalar_b=scalar_b,
        ACC=_launch.triton_dtype(accumulation), BLOCK_C=_launch.row_block(C), **of_strides("scores", "bnhw", scores),
    )  # fmt: skip
    warps = _launch.row_warps(max(arguments["BLOCK"], arguments["BLOCK_C"]))
    launch(localize_backward_kernel, B * N, scores.device, arguments, warps)


def target_backward(
    gradient: Gradient,
    queries: Queries,
    norms: Tensor,
    target: Tensor,
    previous: Tensor | None,
    target_out: Tensor,
) -> None:
    """Fill target_out (B, C, H, W) with the gradient of the target, added to `previous` if that is given."""
    B, C, H, W = target.shape
    N = gradient.ds.shape[1]
    # The walk suits what is written.
    maps = (target_out, target) if previous is None else (target_out, target, previous)
    layout, strides = describe_map(*maps)
    tile = _launch.target_backward_tile(target.dtype, N)
    arguments = {
        "ds": gradient.ds, "window_scores": gradient.scores, "peak": gradient.peak,
        "queries": queries.values, "query_scale": queries.scale, "norms": norms, "target": target,
        "previous": previous, "gradient": target_out, "N": N, "C": C, "H": H, "W": W,
        "queries_b": queries.values.stride(1), "scalar_b": queries.scale.stride(0),
        **_of_gradient(gradient), **of_strides("scores", "bnhw", gradient.scores),
        **of_strides("gradient", "bchw", strides[0]), **of_strides("target", "bchw", strides[1]),
        **of_strides("previous", "bchw", None if previous is None else strides[2]), **of_metric(queries.metric),
        "PRECISION": precision(queries.values.dtype), "NATIVE": is_native(queries.source, target, queries.sampling),
        "CHANNELS_LAST": layout.channels_last, "FLAT": layout.flat, "WIDE": layout.wide or _is_wide(gradient, queries),
        "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c,
    }  # fmt: skip
    programs = ceil_div(C, tile.c) * ceil_div(H * W, tile.m) * B
    registers = _launch.target_backward_registers(target.dtype, layout.channels_last)
    launch(target_backward_kernel, programs, target.device, arguments, tile.warps, tile.stages, registers)


def query_backward(gradient: Gradient, queries: Queries, norms: Tensor, target: Tensor, query_out: Tensor) -> None:
    """Fill query_out (splits, B, N, C) with parts of the gradient of the queries; it may be queries.values."""
    B, C, H, W = target.shape
    N = gradient.ds.shape[1]
    layout, (target_strides,) = describe_map(target)
    tile = _launch.query_backward_tile(target.dtype, N)
    splits = query_out.shape[0]
    arguments = {
        "ds": gradient.ds, "peak": gradient.peak, "queries": queries.values, "query_scale": queries.scale,
        "query_second": queries.second, "norms": norms, "target": target,
        "gradient": query_out, "N": N, "C": C, "H": H, "W": W, "splits": splits,
        "queries_b": queries.values.stride(1), "scalar_b": queries.scale.stride(0), **_of_gradient(gradient),
        **of_strides("target", "bchw", target_strides), **of_strides("gradient", "sbnc", query_out),
        **of_metric(queries.metric), "PRECISION": precision(queries.values.dtype),
        "CHANNELS_LAST": layout.channels_last, "FLAT": layout.flat, "WIDE": layout.wide or _is_wide(gradient, queries),
        "EVEN_C": C % tile.c == 0,
        "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c,
    }  # fmt: skip
    programs = splits * ceil_div(C, tile.c) * ceil_div(N, tile.n) * B
    registers = _launch.query_backward_registers(target.dtype, layout)
    launch(query_backward_kernel, programs, target.device, arguments, tile.warps, tile.stages, registers)


def _is_wide(gradient: Gradient, queries: Queries) -> bool:
    """Whether the scores of an image, or its queries, need 64-bit offsets."""
    return any(_launch.is_wide(x) for x in (gradient.ds, gradient.scores, queries.values[0]))


def _of_gradient(gradient: Gradient) -> dict[str, Any]:
    window = gradient.window
    return {
        **of_strides("ds", "bnhw", gradient.ds), "peak_b": 0 if gradient.peak is None else gradient.peak.stride(0),
        "window_height": 1 if window is None else window.height, "window_width": 1 if window is None else window.width,
        "SHIFT": window is None or window.shift,
    }  # fmt: skip


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
    layout, (out_strides,) = describe_map(source if source_out is None else source_out)
    tile = _launch.source_backward_tile(source.dtype, layout.channels_last)
    source_programs = 0 if source_out is None else ceil_div(C, tile.c) * ceil_div(H * W, tile.m) * B
    arguments = {
        "gradient": query_gradient, "peak": peak, "keypoints": keypoints, "source": source,
        "source_out": source if source_out is None else source_out, "keypoints_out": keypoints_out,
        "N": N, "C": C, "H": H, "W": W, "splits": splits, "source_programs": source_programs,
        **of_strides("gradient", "sbnc", query_gradient), **of_strides("keypoints", "bnd", keypoints),
        **of_strides("source", "bchw", source), **of_strides("out", "bchw", out_strides),
        **of_strides("keypoints_out", "bnd", keypoints_out), **of_sampling(sampling),
        "ACC": _launch.triton_dtype(accumulation_dtype(source)),
        "CHANNELS_LAST": layout.channels_last, "FLAT": layout.flat, "WIDE": layout.wide,
        "BLOCK_N": tile.n, "BLOCK_M": tile.m, "BLOCK_C": tile.c, "BLOCK_ROW": min(512, _launch.row_block(C)),
    }  # fmt: skip
    programs = source_programs + (0 if keypoints_out is None else B * N)
    launch(source_backward_kernel, programs, source.device, arguments, tile.warps, tile.stages, _launch.ALL_REGISTERS)


def gather(source: Tensor, keypoints: Tensor, sampling: Sampling, descriptors: Tensor) -> None:
    """Fill descriptors (B, N, C) with the source (B, C, H, W) sampled at keypoints (B, N, 2)."""
    B, C, H, W = source.shape
    N = keypoints.shape[1]
    block = min(256, _launch.row_block(C))
    arguments = {
        "source": source, "keypoints": keypoints, "descriptors": descriptors, "N": N, "C": C, "H": H, "W": W,
        **of_strides("source", "bchw", source), **of_strides("keypoints", "bnd", keypoints), **of_sampling(sampling),
        "ACC": _launch.triton_dtype(accumulation_dtype(source)), "BLOCK_N": 4, "BLOCK_C": block,
    }  # fmt: skip
    launch(gather_kernel, ceil_div(C, block) * ceil_div(N, 4) * B, source.device, arguments)
