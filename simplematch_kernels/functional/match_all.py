"""Two sets of descriptors against each other: all pairs without their scores in memory, or chosen pairs."""

from __future__ import annotations

from torch import Tensor

from .. import _set_checks
from .._check_options import check_switch
from .._options import MetricOptions
from .._types import AllMatches, SetRows
from ..operators import match_all as operator
from ..operators import pair_scores as pair_operator
from ._shared import requested


def match_all(
    a: Tensor,
    b: Tensor,
    *,
    num_a: Tensor | None = None,
    num_b: Tensor | None = None,
    valid_a: Tensor | None = None,
    valid_b: Tensor | None = None,
    metric: str = "cosine",
    eps: float = 1e-8,
    eps_mode: str = "add",
    temperature: float | Tensor = 1.0,
    bin_score: float | Tensor | None = None,
    return_log_sum_exp: bool = True,
    return_second: bool = False,
    backend: str | None = None,
) -> AllMatches:
    r"""Match every descriptor of a with every one of b, both ways at once; the (N, M) scores are never in memory.

    .. code-block:: text

        s[n,m]           = <a_n, b_m> / ((|a_n| + eps) (|b_m| + eps))
        index_a[n]       = argmax_m s[n,m]              the lowest m wins a tie
        score_a[n]       = s[n, index_a[n]]
        log_sum_exp_a[n] = log(sum_m exp(s[n,m] / T) + exp(bin_score / T))
        second_a[n]      = max of s[n,m] over m != index_a[n]
        mutual[n]        = index_b[index_a[n]] == n

    and index_b, score_b, log_sum_exp_b, second_b the same of every b_m over n. Methods of matching in one line each:

    .. code-block:: text

        dual softmax            log P[n,m] = 2 s[n,m] / T - log_sum_exp_a[n] - log_sum_exp_b[m]
        InfoNCE of pairs        (log_sum_exp_a - pair_scores(a, b, None, partner) / T).mean(), also with log_sum_exp_b
        mutual nearest          index_a[mutual], with return_log_sum_exp=False
        Lowe's ratio            metric="l2", return_second=True:  score_a > ratio**2 * second_a  (both are -distance^2)

    Args:
        a: (B, N, C) descriptors, or a map (B, C, H, W) with N = H * W; float32, bfloat16, float16 or float64, any
            strides, read where they are. N may be 0.
        b: (B, M, C) descriptors or a map, of the dtype and device of a; told from a map on its own. M may be 0.
        num_a: (B,) integers; descriptors n >= num_a[i] of image i are padding. None: all count.
        num_b: (B,) integers, likewise of b.
        valid_a: (B, N), or (B, H, W) of a map, bool; False descriptors are padding.
        valid_b: (B, M), or (B, H, W) of a map, bool, likewise of b.
        metric: "cosine", "dot" (s = <a, b>), "l2" (s = -|a - b|^2) or "l1" (s = -sum_c |a_c - b_c|).
        eps: guards the cosine's division.
        eps_mode: "add" (x / (|x| + eps)) or "clamp" (x / max(|x|, eps)).
        temperature: T, a number, a 0-d tensor or a (B,) tensor of one for each image; above zero.
        bin_score: score of "no match", an additional candidate in every log_sum_exp but never an index; a number, a 0-d
            tensor, a (B,) tensor, or None: there is none.
        return_log_sum_exp: whether to compute log_sum_exp_a and log_sum_exp_b. They cost two exponentials for each
            pair, which indices, scores and `mutual` don't need.
        return_second: whether to compute second_a and second_b.
        backend: as in `sparse_window_match`.

    Returns:
        `AllMatches`, float32 or float64 for float64 features. Padding holds index -1, score 0, log_sum_exp 0, second 0
        and is not mutual, as does a descriptor without a candidate; but if there is a bin, the log_sum_exp of the
        latter is bin_score / T. A second that isn't there is -inf. NaN is above every number, as in
        `sparse_window_match`; whatever padding holds has no influence.

    Gradients:
        To a, b, temperature and bin_score (if tensors), from the scores and the log_sum_exps; bitwise repeatable.
        Indices, mutual and second have none. Kept for the backward are the inputs, the results and a norm for each
        descriptor; the scores are computed again. Transforms of torch.func and forward mode work; a second
        derivative raises RuntimeError.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`.
    """
    first, second = _set_checks.check_sets(a, b)
    rows = _set_checks.check_set_rows(SetRows(num_a, valid_a, num_b, valid_b), first, second)
    metric_options = MetricOptions(metric, eps, eps_mode).checked()
    fixed_temperature, temperatures = _set_checks.check_image_number("temperature", temperature, first, above=0.0)
    fixed_bin, bins = (
        (None, None) if bin_score is None else _set_checks.check_image_number("bin_score", bin_score, first)
    )
    check_switch("return_log_sum_exp", return_log_sum_exp)
    check_switch("return_second", return_second)
    softmax = operator.SoftmaxOptions(fixed_temperature, fixed_bin, return_log_sum_exp, return_second)
    r = operator.run(
        operator.Arguments(first, second, rows, temperatures, bins, metric_options, softmax, requested(backend))
    )
    return AllMatches(
        r.index_a,
        r.score_a,
        r.log_sum_exp_a if return_log_sum_exp else None,
        r.index_b,
        r.score_b,
        r.log_sum_exp_b if return_log_sum_exp else None,
        r.mutual,
        r.second_a if return_second else None,
        r.second_b if return_second else None,
    )


def pair_scores(
    a: Tensor,
    b: Tensor,
    index_a: Tensor | None,
    index_b: Tensor | None,
    *,
    metric: str = "cosine",
    eps: float = 1e-8,
    eps_mode: str = "add",
    backend: str | None = None,
) -> Tensor:
    """Scores (B, K) of chosen pairs: s[k] of a[index_a[k]] and b[index_b[k]], as `match_all` scores them.

    Args:
        a: (B, N, C) descriptors or a map (B, C, H, W), as in `match_all`.
        b: (B, M, C) descriptors or a map.
        index_a: (B, K) integers, descriptors of a; a map's cells are numbered y * W + x. Negative numbers are padding,
            so that indices of `match_all` can be passed on. None: all of a in order, K = N.
        index_b: (B, K) integers, likewise of b. None: all of b in order, K = M. One of both must be given.
        metric: "cosine", "dot", "l2" or "l1", as in `match_all`.
        eps: guards the cosine's division.
        eps_mode: "add" or "clamp", as in `match_all`.
        backend: as in `sparse_window_match`.

    Returns:
        (B, K) float32 scores, float64 for float64 features; sums are made in float64. 0 where an index is padding.

    Gradients:
        To a and b, summed over the pairs of a descriptor in their order: bitwise repeatable, without atomics. The
        compiled kernels read the descriptors where they lie. Triton and the reference copy the chosen rows, at most
        64 MiB at a time, and hold their (B, K, C) gradients in the backward.

    Raises:
        TypeError, ValueError, RuntimeError: as `sparse_window_match`. On CPU tensors that includes an index beyond its
            set; on a GPU its score becomes NaN instead.
    """
    first, second = _set_checks.check_sets(a, b)
    of_a, of_b = _set_checks.check_indices(index_a, index_b, first, second)
    options = MetricOptions(metric, eps, eps_mode).checked()
    return pair_operator.run(pair_operator.Arguments(first, second, of_a, of_b, options, requested(backend))).scores
