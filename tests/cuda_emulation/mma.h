// Products of 16 x 16 x 16 as tensor cores make them, of 16-bit numbers into float. A lane owns one row of a, eight columns
// of b and the eight sums where they meet: an arrangement of our own, as CUDA leaves it open.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_runtime.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

inline float number(__nv_bfloat16 x) { return __bfloat162float(x); }
inline float number(__half x) { return __half2float(x); }
inline unsigned lane_row() { return threadIdx.x % 32 / 2; }
inline unsigned lane_column() { return threadIdx.x % 2 * 8; }

template <class Use, int M, int N, int K, class T, class Order = void>
struct fragment {
    static_assert(M == 16 && N == 16 && K == 16, "the one shape that is used");
    float x[std::is_same_v<Use, matrix_a> ? 16 : std::is_same_v<Use, matrix_b> ? 128 : 8];
};

inline void check_alignment(const void* p, unsigned stride, unsigned bytes) {
    if (reinterpret_cast<uintptr_t>(p) % 32 == 0 && stride * bytes % 16 == 0) return;
    std::fprintf(stderr, "emulated GPU: a matrix of tensor cores is not aligned to 32 bytes, or its rows not to 16\n");
    std::abort();
}

template <class T, class Order>
void load_matrix_sync(fragment<matrix_a, 16, 16, 16, T, Order>& a, const T* p, unsigned stride) {
    check_alignment(p, stride, sizeof(T));
    for (unsigned k = 0; k < 16; ++k)
        a.x[k] = number(std::is_same_v<Order, row_major> ? p[lane_row() * stride + k] : p[k * stride + lane_row()]);
}

template <class T, class Order>
void load_matrix_sync(fragment<matrix_b, 16, 16, 16, T, Order>& b, const T* p, unsigned stride) {
    check_alignment(p, stride, sizeof(T));
    for (unsigned k = 0; k < 16; ++k)
        for (unsigned j = 0; j < 8; ++j)
            b.x[k * 8 + j] = number(std::is_same_v<Order, row_major> ? p[k * stride + lane_column() + j]
                                                                      : p[(lane_column() + j) * stride + k]);
}

inline void fill_fragment(fragment<accumulator, 16, 16, 16, float>& total, float value) {
    for (float& x : total.x) x = value;
}

template <class T, class OrderA, class OrderB>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& result, const fragment<matrix_a, 16, 16, 16, T, OrderA>& a,
              const fragment<matrix_b, 16, 16, 16, T, OrderB>& b, const fragment<accumulator, 16, 16, 16, float>& total) {
    for (unsigned j = 0; j < 8; ++j) {
        float sum = total.x[j];
        for (unsigned k = 0; k < 16; ++k) sum += a.x[k] * b.x[k * 8 + j];
        result.x[j] = sum;
    }
}

inline void store_matrix_sync(float* p, const fragment<accumulator, 16, 16, 16, float>& total, unsigned stride, layout_t layout) {
    check_alignment(p, stride, sizeof(float));
    for (unsigned j = 0; j < 8; ++j) {
        const unsigned row = lane_row(), column = lane_column() + j;
        p[layout == mem_row_major ? row * stride + column : column * stride + row] = total.x[j];
    }
}

}  // namespace nvcuda::wmma
