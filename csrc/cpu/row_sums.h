// Rows of gradients of scores, as they arrive at the backward of the similarity.
#pragma once

#include <cstdint>

namespace simplematch::cpu {

// Of a row of gradients ds: the sums of ds and of ds * s, and whether all are finite where ds is not 0.
struct RowSums {
    double sum, with_score;
    bool finite;
};

template <class T>
RowSums sum_row(const T* row, const T* scores, int64_t cells) {
    constexpr int64_t n = 8;  // sums, so that none waits for the one before
    double sum[n] = {}, with_score[n] = {};
    T rest[n] = {};  // NaN where a number is not finite, else 0
    const auto add = [&](int64_t m, int64_t i) {
        const T ds = row[m], s = ds == 0 ? T(0) : scores[m];
        sum[i] += double(ds);
        with_score[i] += double(ds) * double(s);
        rest[i] += (ds - ds) + (s - s);
    };
    int64_t m = 0;
    for (; m + n <= cells; m += n)
        for (int64_t i = 0; i < n; ++i) add(m + i, i);
    for (; m < cells; ++m) add(m, m % n);
    RowSums sums{0, 0, true};
    for (int64_t i = 0; i < n; ++i) {
        sums.sum += sum[i];
        sums.with_score += with_score[i];
        sums.finite &= rest[i] == 0;
    }
    return sums;
}

// A gradient is NaN where it, or the score that it meets, is not finite.
template <class T>
void copy_row(const T* from, const T* scores, int64_t cells, T* to) {
    for (int64_t m = 0; m < cells; ++m) {
        const bool finite = from[m] - from[m] == 0 && scores[m] - scores[m] == 0;
        to[m] = from[m] == 0 || finite ? from[m] : T(__builtin_nan(""));
    }
}

}  // namespace simplematch::cpu
