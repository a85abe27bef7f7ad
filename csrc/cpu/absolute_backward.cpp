// Both gradients of the metric l1 in one pass over the target.
//
//     dFt_m = -sum_n w[n, m] sign(f_m - q_n)          dq_n = sum_m w[n, m] sign(f_m - q_n)          w = ds
//
// A tile of cells lies as rows of cells, [cell][channel], and so do its sums; each sign serves both of them. Cells of which no
// query of a group has a weight are passed over. A sign is finite whatever the features hold, so nothing is cleared.
#include <type_traits>

#include "sign_sums.h"
#include "target_backward.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// Memory of a thread: rows of cells, rows of channels, and sums of one tile.
template <class T>
struct SignMemory {
    T* cell_rows;
    int64_t stride;
    T* channel_rows;
    T* sums;
};

template <class T, class S>
void read_cell_rows(const Tile<S>& from, int64_t first, int64_t last, const SignMemory<T>& memory) {
    if (from.channel_stride == 1) return read_cells(from, first, last, memory.cell_rows, memory.stride);
    if (lies_in_rows(from))
        return transpose_rows(rows_of(from, first), last - first, from.cells, memory.cell_rows, memory.stride);
    read_channels(from, first, last, memory.channel_rows);
    transpose_rows(ChannelRows<T>{memory.channel_rows, kTile}, last - first, from.cells, memory.cell_rows, memory.stride);
}

// The cells of a tile to which one of some rows gives a weight; NaN is one. Returns their number.
template <class T>
int64_t list_weighted(const T* const* weights, int64_t rows, int64_t cells, int32_t* list) {
    int64_t count = 0;
    for (int64_t j = 0; j < cells; ++j) {
        bool any = false;
        for (int64_t i = 0; i < rows; ++i) any |= weights[i][j] != 0;
        if (any) list[count++] = int32_t(j);
    }
    return count;
}

// `gradient`: rows of the queries, like `t.queries`, or null. `sums`: rows of cells, or null.
template <class T>
void add_tile(const TileTerms<T>& t, int64_t cells, const SignMemory<T>& memory, T* gradient, T* sums, int64_t sum_stride) {
    int32_t list[kTile];
    for (int64_t r = 0; r < t.active_count; r += kSignRows) {
        const int64_t rows = t.active_count - r < kSignRows ? t.active_count - r : kSignRows;
        SignSums<T> p;
        for (int64_t i = 0; i < rows; ++i) {
            const int64_t n = t.active[r + i];
            p.x[i] = t.queries + n * t.query_stride;
            p.dx[i] = gradient == nullptr ? nullptr : gradient + n * t.query_stride;
            p.w[i] = t.weights + n * kTile;
        }
        p.y = memory.cell_rows;
        p.y_step = memory.stride;
        p.dy = sums;
        p.dy_step = sum_stride;
        p.index = list;
        p.depth = list_weighted(p.w, rows, cells, list);
        add_sign_sums(p, rows, int64_t(0), t.last - t.first);
    }
}

template <class T, class S>
void write_tile(const GradientWork<T>& w, const Tile<S>& to, const TileTerms<T>& t, const T* sums, int64_t stride,
                const SignMemory<T>& memory) {
    const int64_t channels = t.last - t.first;
    const OwnFactor<T> none{memory.sums, nullptr};  // not read
    if (channels_are_contiguous(w.gradient))
        return write_cells(to, 0, to.cells, t.first, channels, CellRows<T>{sums, stride}, CellRows<T>{nullptr, 0}, none,
                           w.past_cache);
    transpose_rows(ChannelRows<T>{sums, stride}, to.cells, channels, memory.channel_rows, kTile);
    write_channels(to, t.first, channels, memory.channel_rows, ChannelRows<T>{nullptr, 0}, none, w.past_cache);
}

template <class T, class S>
void sign_gradients(const GradientWork<T>& w, int64_t b, int64_t first, int64_t last, T* scratch) {
    const Queries<T>& q = w.queries;
    const int64_t tiles = tiles_of(w.target.size[2] * w.target.size[3]), channels = last - first;
    const int64_t stride = cell_row(channels), width = round_up(channels, kTile);
    const SignMemory<T> memory{scratch, stride, scratch + kTile * stride, scratch + 2 * kTile * stride};
    const bool want_target = w.gradient.data != nullptr, want_query = w.query_gradient != nullptr;
    T* const query_gradient = want_query ? w.query_gradient + b * w.query_image_stride + first : nullptr;
    for (int64_t n = 0; want_query && n < q.count; ++n)
        __builtin_memset(query_gradient + n * q.stride, 0, size_t(width) * sizeof(T));

    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t at = b * tiles + tile;
        const TileTerms<T> t{first, last, w.weights + at * q.count * kTile, w.active + at * q.count, w.active_count[at],
                             q.vectors + b * q.count * q.stride + first, q.stride};
        const bool kept = w.sums != nullptr;
        T* const sums = !want_target ? nullptr : kept ? w.sums + tile * kTile * t.query_stride + kTile * first : memory.sums;
        Tile<S> from, to;
        locate_tile(w.target, b, tile, from);
        for (int64_t j = 0; want_target && (!kept || w.first) && j < from.cells; ++j)
            __builtin_memset(sums + j * width, 0, size_t(width) * sizeof(T));
        if (t.active_count > 0 && (want_target || want_query)) {
            read_cell_rows(from, first, last, memory);
            add_tile(t, from.cells, memory, query_gradient, sums, width);
        }
        if (!want_target || !w.last) continue;
        locate_tile(w.gradient, b, tile, to);
        write_tile(w, to, t, sums, width, memory);
    }
    if (w.past_cache) end_streaming();
}

}  // namespace

template <class T>
void absolute_backward(const GradientWork<T>& w, int64_t b, int64_t first, int64_t last, T* scratch) {
    with_storage(w.target.dtype, [&](auto* type) {
        sign_gradients<T, typename std::remove_pointer<decltype(type)>::type>(w, b, first, last, scratch);
    });
}

template void absolute_backward<float>(const GradientWork<float>&, int64_t, int64_t, int64_t, float*);
template void absolute_backward<double>(const GradientWork<double>&, int64_t, int64_t, int64_t, double*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
