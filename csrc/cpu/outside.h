// The cells outside the window, for the covariance and its gradient.
#pragma once

#include "window.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// Sums over them of the products of their offsets from the expected point, which is (mean_x, mean_y) from the peak.
template <class T>
Covariance outside_squares(const RowWork<T>& w, const SoftArgmax<T>& s, double mean_x, double mean_y) {
    const double x = double(s.peak_x) + mean_x, y = double(s.peak_y) + mean_y, count = w.totals.count;
    Covariance sums{w.squares->xx - 2 * x * w.totals.x + count * x * x,
                    w.squares->xy - x * w.totals.y - y * w.totals.x + count * x * y,
                    w.squares->yy - 2 * y * w.totals.y + count * y * y};
    for (int64_t row = s.box.top; row < s.box.bottom; ++row) {
        const Segment segment = segment_of_row(w.window, s.box, s.peak_y, s.peak_x, row);
        const double dy = double(row) - y;
        for (int64_t column = segment.left; column < segment.right; ++column) {
            if (w.mask != nullptr && !w.mask[row * w.width + column]) continue;
            const double dx = double(column) - x;
            sums.xx -= dx * dx;
            sums.xy -= dx * dy;
            sums.yy -= dy * dy;
        }
    }
    return sums;
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
