// localize (paper eq. 10-12): the best cell of a query, and the expected coordinates inside its window.
//
//     peak = argmax_m s[m]        P[m] = softmax over the window of s[m] / T        out = sum_m P[m] (x_m, y_m)
#include "whole_map.h"
#include "window.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// The lowest index of the greatest of the selectable numbers; NaN is greater than everything.
template <class T>
int64_t find_peak(const T* scores, const uint8_t* mask, int64_t count) {
    constexpr int n = kLanes<T>;
    using Integers = typename Simd<T>::Integers;
    if (mask != nullptr) {
        int64_t best = -1;
        for (int64_t m = 0; m < count; ++m) {
            if (!mask[m]) continue;
            if (scores[m] != scores[m]) return m;
            if (best < 0 || scores[m] > scores[best]) best = m;
        }
        return best;
    }
    Vector<T> greatest = broadcast(-T(__builtin_inf()));
    Integers ordered = greatest == greatest;
    int64_t m = 0;
    for (; m + n <= count; m += n) {
        const Vector<T> v = load<T>(scores + m);
        greatest = larger<T>(v, greatest);
        ordered &= (v == v);
    }
    T max = -T(__builtin_inf());
    bool has_nan = false;
    for (int i = 0; i < n; ++i) {
        max = greatest[i] > max ? greatest[i] : max;
        has_nan |= ordered[i] == 0;
    }
    for (; m < count; ++m) {
        max = scores[m] > max ? scores[m] : max;
        has_nan |= scores[m] != scores[m];
    }
    if (has_nan) {
        for (int64_t i = 0; i < count; ++i)
            if (scores[i] != scores[i]) return i;
    }
    for (int64_t first = 0; first < count; first += kTile) {
        const int64_t last = first + kTile < count ? first + kTile : count;
        int found = 0;
        for (int64_t i = first; i < last; ++i) found |= scores[i] == max;
        for (int64_t i = first; found && i < last; ++i)
            if (scores[i] == max) return i;
    }
    return 0;
}

// Not inlined: its registers would have to be saved for the short rows of whole_map.h too.
template <class T>
__attribute__((noinline)) RowResult localize_in_window(const RowWork<T>& w) {
    RowResult result;
    result.peak = find_peak(w.scores, w.mask, w.height * w.width);
    result.score = double(w.scores[result.peak]);
    const Box box = window_box(w.window, result.peak, w.height, w.width);
    const SoftArgmax<T> s = soft_argmax(w, result.peak, w.scores + box.top * w.row_stride + box.left, w.row_stride);
    const double largest = result.score != result.score ? result.score : double(s.largest);
    const double logit = largest / double(w.temperature);
    result.x = s.lost ? __builtin_nan("") : double(s.peak_x) + s.sum_x / s.total;
    result.y = s.lost ? __builtin_nan("") : double(s.peak_y) + s.sum_y / s.total;
    result.log_sum_exp = s.lost ? logit : logit + __builtin_log(s.total);
    return result;
}

}  // namespace

template <class T>
RowResult localize(const RowWork<T>& w) {
    RowResult result;
    return is_whole_map(w) && localize_whole_map(w, result) ? result : localize_in_window(w);
}

template RowResult localize<float>(const RowWork<float>&);
template RowResult localize<double>(const RowWork<double>&);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
