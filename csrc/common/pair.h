// The gradient of a score by its two vectors.
#pragma once

#include "metric.h"

namespace simplematch {

// Of a pair (x, y), for all metrics but l1: dx = weight * (scale * y) - own * (direction * x), where `scale` belongs to y and
// the others to x. Two products each, so that no factor leaves float64.
struct PairFactors {
    double weight, own, scale, direction;
};

// Those of a vector x of norm `norm`, from the gradient that arrives at the score.
SIMPLEMATCH_HOST_DEVICE static inline PairFactors pair_factors(double ds, double score, double norm, const Metric& metric) {
    if (metric.kind == SIMPLEMATCH_L2) return {2 * ds, 2 * ds, 1, 1};
    if (metric.kind != SIMPLEMATCH_COSINE) return {ds, 0, 1, 0};
    const double divisor = denominator(norm, metric), weight = ds / divisor;
    const bool moves = norm > 0 && !(metric.clamp_eps && norm < metric.eps);
    return {weight, weight * score, 1 / divisor, moves ? 1 / norm : 0};
}

// sign(x - y), 0 where both are equal. The derivative of the score l1 is sign(y - x) by x, and sign(x - y) by y.
SIMPLEMATCH_HOST_DEVICE static inline double sign_of_difference(double x, double y) {
    return double(x > y) - double(x < y);
}

}  // namespace simplematch
