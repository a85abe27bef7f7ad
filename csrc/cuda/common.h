// What the kernels share: storage types, numbers that sort, reductions over a warp and a block.
//
// Names in every kernel: B images, N queries, C channels, H x W = M cells (m = y * W + x). S is the type a map is stored
// in, T the type of the arithmetic: double for double, else float. Offsets are 64 bit.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "common/records.h"

namespace simplematch::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <class S>
using Arithmetic = std::conditional_t<std::is_same_v<S, double>, double, float>;

__host__ __device__ constexpr int64_t tiles_of(int64_t x, int64_t tile) { return (x + tile - 1) / tile; }
__host__ __device__ constexpr int64_t round_up(int64_t x, int64_t unit) { return tiles_of(x, unit) * unit; }

// V numbers that are read and written at once.
template <class S, int V>
struct alignas(sizeof(S) * V) Vector {
    S at[V];
};

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }

template <class S>
__device__ inline S narrow(Arithmetic<S> x) {
    if constexpr (std::is_same_v<S, __nv_bfloat16>)
        return __float2bfloat16(x);
    else if constexpr (std::is_same_v<S, __half>)
        return __float2half(x);
    else
        return x;
}

template <class T>
__device__ inline T infinity() {
    return T(__builtin_huge_val());
}

template <class T>
__device__ inline T not_a_number() {
    return T(__builtin_nan(""));
}

template <class T>
__device__ inline bool is_finite(T x) {
    return x - x == T(0);
}

// An integer that sorts like x, with NaN above everything and -0 equal to 0; above kNoKey.
__device__ inline int64_t ordered(float x) {
    if (x != x) return 0x7fffffff;
    const int32_t bits = x == 0 ? 0 : __float_as_int(x);
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

__device__ inline int64_t ordered(double x) {
    if (x != x) return INT64_MAX;
    const int64_t bits = x == 0 ? 0 : __double_as_longlong(x);
    return bits < 0 ? bits ^ INT64_MAX : bits;
}

constexpr int64_t kNoKey = INT64_MIN;

// The best cell of several: the greatest key, and the lowest cell that has it.
struct Best {
    int64_t key;
    int32_t cell;
};

__device__ inline Best better(Best a, Best b) {
    return b.key > a.key || (b.key == a.key && b.cell < a.cell) ? b : a;
}

__device__ inline Best best_of_warp(Best x) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2)
        x = better(x, {__shfl_xor_sync(kAllLanes, static_cast<long long>(x.key), distance),
                       __shfl_xor_sync(kAllLanes, x.cell, distance)});
    return x;
}

// Addition commutes, so every lane gets the same bits.
template <class T>
__device__ inline T sum_of_warp(T x) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
    return x;
}

// The greatest number, NaN above all.
template <class T>
__device__ inline T max_of_warp(T x) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
        const T other = __shfl_xor_sync(kAllLanes, x, distance);
        x = other > x || other != other ? other : x;
    }
    return x;
}

// Reductions over a block of THREADS threads, in an order that never changes. `memory` is shared, 16 bytes a warp.
template <int THREADS, class T>
__device__ inline T sum_of_block(T x, void* memory) {
    T* const slots = static_cast<T*>(memory);
    x = sum_of_warp(x);
    if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = slots[0];
    for (int warp = 1; warp < THREADS / kWarp; ++warp) x += slots[warp];
    __syncthreads();
    return x;
}

template <int THREADS, class T>
__device__ inline T max_of_block(T x, void* memory) {
    T* const slots = static_cast<T*>(memory);
    x = max_of_warp(x);
    if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = slots[0];
    for (int warp = 1; warp < THREADS / kWarp; ++warp) x = slots[warp] > x || slots[warp] != slots[warp] ? slots[warp] : x;
    __syncthreads();
    return x;
}

template <int THREADS>
__device__ inline Best best_of_block(Best x, void* memory) {
    Best* const slots = static_cast<Best*>(memory);
    x = best_of_warp(x);
    if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = slots[0];
    for (int warp = 1; warp < THREADS / kWarp; ++warp) x = better(x, slots[warp]);
    __syncthreads();
    return x;
}

// One element of a tensor whose type is known at run time only: for the few numbers of a row.
__device__ inline double read_element(const View& view, int64_t offset) {
    switch (view.dtype) {
        case SIMPLEMATCH_FLOAT32: return static_cast<const float*>(view.data)[offset];
        case SIMPLEMATCH_FLOAT64: return static_cast<const double*>(view.data)[offset];
        case SIMPLEMATCH_BFLOAT16: return widen(static_cast<const __nv_bfloat16*>(view.data)[offset]);
        default: return widen(static_cast<const __half*>(view.data)[offset]);
    }
}

__device__ inline void write_element(const View& view, int64_t offset, double value) {
    switch (view.dtype) {
        case SIMPLEMATCH_FLOAT32: static_cast<float*>(view.data)[offset] = float(value); break;
        case SIMPLEMATCH_FLOAT64: static_cast<double*>(view.data)[offset] = value; break;
        case SIMPLEMATCH_BFLOAT16: static_cast<__nv_bfloat16*>(view.data)[offset] = __float2bfloat16(float(value)); break;
        default: static_cast<__half*>(view.data)[offset] = __float2half(float(value)); break;
    }
}

}  // namespace simplematch::cuda
