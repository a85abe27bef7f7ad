// Of the metrics that are made of products: what a similarity divides by, how a vector enters its gradient, and which scores need float64.
#pragma once

#include "common.h"
#include "common/metric.h"

namespace simplematch::cuda {

// s from <q, f> and both squares: p / D(q) / D(f), p, or 2 p - |q|^2 - |f|^2.
template <class T>
__device__ inline T finish_score(T product, T query_square, T target_square, const Metric& metric) {
    if (metric.kind == SIMPLEMATCH_DOT) return product;
    if (metric.kind == SIMPLEMATCH_L2) return 2 * product - query_square - target_square;
    return product / denominator(sqrt(query_square), metric) / denominator(sqrt(target_square), metric);
}

// Squares of norms from 2^-52 to 2^62: neither they nor the products of two such vectors leave float's range.
constexpr float kLeastSquare = 0x1p-104f, kLargestSquare = 0x1p124f;
// Sums of products below this may have lost summands to underflow.
constexpr float kLeastProduct = 0x1p-100f;
// A distance below this part of the squares that it is the difference of has lost too many digits: measured, the sum of
// products errs by up to 2^-25 sqrt(C) of them, by 2^-22 for few channels, and by 2^-20 for 64 equal products. A distance
// keeps an error of 1e-5.
template <class T>
__device__ inline T least_distance(int64_t channels) {
    return channels < 1024 ? T(1) / 8 : sqrt(T(channels)) / 256;
}
// Beside an eps of at least this, a norm whose square underflows is nothing.
constexpr double kLargeEps = 0x1p-43;

// Whether the score `s` that `finish_score` made in the type T must be computed from float64 products and differences.
//
// Zero vectors are common and must not ask for it where eps is large. A square is 0 only for a query that is 0, but also
// for a cell whose numbers are below 2^-75: its products tell, which are exactly 0 where the cell is, and where the query
// is so small that they may all have underflowed.
template <class T>
__device__ inline bool needs_float64(T s, T product, T query_square, T target_square, T least_distance, const Metric& metric) {
    if (metric.kind == SIMPLEMATCH_L2) {
        const T squares = query_square + target_square;
        return !is_finite(s) || (squares != 0 && (squares < T(kLeastProduct) || -s <= least_distance * squares));
    }
    if constexpr (std::is_same_v<T, double>) {
        return false;
    } else {
        const bool lost_products = product != 0 && fabsf(product) < kLeastProduct;
        if (metric.kind == SIMPLEMATCH_DOT) return !is_finite(product) || lost_products || query_square != query_square;
        if (!(query_square <= kLargestSquare) || !(target_square <= kLargestSquare)) return true;
        if (query_square != 0 && query_square < kLeastSquare) return true;
        if (target_square >= kLeastSquare) return false;
        return metric.eps < kLargeEps || lost_products || (product == 0 && query_square != 0 && query_square < 0x1p-16f);
    }
}

// What a vector is divided by where it enters the gradient of another: D(x) (cosine; 1 if x holds NaN), 1 (dot, l2, l1).
template <class T>
__device__ inline T unit_divisor(T norm, const Metric& metric) {
    return metric.kind != SIMPLEMATCH_COSINE || norm != norm ? T(1) : denominator(norm, metric);
}

// What the two sums of a vector's gradient are divided by: D(x) (cosine), 1 (dot, l1), 1/2 (l2).
template <class T>
__device__ inline T sum_divisor(T norm, const Metric& metric) {
    return metric.kind == SIMPLEMATCH_L2 ? T(0.5) : unit_divisor(norm, metric);
}

// The factor of x in its own term, besides that sum: 1 / |x| (cosine; 0 where D is constant or |x| no normal number),
// 0 (dot, l1), 1 (l2).
template <class T>
__device__ inline T inverse_norm(T norm, const Metric& metric) {
    if (metric.kind != SIMPLEMATCH_COSINE) return metric.kind == SIMPLEMATCH_L2 ? T(1) : T(0);
    constexpr T least = sizeof(T) == 8 ? T(0x1p-1022) : T(0x1p-126);
    const bool moves = norm >= least && !(metric.clamp_eps && norm < T(metric.eps));
    return moves ? 1 / norm : T(0);
}

}  // namespace simplematch::cuda
