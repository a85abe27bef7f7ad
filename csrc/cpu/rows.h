// Rows of scores (B, N, H, W) of any strides as contiguous numbers.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels.h"
#include "storage.h"

namespace simplematch::cpu {

template <class T>
bool is_stored_as(const View& view) {
    return view.dtype == (std::is_same<T, double>::value ? SIMPLEMATCH_FLOAT64 : SIMPLEMATCH_FLOAT32);
}

// Row (b, n) of the scores where it is, or null if it is no contiguous T.
template <class T>
T* row_in_place(const View& scores, int64_t b, int64_t n) {
    const int64_t height = scores.size[2], width = scores.size[3];
    const bool dense = (scores.stride[3] == 1 || width == 1) && (scores.stride[2] == width || height == 1);
    if (!is_stored_as<T>(scores) || !dense || !is_given(scores)) return nullptr;
    return static_cast<T*>(scores.data) + b * scores.stride[0] + n * scores.stride[1];
}

// One row of scores as contiguous T: in place where it is, else copied.
template <class T>
const T* contiguous_row(const View& scores, int64_t b, int64_t n, T* copy) {
    const T* const place = row_in_place<T>(scores, b, n);
    if (place != nullptr) return place;
    with_storage(scores.dtype, [&](auto* type) {
        auto from = static_cast<decltype(type)>(scores.data) + b * scores.stride[0] + n * scores.stride[1];
        for (int64_t y = 0; y < scores.size[2]; ++y)
            for (int64_t x = 0; x < scores.size[3]; ++x)
                copy[y * scores.size[3] + x] = T(to_float(from[y * scores.stride[2] + x * scores.stride[3]]));
    });
    return copy;
}

template <class T>
void write_row(const View& scores, int64_t b, int64_t n, const T* row) {
    with_storage(scores.dtype, [&](auto* type) {
        auto to = static_cast<decltype(type)>(scores.data) + b * scores.stride[0] + n * scores.stride[1];
        for (int64_t y = 0; y < scores.size[2]; ++y)
            for (int64_t x = 0; x < scores.size[3]; ++x)
                from_float(row[y * scores.size[3] + x], to + y * scores.stride[2] + x * scores.stride[3]);
    });
}

// Whether the numbers of one cell lie side by side, and cells at one distance: targets-major scores.
template <class T>
bool is_side_by_side(const View& scores) {
    return is_given(scores) && is_stored_as<T>(scores) && scores.stride[1] == 1 && scores.size[1] > 1 &&
           scores.size[2] * scores.size[3] > 1 && scores.stride[2] == scores.size[3] * scores.stride[3];
}

// The rows that a thread takes at a time: neighbours of one image.
struct RowGroups {
    int64_t rows, of_image;
    int64_t together;  // groups
    int64_t stride;    // of a copied row
};

template <class T>
RowGroups group_rows(const View& scores, bool side_by_side, int threads) {
    const int64_t count = scores.size[1], cells = scores.size[2] * scores.size[3];
    // An extra line of 16 numbers keeps copied rows from competing for few sets of the nearest cache.
    RowGroups groups{1, count, std::max<int64_t>(4, 8192 / cells), round_up(cells, kTile) + 16};
    if (!side_by_side && cells > kTile) return groups;
    constexpr int64_t line = 64 / int64_t(sizeof(T)), cache = 512 * 1024 / int64_t(sizeof(T));
    int64_t lines = std::max<int64_t>(1, std::min<int64_t>(4, cache / (line * groups.stride)));
    while (lines > 1 && scores.size[0] * count < 2 * threads * lines * line) --lines;
    groups.rows = std::min(lines * line, std::max<int64_t>(1, count));
    groups.of_image = (count + groups.rows - 1) / groups.rows;
    groups.together = std::max<int64_t>(1, groups.together / groups.rows);
    return groups;
}

template <class T>
struct Lines {
    T* first;
    int64_t stride;
};

template <class T>
SideBySide<T> side_by_side(const View& scores, int64_t b, int64_t first, int64_t last) {
    T* const data = static_cast<T*>(scores.data) + b * scores.stride[0] + first;
    const int64_t cell_stride = scores.size[3] > 1 ? scores.stride[3] : scores.stride[2];
    return {data, cell_stride, scores.size[2] * scores.size[3], last - first};
}

// Rows [first, last) of image b, copied only if they aren't contiguous.
template <class T>
Lines<const T> read_rows(const View& scores, int64_t b, int64_t first, int64_t last, T* copy, int64_t stride,
                         const Kernels<T>& steps) {
    if (is_side_by_side<T>(scores)) {
        steps.read_side_by_side(side_by_side<const T>(scores, b, first, last), copy, stride);
        return {copy, stride};
    }
    const T* const place = row_in_place<T>(scores, b, first);
    if (place != nullptr) return {place, scores.stride[1]};
    for (int64_t n = first; n < last; ++n) contiguous_row(scores, b, n, copy + (n - first) * stride);
    return {copy, stride};
}

// Where rows from `first` on are written: in place, or to `copy` for `write_rows`.
template <class T>
Lines<T> lines_to_write(const View& scores, int64_t b, int64_t first, T* copy, int64_t stride) {
    T* const place = is_given(scores) ? row_in_place<T>(scores, b, first) : nullptr;
    return place != nullptr ? Lines<T>{place, scores.stride[1]} : Lines<T>{copy, stride};
}

template <class T>
void write_rows(const View& scores, int64_t b, int64_t first, int64_t last, const Lines<T>& lines,
                const Kernels<T>& steps) {
    if (is_side_by_side<T>(scores))
        return steps.write_side_by_side(side_by_side<T>(scores, b, first, last), lines.first, lines.stride);
    for (int64_t n = first; n < last; ++n) write_row(scores, b, n, lines.first + (n - first) * lines.stride);
}

}  // namespace simplematch::cpu
