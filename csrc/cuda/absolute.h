// What takes the place of the products of product.h for the metric l1: sums of absolute differences and of their signs. By the
// multiply-add units alone: two operations for each difference, whose magnitude costs none, five for each sign.
#pragma once

#include "common.h"

namespace simplematch::cuda {

// total[r, j] += sum_k |a[k, r] - b[k, j]|, as FmaProduct lies.
template <class T, int BR, int BC, int BK, int ROWS, int COLUMNS, int A_STRIDE, int B_STRIDE>
class DifferenceSum {
public:
    __device__ void clear() {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) total_[r][j] = 0;
    }

    __device__ void add(const T* a, const T* b) {
        a += row(), b += column();
#pragma unroll 4
        for (int k = 0; k < BK; ++k) {
            const auto x = *reinterpret_cast<const Vector<T, ROWS>*>(a + k * A_STRIDE);
            const auto y = *reinterpret_cast<const Vector<T, COLUMNS>*>(b + k * B_STRIDE);
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int j = 0; j < COLUMNS; ++j) total_[r][j] += fabs(x.at[r] - y.at[j]);
        }
    }

    // Minus total[r][j] of the tile, in rows of STRIDE numbers.
    template <int STRIDE>
    __device__ void put_negative(T* to) const {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) to[(row() + r) * STRIDE + column() + j] = 0 - total_[r][j];
    }

private:
    __device__ static int row() { return threadIdx.x / (BC / COLUMNS) * ROWS; }
    __device__ static int column() { return threadIdx.x % (BC / COLUMNS) * COLUMNS; }

    T total_[ROWS][COLUMNS];
};

// total[r, j] += sum_k w[k] sign(v[k] - own[r, j]), where sign(0) = 0: weights lie along the rows, a[k, r], and values along the
// columns, b[k, j], if WEIGHTS_BY_ROW, else the other way round. A weight that is NaN makes its sums NaN.
template <class T, int BR, int BC, int BK, int ROWS, int COLUMNS, int A_STRIDE, int B_STRIDE, bool WEIGHTS_BY_ROW>
class SignSum {
public:
    __device__ void clear() {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) total_[r][j] = 0;
    }

    // `own(r, j)`: the number of the tile that the values are compared with.
    template <class Own>
    __device__ void hold(Own&& own) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) own_[r][j] = own(row() + r, column() + j);
    }

    __device__ void add(const T* a, const T* b) {
        a += row(), b += column();
#pragma unroll 2
        for (int k = 0; k < BK; ++k) {
            const auto x = *reinterpret_cast<const Vector<T, ROWS>*>(a + k * A_STRIDE);
            const auto y = *reinterpret_cast<const Vector<T, COLUMNS>*>(b + k * B_STRIDE);
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int j = 0; j < COLUMNS; ++j) {
                    const T value = WEIGHTS_BY_ROW ? y.at[j] : x.at[r], weight = WEIGHTS_BY_ROW ? x.at[r] : y.at[j];
                    const T sign = value > own_[r][j] ? T(1) : value < own_[r][j] ? T(-1) : T(0);
                    total_[r][j] = fma(weight, sign, total_[r][j]);
                }
        }
    }

    template <int STRIDE>
    __device__ void put(T* to) const {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) to[(row() + r) * STRIDE + column() + j] = total_[r][j];
    }

private:
    __device__ static int row() { return threadIdx.x / (BC / COLUMNS) * ROWS; }
    __device__ static int column() { return threadIdx.x % (BC / COLUMNS) * COLUMNS; }

    T total_[ROWS][COLUMNS], own_[ROWS][COLUMNS];
};

}  // namespace simplematch::cuda
