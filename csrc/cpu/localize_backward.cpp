// localize_backward: gradients of the scores inside a window, and of the temperature.
//
//     a[m]  = <g, c_m - out> + l + <G, (c_m - out) (c_m - out)^T - C>        g, l, h, G: upstream of out, log_sum_exp,
//                                                             score and C, the covariance; c_m = (x_m, y_m)
//     ds[m] = gauss[m] P[m] / T a[m] + h [m == peak]
//     dT    = -1 / T^2 sum_m P[m] s'[m] a[m]                  s': the score times gauss, or the outside value
//
// A row to which nothing but zeros arrives passes on zeros; else a row that is lost, or to which something arrives that is
// not finite, passes on NaN, to every cell of its softmax.
#include "outside.h"
#include "whole_map.h"
#include "window.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

bool arrives_nothing(double g_x, double g_y, double h, double l) { return g_x == 0 && g_y == 0 && h == 0 && l == 0; }

// Zeros in the box, or NaN in the cells of it that take part.
template <class T>
void fill(const RowWork<T>& w, const SoftArgmax<T>& s, T value, RowGradient<T>& gradient) {
    for (int64_t y = s.box.top; y < s.box.bottom; ++y) {
        const Segment segment = segment_of_row(w.window, s.box, s.peak_y, s.peak_x, y);
        T* const to = gradient.scores + (y - s.box.top) * gradient.stride - s.box.left;
        for (int64_t x = s.box.left; x < s.box.right; ++x) {
            const bool inside = x >= segment.left && x < segment.right;
            to[x] = inside && (w.mask == nullptr || w.mask[y * w.width + x]) ? value : T(0);
        }
    }
    gradient.sum = gradient.sum_with_score = gradient.temperature = double(value);
}

// Not inlined: its registers would have to be saved for the short rows of whole_map.h too.
// `spreads`: a gradient arrives at the covariance.
template <class T, bool spreads>
__attribute__((noinline)) void backward_in_window(const RowWork<T>& w, RowGradient<T>& gradient) {
    const Window& window = w.window;
    const SoftArgmax<T> s = soft_argmax(w, gradient.peak, w.scores, w.row_stride);
    const SpreadGradient& spread = gradient.spread;
    const double arriving = gradient.x + gradient.y + gradient.score + gradient.log_sum_exp +
                            (spreads ? spread.xx + spread.xy + spread.yy : 0);
    if (arrives_nothing(gradient.x, gradient.y, gradient.score, gradient.log_sum_exp) && !(spreads && spread.any))
        return fill(w, s, T(0), gradient);
    if (s.lost || arriving - arriving != 0) return fill(w, s, T(__builtin_nan("")), gradient);
    const double x_out = s.sum_x / s.total, y_out = s.sum_y / s.total;
    const bool weigh = window.sigma > 0;
    const int64_t columns = s.box.right - s.box.left;
    const T g_x = T(gradient.x);
    const T scale = T(1 / s.total);
    // sum P s' a = sum P (s' - c) a + c sum P a, and sum P a = l: with c the greatest s', little cancels.
    const T greatest = s.largest;
    double sum_gradient = 0, sum_with_score = 0, sum_temperature = 0;
    for (int64_t y = s.box.top; y < s.box.bottom; ++y) {
        const T* __restrict from = w.scores + (y - s.box.top) * w.row_stride;
        const T* __restrict weights = s.weights + (y - s.box.top) * s.stride;
        T* __restrict to = gradient.scores + (y - s.box.top) * gradient.stride;
        // a = g_x (x - x_out) + row
        const double dy = double(y - s.peak_y) - y_out;
        T row = T(gradient.y * dy + gradient.log_sum_exp - gradient.x * x_out);
        T first = T(s.box.left - s.peak_x), linear = 0, quadratic = 0;
        if (spreads) {  // a = (quadratic dx + linear) dx + row, with dx from x_out
            first = T(double(s.box.left - s.peak_x) - x_out);
            quadratic = T(spread.xx);
            linear = T(gradient.x + spread.xy * dy);
            row = T((spread.yy * dy + gradient.y) * dy + gradient.log_sum_exp - spread.product);
        }
        const T* __restrict gauss_x = s.gauss_x;
        const T gauss_y = weigh ? gauss<T>(window, y - s.peak_y) : T(1);
        T total = 0, total_with_score = 0, total_temperature = 0;
#pragma omp simd reduction(+ : total, total_with_score, total_temperature)
        for (int64_t i = 0; i < columns; ++i) {
            const T dx = first + T(i);
            const T a = weights[i] * scale * (spreads ? (quadratic * dx + linear) * dx + row : g_x * dx + row);
            const T factor = weigh ? gauss_y * gauss_x[i] : T(1);
            // a weight of zero says outside, masked or negligible: a score that may be NaN has no part in it
            const T ds = weights[i] == 0 ? T(0) : a * factor / w.temperature;
            to[i] = ds;
            total += ds;
            total_with_score += weights[i] == 0 ? T(0) : ds * from[i];
            total_temperature += weights[i] == 0 ? T(0) : a * (from[i] * factor - greatest);
        }
        sum_gradient += double(total);
        sum_with_score += double(total_with_score);
        sum_temperature += double(total_temperature);
    }
    if (s.outside_weight != 0) {
        double a = gradient.x * (s.outside_x - s.outside_count * x_out) +
                   gradient.y * (s.outside_y - s.outside_count * y_out) + gradient.log_sum_exp * s.outside_count;
        if (spreads) {
            const Covariance outside = outside_squares(w, s, x_out, y_out);
            a += spread.xx * outside.xx + spread.xy * outside.xy + spread.yy * outside.yy -
                 spread.product * s.outside_count;
        }
        sum_temperature += s.outside_weight / s.total * (window.outside_value - double(greatest)) * a;
    }
    sum_temperature += double(greatest) * gradient.log_sum_exp;
    gradient.temperature = -sum_temperature / double(w.temperature) / double(w.temperature);

    const int64_t y = s.peak_y - s.box.top, x = s.peak_x - s.box.left;
    gradient.scores[y * gradient.stride + x] += T(gradient.score);
    gradient.sum = sum_gradient + gradient.score;
    gradient.sum_with_score =
        sum_with_score + (gradient.score == 0 ? 0 : gradient.score * double(w.scores[y * w.row_stride + x]));
}

}  // namespace

template <class T>
void localize_backward(const RowWork<T>& w, RowGradient<T>& gradient) {
    if (gradient.spread.given) return backward_in_window<T, true>(w, gradient);
    if (!is_whole_map(w) || !whole_map_backward(w, gradient)) backward_in_window<T, false>(w, gradient);
}

template void localize_backward<float>(const RowWork<float>&, RowGradient<float>&);
template void localize_backward<double>(const RowWork<double>&, RowGradient<double>&);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
