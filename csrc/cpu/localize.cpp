// localize (paper eq. 10-12): the best cell of a query, and the expected coordinates inside its window.
//
//     peak = argmax_m s[m]        P[m] = softmax over the window of s[m] / T        out = sum_m P[m] (x_m, y_m)
#include "peak.h"
#include "whole_map.h"
#include "window.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

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
