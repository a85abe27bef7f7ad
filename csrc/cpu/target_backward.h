// target_backward: one tile of the target's gradient.
//
//     dFt_m = sum_n w[n, m] u_n - factor_m f_m            u = q / D(q) for the cosine, else q
//
// The sum runs over the queries whose windows meet the tile. Every element is written, so nothing is cleared before.
#pragma once

#include "pack.h"
#include "product.h"
#include "write.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// What both gradients of a tile read: channels [first, last) of image b.
template <class T>
struct TileTerms {
    int64_t first, last;
    const T* weights;       // (N, kTile)
    const int32_t* active;  // the queries that meet the tile
    int64_t active_count;
    const T* queries;       // (N, stride), at channel `first`
    int64_t query_stride;
};

// What multiplies the features in their gradient: of_cell * inverse, in two steps where one number could not hold it.
template <class T>
struct OwnFactor {
    const T* of_cell;
    const T* inverse;  // or null: 1
};

// Where sums are kept: for one group of rows, or for all of them while blocks of queries are summed.
template <class T>
struct Sums {
    T* data;
    bool all_rows;
    bool add;  // to the earlier blocks

    T* of_row(int64_t row, int64_t stride) const { return data + (all_rows ? row * stride : 0); }
};

// sums[channel][cell] (+)= sum_n q[n][channel] w[n][cell]; `finish` takes each group of rows while it is in the cache.
template <class T, class F>
void sum_into_channels(const TileTerms<T>& t, int64_t cells, const Sums<T>& sums, Prefetch* prefetch, F&& finish) {
    Product<T> p;
    p.a_step = t.query_stride;
    p.b_step = kTile;
    p.index = t.active;
    p.depth = t.active_count;
    p.add = sums.add;
    p.prefetch = prefetch;
    const int64_t channels = t.last - t.first;
    for (int64_t c = 0; c < channels; c += kRows) {
        const int64_t group = channels - c < kRows ? channels - c : kRows;
        T* const rows = sums.of_row(c, kTile);
        for (int64_t i = 0; i < group; ++i) p.a[i] = t.queries + c + i;
        for (int64_t j = 0; j < cells; j += kStrip<T>) {
            for (int64_t i = 0; i < group; ++i) p.c[i] = rows + i * kTile + j;
            p.b = t.weights + j;
            product<T, true>(p, group, cells - j);
        }
        finish(c, group, rows);
    }
}

// sums[cell][channel] (+)= sum_n w[n][cell] q[n][channel], rows of `stride`; `finish` as above
template <class T, class F>
void sum_into_cells(const TileTerms<T>& t, int64_t cells, const Sums<T>& sums, int64_t stride, Prefetch* prefetch,
                    F&& finish) {
    Product<T> p;
    p.a_step = kTile;
    p.b_step = t.query_stride;
    p.index = t.active;
    p.depth = t.active_count;
    p.add = sums.add;
    p.prefetch = prefetch;
    const int64_t channels = t.last - t.first;
    for (int64_t m = 0; m < cells; m += kRows) {
        const int64_t group = cells - m < kRows ? cells - m : kRows;
        T* const rows = sums.of_row(m, stride);
        for (int64_t i = 0; i < group; ++i) p.a[i] = t.weights + m + i;
        for (int64_t c = 0; c < channels; c += kStrip<T>) {
            for (int64_t i = 0; i < group; ++i) p.c[i] = rows + i * stride + c;
            p.b = t.queries + c;
            product<T, true>(p, group, channels - c);
        }
        finish(m, group, rows);
    }
}

// Channels [first, first + count) of the tile: sums - factor * features; `features`, from channel `first`, or data null.
template <class T, class S, class F>
void write_channels(const Tile<S>& to, int64_t first, int64_t count, const T* sums, const ChannelRows<F>& features,
                    const OwnFactor<T>& factor, bool past_cache) {
    for (int64_t c = 0; c < count; ++c) {
        const T* row = sums + c * kTile;
        const F* f = features.data == nullptr ? nullptr : features.data + c * features.stride;
        S* const channel = to.base + (first + c) * to.channel_stride;
        for (int64_t r = 0; r < to.runs; ++r) {
            const int64_t start = to.run_start[r], cells = to.run_start[r + 1] - start;
            S* const target = channel + to.offset[start];
            if (features.data == nullptr) {
                write_values<T>(target, cells, past_cache, [&](int64_t i) { return load<T>(row + start + i); });
            } else if (factor.inverse == nullptr) {
                write_values<T>(target, cells, past_cache, [&](int64_t i) {
                    return load<T>(row + start + i) - load<T>(factor.of_cell + start + i) * load<T>(f + start + i);
                });
            } else {
                write_values<T>(target, cells, past_cache, [&](int64_t i) {
                    const Vector<T> unit = load<T>(factor.inverse + start + i) * load<T>(f + start + i);
                    return load<T>(row + start + i) - load<T>(factor.of_cell + start + i) * unit;
                });
            }
        }
    }
}

// Rows of cells, [cell][channel], in the cache.
template <class T>
struct CellRows {
    const T* data;
    int64_t stride;
};

// Cells [first, first + count) of the tile, `channels` from channel `first_channel`: sums - factor * features;
// `features` may have data null.
template <class T, class S>
void write_cells(const Tile<S>& to, int64_t first, int64_t count, int64_t first_channel, int64_t channels,
                 const CellRows<T>& sums, const CellRows<T>& features, const OwnFactor<T>& factor, bool past_cache) {
    for (int64_t j = 0; j < count; ++j) {
        const T* row = sums.data + j * sums.stride;
        const T* f = features.data == nullptr ? nullptr : features.data + j * features.stride;
        const Vector<T> scale = broadcast(factor.of_cell[first + j]);
        const Vector<T> inverse = broadcast(factor.inverse == nullptr ? T(1) : factor.inverse[first + j]);
        S* const target = to.base + to.offset[first + j] + first_channel;
        if (f == nullptr) {
            write_values<T>(target, channels, past_cache, [&](int64_t i) { return load<T>(row + i); });
        } else {
            write_values<T>(target, channels, past_cache,
                            [&](int64_t i) { return load<T>(row + i) - scale * (inverse * load<T>(f + i)); });
        }
    }
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
