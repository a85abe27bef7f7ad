// What a row has besides its match: the covariance of the expected point, and the best cell outside a window.
//
//     covariance = sum_m P[m] (c_m - out) (c_m - out)^T        second = argmax of s[m] over the cells m outside the window
//
// Offsets are counted from `out` itself: differences of means of squares would lose the digits of a narrow peak.
#include "outside.h"
#include "peak.h"
#include "window.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

template <class T>
Covariance covariance(const RowWork<T>& w, int64_t peak) {
    constexpr int n = kLanes<T>;
    const Box box = window_box(w.window, peak, w.height, w.width);
    const SoftArgmax<T> s = soft_argmax(w, peak, w.scores + box.top * w.row_stride + box.left, w.row_stride);
    const double nan = __builtin_nan("");
    if (s.lost) return {nan, nan, nan};
    const double mean_x = s.sum_x / s.total, mean_y = s.sum_y / s.total;
    Covariance sums{0, 0, 0};
    for (int64_t y = box.top; y < box.bottom; ++y) {
        const T* const weights = s.weights + (y - box.top) * s.stride;
        Vector<T> total{}, total_x{}, total_xx{}, dx = iota(T(double(box.left - s.peak_x) - mean_x));
        for (int64_t i = 0; i < s.stride; i += n) {
            const Vector<T> weight = load<T>(weights + i), moved = weight * dx;
            total += weight;
            total_x += moved;
            total_xx += moved * dx;
            dx += T(n);
        }
        const double dy = double(y - s.peak_y) - mean_y;
        sums.xx += double(sum<T>(total_xx));
        sums.xy += double(sum<T>(total_x)) * dy;
        sums.yy += double(sum<T>(total)) * dy * dy;
    }
    if (s.outside_weight != 0) {
        const Covariance outside = outside_squares(w, s, mean_x, mean_y);
        sums.xx += s.outside_weight * outside.xx;
        sums.xy += s.outside_weight * outside.xy;
        sums.yy += s.outside_weight * outside.yy;
    }
    return {sums.xx / s.total, sums.xy / s.total, sums.yy / s.total};
}

template <class T>
SecondBest second_best(const RowWork<T>& w, const Window& around, int64_t peak) {
    const Box box = window_box(around, peak, w.height, w.width);
    SecondBest best{-1, -__builtin_inf()};
    bool done = false;  // nothing is greater than NaN
    const auto search = [&](int64_t first, int64_t last) {
        if (done || first >= last) return;
        const int64_t found = find_peak(w.scores + first, w.mask == nullptr ? nullptr : w.mask + first, last - first);
        if (found < 0) return;
        const double score = double(w.scores[first + found]);
        done = score != score;
        if (best.peak < 0 || done || score > best.score) best = {first + found, score};
    };
    const int64_t first_row = box.top < box.bottom ? box.top : 0, last_row = box.top < box.bottom ? box.bottom : 0;
    int64_t first = 0;  // cells from here on are outside, up to the next segment
    for (int64_t y = first_row; y < last_row; ++y) {
        const Segment segment = segment_of_row(around, box, peak / w.width, peak % w.width, y);
        if (segment.left >= segment.right) continue;
        search(first, y * w.width + segment.left);
        first = y * w.width + segment.right;
    }
    search(first, w.height * w.width);
    return best;
}

template Covariance covariance<float>(const RowWork<float>&, int64_t);
template Covariance covariance<double>(const RowWork<double>&, int64_t);
template SecondBest second_best<float>(const RowWork<float>&, const Window&, int64_t);
template SecondBest second_best<double>(const RowWork<double>&, const Window&, int64_t);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
