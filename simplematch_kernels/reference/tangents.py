"""Forward-mode derivatives of the operators: tangents of the results from tangents of the inputs (None: zero).

Every backend uses these. The forward-mode derivative of a peak is zero, as its gradient is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._resolved import Metric
from .._types import (
    DetailedUpstream,
    GatherGradients,
    GatherProblem,
    GatherUpstream,
    Given,
    LocalizeDetails,
    LocalizeGradients,
    LocalizeProblem,
    MatchDetails,
    Matches,
    MatchGradients,
    MatchProblem,
    MatchResult,
    SimilarityGradients,
    SimilarityProblem,
    SimilarityResult,
    SimilarityUpstream,
    UpsampledProblem,
    Upstream,
    accumulation_dtype,
    descriptors_of,
)
from . import absolute
from .gather import corners, maps_to_cells, rate, read_cells, to_cells
from .localize import maps_from_cells, rates, softmax_over_window, valid_rows, without_padding
from .match import queries
from .similarity import denominator, norm, similarity


def sparse_window_match(p: MatchProblem, result: MatchResult, tangents: MatchGradients[Given]) -> Upstream:
    return Upstream(*_of_match(p, result, tangents)[:3])


def sparse_window_match_detailed(
    p: MatchProblem, result: MatchDetails, tangents: MatchGradients[Given]
) -> DetailedUpstream:
    return _of_match(p, result, tangents)


def localize(p: LocalizeProblem, result: Matches, tangents: LocalizeGradients[Given]) -> Upstream:
    return Upstream(*_of_localize(p, result, tangents)[:3])


def localize_detailed(
    p: LocalizeProblem, result: LocalizeDetails, tangents: LocalizeGradients[Given]
) -> DetailedUpstream:
    return _of_localize(p, result.matches, tangents)


def _of_match(p: MatchProblem, result: MatchResult | MatchDetails, tangents: MatchGradients[Given]) -> DetailedUpstream:
    scores, ds = scores_and_tangents(p, tangents, accumulation_dtype(p.target))
    size = p.target.shape[2:]
    return of_matches(scores.unflatten(2, size), ds, p, result.matches, tangents.temperature)


def scores_and_tangents(p: MatchProblem, tangents: MatchGradients[Given], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(s, ds), each (B, N, M)."""
    descriptors, flat = queries(p, dtype), p.target.to(dtype).flatten(2)
    d_descriptors = torch.where(valid_rows(p.rows, descriptors)[..., None], _of_queries(p, tangents, dtype), 0)
    scores = similarity(descriptors, flat, p.metric)
    d_target = None if tangents.target is None else tangents.target.to(dtype).flatten(2)
    return scores, of_scores(scores, descriptors, flat, p.metric, d_descriptors, d_target)


def _of_localize(p: LocalizeProblem, result: Matches, tangents: LocalizeGradients[Given]) -> DetailedUpstream:
    scores = p.scores.to(accumulation_dtype(p.scores))
    ds = torch.zeros_like(scores) if tangents.scores is None else tangents.scores.to(scores.dtype)
    return of_matches(scores, ds.flatten(2), p, result, tangents.temperature)


def gather_keypoints(p: GatherProblem, tangents: GatherGradients[Given]) -> GatherUpstream:
    """dq = sum over the cells (i, j) around a keypoint of weight(i, j) dF[:, j, i] + dweight(i, j) F[:, j, i]."""
    dtype = accumulation_dtype(p.features)
    x, y = to_cells(p.keypoints, p.features, p.sampling)
    finite = (x.isfinite() & y.isfinite())[..., None]
    shape = (p.keypoints.shape[0], p.keypoints.shape[1], p.features.shape[1])
    total = torch.zeros(shape, dtype=dtype, device=p.features.device)
    for i, j, weight, weight_dx, weight_dy in corners(x, y, p.features, p.sampling):
        if tangents.features is not None:
            moved = read_cells(tangents.features, i, j).to(dtype)
            total = total + torch.where(weight[..., None] != 0, weight[..., None].to(dtype) * moved, 0)
        if tangents.keypoints is not None:
            moved_by = zip(tangents.keypoints.double().unbind(-1), maps_to_cells(p.sampling, p.features), strict=True)
            dx, dy = (moved * rate(affine, torch.float64) for moved, affine in moved_by)
            change = (weight_dx * dx + weight_dy * dy)[..., None].to(dtype)
            total = total + torch.where(change != 0, change * read_cells(p.features, i, j).to(dtype), 0)
    return GatherUpstream(torch.where(finite, total, 0).to(p.features.dtype))


def cosine_similarity(
    p: SimilarityProblem, result: SimilarityResult, tangents: SimilarityGradients[Given]
) -> SimilarityUpstream:
    dtype = accumulation_dtype(p.target)
    d_descriptors, d_target = (None if t is None else t.to(dtype) for t in tangents)
    ds = of_scores(
        result.scores.flatten(2),
        p.descriptors.to(dtype),
        p.target.to(dtype).flatten(2),
        p.metric,
        d_descriptors,
        None if d_target is None else d_target.flatten(2),
    )
    return SimilarityUpstream(ds.unflatten(2, p.target.shape[2:]))


def _of_queries(p: MatchProblem, tangents: MatchGradients[Given], dtype: torch.dtype) -> Tensor:
    if p.keypoints is None or p.sampling is None:
        moved = torch.zeros_like(p.source) if tangents.source is None else tangents.source
        return descriptors_of(moved).to(dtype)
    problem = GatherProblem(p.source.to(dtype), without_padding(p.keypoints, p.rows), p.sampling)
    return gather_keypoints(problem, GatherGradients(tangents.source, tangents.keypoints)).descriptors


def of_scores(s: Tensor, q: Tensor, f: Tensor, metric: Metric, dq: Given, df: Given) -> Tensor:
    """ds (B, N, M) for descriptors q (B, N, C) and cells f (B, C, M).

    dot: <dq, f> + <q, df>        l2: -2 <q - f, dq - df>        l1: -<sign(q - f), dq - df>
    cosine: (<dq, f> + <q, df>) / D(q) / D(f) - s (dD(q) / D(q) + dD(f) / D(f)),  dD(x) = <x, dx> / |x|
    """
    dq = torch.zeros_like(q) if dq is None else dq
    df = torch.zeros_like(f) if df is None else df
    if metric.kind == "l1":
        return absolute.tangents(q, f, dq, df)
    crossed = dq @ f + q @ df
    of_q, of_f = (q * dq).sum(2)[:, :, None], (f * df).sum(1)[:, None, :]
    if metric.kind == "dot":
        return crossed
    if metric.kind == "l2":
        return 2 * (crossed - of_q - of_f)
    norm_q, norm_f = norm(q, dim=2)[:, :, None], norm(f, dim=1)[:, None, :]
    divisor_q, divisor_f = denominator(norm_q, metric), denominator(norm_f, metric)
    own = of_norm(of_q, norm_q, metric) / divisor_q + of_norm(of_f, norm_f, metric) / divisor_f
    return crossed / divisor_q / divisor_f - s * own


def of_norm(product: Tensor, norms: Tensor, metric: Metric) -> Tensor:
    """dD(x) from <x, dx>: 0 where D is constant, and at the zero vector."""
    moves = (norms >= metric.eps) & (norms > 0) if metric.clamp_eps else norms > 0
    return torch.where(moves, product / torch.where(moves, norms, 1), 0)


def of_matches(
    scores: Tensor,
    ds: Tensor,
    p: MatchProblem | LocalizeProblem | UpsampledProblem,
    matches: Matches,
    d_temperature: Given,
) -> DetailedUpstream:
    """With z = s' / T: dz = ds' / T - s' dT / T^2,  d out = sum P (x - out) dz,  d log_sum_exp = sum P dz, and
    d covariance = sum P ((x - out) (x - out)^T - covariance) dz.
    """
    size, localization = scores.shape[2:], p.localization
    w = softmax_over_window(scores, matches.peak, p.rows, p.temperature, localization)
    dz = torch.where(w.support, w.slope * ds / w.divisor, 0)
    if d_temperature is not None:
        counts = w.weighted.isfinite()
        dz = dz - torch.where(counts, w.weighted, 0) * d_temperature[..., None] / w.divisor / w.divisor
    weights = torch.where(w.probability != 0, w.probability * dz, 0)
    d_log_sum_exp = weights.sum(-1)
    moved, centred = [], w.centred(size)
    for offset, affine in zip(centred, maps_from_cells(localization, scores), strict=True):
        moved.append((weights * offset).sum(-1) * rate(affine, scores.dtype))
    valid = matches.peak >= 0
    d_score = ds.gather(-1, matches.peak[..., None].clamp(min=0))[..., 0]
    d_covariance = None
    if not isinstance(p, UpsampledProblem) and p.details.return_covariance:
        spread = torch.stack([(weights * w.deviation(a * b)).sum(-1) for a in centred for b in centred], -1)
        d_covariance = spread.unflatten(-1, (2, 2)) * rates(localization, scores)
        d_covariance = torch.where(valid[..., None, None], d_covariance, 0)
    return DetailedUpstream(
        torch.where(valid[..., None], torch.stack(moved, -1), 0),
        torch.where(valid, d_score, 0),
        torch.where(valid, d_log_sum_exp, 0),
        scores.new_empty(0) if d_covariance is None else d_covariance,
    )
