// The inner loop of products of two sets of vectors: a block of kPanelRows x kPanelColumns sums that stay in registers.
//
//     c[i][j] (+)= sum over k < depth of a[i * row + k * step] * b[k * b_step + j]        i < kPanelRows, j < kPanelColumns
//
// `row` and `step` are constants, so that every coefficient is one instruction with a fixed offset:
//
//     row 1, step kPanelRows       a packed in panels [k][row]           scores: k channel
//     row 1, step kPanelColumns    a block of rows, taken by columns     its transpose times vectors: k row
//     row kPanelColumns, step 1    a block of rows                       the block times vectors: k column
//
// A step loads kPanelVectors vectors and kPanelRows numbers for kPanelRows * kPanelVectors multiply-adds. `b` comes from the
// second level of the cache, at 8 bytes a cycle; `a` stays in the first.
#pragma once

#include "match_all.h"
#include "operation.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// Sums, b and one coefficient fill the registers: 24 + 3 + 1 of 32, 12 + 3 + 1 of 16, 8 + 2 + 1 and products of 16.
#if defined(__AVX512F__)
constexpr int kPanelRows = 8, kPanelVectors = 3;
#elif defined(__AVX2__)
constexpr int kPanelRows = 4, kPanelVectors = 3;
#elif defined(__aarch64__)
constexpr int kPanelRows = 4, kPanelVectors = 6;
#else
constexpr int kPanelRows = 4, kPanelVectors = 2;
#endif
template <class T>
constexpr int kPanelColumns = kPanelVectors * kLanes<T>;
static_assert(kPanelColumns<float> % kPanelRows == 0 && kPanelColumns<double> % kPanelRows == 0);
static_assert(kPanelRows <= kMostPanelRows && kPanelColumns<float> <= kMostPanelColumns);

// Sums of float32 of this many products err by 1e-5 at most, even if all are equal; longer sums are made of such parts.
constexpr int64_t kChain = 256;

template <class T>
struct PanelProduct {
    const T* a;
    const T* b;
    int64_t b_step;
    int64_t depth;
    T* c;
    int64_t c_step;
    bool add;
    int64_t parts = 1;   // `a` lies in parts of `depth` steps,
    int64_t a_part = 0;  // this far from each other; b goes on
};

template <class T, int row, int step, int vectors, class Operation>
SIMPLEMATCH_INLINE void panel_product_of(const PanelProduct<T>& p) {
    const Operation operation{};
    Vector<T> sums[kPanelRows][vectors];
#pragma GCC unroll 8
    for (int i = 0; i < kPanelRows; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sums[i][v] = Vector<T>{};

    const T* b = p.b;
    for (int64_t part = 0; part < p.parts; ++part) {
        const T* a = p.a + part * p.a_part;
        for (int64_t k = 0; k < p.depth; ++k, a += step, b += p.b_step) {
            Vector<T> values[vectors];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) values[v] = load<T>(b + v * kLanes<T>);
#pragma GCC unroll 8
            for (int i = 0; i < kPanelRows; ++i) {
                const T coefficient = a[i * row];
#pragma GCC unroll 8
                for (int v = 0; v < vectors; ++v) sums[i][v] = operation(sums[i][v], coefficient, values[v]);
            }
        }
    }

    const auto for_each_sum = [&](auto&& f) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int i = 0; i < kPanelRows; ++i)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) f(p.c + i * p.c_step + v * kLanes<T>, sums[i][v]);
    };
    if (p.add) {
        for_each_sum([](T* c, const Vector<T>& sum) __attribute__((always_inline)) { store<T>(c, load<T>(c) + sum); });
    } else {
        for_each_sum([](T* c, const Vector<T>& sum) __attribute__((always_inline)) { store<T>(c, sum); });
    }
}

// Kept out of line: one copy of the loop for each shape.
template <class T, int row, int step, int vectors = kPanelVectors, class Operation = MultiplyAdd<T>>
__attribute__((noinline)) void panel_product(const PanelProduct<T>& p) {
    panel_product_of<T, row, step, vectors, Operation>(p);
}

// `columns` numbers of c, rounded up to whole vectors; at most kPanelColumns.
template <class T, int row, int step>
SIMPLEMATCH_INLINE void panel_product_columns(const PanelProduct<T>& p, int64_t columns) {
    if (columns > (kPanelVectors - 1) * kLanes<T>) return panel_product<T, row, step>(p);
    if (kPanelVectors > 2 && columns > kLanes<T>) {
        if (kPanelVectors == 3 || columns <= 2 * kLanes<T>) return panel_product<T, row, step, 2>(p);
        return panel_product<T, row, step>(p);
    }
    panel_product<T, row, step, 1>(p);
}

// Sums of one panel of each set: c[i][j] = <a_i, b_j>, or what another operation makes of both, rows of kPanelColumns.
template <class Operation, class T>
SIMPLEMATCH_INLINE void multiply_panels(const T* a, const T* b, int64_t channels, T* c) {
    for (int64_t k = 0; k == 0 || k < channels; k += kChain) {
        const int64_t depth = channels - k < kChain ? channels - k : kChain;
        panel_product<T, 1, kPanelRows, kPanelVectors, Operation>(
            {a + k * kPanelRows, b + k * kPanelColumns<T>, kPanelColumns<T>, depth, c, kPanelColumns<T>, k > 0});
    }
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
