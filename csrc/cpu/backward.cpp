// Both gradients of the similarity in one pass over the target, and the weights they share.
#include <type_traits>

#include "exact.h"
#include "query_backward.h"
#include "target_backward.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

template <class T>
void absolute_backward(const GradientWork<T>&, int64_t, int64_t, int64_t, T*);

namespace {

// What multiplies f / |f| in dFt, from the sum of ds * s; for l2 what multiplies f, from the sum of ds.
template <class T>
T own_factor(T total, T norm, const Metric& metric) {
    if (metric.kind == SIMPLEMATCH_DOT || metric.kind == SIMPLEMATCH_L1 || total == 0) return 0;
    if (metric.kind == SIMPLEMATCH_L2) return 2 * total;
    const bool flat = norm == 0 || (metric.clamp_eps && norm < T(metric.eps));
    return flat ? T(0) : total / denominator(norm, metric);
}

// Below it 1 / |f| overflows: the gradient does so too, or eps is so much larger that a vector's own term is nothing.
constexpr double kLeastInverted = 0x1p-126;

}  // namespace

template <class T>
void weights(const WeightWork<T>& w, int64_t b, int64_t tile) {
    const Queries<T>& q = w.queries;
    const int64_t tiles = tiles_of(w.height * w.width), cells = w.height * w.width;
    const int64_t first = tile * kTile, last = first + kTile < cells ? first + kTile : cells;
    const int64_t top = first / w.width, bottom = (last - 1) / w.width;
    T* const cell_sum = w.cell_sum + (b * tiles + tile) * kTile;
    T* const cell_own = w.cell_own + (b * tiles + tile) * kTile;
    int32_t* const active = w.active + (b * tiles + tile) * q.count;
    const T* const norm = w.target_norm + b * cells;
    const bool cosine = w.metric.kind == SIMPLEMATCH_COSINE;
    if (w.first)
        for (int64_t j = 0; j < kTile; ++j) cell_sum[j] = 0;

    T scale[kTile];
    uint8_t& extreme = w.extreme[b * tiles + tile];
    extreme = 0;
    for (int64_t m = first; m < last; ++m) {
        scale[m - first] = cosine ? denominator(norm[m], w.metric) : w.metric.kind == SIMPLEMATCH_L2 ? T(0.5) : T(1);
        extreme |= !(norm[m] == 0 || is_safe_square(norm[m] * norm[m], true));
    }
    int32_t count = 0;
    for (int64_t r = 0; r < q.row_count[b]; ++r) {
        const int32_t n = q.rows[b * q.count + r];
        const Box box = w.boxes[b * q.count + n];
        if (!meets_cells(box, first, last, w.width)) continue;
        active[count++] = n;
        T* const row = w.weights + ((b * tiles + tile) * q.count + n) * kTile;
        for (int64_t j = 0; j < kTile; ++j) row[j] = 0;
        const T* const gradients = first_of_box(w.gradients, b, n, box);
        const T* const scores = first_of_box(w.scores, b, n, box);
        for (int64_t y = box.top > top ? box.top : top; y <= bottom && y < box.bottom; ++y) {
            const int64_t start = y * w.width + box.left, end = y * w.width + box.right;
            const int64_t m0 = start > first ? start : first, m1 = end < last ? end : last;
            if (m0 >= m1) continue;  // this row of the box lies beside the tile
            const T* __restrict ds = gradients + (y - box.top) * w.gradients.row_stride + (m0 - start);
            const T* __restrict s = scores + (y - box.top) * w.scores.row_stride + (m0 - start);
            T* __restrict to = row + (m0 - first);
            T* __restrict sums = cell_sum + (m0 - first);
            const T* __restrict cell_scale = scale + (m0 - first);
            for (int64_t i = 0; i < m1 - m0; ++i) {
                to[i] = ds[i] == 0 ? T(0) : ds[i] / cell_scale[i];
                sums[i] += cosine ? (ds[i] == 0 ? T(0) : ds[i] * s[i]) : ds[i];
            }
        }
    }
    w.active_count[b * tiles + tile] = count;
    T* const inverse = w.cell_inverse + (b * tiles + tile) * kTile;
    for (int64_t j = 0; j < kTile; ++j) cell_own[j] = inverse[j] = 0;
    for (int64_t m = first; m < last; ++m) {
        const int64_t j = m - first;
        inverse[j] = cosine ? (norm[m] >= T(kLeastInverted) ? 1 / norm[m] : T(0)) : T(1);
        cell_own[j] = own_factor(cell_sum[j], norm[m], w.metric) * (extreme ? T(1) : inverse[j]);
    }
}

// q as q / D(q) for the cosine; numbers that are not finite as 0.
template <class T>
void to_units(T* rows, int64_t stride, int64_t channels, int64_t count, const T* norm, const Metric& metric) {
    const bool cosine = metric.kind == SIMPLEMATCH_COSINE;
    for (int64_t n = 0; n < count; ++n) {
        T* const row = rows + n * stride;
        if (norm[n] - norm[n] != 0)
            for (int64_t c = 0; c < channels; ++c) row[c] = row[c] - row[c] == 0 ? row[c] : T(0);
        const T divisor = !cosine || norm[n] != norm[n] ? T(1) : denominator(norm[n], metric);
        for (int64_t c = 0; cosine && c < channels; ++c) row[c] /= divisor;
    }
}

namespace {

template <class T>
void clear_where_not_finite(T* rows, int64_t count, int64_t stride, int64_t length) {
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < length; ++j) {
            T& x = rows[i * stride + j];
            x = x - x == 0 ? x : T(0);
        }
}

// Memory of a thread for one tile: [cell][channel] for dq, [channel][cell] for dFt's own term, and one group of sums.
template <class T>
struct TileMemory {
    T* cell_rows;
    int64_t stride;  // of the rows of cells
    T* channel_rows;
    T* sums;
};

// The rows that are needed of channels [first, last): read once, turned in the cache. `in_place`: rows of channels are
// those of the map.
template <class T, class S>
void read_tile(const Tile<S>& from, int64_t first, int64_t last, bool in_place, bool need_cells, bool need_channels,
               const TileMemory<T>& memory) {
    const int64_t channels = last - first;
    const bool by_cells = from.channel_stride == 1;
    if (!in_place && (need_channels || (need_cells && !by_cells))) read_channels(from, first, last, memory.channel_rows);
    if (need_cells && by_cells) {
        read_cells(from, first, last, memory.cell_rows, memory.stride);
    } else if (need_cells && in_place) {
        transpose_rows(rows_of(from, first), channels, from.cells, memory.cell_rows, memory.stride);
    } else if (need_cells) {
        transpose_rows(ChannelRows<T>{memory.channel_rows, kTile}, channels, from.cells, memory.cell_rows, memory.stride);
    }
}

// Sums the tile of dFt, and writes it with the last block of queries.
template <class T, class S, class G>
void target_gradient(const GradientWork<T>& w, const TileTerms<T>& t, int64_t tile, const Tile<S>& from, const Tile<G>& to,
                     const OwnFactor<T>& factor, bool own_term, bool in_place, const TileMemory<T>& memory,
                     Prefetch* prefetch) {
    const int64_t channels = t.last - t.first, sum_stride = round_up(channels, kTile);
    T* const kept = w.sums == nullptr ? nullptr : w.sums + tile * kTile * t.query_stride + kTile * t.first;
    const Sums<T> sums{kept == nullptr ? memory.sums : kept, kept != nullptr, kept != nullptr && !w.first};
    if (channels_are_contiguous(w.gradient)) {
        sum_into_cells(t, from.cells, sums, sum_stride, prefetch, [&](int64_t m, int64_t count, const T* rows) {
            const CellRows<T> features{own_term ? memory.cell_rows + m * memory.stride : nullptr, memory.stride};
            if (w.last)
                write_cells(to, m, count, t.first, channels, {rows, sum_stride}, features, factor, w.past_cache);
        });
        return;
    }
    const auto write = [&](int64_t c, int64_t count, const T* rows, auto features) {
        features.data = own_term ? features.data + c * features.stride : nullptr;
        write_channels(to, t.first + c, count, rows, features, factor, w.past_cache);
    };
    sum_into_channels(t, from.cells, sums, prefetch, [&](int64_t c, int64_t count, const T* rows) {
        if (w.last && in_place) write(c, count, rows, rows_of(from, t.first));
        if (w.last && !in_place) write(c, count, rows, ChannelRows<T>{memory.channel_rows, kTile});
    });
}

template <class T, class S, class G>
void gradients_of(const GradientWork<T>& w, int64_t b, int64_t first, int64_t last, T* scratch) {
    const Queries<T>& q = w.queries;
    const int64_t cells_of_map = w.target.size[2] * w.target.size[3], tiles = tiles_of(cells_of_map);
    const int64_t channels = last - first, stride = cell_row(channels);
    const TileMemory<T> memory{scratch, stride, scratch + kTile * stride, scratch + 2 * kTile * stride};
    const bool want_target = w.gradient.data != nullptr, want_query = w.query_gradient != nullptr;
    const bool by_cells = channels_are_contiguous(w.gradient);
    T* const query_gradient = want_query ? w.query_gradient + b * w.query_image_stride + first : nullptr;
    const size_t row_bytes = size_t(round_up(channels, kTile)) * sizeof(T);
    if (want_query)
        for (int64_t n = 0; n < q.count; ++n) __builtin_memset(query_gradient + n * q.stride, 0, row_bytes);

    Tile<S> from, next;
    Tile<G> to;
    locate_tile(w.target, b, 0, next);
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t at = b * tiles + tile;
        TileTerms<T> t{first, last, w.weights + at * q.count * kTile, w.active + at * q.count, w.active_count[at],
                       q.vectors + b * q.count * q.stride + first, q.stride};
        const bool extreme = w.extreme[at] != 0;
        const OwnFactor<T> factor{w.cell_own + at * kTile, extreme ? w.cell_inverse + at * kTile : nullptr};
        bool own_term = false;
        for (int64_t j = 0; j < kTile; ++j) own_term |= factor.of_cell[j] != 0;
        own_term &= want_target && w.last;
        const bool need_query = want_query && t.active_count > 0;
        from = next;
        if (want_target) locate_tile(w.gradient, b, tile, to);

        const bool in_place = !extreme && lies_in_rows(from) && (!want_target || by_cells || lies_in_rows(to));
        const bool need_cells = need_query || (own_term && by_cells), need_channels = own_term && !by_cells;
        read_tile(from, first, last, in_place, need_cells, need_channels, memory);
        if (extreme && need_cells) clear_where_not_finite(memory.cell_rows, from.cells, stride, channels);
        if (extreme && need_channels) clear_where_not_finite(memory.channel_rows, channels, kTile, from.cells);
        Prefetch prefetch;
        if (tile + 1 < tiles) {
            locate_tile(w.target, b, tile + 1, next);
            if (w.active_count[at + 1] > 0) prefetch = fetch_ahead(next, first, last);
            const int64_t per_vector = t.active_count * channels * from.cells / (kRows * kStrip<T>);
            prefetch.spread((want_target ? per_vector : 0) + (want_query ? per_vector : 0));
        }
        if (need_query) add_tile_to_queries(t, from.cells, memory.cell_rows, stride, query_gradient, &prefetch);
        if (want_target) target_gradient(w, t, tile, from, to, factor, own_term, in_place, memory, &prefetch);
    }
    if (w.past_cache) end_streaming();
    if (want_query) finish_queries(q, b, first, last, w.query_own, w.metric, query_gradient - first);
}

}  // namespace

template <class T>
void target_and_query_backward(const GradientWork<T>& w, int64_t b, int64_t first, int64_t last, T* scratch) {
    if (w.metric.kind == SIMPLEMATCH_L1) return absolute_backward(w, b, first, last, scratch);
    with_storage(w.target.dtype, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        gradients_of<T, S, S>(w, b, first, last, scratch);
    });
}

template void to_units<float>(float*, int64_t, int64_t, int64_t, const float*, const Metric&);
template void to_units<double>(double*, int64_t, int64_t, int64_t, const double*, const Metric&);
template void weights<float>(const WeightWork<float>&, int64_t, int64_t);
template void weights<double>(const WeightWork<double>&, int64_t, int64_t);
template void target_and_query_backward<float>(const GradientWork<float>&, int64_t, int64_t, int64_t, float*);
template void target_and_query_backward<double>(const GradientWork<double>&, int64_t, int64_t, int64_t, double*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
