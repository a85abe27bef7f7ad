// Tiles of a map: 64 cells x some channels, read from tensors of any type and strides.
//
// In the cache a tile lies as rows of channels, [channel][cell], or as rows of cells, [cell][channel].
#pragma once

#include "kernels.h"
#include "product.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// Cells [first, first + kTile) of image b. `runs` are stretches of cells that lie next to each other in memory.
template <class S>
struct Tile {
    S* base;
    int64_t channel_stride;
    int64_t cells;
    int64_t offset[kTile];
    int64_t runs;
    int64_t run_start[kTile + 1];
};

template <class S>
static void locate_tile(const View& map, int64_t b, int64_t tile, Tile<S>& t) {
    const int64_t width = map.size[3], first = tile * kTile, cells = map.size[2] * width;
    t.base = static_cast<S*>(map.data) + b * map.stride[0];
    t.channel_stride = map.stride[1];
    t.cells = cells - first < kTile ? cells - first : kTile;
    t.runs = 0;
    int64_t y = first / width, x = first % width;
    for (int64_t j = 0; j < t.cells; ++j) {
        t.offset[j] = y * map.stride[2] + x * map.stride[3];
        if (j == 0 || t.offset[j] != t.offset[j - 1] + 1) t.run_start[t.runs++] = j;
        if (++x == width) {
            x = 0;
            ++y;
        }
    }
    t.run_start[t.runs] = t.cells;
}

// Rows of channels, [channel][cell]: a copy in the cache, or the map itself.
template <class S>
struct ChannelRows {
    const S* data;
    int64_t stride;
};

// Whether the tile's channels are whole rows in the map, which need no copy.
template <class S>
static bool lies_in_rows(const Tile<S>& t) {
    return t.channel_stride != 1 && t.runs == 1 && t.cells == kTile;
}

template <class S>
static ChannelRows<S> rows_of(const Tile<S>& t, int64_t first) {
    return {t.base + t.offset[0] + first * t.channel_stride, t.channel_stride};
}

// Which of the two ways a map is read and written fast.
static inline bool channels_are_contiguous(const View& map) { return map.stride[1] == 1; }

template <class T, class S>
SIMPLEMATCH_INLINE void read_run(const S* from, T* to, int64_t count) {
    int64_t i = 0;
    for (; i + kLanes<T> <= count; i += kLanes<T>) store<T>(to + i, load<T>(from + i));
    for (; i < count; ++i) to[i] = T(to_float(from[i]));
}

// One channel of the tile: kTile numbers, zeros after the last cell.
template <class T, class S>
SIMPLEMATCH_INLINE void read_channel(const Tile<S>& t, int64_t channel, T* to) {
    const S* from = t.base + channel * t.channel_stride;
    for (int64_t r = 0; r < t.runs; ++r) {
        const int64_t j = t.run_start[r];
        read_run(from + t.offset[j], to + j, t.run_start[r + 1] - j);
    }
    for (int64_t j = t.cells; j < kTile; ++j) to[j] = 0;
}

// Channels [first, last) as rows of channels: to[channel - first][cell], rows of kTile numbers.
template <class T, class S>
static void read_channels(const Tile<S>& t, int64_t first, int64_t last, T* to) {
    if (t.channel_stride != 1) {
        for (int64_t c = first; c < last; ++c) read_channel(t, c, to + (c - first) * kTile);
        return;
    }
    constexpr int n = kLanes<T>;
    for (int64_t j = 0; j < kTile; j += n) {
        for (int64_t c = first; c < last; c += n) {
            Vector<T> block[n];
            for (int i = 0; i < n; ++i) {
                if (j + i >= t.cells) {
                    block[i] = Vector<T>{};
                } else {
                    const S* from = t.base + t.offset[j + i] + c;
                    block[i] = c + n <= last ? load<T>(from) : load_first<T>(from, last - c);
                }
            }
            transpose<T>(block);
            for (int i = 0; i < n && c + i < last; ++i) store<T>(to + (c + i - first) * kTile + j, block[i]);
        }
    }
}

// Rows of channels as rows of cells: to[cell][channel], rows of `stride` numbers; zeros after the last channel, to whole
// vectors.
template <class T, class S>
static void transpose_rows(const ChannelRows<S>& from, int64_t channels, int64_t cells, T* to, int64_t stride) {
    constexpr int n = kLanes<T>;
    for (int64_t c = 0; c < channels; c += n) {
        for (int64_t j = 0; j < cells; j += n) {
            Vector<T> block[n];
            for (int i = 0; i < n; ++i)
                block[i] = c + i < channels ? load<T>(from.data + (c + i) * from.stride + j) : Vector<T>{};
            transpose<T>(block);
            for (int i = 0; i < n && j + i < cells; ++i) store<T>(to + (j + i) * stride + c, block[i]);
        }
    }
}

// Channels [first, last) as rows of cells, from a map whose channels are contiguous.
template <class T, class S>
static void read_cells(const Tile<S>& t, int64_t first, int64_t last, T* to, int64_t stride) {
    for (int64_t j = 0; j < t.cells; ++j) {
        T* row = to + j * stride;
        read_run(t.base + t.offset[j] + first, row, last - first);
        for (int64_t c = last - first; c < round_up(last - first, kLanes<T>); ++c) row[c] = 0;
    }
}

// What to fetch ahead of read_channels or read_cells.
template <class S>
static Prefetch fetch_ahead(const Tile<S>& t, int64_t first, int64_t last) {
    Prefetch p;
    p.row = reinterpret_cast<const char*>(t.base + t.offset[0] + first * t.channel_stride);
    const int64_t size = int64_t(sizeof(S));
    int64_t bytes;
    if (t.channel_stride == 1) {
        bytes = (last - first) * size;
        p.rows = t.cells;
        p.stride = t.cells > 1 ? (t.offset[1] - t.offset[0]) * size : 0;
    } else {
        bytes = t.cells * size;
        p.rows = t.runs == 1 ? last - first : 0;
        p.stride = t.channel_stride * size;
    }
    // a row that begins inside a line may reach into one line more
    p.lines = int32_t((bytes + 63 + (reinterpret_cast<uintptr_t>(p.row) % 64 + uintptr_t(p.stride) % 64 ? 63 : 0)) / 64);
    return p;
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
