// Rows of scores whose numbers of one cell lie side by side, as targets-major scores have them, to rows and back.
#include "kernels.h"
#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// Calls step(first cell, first row, cells, rows) for squares of kLanes<T> cells and rows, fewer at the ends. All rows of
// some cells come first: they share lines of the cache.
template <class T, class Step>
SIMPLEMATCH_INLINE void for_each_square(int64_t cells, int64_t rows, Step&& step) {
    constexpr int n = kLanes<T>;
    for (int64_t m = 0; m < cells; m += n)
        for (int64_t r = 0; r < rows; r += n)
            step(m, r, cells - m < n ? cells - m : n, rows - r < n ? rows - r : n);
}

}  // namespace

template <class T>
void read_side_by_side(const SideBySide<const T>& w, T* lines, int64_t stride) {
    constexpr int n = kLanes<T>;
    for_each_square<T>(w.cells, w.rows, [&](int64_t m, int64_t r, int64_t cells, int64_t rows) {
        const T* const from = w.first + m * w.cell_stride + r;
        T* const to = lines + r * stride + m;
        Vector<T> square[n] = {};
        if (rows == n && cells == n) {
            for (int i = 0; i < n; ++i) square[i] = load<T>(from + i * w.cell_stride);
        } else {
            for (int64_t i = 0; i < cells; ++i) square[i] = load_first<T>(from + i * w.cell_stride, rows);
        }
        transpose<T>(square);
        for (int64_t i = 0; i < rows; ++i) store<T>(to + i * stride, square[i]);
    });
}

template <class T>
void write_side_by_side(const SideBySide<T>& w, const T* lines, int64_t stride) {
    constexpr int n = kLanes<T>;
    for_each_square<T>(w.cells, w.rows, [&](int64_t m, int64_t r, int64_t cells, int64_t rows) {
        const T* const from = lines + r * stride + m;
        T* const to = w.first + m * w.cell_stride + r;
        Vector<T> square[n] = {};
        for (int64_t i = 0; i < rows; ++i) square[i] = load<T>(from + i * stride);
        transpose<T>(square);
        if (rows == n) {
            for (int64_t i = 0; i < cells; ++i) store<T>(to + i * w.cell_stride, square[i]);
        } else {
            for (int64_t i = 0; i < cells; ++i) store_first<T>(to + i * w.cell_stride, square[i], rows);
        }
    });
}

template void read_side_by_side<float>(const SideBySide<const float>&, float*, int64_t);
template void read_side_by_side<double>(const SideBySide<const double>&, double*, int64_t);
template void write_side_by_side<float>(const SideBySide<float>&, const float*, int64_t);
template void write_side_by_side<double>(const SideBySide<double>&, const double*, int64_t);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
