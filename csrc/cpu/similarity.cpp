// similarity (paper eq. 9): scores of every query with one tile of target cells, and the cells' norms.
//
//     s[n, m] = <q_n, f_m> / D(q_n) / D(f_m)      dot: <q_n, f_m>      l2: 2 <q_n, f_m> - |q_n|^2 - |f_m|^2
//
// The tile is read once, 64 channels at a time, into float32 rows of channels in the cache; each such block meets all
// queries. 2 N C operations for C * sizeof(S) bytes of a cell.
#include <type_traits>

#include "exact.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

template <class T>
void absolute_similarity(const SimilarityWork<T>&, int64_t, int64_t, T*);

namespace {

// The product of `depth` channels of one tile with the queries of image b, group by group of kRows.
template <class T>
struct TileProduct {
    const T* queries;
    int64_t stride;
    const int32_t* rows;  // the valid queries
    int64_t row_count;
    T* sums;  // (row_count, kTile)
    int64_t depth;
    bool add;
    Prefetch* prefetch;

    int64_t group(int64_t first) const { return row_count - first < kRows ? row_count - first : kRows; }

    template <class S>
    Product<T, S> of_group(int64_t first, const S* b, int64_t b_step) const {
        Product<T, S> p;
        p.a_step = 1;
        p.b = b;
        p.b_step = b_step;
        p.depth = depth;
        p.add = add;
        p.prefetch = prefetch;
        for (int64_t i = 0; i < group(first); ++i) p.a[i] = queries + rows[first + i] * stride;
        for (int64_t i = 0; i < group(first); ++i) p.c[i] = sums + (first + i) * kTile;
        return p;
    }
};

template <class T, class S>
void next_strip(Product<T, S>& p, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) p.c[i] += kStrip<T>;
    p.b += kStrip<T>;
    if (p.packed != nullptr) p.packed += kStrip<T>;
}

template <class T>
void add_products(const TileProduct<T>& tile, int64_t first, const T* packed, int64_t cells) {
    for (int64_t r = first; r < tile.row_count; r += kRows) {
        Product<T> p = tile.of_group(r, packed, kTile);
        for (int64_t j = 0; j < cells; j += kStrip<T>, next_strip(p, tile.group(r)))
            product<T, false>(p, tile.group(r), cells - j);
    }
}

// The first group of queries meets the map's own rows and packs them on its way, which hides the wait for memory.
template <class T, class S>
void add_first_products(const TileProduct<T>& tile, const ChannelRows<S>& map, T* packed) {
    Product<T, S> p = tile.of_group(0, map.data, map.stride);
    p.packed = packed;
    for (int64_t j = 0; j < kTile; j += kStrip<T>, next_strip(p, tile.group(0))) packing_product(p, tile.group(0));
}

template <class T>
void add_squares(const T* tile, int64_t channels, T* squares) {
    constexpr int vectors = kTile / kLanes<T>;
    for (int j = 0; j < vectors; j += 4) {
        Vector<T> sums[4];
        for (int v = 0; v < 4; ++v) sums[v] = Vector<T>{};
        for (int64_t c = 0; c < channels; ++c)
            for (int v = 0; v < 4; ++v) {
                const Vector<T> x = load<T>(tile + c * kTile + (j + v) * kLanes<T>);
                sums[v] += x * x;
            }
        for (int v = 0; v < 4; ++v) {
            T* to = squares + (j + v) * kLanes<T>;
            store<T>(to, load<T>(to) + sums[v]);
        }
    }
}

// `inverse`: 1 / D of the cells. Float32 multiplies by it: where that leaves the type, `correct_row` writes the score again.
template <class T>
void finish_row(T* sums, T query_norm, const T* norm, const T* inverse, int64_t cells, const Metric& metric, T* scores) {
    if (metric.kind == SIMPLEMATCH_COSINE && std::is_same<T, float>::value) {
        const T query_inverse = 1 / denominator(query_norm, metric);
        for (int64_t j = 0; j < cells; ++j) scores[j] = sums[j] * query_inverse * inverse[j];
    } else if (metric.kind == SIMPLEMATCH_COSINE) {
        const T query_denominator = denominator(query_norm, metric);
        for (int64_t j = 0; j < cells; ++j) scores[j] = sums[j] / query_denominator / denominator(norm[j], metric);
    } else if (metric.kind == SIMPLEMATCH_DOT) {
        for (int64_t j = 0; j < cells; ++j) scores[j] = sums[j];
    } else {
        const T query_square = query_norm * query_norm;
        for (int64_t j = 0; j < cells; ++j) scores[j] = 2 * sums[j] - query_square - norm[j] * norm[j];
    }
}

// The norms of a tile from its squares; those that float32 sums do not give are summed again.
template <class T, class S>
void finish_norms(const Tile<S>& tile, int64_t channels, T* norm, bool* safe, const Metric& metric) {
    const bool small_eps = eps_is_small(metric);
    for (int64_t j = 0; j < kTile; ++j) {
        safe[j] = std::is_same<T, double>::value || is_safe_square(norm[j], small_eps);
        norm[j] = __builtin_sqrt(norm[j]);
    }
    for (int64_t j = 0; j < tile.cells; ++j)
        if (!safe[j]) norm[j] = T(__builtin_sqrt(exact_square(tile, j, channels)));
}

// The scores that float32 sums do not give, summed again.
template <class T, class S>
void correct_row(const T* query, T query_norm, const Tile<S>& tile, int64_t channels, const T* norm, const bool* safe,
                 bool all_safe, const Metric& metric, T* scores) {
    const T query_square = query_norm * query_norm;
    const bool safe_query = std::is_same<T, double>::value || is_safe_square(query_square, eps_is_small(metric));
    if (metric.kind == SIMPLEMATCH_COSINE && safe_query && all_safe) return;
    bool correct[kTile], any = false;
    for (int64_t j = 0; j < tile.cells; ++j) {
        correct[j] = metric.kind == SIMPLEMATCH_COSINE ? !(safe_query && safe[j])
                     : metric.kind == SIMPLEMATCH_DOT  ? !(scores[j] - scores[j] == 0)
                                                       : !is_safe_distance(scores[j], query_square, norm[j] * norm[j]);
        any |= correct[j];
    }
    for (int64_t j = 0; any && j < tile.cells; ++j)
        if (correct[j]) scores[j] = T(exact_score(query, tile, j, channels, metric));
}

template <class T, class S>
void similarity_of(const SimilarityWork<T>& w, int64_t b, int64_t tile, T* scratch) {
    const Queries<T>& q = w.queries;
    const int64_t channels = w.target.size[1], cells_of_map = w.target.size[2] * w.target.size[3];
    T* const packed = scratch;
    T* const norm = packed + kChannelsAtATime * kTile;
    T* const sums = norm + kTile;
    Tile<S> here, next;
    locate_tile(w.target, b, tile, here);
    const bool more_tiles = (tile + 1) * kTile < cells_of_map;
    if (more_tiles) locate_tile(w.target, b, tile + 1, next);

    for (int64_t j = 0; j < kTile; ++j) norm[j] = 0;
    const T* vectors = q.vectors + b * q.count * q.stride;
    const int64_t row_count = w.active == nullptr ? q.row_count[b] : w.active_count[b * tiles_of(cells_of_map) + tile];
    const int32_t* const rows =
        w.active == nullptr ? q.rows + b * q.count : w.active + (b * tiles_of(cells_of_map) + tile) * q.count;
    if (row_count == 0 && w.norm_known) return;
    // A distance is a difference of such sums: shorter sums lose fewer of its digits.
    const int64_t step = w.metric.kind == SIMPLEMATCH_L2 ? kChannelsAtATime / 2 : kChannelsAtATime;
    for (int64_t c = 0; c < channels; c += step) {
        const int64_t end = c + step < channels ? c + step : channels;
        Prefetch prefetch;
        if (end < channels) {
            prefetch = fetch_ahead(here, end, end + step < channels ? end + step : channels);
        } else if (more_tiles) {
            prefetch = fetch_ahead(next, 0, step < channels ? step : channels);
        }
        prefetch.nearest = here.channel_stride != 1;  // rows of cells may share few sets of the first level
        prefetch.spread((row_count + kRows - 1) / kRows * ((here.cells + kStrip<T> - 1) / kStrip<T>) * (end - c));
        const TileProduct<T> products{vectors + c, q.stride, rows, row_count, sums, end - c, c > 0,
                                      &prefetch};
        const bool in_place = lies_in_rows(here) && row_count > 0;
        if (in_place) {
            add_first_products(products, rows_of(here, c), packed);
        } else {
            read_channels(here, c, end, packed);
        }
        add_squares(packed, end - c, norm);
        add_products(products, in_place ? kRows : 0, packed, here.cells);
    }

    T* const target_norm = w.target_norm + b * cells_of_map + tile * kTile;
    bool safe[kTile];
    finish_norms(here, channels, norm, safe, w.metric);
    T inverse[kTile];
    bool all_safe = true;
    for (int64_t j = 0; j < kTile; ++j) inverse[j] = 1 / denominator(norm[j], w.metric);
    for (int64_t j = 0; j < here.cells; ++j) all_safe &= safe[j];
    if (!w.norm_known)
        for (int64_t j = 0; j < here.cells; ++j) target_norm[j] = norm[j];
    for (int64_t r = 0; r < row_count; ++r) {
        const int64_t n = b * q.count + rows[r];
        T* scores = w.scores + n * cells_of_map + tile * kTile;
        finish_row(sums + r * kTile, q.norm[n], norm, inverse, here.cells, w.metric, scores);
        correct_row(q.vectors + n * q.stride, q.norm[n], here, channels, norm, safe, all_safe, w.metric, scores);
    }
}

}  // namespace

template <class T>
void similarity(const SimilarityWork<T>& w, int64_t b, int64_t tile, T* scratch) {
    if (w.metric.kind == SIMPLEMATCH_L1) return absolute_similarity(w, b, tile, scratch);
    with_storage(w.target.dtype, [&](auto* type) {
        similarity_of<T, typename std::remove_pointer<decltype(type)>::type>(w, b, tile, scratch);
    });
}

template <class T>
void norms(const T* rows, int64_t stride, int64_t channels, int64_t count, T* norm) {
    for (int64_t n = 0; n < count; ++n) {
        const T* row = rows + n * stride;
        Vector<T> squares{};
        int64_t c = 0;
        for (; c + kLanes<T> <= channels; c += kLanes<T>) {
            const Vector<T> x = load<T>(row + c);
            squares += x * x;
        }
        T total = sum<T>(squares);
        for (; c < channels; ++c) total += row[c] * row[c];
        const bool safe = std::is_same<T, double>::value || is_safe_square(total, true);
        norm[n] = safe ? __builtin_sqrt(total) : T(__builtin_sqrt(exact_square(row, channels)));
    }
}

template void similarity<float>(const SimilarityWork<float>&, int64_t, int64_t, float*);
template void similarity<double>(const SimilarityWork<double>&, int64_t, int64_t, double*);
template void norms<float>(const float*, int64_t, int64_t, int64_t, float*);
template void norms<double>(const double*, int64_t, int64_t, int64_t, double*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
