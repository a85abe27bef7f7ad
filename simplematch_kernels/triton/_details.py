"""The launch of `details`, and the tiles that it is told of."""

from __future__ import annotations

import torch
from torch import Tensor

from .._resolved import Localization, Metric
from .._result_options import DetailOptions
from .._types import LocalizeDetails, Rows
from . import _arguments as to
from . import _launch, _steps
from ._groups import LocalizeSizes, encode
from ._step_records import Source
from .details import details_kernel


def tile_cells(source: Source, target: Tensor, scores: Tensor, metric: Metric) -> int:
    """The cells of a tile of `_steps.similarity`."""
    B, _, H, W = target.shape
    native, processors = source.is_native(target), _launch.multiprocessors(target.device)
    return _launch.similarity_tile(target.dtype, native, B, scores.shape[1], H * W, processors, metric.kind).m


def part_of_details(outputs: LocalizeDetails, n: slice, wanted: DetailOptions) -> LocalizeDetails:
    """Queries n; of what is not wanted, there is nothing to take a part of."""
    taken = [*([True] * 4), wanted.return_covariance, wanted.return_second, wanted.return_second]
    return LocalizeDetails(*(x[:, n] if take else x for x, take in zip(outputs, taken, strict=True)))


def details(
    scores: Tensor,
    best: Tensor | None,
    tile: int,
    rows: Rows,
    temperature: Tensor | None,
    localization: Localization,
    outputs: LocalizeDetails,
    wanted: DetailOptions,
) -> None:
    """Fill what is wanted of outputs, whose peaks `localize` has found; `best` holds the best cells of tiles."""
    B, N, H, W = scores.shape
    window, second = localization.window, localization.second
    box_rows, box_columns = window.box(H, W)
    temperature_b, temperature_n = to.row_strides(temperature)
    mask_b, mask_n = to.mask_strides(rows.target_mask)
    sizes = LocalizeSizes(
        encode(N), encode(H), encode(W), tiles=encode(0 if best is None else best.shape[3]), first_query=to.ZERO,
        valid_b=to.ZERO, temperature_b=temperature_b, temperature_n=temperature_n,
        out_b=encode(outputs.peak.stride(0)), kept=to.ZERO, kept_b=to.ZERO,
        mask_b=mask_b, mask_n=mask_n,
    )  # fmt: skip
    block = _launch.row_block(H * W, 512 if outputs.score.dtype == torch.float64 else 2048)
    arguments = {
        "scores": scores, "best": best, "peak": outputs.peak, "target_mask": rows.target_mask,
        "temperature": temperature, "target_sizes": localization.image_sizes,
        "covariance_out": outputs.covariance if wanted.return_covariance else None,
        "second_score_out": outputs.second_score if wanted.return_second else None,
        "second_peak_out": outputs.second_peak if wanted.return_second else None,
        "sizes": sizes, "scores_strides": to.score_strides(scores),
        "window": to.window_size(window, box_rows, box_columns), "second": to.window_size(second, 1, 1),
        "from_cells": to.from_cells(localization), "temperature_value": to.temperature_value(localization),
        "outside_value": window.outside_value, "sigma": window.sigma, "WINDOW": to.window_switches(window),
        "SECOND": to.window_switches(second), "TILE": tile, "BLOCK": block,
    }  # fmt: skip
    registers = _launch.ALL_REGISTERS if window.is_disc or second.is_disc else None
    _steps.launch(  # where tests replace it
        details_kernel, B * N, scores.device, arguments, _launch.row_warps(block), registers=registers
    )
