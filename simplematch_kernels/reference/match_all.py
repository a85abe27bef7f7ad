"""Every descriptor of one set against every one of another: best, second best and log-sum-exp, both ways."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._types import (
    Given,
    MatchAllGradients,
    MatchAllProblem,
    MatchAllResult,
    MatchAllUpstream,
    Rows,
    accumulation_dtype,
)
from .localize import valid_rows
from .match import best_cell
from .recorded import largest
from .similarity import norm, query_backward, similarity, target_backward
from .tangents import of_scores


class Scores(NamedTuple):
    """s (B, N, M) of a (B, N, C) with b (B, C, M), which are zero in padding; who takes part; T and the bin (B, 1)."""

    s: Tensor
    a: Tensor
    b: Tensor
    valid_a: Tensor
    valid_b: Tensor
    temperature: Tensor
    bin_score: Tensor

    def swapped(self) -> Scores:
        """The same seen from b."""
        return self._replace(
            s=self.s.mT, a=self.b.mT, b=self.a.mT, valid_a=self.valid_b, valid_b=self.valid_a
        )  # fmt: skip

    @property
    def pairs(self) -> Tensor:
        """(B, N, M) pairs of which both take part."""
        return self.valid_a[:, :, None] & self.valid_b[:, None, :]


def score_all(p: MatchAllProblem) -> Scores:
    dtype = accumulation_dtype(p.a)
    a, b = p.a.to(dtype).flatten(2).mT, p.b.to(dtype).flatten(2)
    valid_a, valid_b = valid_rows(p.rows.of_a, a), valid_rows(p.rows.of_b, b.mT)
    a, b = torch.where(valid_a[..., None], a, 0), torch.where(valid_b[:, None, :], b, 0)
    numbers = (
        a.new_full((a.shape[0],), fixed) if given is None else given.to(dtype)
        for given, fixed in ((p.temperature, p.fixed_temperature), (p.bin_score, p.fixed_bin_score))
    )
    return Scores(similarity(a, b, p.metric), a, b, valid_a, valid_b, *(x[:, None] for x in numbers))


def match_all(p: MatchAllProblem) -> MatchAllResult:
    """With s[n, m] the similarity of a_n and b_m, T the temperature and z the score of the bin, for each a_n:

    index_a[n] = argmax_m s[n, m]         the lowest m wins a tie, NaN is above all
    score_a[n] = s[n, index_a[n]]
    log_sum_exp_a[n] = log(sum_m exp(s[n, m] / T) + exp(z / T))
    second_a[n] = max of s[n, m] over m other than index_a[n]

    and for each b_m the same with n and m swapped. The largest score is subtracted before the division by T; if it is
    not finite, or T is not positive, log_sum_exp is not finite.
    """
    scores = score_all(p)
    of_a, of_b = one_way(scores, p), one_way(scores.swapped(), p)
    index_a, index_b = of_a[1], of_b[1]
    mutual = torch.zeros_like(scores.valid_a)
    if index_a.numel() and index_b.numel():
        n = torch.arange(index_a.shape[1], device=index_a.device)
        mutual = (index_a >= 0) & (index_b.gather(1, index_a.clamp(min=0)) == n)
    dtype = accumulation_dtype(p.a)
    norms = (norm(x.to(dtype).flatten(2), dim=1) for x in (p.a, p.b))
    return MatchAllResult(*of_a, *of_b, mutual, *norms)


def one_way(x: Scores, p: MatchAllProblem) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(score, index, log_sum_exp, second) of each a, of `x.swapped()` of each b."""
    if x.s.shape[2] == 0:  # as one candidate that takes no part
        shape = x.s.shape[0], x.a.shape[2]
        x = x._replace(
            s=x.s.new_zeros(*x.s.shape[:2], 1), b=x.s.new_zeros(*shape, 1), valid_b=x.valid_b.new_zeros(shape[0], 1)
        )
    found = x.valid_a & x.valid_b.any(1, keepdim=True)
    index = best_cell(x.s[:, :, None, :], x.b, Rows(valid=x.valid_a, target_mask=x.valid_b))
    score = torch.where(found, x.s.gather(2, index[..., None])[..., 0], 0)
    index = torch.where(found, index, -1)
    log_sum_exp, second = (score.new_empty((score.shape[0], 0)) for _ in range(2))
    if p.log_sum_exp:
        log_sum_exp = torch.where(x.valid_a & (found | p.has_bin), _log_sum_exp(x), 0)
    if p.second:
        others = torch.arange(x.s.shape[2], device=x.s.device) != index[..., None]
        second = torch.where(found, largest(torch.where(x.pairs & others, x.s, -torch.inf)), 0)
    return score, index, log_sum_exp, second


def _log_sum_exp(x: Scores) -> Tensor:
    s = torch.where(x.pairs, x.s, -torch.inf)
    s = torch.cat((s, x.bin_score[:, :, None].expand(*s.shape[:2], 1)), 2)
    greatest = largest(s, keepdim=True)
    takes_part = s != -torch.inf
    exponent = torch.where(takes_part, s - greatest, 0) / x.temperature[..., None]
    total = torch.where(takes_part, exponent.exp(), 0).sum(2)
    of_largest = greatest[..., 0] / x.temperature
    log_sum_exp = torch.where(greatest[..., 0].isfinite(), of_largest + total.log(), of_largest)
    return torch.where(x.temperature > 0, log_sum_exp, torch.nan)


def match_all_backward(
    p: MatchAllProblem, result: MatchAllResult, upstream: MatchAllUpstream, needs: MatchAllGradients[bool]
) -> MatchAllGradients[Given]:
    """h, l arrive at score_a and log_sum_exp_a, h', l' at score_b and log_sum_exp_b.

    P[n, m] = exp(s[n, m] / T - log_sum_exp_a[n]),  P'[n, m] = exp(s[n, m] / T - log_sum_exp_b[m])
    ds[n, m] = (P l_n + P' l'_m) / T + h_n [m == index_a[n]] + h'_m [n == index_b[m]]
    dz = 1/T sum_n l_n exp(z / T - log_sum_exp_a[n]) + the same of b
    dT = -1/T^2 sum_n l_n (sum_m P[n, m] s[n, m] + exp(z / T - log_sum_exp_a[n]) z) + the same of b

    A summand whose upstream gradient is zero is zero. Else one whose upstream gradient, score or log_sum_exp isn't
    finite is NaN: at one pair, for a score, and at every pair of the sum, the bin and T for a log_sum_exp.
    """
    scores = score_all(p)
    ds_a, dz_a, dt_a = _one_way_backward(scores, p, result[:3], (upstream.score_a, upstream.log_sum_exp_a))
    ds_b, dz_b, dt_b = _one_way_backward(scores.swapped(), p, result[4:7], (upstream.score_b, upstream.log_sum_exp_b))
    ds = ds_a + ds_b.mT
    d_a = query_backward(ds, scores.s, scores.a, scores.b, p.metric).mT if needs.a else None
    d_b = target_backward(ds, scores.s, scores.a, scores.b, p.metric) if needs.b else None
    return MatchAllGradients(
        None if d_a is None else torch.empty_like(p.a).copy_(d_a.reshape(p.a.shape)),
        None if d_b is None else torch.empty_like(p.b).copy_(d_b.reshape(p.b.shape)),
        dt_a + dt_b if needs.temperature and p.temperature is not None else None,
        dz_a + dz_b if needs.bin_score and p.bin_score is not None else None,
    )


def _one_way_backward(
    x: Scores, p: MatchAllProblem, result: tuple[Tensor, ...], upstream: tuple[Given, Given]
) -> tuple[Tensor, Tensor, Tensor]:
    """(ds (B, N, M), d bin_score (B,), d temperature (B,)) of what arrives at the side of a."""
    (score, index, log_sum_exp), (of_score, of_log_sum_exp) = result, upstream
    ds, of_numbers = torch.zeros_like(x.s), x.s.new_zeros(x.s.shape[0])
    if of_score is not None and x.s.shape[2]:
        h = of_score.to(x.s.dtype)
        h = torch.where((index < 0) | (h == 0), 0, torch.where(h.isfinite() & score.isfinite(), h, torch.nan))
        ds = ds.scatter_add(2, index.clamp(min=0)[..., None], h[..., None])
    if of_log_sum_exp is None or not p.log_sum_exp:
        return ds, of_numbers, of_numbers
    l = of_log_sum_exp.to(x.s.dtype)  # noqa: E741
    l = torch.where(l.isfinite() & log_sum_exp.isfinite(), l, torch.where(l == 0, 0, torch.nan))  # noqa: E741
    l = torch.where(x.valid_a, l / x.temperature, 0)  # noqa: E741
    probability, of_bin = _probabilities(x, log_sum_exp)
    part = x.pairs & (l != 0)[..., None]
    weights = torch.where(part, probability * l[..., None], 0)
    bin_weights = torch.where(l != 0, of_bin * l, 0) if p.has_bin else torch.zeros_like(l)
    moment = torch.where(weights != 0, weights * x.s, 0).sum((1, 2))
    moment = moment + torch.where(bin_weights != 0, bin_weights * x.bin_score, 0).sum(1)
    moment = torch.where(l.isnan().any(1), torch.nan, moment)
    return ds + weights, bin_weights.sum(1), -moment / x.temperature[:, 0]


def _probabilities(x: Scores, log_sum_exp: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the pairs (B, N, M) and of the bin (B, N)."""
    divisor = x.temperature
    return (x.s / divisor[..., None] - log_sum_exp[..., None]).exp(), (x.bin_score / divisor - log_sum_exp).exp()


def match_all_jvp(p: MatchAllProblem, result: MatchAllResult, tangents: MatchAllGradients[Given]) -> MatchAllUpstream:
    """d score = ds at the index;  d log_sum_exp_a[n] = 1/T (sum_m P ds + P_bin dz - dT/T (sum_m P s + P_bin z))."""
    x = score_all(p)
    d_a, d_b = (None if t is None else t.to(x.s.dtype).flatten(2) for t in (tangents.a, tangents.b))
    d_a = None if d_a is None else torch.where(x.valid_a[..., None], d_a.mT, 0)
    d_b = None if d_b is None else torch.where(x.valid_b[:, None, :], d_b, 0)
    ds = of_scores(x.s, x.a, x.b, p.metric, d_a, d_b)
    numbers = [
        x.temperature.new_zeros(()) if t is None else t.to(x.s.dtype)[:, None]
        for t in (tangents.temperature, tangents.bin_score)
    ]
    of_a = _one_way_jvp(x, ds, p, result[:3], *numbers)
    of_b = _one_way_jvp(x.swapped(), ds.mT, p, result[4:7], *numbers)
    return MatchAllUpstream(*of_a, *of_b)


def _one_way_jvp(
    x: Scores, ds: Tensor, p: MatchAllProblem, result: tuple[Tensor, ...], d_temperature: Tensor, d_bin: Tensor
) -> tuple[Tensor, Tensor]:
    score, index, log_sum_exp = result
    d_score = torch.zeros_like(score)
    if x.s.shape[2]:
        d_score = torch.where(index >= 0, ds.gather(2, index.clamp(min=0)[..., None])[..., 0], 0)
    if not p.log_sum_exp:
        return d_score, d_score[:, :0]
    probability, of_bin = _probabilities(x, log_sum_exp)
    slope = torch.where(x.pairs, ds - x.s * (d_temperature / x.temperature)[..., None], 0)
    total = torch.where(x.pairs & (probability != 0), probability * slope, 0).sum(2)
    if p.has_bin:
        total = total + of_bin * (d_bin - x.bin_score * d_temperature / x.temperature)
    part = x.valid_a & (x.valid_b.any(1, keepdim=True) | p.has_bin)
    return d_score, torch.where(part, total / x.temperature, 0)
