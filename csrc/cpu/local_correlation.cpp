// The steps of local_correlation for one instruction set.
#include "local_correlation.h"

#include <type_traits>

#include "common/metric.h"
#include "pack.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// One round of a sum of every row: rows `distance` apart become one, whose lanes hold halves of both.
template <class T, int distance>
SIMPLEMATCH_INLINE void sum_halves(Vector<T>* rows) {
    constexpr int n = kLanes<T>;
    typename Simd<T>::Integers low, high;
    for (int lane = 0; lane < n; ++lane) {
        const bool first = lane / distance % 2 == 0;
        low[lane] = first ? lane : n + lane - distance;
        high[lane] = first ? lane + distance : n + lane;
    }
#pragma GCC unroll 8
    for (int i = 0; i < distance; ++i)
        rows[i] = shuffle(rows[i], rows[i + distance], low) + shuffle(rows[i], rows[i + distance], high);
    if constexpr (distance > 1) sum_halves<T, distance / 2>(rows);
}

// Lane i is the sum of rows[i].
template <class T>
SIMPLEMATCH_INLINE Vector<T> sums_of_rows(Vector<T>* rows) {
    sum_halves<T, kLanes<T> / 2>(rows);
    return rows[0];
}

// Queries [first, first + Q), in place of those past the last the first again, with all cells.
template <class T, int Q>
__attribute__((noinline)) void correlate_some(const CellGroup<T>& g, int64_t first, T* scores, int64_t stride) {
    constexpr int n = kLanes<T>, cells = n / Q;
    const T* query[Q];
    for (int q = 0; q < Q; ++q) query[q] = g.query[first + q < g.queries ? first + q : 0];
    for (int64_t i = 0; i < g.cells; i += cells) {
        const T* cell[cells];
        for (int j = 0; j < cells; ++j) cell[j] = g.cell[i + j < g.cells ? i + j : g.cells - 1];
        Vector<T> sums[n];
#pragma GCC unroll 16
        for (int j = 0; j < n; ++j) sums[j] = Vector<T>{};
        for (int64_t c = 0; c < g.channels; c += n) {
            Vector<T> values[Q];
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) values[q] = load<T>(query[q] + c);
#pragma GCC unroll 16
            for (int j = 0; j < cells; ++j) {
                const Vector<T> f = load<T>(cell[j] + c);
#pragma GCC unroll 4
                for (int q = 0; q < Q; ++q) sums[q * cells + j] += values[q] * f;
            }
        }
        T found[n];
        store<T>(found, sums_of_rows<T>(sums));
        const int64_t here = g.cells - i < cells ? g.cells - i : cells;
        for (int q = 0; q < Q && first + q < g.queries; ++q)
            for (int64_t j = 0; j < here; ++j) scores[(first + q) * stride + i + j] = found[q * cells + j];
    }
}

// Channels from c on: V vectors at a time, as often as they fit.
template <class T, int Q, int V>
SIMPLEMATCH_INLINE void add_cells_some(const CellGroup<T>& g, const T* weights, int64_t stride, T* const* gradient,
                                       int64_t& c) {
    constexpr int n = kLanes<T>;
    for (; c + V * n <= g.channels; c += V * n) {
        Vector<T> sums[Q][V];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q)
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) sums[q][v] = load<T>(gradient[q] + c + v * n);
        for (int64_t i = 0; i < g.cells; ++i) {
            const T* const cell = g.cell[i] + c;
            Vector<T> values[V];
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) values[v] = load<T>(cell + v * n);
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) {
                const T weight = weights[q * stride + i];
#pragma GCC unroll 16
                for (int v = 0; v < V; ++v) sums[q][v] += weight * values[v];
            }
        }
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q)
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) store<T>(gradient[q] + c + v * n, sums[q][v]);
    }
}

template <class T, int Q>
__attribute__((noinline)) void add_cells_to(const CellGroup<T>& g, const T* weights, int64_t stride, T* const* gradient) {
    int64_t c = 0;
    add_cells_some<T, Q, kVectors>(g, weights, stride, gradient, c);
    add_cells_some<T, Q, 1>(g, weights, stride, gradient, c);
}

template <class T, int Q, int V>
SIMPLEMATCH_INLINE void add_queries_some(const CellGroup<T>& g, const T* weights, int64_t stride, T* const* gradient,
                                         int64_t& c) {
    constexpr int n = kLanes<T>;
    for (; c + V * n <= g.channels; c += V * n) {
        Vector<T> values[Q][V];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) values[q][v] = load<T>(g.query[q] + c + v * n);
        for (int64_t i = 0; i < g.cells; ++i) {
            T* const to = gradient[i] + c;
            Vector<T> sums[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[v] = load<T>(to + v * n);
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) {
                const T weight = weights[q * stride + i];
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) sums[v] += weight * values[q][v];
            }
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) store<T>(to + v * n, sums[v]);
        }
    }
}

template <class T, int Q>
__attribute__((noinline)) void add_queries_to(const CellGroup<T>& g, const T* weights, int64_t stride, T* const* gradient) {
    int64_t c = 0;
    add_queries_some<T, Q, kVectors>(g, weights, stride, gradient, c);
    add_queries_some<T, Q, 1>(g, weights, stride, gradient, c);
}

// Not by the tiles of pack.h: a row of cells may have any length, and a tile is a whole number of vectors.
template <class T, class S>
void read_cells_of(const View& map, const S* from, int64_t count, T* to, int64_t stride) {
    constexpr int n = kLanes<T>;
    const int64_t channels = map.size[1], padded = round_up(channels, kChannelUnit);
    const int64_t step = map.stride[3], plane = map.stride[1];
    if (plane == 1 || step != 1) {
        for (int64_t i = 0; i < count; ++i) {
            const S* const cell = from + i * step;
            T* const row = to + i * stride;
            if (plane == 1) {
                read_run(cell, row, channels);
            } else {
                for (int64_t c = 0; c < channels; ++c) row[c] = T(to_float(cell[c * plane]));
            }
            for (int64_t c = channels; c < padded; ++c) row[c] = 0;
        }
        return;
    }
    for (int64_t i = 0; i < count; i += n) {
        const int64_t here = count - i < n ? count - i : n;
        for (int64_t c = 0; c < padded; c += n) {
            Vector<T> block[n];
            for (int k = 0; k < n; ++k) {
                const S* const row = from + i + (c + k) * plane;
                block[k] = c + k >= channels ? Vector<T>{} : here == n ? load<T>(row) : load_first<T>(row, here);
            }
            transpose<T>(block);
            for (int64_t k = 0; k < here; ++k) store<T>(to + (i + k) * stride + c, block[k]);
        }
    }
}

template <class T, class S>
void write_cells_of(const View& map, const T* from, int64_t stride, int64_t count, S* to) {
    constexpr int n = kLanes<T>;
    const int64_t channels = map.size[1], step = map.stride[3], plane = map.stride[1];
    if (plane == 1 || step != 1) {
        for (int64_t i = 0; i < count; ++i) {
            const T* const row = from + i * stride;
            S* const cell = to + i * step;
            int64_t c = 0;
            if (plane == 1)
                for (; c + n <= channels; c += n) store<T>(cell + c, load<T>(row + c));
            for (; c < channels; ++c) from_float(row[c], cell + c * plane);
        }
        return;
    }
    for (int64_t i = 0; i < count; i += n) {
        const int64_t here = count - i < n ? count - i : n;
        for (int64_t c = 0; c < channels; c += n) {
            Vector<T> block[n];
            for (int64_t k = 0; k < n; ++k) block[k] = k < here ? load<T>(from + (i + k) * stride + c) : Vector<T>{};
            transpose<T>(block);
            for (int64_t k = 0; k < n && c + k < channels; ++k) {
                S* const row = to + i + (c + k) * plane;
                if (here == n) {
                    store<T>(row, block[k]);
                } else {
                    store_first<T>(row, block[k], here);
                }
            }
        }
    }
}

}  // namespace

template <class T>
void correlate(const CellGroup<T>& g, T* scores, int64_t stride) {
    int64_t q = 0;
    if constexpr (kLanes<T> >= kTogether)
        if (g.queries > 2) return correlate_some<T, kTogether>(g, 0, scores, stride);
    for (; q + 2 <= g.queries; q += 2) correlate_some<T, 2>(g, q, scores, stride);
    if (q < g.queries) correlate_some<T, 1>(g, q, scores, stride);
}

template <class T>
void add_cells(const CellGroup<T>& g, const T* weights, int64_t stride, T* const* gradient) {
    switch (g.queries) {
        case 4: return add_cells_to<T, 4>(g, weights, stride, gradient);
        case 3: return add_cells_to<T, 3>(g, weights, stride, gradient);
        case 2: return add_cells_to<T, 2>(g, weights, stride, gradient);
        default: return add_cells_to<T, 1>(g, weights, stride, gradient);
    }
}

template <class T>
void add_queries(const CellGroup<T>& g, const T* weights, int64_t stride, T* const* gradient) {
    switch (g.queries) {
        case 4: return add_queries_to<T, 4>(g, weights, stride, gradient);
        case 3: return add_queries_to<T, 3>(g, weights, stride, gradient);
        case 2: return add_queries_to<T, 2>(g, weights, stride, gradient);
        default: return add_queries_to<T, 1>(g, weights, stride, gradient);
    }
}

template <class T>
void finish_gradient(T* gradient, const T* vector, int64_t channels, T norm, const Metric& metric) {
    if (metric.kind != SIMPLEMATCH_COSINE || norm - norm != 0) return;
    const T divisor = denominator(norm, metric);
    Vector<T> products{};
    for (int64_t c = 0; c < channels; c += kLanes<T>) products += load<T>(gradient + c) * load<T>(vector + c);
    const bool flat = norm == 0 || (metric.clamp_eps && norm < T(metric.eps));
    const double own = flat ? 0 : double(sum<T>(products)) / double(divisor) / double(norm);
    const T factor = T(own);
    if (factor - factor != 0 && own - own == 0) {  // leaves float32, its product with the vector may not
        for (int64_t c = 0; c < channels; ++c)
            gradient[c] = T((double(gradient[c]) - own * double(vector[c])) / double(divisor));
        return;
    }
    for (int64_t c = 0; c < channels; c += kLanes<T>)
        store<T>(gradient + c, (load<T>(gradient + c) - factor * load<T>(vector + c)) / divisor);
}

template <class T>
bool finish_scores(T* scores, int64_t cells, T query_divisor, const T* cell_divisor) {
    Vector<T> unknown{};
    for (int64_t i = 0; i < cells; i += kLanes<T>) {
        Vector<T> s = load<T>(scores + i);
        if (cells - i < kLanes<T>) s = load_first<T>(scores + i, cells - i);
        if (cell_divisor != nullptr) {
            s = s / query_divisor / load<T>(cell_divisor + i);
            if (cells - i < kLanes<T>) s = iota<T>(0) < T(cells - i) ? s : Vector<T>{};
            store<T>(scores + i, s);
        }
        unknown += s - s;
    }
    return sum<T>(unknown) == 0;
}

template <class T>
void blend(const T* box, const WindowBlend<T>& w, T* samples) {
    constexpr int n = kLanes<T>;
    const T left = 1 - w.right_of, right = w.right_of, above = 1 - w.below, below = w.below;
    const auto row_at = [&](const T* cells) __attribute__((always_inline)) {
        if (!w.bilinear || right == 0) return load<T>(cells);
        return left * load<T>(cells) + right * load<T>(cells + 1);
    };
    for (int64_t y = 0; y < w.rows; ++y) {
        for (int64_t x = 0; x < w.columns; x += n) {
            const T* const cells = box + y * w.pitch + x;
            Vector<T> v = row_at(cells);
            if (w.bilinear && below != 0) v = above * v + below * row_at(cells + w.pitch);
            T* const to = samples + y * w.columns + x;
            if (w.columns - x >= n) {
                store<T>(to, w.scale * v);
            } else {
                store_first<T>(to, w.scale * v, w.columns - x);
            }
        }
    }
}

template <class T>
void unblend(const T* padded, const WindowBlend<T>& w, T* box) {
    constexpr int n = kLanes<T>;
    const T left = 1 - w.right_of, right = w.right_of, above = 1 - w.below, below = w.below;
    const int64_t extra = w.bilinear ? 1 : 0, pitch = padded_row(w.columns);
    const auto row_at = [&](const T* samples) __attribute__((always_inline)) {
        if (!w.bilinear || right == 0) return load<T>(samples);
        return left * load<T>(samples) + right * load<T>(samples - 1);
    };
    for (int64_t y = 0; y < w.rows + extra; ++y) {
        for (int64_t x = 0; x < w.columns + extra; x += n) {
            const T* const samples = padded + (y + 1) * pitch + x + 1;
            Vector<T> v = row_at(samples);
            if (w.bilinear && below != 0) v = above * v + below * row_at(samples - pitch);
            store<T>(box + y * w.pitch + x, w.scale * v);
        }
    }
}

template <class T>
void finish_weights(const WeightFinish<T>& f) {
    constexpr int n = kLanes<T>;
    const Vector<T> zero{};
    for (int64_t i = 0; i < f.cells; i += n) {
        const Vector<T> w = load<T>(f.weights + i);
        const Vector<T> known = w + (w - w) + (load<T>(f.cell_unknown + i) + f.query_unknown);
        const Vector<T> weight = w == zero ? zero : known;
        if (f.for_query != nullptr)
            store<T>(f.for_query + i, f.cell_divisor == nullptr ? weight : weight / load<T>(f.cell_divisor + i));
        if (f.for_target != nullptr) {
            const Vector<T> divided = weight / f.query_divisor;
            if (f.cells - i >= n) {
                store<T>(f.for_target + i, divided);
            } else {
                store_first<T>(f.for_target + i, divided, f.cells - i);
            }
        }
    }
}

template <class T>
void read_cells(const View& map, int64_t b, int64_t y, int64_t left, int64_t right, T* to, int64_t stride) {
    with_storage(map.dtype, [&](auto* type) {
        auto from = static_cast<decltype(type)>(map.data) + b * map.stride[0] + y * map.stride[2] + left * map.stride[3];
        read_cells_of<T, typename std::remove_pointer<decltype(type)>::type>(map, from, right - left, to, stride);
    });
}

template <class T>
void write_cells(const View& map, int64_t b, int64_t y, int64_t left, int64_t right, const T* from, int64_t stride) {
    with_storage(map.dtype, [&](auto* type) {
        auto to = static_cast<decltype(type)>(map.data) + b * map.stride[0] + y * map.stride[2] + left * map.stride[3];
        write_cells_of<T, typename std::remove_pointer<decltype(type)>::type>(map, from, stride, right - left, to);
    });
}

template <class T>
CorrelationSteps<T> correlation_steps() {
    return {correlate<T>, add_cells<T>, add_queries<T>, finish_gradient<T>, finish_scores<T>, blend<T>, unblend<T>,
            finish_weights<T>, read_cells<T>, write_cells<T>};
}

template CorrelationSteps<float> correlation_steps<float>();
template CorrelationSteps<double> correlation_steps<double>();

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
