// The inner loop of the gradients of the metric l1: sums of the signs of differences, to both sides.
//
//     dx[i][c] += sum over k of w[i][k] s          dy[k][c] -= sum over i of w[i][k] s          s = sign(y[k][c] - x[i][c])
//
// Four operations for each sign, both sums together.
#pragma once

#include "product.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// sign(y - x), 0 where both are equal or one is NaN.
template <class T>
SIMPLEMATCH_INLINE Vector<T> sign_of_difference(Vector<T> y, Vector<T> x) {
#if defined(__AVX512F__)
    // What each class of numbers becomes, four bits each from the lowest: NaN, NaN, 0: 8, which is +0; then 1, -inf, inf,
    // negative, positive: 9, which is -1, or 10, which is 1.
    const Vector<T> difference = y - x;
    if constexpr (kSame<T, float>) {
        const __m512i classes = _mm512_set1_epi32(int32_t(0xA9A9A888u));
        return (Vector<T>)_mm512_fixupimm_ps((__m512)difference, (__m512)difference, classes, 0);
    } else {
        const __m512i classes = _mm512_set1_epi64(0xA9A9A888);
        return (Vector<T>)_mm512_fixupimm_pd((__m512d)difference, (__m512d)difference, classes, 0);
    }
#else
    const Vector<T> one = broadcast(T(1)), zero{};
    return (y > x ? one : zero) - (y < x ? one : zero);
#endif
}

constexpr int kSignRows = 4;

template <class T>
struct SignSums {
    const T* x[kSignRows];
    T* dx[kSignRows];  // null: not wanted
    const T* w[kSignRows];
    const T* y;
    int64_t y_step;
    T* dy;  // null: not wanted
    int64_t dy_step;
    const int32_t* index;  // of k, or null: all
    int64_t depth;
};

template <class T, int rows, int vectors, bool to_rows, bool to_lines>
__attribute__((noinline)) void sign_sums_of(const SignSums<T>& p, int64_t column) {
    Vector<T> sums[rows][vectors];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[i][v] = Vector<T>{};
    const T *x[rows], *w[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) x[i] = p.x[i] + column, w[i] = p.w[i];

    for (int64_t k = 0; k < p.depth; ++k) {
        const int64_t at = p.index == nullptr ? k : p.index[k];
        const T* const y = p.y + at * p.y_step + column;
        T* const dy = to_lines ? p.dy + at * p.dy_step + column : nullptr;
        Vector<T> values[vectors], moved[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            values[v] = load<T>(y + v * kLanes<T>);
            moved[v] = to_lines ? load<T>(dy + v * kLanes<T>) : Vector<T>{};
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i) {
            const T weight = w[i][at];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) {
                const Vector<T> s = sign_of_difference<T>(values[v], load<T>(x[i] + v * kLanes<T>));
                if constexpr (to_rows) sums[i][v] += weight * s;
                if constexpr (to_lines) moved[v] -= weight * s;
            }
        }
        if constexpr (to_lines)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) store<T>(dy + v * kLanes<T>, moved[v]);
    }
    if constexpr (to_rows)
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) {
                T* const to = p.dx[i] + column + v * kLanes<T>;
                store<T>(to, load<T>(to) + sums[i][v]);
            }
}

template <class T, int rows, int vectors>
SIMPLEMATCH_INLINE void sign_sums_wanted(const SignSums<T>& p, int64_t column) {
    if (p.dy == nullptr) return sign_sums_of<T, rows, vectors, true, false>(p, column);
    if (p.dx[0] == nullptr) return sign_sums_of<T, rows, vectors, false, true>(p, column);
    sign_sums_of<T, rows, vectors, true, true>(p, column);
}

// Columns [first, last), rounded up to whole vectors, of `rows` <= kSignRows rows.
template <class T>
void add_sign_sums(const SignSums<T>& p, int64_t rows, int64_t first, int64_t last) {
    if (rows < kSignRows) {
        for (int64_t i = 0; i < rows; ++i) {
            SignSums<T> one = p;
            one.x[0] = p.x[i], one.dx[0] = p.dx[i], one.w[0] = p.w[i];
            for (int64_t c = first; c < last; c += kLanes<T>) sign_sums_wanted<T, 1, 1>(one, c);
        }
        return;
    }
    int64_t c = first;
    for (; c + kStrip<T> <= last; c += kStrip<T>) sign_sums_wanted<T, kSignRows, kVectors>(p, c);
    for (; c < last; c += kLanes<T>) sign_sums_wanted<T, kSignRows, 1>(p, c);
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
