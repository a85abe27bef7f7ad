// Sums of rows of gradients, and copies of rows that hold numbers which are not finite.
#include "row_sums.h"

#include "kernels.h"
#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

template <class T>
RowSums sum_row(const T* row, const T* scores, int64_t cells) {
    constexpr int n = kLanes<double>;
    Vector<double> sums{}, with_scores{}, rest{};  // rest: NaN where a number is not finite, else 0
    const auto add = [&](Vector<double> ds, Vector<double> s) __attribute__((always_inline)) {
        s = ds == 0 ? Vector<double>{} : s;
        sums += ds;
        with_scores += ds * s;
        rest += (ds - ds) + (s - s);
    };
    int64_t m = 0;
    for (; m + n <= cells; m += n) add(load<double>(row + m), load<double>(scores + m));
    if (m < cells) add(load_first<double>(row + m, cells - m), load_first<double>(scores + m, cells - m));
    return {sum<double>(sums), sum<double>(with_scores), sum<double>(rest) == 0};
}

// A gradient is NaN where it, or the score that it meets, is not finite.
template <class T>
void copy_row(const T* from, const T* scores, int64_t cells, T* to) {
    for (int64_t m = 0; m < cells; ++m) {
        const bool finite = from[m] - from[m] == 0 && scores[m] - scores[m] == 0;
        to[m] = from[m] == 0 || finite ? from[m] : T(__builtin_nan(""));
    }
}

template RowSums sum_row<float>(const float*, const float*, int64_t);
template RowSums sum_row<double>(const double*, const double*, int64_t);
template void copy_row<float>(const float*, const float*, int64_t, float*);
template void copy_row<double>(const double*, const double*, int64_t, double*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
