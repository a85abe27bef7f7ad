// The softmax over a window, shared by localize and localize_backward.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

struct Segment {
    int64_t left, right;
};

// How far a disc reaches to both sides in the row dy below the peak, but no farther than `most`; -1: it doesn't.
inline int64_t reach_of_disc(const Window& window, int64_t dy, int64_t most) {
    const Ellipse ellipse = ellipse_of(window);
    if (!ellipse.has(dy, 0)) return -1;
    const double rest = ellipse.most - ellipse.down * (double(dy) * double(dy));
    const double about = rest > 0 ? __builtin_sqrt(rest / ellipse.across) : 0;
    int64_t reach = about < double(most) ? int64_t(about) : most;
    while (!ellipse.has(dy, reach)) --reach;
    while (reach < most && ellipse.has(dy, reach + 1)) ++reach;
    return reach;
}

// The cells of row y of the box that belong to the window: all of them, or those of a shape around the peak.
inline Segment segment_of_row(const Window& window, const Box& box, int64_t peak_y, int64_t peak_x, int64_t y) {
    if (window.shape == SIMPLEMATCH_SQUARE || (window.shape == SIMPLEMATCH_PLUS && y == peak_y)) return {box.left, box.right};
    const int64_t columns = box.right - box.left;
    const int64_t reach = window.shape == SIMPLEMATCH_PLUS ? 0 : reach_of_disc(window, y - peak_y, columns);
    const int64_t left = peak_x - reach, right = peak_x + reach + 1;
    const Segment segment{left > box.left ? left : box.left, right < box.right ? right : box.right};
    return segment.left < segment.right ? segment : Segment{box.left, box.left};
}

// The soft-argmax of one query. weights[y - top][x - left] = exp((s' - largest) / T), rows of `stride` numbers, where s' is
// the weighted score and `largest` the greatest, that of the outside included; coordinates are relative to the peak. The
// gaussian factor of cell (x, y) is gauss_x[x - left] * gauss_y(y).
template <class T>
struct SoftArgmax {
    Box box;
    int64_t peak_y, peak_x, stride;
    T* weights;
    T* gauss_x;
    T largest;
    double total, sum_x, sum_y;             // of the weights, and of the weights times coordinates
    double outside_count, outside_x, outside_y;
    double outside_weight;                  // of each cell outside the window
    bool lost;                              // a score that isn't finite, or the temperature, makes the row NaN
};

template <class T>
inline T gauss(const Window& window, int64_t distance) {
    return T(__builtin_exp(-double(distance) * double(distance) / (2 * window.sigma * window.sigma)));
}

template <class T>
SoftArgmax<T> soft_argmax(const RowWork<T>& w, int64_t peak, const T* scores, int64_t row_stride) {
    constexpr int n = kLanes<T>;
    const Window& window = w.window;
    const T lowest = -T(__builtin_inf());
    SoftArgmax<T> s;
    s.peak_y = peak / w.width;
    s.peak_x = peak % w.width;
    s.box = window_box(window, peak, w.height, w.width);
    const int64_t columns = s.box.right - s.box.left;
    s.stride = round_up(columns, n);
    s.gauss_x = w.scratch;
    s.weights = w.scratch + round_up(w.width, kTile);
    const bool weigh = window.sigma > 0;
    if (weigh)
        for (int64_t i = 0; i < columns; ++i) s.gauss_x[i] = gauss<T>(window, s.box.left + i - s.peak_x);

    double inside_count = 0, inside_x = 0, inside_y = 0;
    Vector<T> max = broadcast(lowest);
    for (int64_t y = s.box.top; y < s.box.bottom; ++y) {
        const Segment segment = segment_of_row(window, s.box, s.peak_y, s.peak_x, y);
        const T* from = scores + (y - s.box.top) * row_stride - s.box.left;
        T* line = s.weights + (y - s.box.top) * s.stride - s.box.left;
        for (int64_t x = s.box.left; x < segment.left; ++x) line[x] = lowest;
        for (int64_t x = segment.right; x < s.box.left + s.stride; ++x) line[x] = lowest;
        if (weigh) {
            const T factor = gauss<T>(window, y - s.peak_y);
            const T* gauss_x = s.gauss_x - s.box.left;
            for (int64_t x = segment.left; x < segment.right; ++x)  // infinity stays, also where the gaussian vanishes
                line[x] = from[x] - from[x] == 0 ? from[x] * (factor * gauss_x[x]) : from[x];
        } else {
            for (int64_t x = segment.left; x < segment.right; ++x) line[x] = from[x];
        }
        int64_t count = segment.right - segment.left;
        int64_t sum_x = count * (segment.left + segment.right - 1 - 2 * s.peak_x) / 2;
        if (w.mask != nullptr) {
            const uint8_t* mask = w.mask + y * w.width;
            count = sum_x = 0;
            for (int64_t x = segment.left; x < segment.right; ++x) {
                line[x] = mask[x] ? line[x] : lowest;
                count += mask[x] ? 1 : 0;
                sum_x += mask[x] ? x - s.peak_x : 0;
            }
        }
        inside_count += double(count);
        inside_x += double(sum_x);
        inside_y += double(count * (y - s.peak_y));
        for (int64_t i = 0; i < s.stride; i += n) max = larger<T>(load<T>(line + s.box.left + i), max);
    }
    s.largest = lowest;
    for (int i = 0; i < n; ++i) s.largest = max[i] > s.largest ? max[i] : s.largest;

    s.outside_count = s.outside_x = s.outside_y = s.outside_weight = 0;
    if (window.outside_value != -__builtin_inf()) {
        s.outside_count = w.totals.count - inside_count;
        s.outside_x = w.totals.x - w.totals.count * double(s.peak_x) - inside_x;
        s.outside_y = w.totals.y - w.totals.count * double(s.peak_y) - inside_y;
    }
    if (s.outside_count > 0) {
        const T outside = T(window.outside_value);
        s.largest = outside > s.largest ? outside : s.largest;
        s.outside_weight = double(exponential(broadcast((outside - s.largest) / w.temperature))[0]);
    }
    const T at_peak = scores[(s.peak_y - s.box.top) * row_stride + s.peak_x - s.box.left];
    s.lost = s.largest - s.largest != 0 || at_peak != at_peak || w.temperature != w.temperature;

    s.total = s.outside_count * s.outside_weight;
    s.sum_x = s.outside_x * s.outside_weight;
    s.sum_y = s.outside_y * s.outside_weight;
    for (int64_t y = s.box.top; y < s.box.bottom; ++y) {
        T* line = s.weights + (y - s.box.top) * s.stride;
        Vector<T> total{}, total_x{}, dx = iota(T(s.box.left - s.peak_x));
        for (int64_t i = 0; i < s.stride; i += n) {
            const Vector<T> weight = exponential((load<T>(line + i) - s.largest) / w.temperature);
            store<T>(line + i, weight);
            total += weight;
            total_x += weight * dx;
            dx += T(n);
        }
        const double row = double(sum<T>(total));
        s.total += row;
        s.sum_x += double(sum<T>(total_x));
        s.sum_y += row * double(y - s.peak_y);
    }
    return s;
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
