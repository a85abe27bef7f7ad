// What a similarity divides by, and how a vector enters its gradient.
#pragma once

#include "common.h"
#include "simplematch/options.h"

namespace simplematch::cuda {

// |x| + eps, or max(|x|, eps) with NaN kept.
template <class T>
__device__ inline T denominator(T norm, const Metric& metric) {
    const T eps = T(metric.eps);
    return metric.clamp_eps ? (norm < eps ? eps : norm) : norm + eps;
}

// s from <q, f> and both norms: p / (D(q) D(f)), p, or 2 p - |q|^2 - |f|^2.
template <class T>
__device__ inline T finish_score(T product, T query_square, T target_square, const Metric& metric) {
    if (metric.kind == MetricKind::dot) return product;
    if (metric.kind == MetricKind::l2) return 2 * product - query_square - target_square;
    return product / (denominator(sqrt(query_square), metric) * denominator(sqrt(target_square), metric));
}

// The factor of the other vector, and that of a vector's own term:
// cosine 1 / D(x) and 1 / (D(x) |x|), the latter 0 where D is constant or x zero; dot 1 and 0; l2 1 and 2.
template <class T>
struct Factors {
    T scale, second;
};

template <class T>
__device__ inline Factors<T> factors_of(T norm, const Metric& metric) {
    if (metric.kind == MetricKind::dot) return {1, 0};
    if (metric.kind == MetricKind::l2) return {1, 2};
    const T scale = 1 / denominator(norm, metric);
    const bool constant = norm == 0 || (metric.clamp_eps && norm < T(metric.eps));
    return {scale, constant ? T(0) : scale / norm};
}

}  // namespace simplematch::cuda
