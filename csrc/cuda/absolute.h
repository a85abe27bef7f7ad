// What takes the place of FmaProduct for the metric l1: sums of absolute differences and of their signs. By the multiply-add
// units alone: two operations for each difference, whose magnitude costs none, five for each sign.
#pragma once

#include "product.h"

namespace simplematch::cuda {

// total[r, j] += sum_k |a[k, r] - b[k, j]|
template <class T, int BC, int BK, int ROWS, int COLUMNS, int A_STRIDE, int B_STRIDE>
class DifferenceSum : public ThreadSums<T, BC, BK, ROWS, COLUMNS, A_STRIDE, B_STRIDE> {
public:
    __device__ void add(const T* a, const T* b) {
        this->template sum<4>(a, b, [](T total, T x, T y, int, int) { return total + fabs(x - y); });
    }
};

// total[r, j] += sum_k w[k] sign(v[k] - own[r, j]), where sign(0) = 0: weights lie along the rows, a[k, r], and values along the
// columns, b[k, j], if WEIGHTS_BY_ROW, else the other way round. A weight that is NaN makes its sums NaN.
template <class T, int BC, int BK, int ROWS, int COLUMNS, int A_STRIDE, int B_STRIDE, bool WEIGHTS_BY_ROW>
class SignSum : public ThreadSums<T, BC, BK, ROWS, COLUMNS, A_STRIDE, B_STRIDE> {
public:
    // `own(r, j)`: the number of the tile that the values are compared with.
    template <class Own>
    __device__ void hold(Own&& own) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) own_[r][j] = own(this->row() + r, this->column() + j);
    }

    __device__ void add(const T* a, const T* b) {
        this->template sum<2>(a, b, [&](T total, T x, T y, int r, int j) {
            const T value = WEIGHTS_BY_ROW ? y : x, weight = WEIGHTS_BY_ROW ? x : y;
            const T sign = value > own_[r][j] ? T(1) : value < own_[r][j] ? T(-1) : T(0);
            return fma(weight, sign, total);
        });
    }

private:
    T own_[ROWS][COLUMNS];
};

}  // namespace simplematch::cuda
