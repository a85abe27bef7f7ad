// query_backward: one tile's part of the queries' gradients.
//
//     dq_n = (sum_m w[n, m] f_m - factor_n u_n) / D(q_n)          u = q / D(q), and D = 1 for dot and l2
#pragma once

#include "common/metric.h"
#include "target_backward.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// gradient[n][channel] += sum_m w[n][m] f[m][channel], f as rows of cells of `feature_stride`
template <class T>
void add_tile_to_queries(const TileTerms<T>& t, int64_t cells, const T* features, int64_t feature_stride, T* gradient,
                         Prefetch* prefetch) {
    Product<T> p;
    p.a_step = 1;
    p.b_step = feature_stride;
    p.depth = cells;
    p.add = true;
    p.prefetch = prefetch;
    const int64_t channels = t.last - t.first;
    for (int64_t c = 0; c < channels; c += kStrip<T>) {  // outside, so that a strip of the features stays in the cache
        p.b = features + c;
        for (int64_t r = 0; r < t.active_count; r += kRows) {
            const int64_t group = t.active_count - r < kRows ? t.active_count - r : kRows;
            for (int64_t i = 0; i < group; ++i) {
                p.a[i] = t.weights + t.active[r + i] * kTile;
                p.c[i] = gradient + t.active[r + i] * t.query_stride + c;
            }
            product<T, false>(p, group, channels - c);
        }
    }
}

template <class T>
void finish_queries(const Queries<T>& q, int64_t b, int64_t first, int64_t last, const T* factor, const Metric& metric,
                    T* gradient) {
    const bool cosine = metric.kind == SIMPLEMATCH_COSINE;
    for (int64_t r = 0; r < q.row_count[b]; ++r) {
        const int64_t n = q.rows[b * q.count + r];
        const T* query = q.vectors + (b * q.count + n) * q.stride;
        const T scale = factor[b * q.count + n], norm = q.norm[b * q.count + n];
        const T divisor = cosine && norm == norm ? denominator(norm, metric) : T(1);
        T* const to = gradient + n * q.stride;
        for (int64_t c = first; c < last; ++c) to[c] = (to[c] - scale * query[c]) / divisor;
    }
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
