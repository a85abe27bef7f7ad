// The one inner loop of the matrix products: a few rows of coefficients times rows of vectors.
//
//     c[i][j] (+)= sum over k < depth of a[i][k * a_step] * b[k * b_step + j]        i < rows, j < vectors * kLanes
//
// The metric l1 has another operation in place of the multiply-add, see operation.h.
//
// similarity:       k channel, i query, j cell        (a query vectors, b packed target)
// target_backward:  k query, i channel, j cell        (a query vectors, b weights)        maps with contiguous cells
//                   k query, i cell, j channel        (a weights, b query vectors)        channels_last maps
// query_backward:   k cell, i query, j channel        (a weights, b packed target)
//
// With `index`, k runs over index[0 .. depth) instead: only the queries whose windows meet the tile. With `packed`, b may
// be of a storage type S and leaves a copy in T behind, rows of kTile numbers, for the products that follow.
#pragma once

#include "kernels.h"
#include "operation.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// Memory to fetch into the cache while products compute: `rows` rows of `lines` cache lines, `burst` lines for every four
// steps of a product, so that the memory is busy all the time and never asked for more than it can bring.
struct Prefetch {
    const char* row = nullptr;
    int64_t stride = 0;
    int64_t rows = 0;
    int32_t lines = 0;
    int32_t line = 0;
    int32_t burst = 1;
    bool nearest = false;  // into the first level of the cache, else the second

    // Spreads the lines over products of `steps` in all.
    void spread(int64_t steps) { burst = int32_t(1 + rows * lines / (steps / 4 + 1)); }

    SIMPLEMATCH_INLINE void fetch() {
        for (int32_t i = 0; i < burst && rows > 0; ++i) {
            if (nearest) {
                __builtin_prefetch(row + 64 * line, 0, 3);
            } else {
                __builtin_prefetch(row + 64 * line, 0, 2);
            }
            if (++line == lines) {
                line = 0;
                row += stride;
                --rows;
            }
        }
    }
};

template <class T, class S = T>
struct Product {
    const T* a[kRows];
    T* c[kRows];
    int64_t a_step;
    const S* b;
    int64_t b_step;
    T* packed = nullptr;
    const int32_t* index = nullptr;
    int64_t depth;
    bool add;
    Prefetch* prefetch;
};

template <class Operation, class T, int rows, int vectors, bool indexed, bool packs = false, class S = T>
__attribute__((noinline)) void product_of(const Product<T, S>& p) {
    const Operation operation{};
    Vector<T> sums[rows][vectors];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[i][v] = Vector<T>{};

    const T* a[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) a[i] = p.a[i];
    const int64_t a_step = p.a_step, b_step = p.b_step, depth = p.depth;
    const S* const b = p.b;
    T* const packed = p.packed;
    const int32_t* const index = p.index;

    const auto step = [&](int64_t k) __attribute__((always_inline)) {
        const int64_t position = indexed ? int64_t(index[k]) : k;
        const S* b_row = b + position * b_step;
        Vector<T> values[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            values[v] = load<T>(b_row + v * kLanes<T>);
            if constexpr (packs) store<T>(packed + position * kTile + v * kLanes<T>, values[v]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) {
            const T coefficient = a[i][position * a_step];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sums[i][v] = operation(sums[i][v], coefficient, values[v]);
        }
    };
    int64_t k = 0;
    if (p.prefetch != nullptr) {
        Prefetch fetch = *p.prefetch;
        for (; k + 4 <= depth; k += 4) {
            fetch.fetch();
            step(k);
            step(k + 1);
            step(k + 2);
            step(k + 3);
        }
        *p.prefetch = fetch;
    }
    for (; k < depth; ++k) step(k);

#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            T* c = p.c[i] + v * kLanes<T>;
            store<T>(c, p.add ? load<T>(c) + sums[i][v] : sums[i][v]);
        }
}

template <class Operation, class T, bool indexed, int rows>
SIMPLEMATCH_INLINE void product_with_rows(const Product<T>& p, int64_t vectors) {
    if constexpr (kVectors == 4) {
        if (vectors == 4) return product_of<Operation, T, rows, kVectors, indexed>(p);
        if (vectors == 3) return product_of<Operation, T, rows, kVectors - 1, indexed>(p);
    }
    if (vectors == 2) return product_of<Operation, T, rows, 2, indexed>(p);
    return product_of<Operation, T, rows, 1, indexed>(p);
}

// `columns` numbers of c rounded up to whole vectors, at most kStrip.
template <class T, bool indexed, class Operation = MultiplyAdd<T>>
SIMPLEMATCH_INLINE void product(const Product<T>& p, int64_t rows, int64_t columns) {
    const int64_t vectors = columns >= kStrip<T> ? kVectors : (columns + kLanes<T> - 1) / kLanes<T>;
    switch (rows) {
        case 6: return product_with_rows<Operation, T, indexed, 6>(p, vectors);
        case 5: return product_with_rows<Operation, T, indexed, 5>(p, vectors);
        case 4: return product_with_rows<Operation, T, indexed, 4>(p, vectors);
        case 3: return product_with_rows<Operation, T, indexed, 3>(p, vectors);
        case 2: return product_with_rows<Operation, T, indexed, 2>(p, vectors);
        default: return product_with_rows<Operation, T, indexed, 1>(p, vectors);
    }
}

// kStrip numbers of c; leaves a packed copy of b.
template <class Operation, class T, class S>
SIMPLEMATCH_INLINE void packing_product(const Product<T, S>& p, int64_t rows) {
    switch (rows) {
        case 6: return product_of<Operation, T, 6, kVectors, false, true>(p);
        case 5: return product_of<Operation, T, 5, kVectors, false, true>(p);
        case 4: return product_of<Operation, T, 4, kVectors, false, true>(p);
        case 3: return product_of<Operation, T, 3, kVectors, false, true>(p);
        case 2: return product_of<Operation, T, 2, kVectors, false, true>(p);
        default: return product_of<Operation, T, 1, kVectors, false, true>(p);
    }
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
