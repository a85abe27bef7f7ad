// Scores of one query with a tile of cells from float64 products: where float32 would lose them.
//
// Taken where the squares of a vector leave float32's range, where a product overflows, and where a distance is so small
// that the digits of |q|^2 + |f|^2 - 2 <q, f> cancel. Read from memory again, for that is rare.
#pragma once

#include "common/metric.h"
#include "pack.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// Between these, squares neither vanish nor overflow in float32, however many are summed.
constexpr double kLeastSafeSquare = 0x1p-104, kGreatestSafeSquare = 0x1p124;

// An eps so small that norms whose squares vanish still count beside it.
static inline bool eps_is_small(const Metric& metric) { return metric.eps < 0x1p-43; }

// Whether float32 sums give the norm of a vector, as far as the cosine depends on it.
template <class T>
inline bool is_safe_square(T square, bool small_eps) {
    return square <= T(kGreatestSafeSquare) && (!small_eps || square >= T(kLeastSafeSquare));
}

// Whether -|q - f|^2, summed from products, keeps enough digits.
template <class T>
inline bool is_safe_distance(T score, T query_square, T target_square) {
    return score - score == 0 && -score > T(0x1p-3) * (query_square + target_square);
}

// sum over channels of f^2, in float64
template <class S>
double exact_square(const Tile<S>& tile, int64_t cell, int64_t channels) {
    const S* const from = tile.base + tile.offset[cell];
    double square = 0;
    for (int64_t c = 0; c < channels; ++c) {
        const double f = double(to_float(from[c * tile.channel_stride]));
        square += f * f;
    }
    return square;
}

template <class T>
double exact_square(const T* row, int64_t channels) {
    double square = 0;
    for (int64_t c = 0; c < channels; ++c) square += double(row[c]) * double(row[c]);
    return square;
}

template <class S, class T>
double exact_score(const T* query, const Tile<S>& tile, int64_t cell, int64_t channels, const Metric& metric) {
    const S* const from = tile.base + tile.offset[cell];
    double product = 0, distance = 0;
    for (int64_t c = 0; c < channels; ++c) {
        const double q = double(query[c]), f = double(to_float(from[c * tile.channel_stride]));
        product += q * f;
        distance += (q - f) * (q - f);
    }
    if (metric.kind == SIMPLEMATCH_L2) return -distance;
    if (metric.kind == SIMPLEMATCH_DOT) return product;
    const double query_norm = __builtin_sqrt(exact_square(query, channels));
    const double target_norm = __builtin_sqrt(exact_square(tile, cell, channels));
    return product / denominator(query_norm, metric) / denominator(target_norm, metric);
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
