// similarity (paper eq. 9): scores of every query with one tile of target cells, and the cells' norms.
//
//     s[n, m] = <q_n, f_m> / D(q_n) / D(f_m)      dot: <q_n, f_m>      l2: 2 <q_n, f_m> - |q_n|^2 - |f_m|^2
//     l1: -sum_c |q_nc - f_mc|, by the same loops: no difference of large sums is taken, so float32 loses nothing
//
// The tile is read once, 64 channels at a time, into float32 rows of channels in the cache. Few queries meet each such part
// while it is in the first level. Of many, the sums and the pieces of their vectors would not stay in the cache: there all
// channels of the tile stay in the second level, and meet some queries at a time. Both make the same sums in the same order.
// 2 N C operations, l1 3 N C, for C * sizeof(S) bytes of a cell.
#include <type_traits>

#include "exact.h"
#include "write.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

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

template <class Operation, class T>
void add_products(const TileProduct<T>& tile, int64_t first, const T* packed, int64_t cells) {
    for (int64_t r = first; r < tile.row_count; r += kRows) {
        Product<T> p = tile.of_group(r, packed, kTile);
        for (int64_t j = 0; j < cells; j += kStrip<T>, next_strip(p, tile.group(r)))
            product<T, false, Operation>(p, tile.group(r), cells - j);
    }
}

// The first group of queries meets the map's own rows and packs them on its way, which hides the wait for memory.
template <class Operation, class T, class S>
void add_first_products(const TileProduct<T>& tile, const ChannelRows<S>& map, T* packed) {
    Product<T, S> p = tile.of_group(0, map.data, map.stride);
    p.packed = packed;
    for (int64_t j = 0; j < kTile; j += kStrip<T>, next_strip(p, tile.group(0)))
        packing_product<Operation>(p, tile.group(0));
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
    } else if (metric.kind == SIMPLEMATCH_L1) {
        for (int64_t j = 0; j < cells; ++j) scores[j] = 0 - sums[j];
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
    if (metric.kind == SIMPLEMATCH_L1 || (metric.kind == SIMPLEMATCH_COSINE && safe_query && all_safe)) return;
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

// One tile and what is computed of it. All channels of the tile stay packed where `keep` says so, else one step of them.
template <class T, class S, class Operation>
struct TileSimilarity {
    const SimilarityWork<T>& w;
    int64_t b, tile;
    int64_t channels = w.target.size[1], cells_of_map = w.target.size[2] * w.target.size[3];
    // A distance is a difference of such sums: shorter sums lose fewer of its digits.
    int64_t step = w.metric.kind == SIMPLEMATCH_L2 ? kChannelsAtATime / 2 : kChannelsAtATime;
    Tile<S> here, next;
    bool more_tiles = (tile + 1) * kTile < cells_of_map;
    const int32_t* rows;
    int64_t row_count, together;
    bool keep, past_cache;
    T *packed, *sums;
    T norm[kTile], inverse[kTile];
    bool safe[kTile], all_safe = true;

    TileSimilarity(const SimilarityWork<T>& work, int64_t image, int64_t number, T* scratch) : w(work), b(image), tile(number) {
        const Queries<T>& q = w.queries;
        const int64_t at = b * tiles_of(cells_of_map) + tile;
        rows = w.active == nullptr ? q.rows + b * q.count : w.active + at * q.count;
        row_count = w.active == nullptr ? q.row_count[b] : w.active_count[at];
        keep = keeps_tiles(row_count, channels);
        together = keep ? kQueriesTogether : row_count;
        packed = scratch;
        sums = packed + (keep ? channels : kChannelsAtATime) * kTile;
        past_cache = w.past_cache && cells_of_map * int64_t(sizeof(T)) % 64 == 0;
        locate_tile(w.target, b, tile, here);
        if (more_tiles) locate_tile(w.target, b, tile + 1, next);
        for (int64_t j = 0; j < kTile; ++j) norm[j] = 0;
    }

    int64_t end_of_step(int64_t c) const { return c + step < channels ? c + step : channels; }

    // The next step of the tile with its first queries; with its last ones the beginning of the next tile.
    Prefetch ahead(int64_t c, int64_t first, int64_t count) const {
        const int64_t end = end_of_step(c);
        Prefetch prefetch;
        if (first == 0 && end < channels) {
            prefetch = fetch_ahead(here, end, end_of_step(end));
        } else if (end == channels && first + count == row_count && more_tiles) {
            prefetch = fetch_ahead(next, 0, end_of_step(0));
        }
        prefetch.nearest = here.channel_stride != 1;  // rows of cells may share few sets of the first level
        prefetch.spread((count + kRows - 1) / kRows * ((here.cells + kStrip<T> - 1) / kStrip<T>) * (end - c));
        return prefetch;
    }

    // The sums of rows [first, first + count) of the list.
    void multiply(int64_t first, int64_t count) {
        const Queries<T>& q = w.queries;
        const T* const vectors = q.vectors + b * q.count * q.stride;
        for (int64_t c = 0; c < channels; c += step) {
            const int64_t end = end_of_step(c);
            T* const part = packed + (keep ? c * kTile : 0);
            Prefetch prefetch = ahead(c, first, count);
            const TileProduct<T> products{vectors + c, q.stride, rows + first, count, sums, end - c, c > 0, &prefetch};
            const bool in_place = first == 0 && count > 0 && lies_in_rows(here);
            if (in_place) {
                add_first_products<Operation>(products, rows_of(here, c), part);
            } else if (first == 0) {
                read_channels(here, c, end, part);
            }
            if (first == 0) add_squares(part, end - c, norm);
            add_products<Operation>(products, in_place ? kRows : 0, part, here.cells);
        }
    }

    void find_norms() {
        finish_norms(here, channels, norm, safe, w.metric);
        for (int64_t j = 0; j < kTile; ++j) inverse[j] = 1 / denominator(norm[j], w.metric);
        for (int64_t j = 0; j < here.cells; ++j) all_safe &= safe[j];
        T* const target_norm = w.target_norm + b * cells_of_map + tile * kTile;
        for (int64_t j = 0; !w.norm_known && j < here.cells; ++j) target_norm[j] = norm[j];
    }

    void write_scores(int64_t first, int64_t count) const {
        const Queries<T>& q = w.queries;
        T scores[kTile];
        for (int64_t r = 0; r < count; ++r) {
            const int64_t n = b * q.count + rows[first + r];
            finish_row(sums + r * kTile, q.norm[n], norm, inverse, here.cells, w.metric, scores);
            correct_row(q.vectors + n * q.stride, q.norm[n], here, channels, norm, safe, all_safe, w.metric, scores);
            write_values<T>(w.scores + n * cells_of_map + tile * kTile, here.cells, past_cache,
                            [&](int64_t i) { return load<T>(scores + i); });
        }
    }

    void run() {
        if (row_count == 0 && w.norm_known) return;
        for (int64_t first = 0; first == 0 || first < row_count; first += together) {
            const int64_t count = row_count - first < together ? row_count - first : together;
            multiply(first, count);
            if (first == 0) find_norms();
            write_scores(first, count);
            if (count == 0) break;
        }
        if (past_cache) end_streaming();
    }
};

}  // namespace

template <class T>
void similarity(const SimilarityWork<T>& w, int64_t b, int64_t tile, T* scratch) {
    with_storage(w.target.dtype, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        if (w.metric.kind == SIMPLEMATCH_L1) return TileSimilarity<T, S, AddDistance<T>>(w, b, tile, scratch).run();
        TileSimilarity<T, S, MultiplyAdd<T>>(w, b, tile, scratch).run();
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
