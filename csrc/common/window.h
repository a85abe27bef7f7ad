// Where the window of a peak lies.
#pragma once

#include "records.h"

namespace simplematch {

// Cells [top, bottom) x [left, right): a window clipped to the map.
template <class Integer>
struct BoxOf {
    Integer top, left, bottom, right;
};

SIMPLEMATCH_HOST_DEVICE static constexpr int64_t least_of(int64_t a, int64_t b) { return b < a ? b : a; }
SIMPLEMATCH_HOST_DEVICE static constexpr int64_t most_of(int64_t a, int64_t b) { return a < b ? b : a; }

// The window of the flat cell `peak`, clipped to the map.
template <class Integer>
SIMPLEMATCH_HOST_DEVICE static inline BoxOf<Integer> window_box(
    const Window& window, Integer peak, Integer height, Integer width) {
    const int64_t y = peak / width, x = peak % width;
    int64_t top = y - window.height / 2, left = x - window.width / 2;
    if (window.shift && window.shape == SIMPLEMATCH_SQUARE) {
        top = least_of(most_of(top, 0), most_of(height - window.height, 0));
        left = least_of(most_of(left, 0), most_of(width - window.width, 0));
    }
    const int64_t bottom = least_of(top + window.height, height), right = least_of(left + window.width, width);
    return {Integer(most_of(top, 0)), Integer(most_of(left, 0)), Integer(bottom), Integer(right)};
}

// A disc: the cells, (dx, dy) from the peak, with across dx^2 + down dy^2 <= most. Of a circle the left side is exact. A cell
// within a few roundings of the edge lies on it, so that every processor finds the same cells.
struct Ellipse {
    double across, down, most;

    SIMPLEMATCH_HOST_DEVICE bool has(int64_t dy, int64_t dx) const {
        const double x = double(dx), y = double(dy);
        return across * (x * x) + down * (y * y) <= most;
    }
};

SIMPLEMATCH_HOST_DEVICE static inline Ellipse ellipse_of(const Window& window) {
    constexpr double edge = 1.0 / (int64_t(1) << 48);
    const double height = window.disc_height, width = window.disc_width;
    const bool circle = height == width, closed = window.shape == SIMPLEMATCH_CLOSED_DISC;
    const double half = circle ? height / 2 : height * width / 2;
    return {circle ? 1 : height * height, circle ? 1 : width * width, half * half * (closed ? 1 + edge : 1 - edge)};
}

// Whether a cell of the box, (dx, dy) from the peak, belongs to the window.
SIMPLEMATCH_HOST_DEVICE static inline bool in_shape(const Window& window, int64_t dy, int64_t dx) {
    if (window.shape == SIMPLEMATCH_SQUARE) return true;
    if (window.shape == SIMPLEMATCH_PLUS) return dy == 0 || dx == 0;
    return ellipse_of(window).has(dy, dx);
}

// The cells that the second best is not one of.
SIMPLEMATCH_HOST_DEVICE static inline Window around_peak(const Localization& localization) {
    return localization.second.height > 0 ? localization.second : localization.window;
}

// (rows, columns) of the largest box that a window can cover: the layout of kept window scores.
SIMPLEMATCH_HOST_DEVICE static constexpr int64_t box_rows(const Window& window, int64_t height) {
    return least_of(window.height, height);
}
SIMPLEMATCH_HOST_DEVICE static constexpr int64_t box_columns(const Window& window, int64_t width) {
    return least_of(window.width, width);
}

}  // namespace simplematch
