// similarity of the metric l1, one tile of target cells: s[n, m] = -sum_c |q_nc - f_mc|, and the cells' norms.
//
// As `similarity` of products: the tile is read once, 64 channels at a time, into rows of channels in the cache, and each such
// block meets all queries. Float32 loses no digits that float64 would keep: no difference of large numbers is taken.
#include <type_traits>

#include "absolute.h"
#include "exact.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// Some channels of one tile, and the queries that meet it.
template <class T>
struct Meeting {
    const T* queries;  // from the first of these channels on
    int64_t stride;
    const int32_t* rows;
    int64_t row_count;
    const T* packed;  // (channels, kTile)
    int64_t channels, cells;
    T* sums;  // (row_count, kTile)
    bool add;
    Prefetch* prefetch;

    template <int group>
    void of_group(int64_t first) const {
        Distances<T, group> p;
        p.a_step = 1;
        p.b_step = kTile;
        p.depth = channels;
        p.add = add;
        p.prefetch = prefetch;
        for (int i = 0; i < group; ++i) p.a[i] = queries + rows[first + i] * stride;
        for (int64_t j = 0; j < cells; j += kStrip<T>) {
            p.b = packed + j;
            for (int i = 0; i < group; ++i) p.c[i] = sums + (first + i) * kTile + j;
            sum_distances<T, group, kVectors>(p);
        }
    }

    void run() const {
        int64_t r = 0;
        for (; r + kRows <= row_count; r += kRows) of_group<kRows>(r);
        for (; r < row_count; ++r) of_group<1>(r);
    }
};

template <class T>
void add_squares_of(const T* packed, int64_t channels, T* squares) {
    for (int64_t j = 0; j < kTile; j += kLanes<T>) {
        Vector<T> sum{};
        for (int64_t c = 0; c < channels; ++c) {
            const Vector<T> x = load<T>(packed + c * kTile + j);
            sum += x * x;
        }
        store<T>(squares + j, load<T>(squares + j) + sum);
    }
}

template <class T, class S>
void absolute_of(const SimilarityWork<T>& w, int64_t b, int64_t tile, T* scratch) {
    const Queries<T>& q = w.queries;
    const int64_t channels = w.target.size[1], cells_of_map = w.target.size[2] * w.target.size[3];
    const int64_t at = b * tiles_of(cells_of_map) + tile;
    const int64_t row_count = w.active == nullptr ? q.row_count[b] : w.active_count[at];
    const int32_t* const rows = w.active == nullptr ? q.rows + b * q.count : w.active + at * q.count;
    if (row_count == 0 && w.norm_known) return;
    T* const packed = scratch;
    T* const squares = packed + kChannelsAtATime * kTile;
    T* const sums = squares + kTile;
    Tile<S> here, next;
    locate_tile(w.target, b, tile, here);
    const bool more_tiles = (tile + 1) * kTile < cells_of_map;
    if (more_tiles) locate_tile(w.target, b, tile + 1, next);
    for (int64_t j = 0; j < kTile; ++j) squares[j] = 0;
    for (int64_t c = 0; c < channels; c += kChannelsAtATime) {
        const int64_t end = c + kChannelsAtATime < channels ? c + kChannelsAtATime : channels;
        Prefetch prefetch;
        if (end < channels) {
            prefetch = fetch_ahead(here, end, end + kChannelsAtATime < channels ? end + kChannelsAtATime : channels);
        } else if (more_tiles) {
            prefetch = fetch_ahead(next, 0, kChannelsAtATime < channels ? kChannelsAtATime : channels);
        }
        prefetch.spread((row_count + kRows - 1) / kRows * ((here.cells + kStrip<T> - 1) / kStrip<T>) * (end - c));
        read_channels(here, c, end, packed);
        if (!w.norm_known) add_squares_of(packed, end - c, squares);
        Meeting<T>{q.vectors + b * q.count * q.stride + c, q.stride, rows, row_count, packed, end - c, here.cells, sums, c > 0,
                   &prefetch}.run();
    }
    T* const norm = w.target_norm + b * cells_of_map + tile * kTile;
    for (int64_t j = 0; !w.norm_known && j < here.cells; ++j) {
        const bool safe = kSame<T, double> || is_safe_square(squares[j], eps_is_small(w.metric));
        norm[j] = safe ? __builtin_sqrt(squares[j]) : T(__builtin_sqrt(exact_square(here, j, channels)));
    }
    for (int64_t r = 0; r < row_count; ++r) {
        T* const scores = w.scores + (b * q.count + rows[r]) * cells_of_map + tile * kTile;
        for (int64_t j = 0; j < here.cells; ++j) scores[j] = 0 - sums[r * kTile + j];
    }
}

}  // namespace

template <class T>
void absolute_similarity(const SimilarityWork<T>& w, int64_t b, int64_t tile, T* scratch) {
    with_storage(w.target.dtype, [&](auto* type) {
        absolute_of<T, typename std::remove_pointer<decltype(type)>::type>(w, b, tile, scratch);
    });
}

template void absolute_similarity<float>(const SimilarityWork<float>&, int64_t, int64_t, float*);
template void absolute_similarity<double>(const SimilarityWork<double>&, int64_t, int64_t, double*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
