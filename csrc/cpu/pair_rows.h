// Rows of a map, one cell each with its channels side by side: where they lie, or copied, and the way back.
//
// Neighbouring cells are copied as blocks that change rows and columns in registers; others 16 channels at a time, which are
// one line of a row and, of each channel, the few pages of a plane.
#pragma once

#include <type_traits>

#include "kernels.h"
#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// What numbers of a map are computed with, and results are made of.
template <class S>
using Number = typename std::conditional<kSame<S, double>, double, float>::type;

static inline int64_t offset_of(const View& map, int64_t cell) {
    if (map.size[2] == 1) return cell * map.stride[3];
    return cell / map.size[3] * map.stride[2] + cell % map.size[3] * map.stride[3];
}

// Whether the cells from i on, as many as a vector has numbers, lie side by side.
template <class T>
SIMPLEMATCH_INLINE bool is_block(const int64_t* offset, int64_t i, int64_t count) {
    if (i + kLanes<T> > count) return false;
    for (int64_t k = 1; k < kLanes<T>; ++k)
        if (offset[i + k] != offset[i] + k) return false;
    return true;
}

template <class S>
void read_block(const View& map, const S* from, S* to) {
    using T = Number<S>;
    const int64_t channels = map.size[1], stride = cell_row(channels);
    for (int64_t c = 0; c < channels; c += kLanes<T>) {
        Vector<T> block[kLanes<T>];
        for (int64_t k = 0; k < kLanes<T>; ++k)
            block[k] = c + k < channels ? load<T>(from + (c + k) * map.stride[1]) : Vector<T>{};
        transpose<T>(block);
        for (int64_t k = 0; k < kLanes<T>; ++k) store<T>(to + k * stride + c, block[k]);
    }
}

template <class S>
void write_block(const View& map, const S* from, S* to) {
    using T = Number<S>;
    const int64_t channels = map.size[1], stride = cell_row(channels);
    for (int64_t c = 0; c < channels; c += kLanes<T>) {
        Vector<T> block[kLanes<T>];
        for (int64_t k = 0; k < kLanes<T>; ++k) block[k] = load<T>(from + k * stride + c);
        transpose<T>(block);
        for (int64_t k = 0; k < kLanes<T> && c + k < channels; ++k) store<T>(to + (c + k) * map.stride[1], block[k]);
    }
}

// The rows of some cells of image b, at most kMostPairRows, in the map or in `copy`; a cell below 0 has none.
template <class S>
void locate_rows(const View& map, int64_t b, const int64_t* cells, int64_t count, S* copy, const S** rows) {
    const S* const image = static_cast<const S*>(map.data) + b * map.stride[0];
    const int64_t channels = map.size[1], stride = cell_row(channels);
    if (has_rows(map)) {
        for (int64_t i = 0; i < count; ++i) rows[i] = cells[i] < 0 ? nullptr : image + offset_of(map, cells[i]);
        return;
    }
    int64_t offset[kMostPairRows];
    bool copied[kMostPairRows];
    for (int64_t i = 0; i < count; ++i) {
        offset[i] = cells[i] < 0 ? 0 : offset_of(map, cells[i]);
        copied[i] = cells[i] < 0;
        rows[i] = copied[i] ? nullptr : copy + i * stride;
    }
    for (int64_t i = 0; i < count;) {
        const bool block = cells[i] >= 0 && is_block<Number<S>>(offset, i, count);
        if (block) read_block(map, image + offset[i], copy + i * stride);
        const int64_t next = i + (block ? kLanes<Number<S>> : 1);
        for (; i < next; ++i) copied[i] = copied[i] || block;
    }
    for (int64_t c0 = 0; c0 < channels; c0 += 16) {
        const int64_t c1 = least_of(c0 + 16, channels);
        for (int64_t i = 0; i < count; ++i) {
            const S* const from = image + offset[i];
            for (int64_t c = c0; c < c1 && !copied[i]; ++c) copy[i * stride + c] = from[c * map.stride[1]];
        }
    }
}

// Rows of `copy` to the cells from `first` on.
template <class S>
void write_rows(const View& map, int64_t b, int64_t first, int64_t count, const S* copy) {
    S* const image = static_cast<S*>(map.data) + b * map.stride[0];
    const int64_t channels = map.size[1], stride = cell_row(channels);
    int64_t offset[kMostPairRows];
    for (int64_t i = 0; i < count; ++i) offset[i] = offset_of(map, first + i);
    for (int64_t i = 0; i < count;) {
        if (is_block<Number<S>>(offset, i, count)) {
            write_block(map, copy + i * stride, image + offset[i]);
            i += kLanes<Number<S>>;
            continue;
        }
        for (int64_t c = 0; c < channels; ++c) image[offset[i] + c * map.stride[1]] = copy[i * stride + c];
        ++i;
    }
}

// Takes memory for the copies of a map's rows, if it needs them.
template <class S>
S* copies(double*& scratch, const View& map) {
    S* const copy = reinterpret_cast<S*>(scratch);
    if (!has_rows(map)) scratch += kMostPairRows * cell_row(map.size[1]);
    return copy;
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
