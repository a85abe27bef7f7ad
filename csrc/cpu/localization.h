// Between the numbers of one row and the tensors of the user.
#pragma once

#include <algorithm>

#include "common/affine.h"
#include "driver.h"

namespace simplematch::cpu {

// The coordinates of a strip: a few hundred cells, so that the work between strips costs little.
template <class T>
class StripTable {
public:
    StripTable(int64_t height, int64_t width) : rows_(std::max<int64_t>(1, std::min(height, kCells / width))) {
        const int64_t cells = round_up(rows_ * width, kTile);
        numbers_ = Buffer<T>(2 * cells);
        y_ = numbers_.get() + cells;
        for (int64_t i = 0; i < rows_ * width; ++i) {
            numbers_[i] = T(i % width);
            y_[i] = T(i / width);
        }
        std::fill(numbers_.get() + rows_ * width, y_, T(0));
        std::fill(y_ + rows_ * width, y_ + cells, T(0));
    }
    Strip<T> view() const { return {rows_, numbers_.get(), y_}; }

private:
    static constexpr int64_t kCells = 512;
    int64_t rows_;
    Buffer<T> numbers_;
    T* y_;
};

static inline double temperature_of(const View& temperature, const Localization& localization, int64_t b, int64_t n) {
    const double value = temperature.data == nullptr ? localization.temperature : read_upstream(temperature, b, n);
    return value > 0 ? value : __builtin_nan("");  // the row becomes NaN
}

template <class T>
void write_match(const Matches& matches, int64_t i, const RowResult& row, const AffineMaps& from_cells, double offset) {
    T* const keypoint = static_cast<T*>(matches.keypoints) + 2 * i;
    keypoint[0] = T(apply(from_cells.x, row.x) + offset);
    keypoint[1] = T(apply(from_cells.y, row.y) + offset);
    static_cast<T*>(matches.score)[i] = T(row.score);
    matches.peak[i] = row.peak;
    static_cast<T*>(matches.log_sum_exp)[i] = T(row.log_sum_exp);
}

// What a row has besides its match, as far as it is wanted.
template <class T>
void write_details(const Matches& matches, int64_t i, const RowWork<T>& row, int64_t peak, const Localization& localization,
                   const AffineMaps& from_cells, const Kernels<T>& steps) {
    if (matches.covariance != nullptr) {
        const double x = rate(from_cells.x), y = rate(from_cells.y);
        const Covariance c = steps.covariance(row, peak);
        T* const to = static_cast<T*>(matches.covariance) + 4 * i;
        to[0] = T(x * x * c.xx);
        to[1] = to[2] = T(x * y * c.xy);
        to[3] = T(y * y * c.yy);
    }
    if (matches.second_peak != nullptr) {
        const SecondBest second = steps.second_best(row, around_peak(localization), peak);
        static_cast<T*>(matches.second_score)[i] = T(second.score);
        matches.second_peak[i] = second.peak;
    }
}

template <class T>
void write_invalid(const Matches& matches, int64_t i) {
    T* const keypoint = static_cast<T*>(matches.keypoints) + 2 * i;
    keypoint[0] = keypoint[1] = T(-1);
    static_cast<T*>(matches.score)[i] = static_cast<T*>(matches.log_sum_exp)[i] = T(0);
    matches.peak[i] = -1;
    if (matches.covariance != nullptr) std::fill_n(static_cast<T*>(matches.covariance) + 4 * i, 4, T(0));
    if (matches.second_peak != nullptr) {
        static_cast<T*>(matches.second_score)[i] = T(0);
        matches.second_peak[i] = -1;
    }
}

// The window's scores, box_size numbers in rows of box_columns; zeros where the window lies outside the map.
template <class T>
void keep_window(const T* row, int64_t width, const Box& box, T* kept, int64_t box_size, int64_t box_columns) {
    const int64_t columns = box.right - box.left;
    if ((box.bottom - box.top) * columns < box_size) std::fill(kept, kept + box_size, T(0));
    for (int64_t y = box.top; y < box.bottom; ++y)
        std::copy_n(row + y * width + box.left, columns, kept + (y - box.top) * box_columns);
}

// Upstream gradient of the covariance of row (b, n), which the forward found to be `covariance`.
template <class T>
SpreadGradient spread_of_row(const View& upstream, const T* covariance, const AffineMaps& from_cells, int64_t b, int64_t n) {
    const double x = rate(from_cells.x), y = rate(from_cells.y);
    SpreadGradient spread{0, 0, 0, 0, true, false};
    for (int64_t i = 0; i < 2; ++i)
        for (int64_t j = 0; j < 2; ++j) {
            const double g = read_upstream(upstream, b, n, i, j);
            (i != j ? spread.xy : i == 0 ? spread.xx : spread.yy) += g * (i == 0 ? x : y) * (j == 0 ? x : y);
            spread.product += g * double(covariance[2 * i + j]);
            spread.any |= g != 0;
        }
    return spread;
}

// Upstream gradients of row (b, n), those of the coordinates in cells.
template <class T>
RowGradient<T> upstream_of_row(const Upstream& upstream, const Matches& forward, int64_t count,
                               const AffineMaps& from_cells, int64_t b, int64_t n) {
    RowGradient<T> row{};
    row.x = read_upstream(upstream.keypoints, b, n, 0) * double(from_cells.x.numerator) / double(from_cells.x.denominator);
    row.y = read_upstream(upstream.keypoints, b, n, 1) * double(from_cells.y.numerator) / double(from_cells.y.denominator);
    row.score = read_upstream(upstream.score, b, n);
    row.log_sum_exp = read_upstream(upstream.log_sum_exp, b, n);
    if (is_given(upstream.covariance)) {
        const T* const covariance = static_cast<const T*>(forward.covariance) + 4 * (b * count + n);
        row.spread = spread_of_row(upstream.covariance, covariance, from_cells, b, n);
    }
    return row;
}

static inline void write_row_gradient(const View& gradient, int64_t b, int64_t n, double value) {
    if (gradient.data != nullptr) write_element(gradient, b * gradient.stride[0] + n * gradient.stride[1], value);
}

}  // namespace simplematch::cpu
