// Products of tiles in shared memory: total[r, j] += sum_k a[k, r] b[k, j].
#pragma once

#include <mma.h>

#include "common.h"

namespace simplematch::cuda {

// What a thread sums of a tile of BC columns: ROWS x COLUMNS numbers. a and b hold BK rows of A_STRIDE and B_STRIDE numbers. Reads
// (ROWS + COLUMNS) numbers for ROWS * COLUMNS operations.
template <class T, int BC, int BK, int ROWS, int COLUMNS, int A_STRIDE, int B_STRIDE>
class ThreadSums {
public:
    __device__ void clear() {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) total_[r][j] = 0;
    }

    // total[r][j] of the tile, in rows of STRIDE numbers
    template <int STRIDE>
    __device__ void put(T* to) const {
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            Vector<T, COLUMNS> line;
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) line.at[j] = total_[r][j];
            *reinterpret_cast<Vector<T, COLUMNS>*>(to + (row() + r) * STRIDE + column()) = line;
        }
    }

protected:
    __device__ static int row() { return threadIdx.x / (BC / COLUMNS) * ROWS; }
    __device__ static int column() { return threadIdx.x % (BC / COLUMNS) * COLUMNS; }

    // total[r][j] = step(total[r][j], a[k, r], b[k, j], r, j) for every k
    template <int UNROLLED, class Step>
    __device__ void sum(const T* a, const T* b, Step&& step) {
        a += row(), b += column();
#pragma unroll UNROLLED
        for (int k = 0; k < BK; ++k) {
            const auto x = *reinterpret_cast<const Vector<T, ROWS>*>(a + k * A_STRIDE);
            const auto y = *reinterpret_cast<const Vector<T, COLUMNS>*>(b + k * B_STRIDE);
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int j = 0; j < COLUMNS; ++j) total_[r][j] = step(total_[r][j], x.at[r], y.at[j], r, j);
        }
    }

private:
    T total_[ROWS][COLUMNS];
};

// By fused multiply-add, a tile of BR x BC.
template <class T, int BR, int BC, int BK, int ROWS, int COLUMNS, int A_STRIDE, int B_STRIDE>
class FmaProduct : public ThreadSums<T, BC, BK, ROWS, COLUMNS, A_STRIDE, B_STRIDE> {
public:
    static constexpr int kThreads = BR / ROWS * (BC / COLUMNS);

    __device__ void add(const T* a, const T* b) {
        this->template sum<4>(a, b, [](T total, T x, T y, int, int) { return fma(x, y, total); });
    }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kTensorCoresTakeBFloat16 = false;
#else
constexpr bool kTensorCoresTakeBFloat16 = true;
#endif

// By tensor cores, from 16-bit numbers into float: a[k, r] lies at k * A_STRIDE + r, b[k, j] at k * B_STRIDE + j, or at
// j * B_STRIDE + k if B_BY_COLUMN. A warp sums FRAGMENTS tiles of 16 x 16, side by side along r.
template <class S, int BR, int BC, int BK, int THREADS, int A_STRIDE, int B_STRIDE, bool B_BY_COLUMN>
class TensorProduct {
public:
    __device__ void clear() {
#pragma unroll
        for (int i = 0; i < kFragments; ++i) nvcuda::wmma::fill_fragment(total_[i], 0.0f);
    }

    __device__ void add(const S* a, const S* b) {
        using namespace nvcuda::wmma;
        using OrderB = std::conditional_t<B_BY_COLUMN, col_major, row_major>;
#pragma unroll
        for (int k = 0; k < BK; k += 16) {
            fragment<matrix_b, 16, 16, 16, S, OrderB> y;
            load_matrix_sync(y, b + (B_BY_COLUMN ? column() * B_STRIDE + k : k * B_STRIDE + column()), B_STRIDE);
#pragma unroll
            for (int i = 0; i < kFragments; ++i) {
                fragment<matrix_a, 16, 16, 16, S, col_major> x;
                load_matrix_sync(x, a + k * A_STRIDE + row(i), A_STRIDE);
                mma_sync(total_[i], x, y, total_[i]);
            }
        }
    }

    template <int STRIDE>
    __device__ void put(float* to) const {
#pragma unroll
        for (int i = 0; i < kFragments; ++i)
            nvcuda::wmma::store_matrix_sync(to + row(i) * STRIDE + column(), total_[i], STRIDE, nvcuda::wmma::mem_row_major);
    }

private:
    static constexpr int kWarps = THREADS / kWarp;
    static constexpr int kFragments = BR / 16 * (BC / 16) / kWarps;
    static_assert(kFragments * kWarps * 256 == BR * BC, "every warp sums as much");

    __device__ static int column() { return threadIdx.x / kWarp % (BC / 16) * 16; }
    __device__ static int row(int i) { return (threadIdx.x / kWarp / (BC / 16) * kFragments + i) * 16; }

    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> total_[kFragments];
};

// The same from the same numbers, where tensor cores do not take their type.
template <class S, int BR, int BC, int BK, int THREADS, int A_STRIDE, int B_STRIDE, bool B_BY_COLUMN>
class WidenedProduct {
public:
    __device__ void clear() {
#pragma unroll
        for (int i = 0; i < kEach; ++i) total_[i] = 0;
    }

    __device__ void add(const S* a, const S* b) {
        for (int k = 0; k < BK; ++k) {
            const float y = widen(B_BY_COLUMN ? b[column() * B_STRIDE + k] : b[k * B_STRIDE + column()]);
#pragma unroll
            for (int i = 0; i < kEach; ++i) total_[i] = fma(widen(a[k * A_STRIDE + row(i)]), y, total_[i]);
        }
    }

    template <int STRIDE>
    __device__ void put(float* to) const {
#pragma unroll
        for (int i = 0; i < kEach; ++i) to[row(i) * STRIDE + column()] = total_[i];
    }

private:
    static constexpr int kEach = BR * BC / THREADS;
    static_assert(THREADS % BC == 0, "a thread stays in one column");

    __device__ static int column() { return threadIdx.x % BC; }
    __device__ static int row(int i) { return threadIdx.x / BC + i * (THREADS / BC); }

    float total_[kEach];
};

}  // namespace simplematch::cuda
