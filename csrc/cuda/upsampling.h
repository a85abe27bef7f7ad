// Positions and weights of an upsampled map's cells, and their norms; see localize_upsampled.cu.
#pragma once

#include "common.h"
#include "common/metric.h"

namespace simplematch::cuda {
namespace {

struct Axis {
    int64_t cells, fine;

    __device__ int64_t position(int64_t j) const {
        const int64_t t = (2 * j + 1) * cells - fine, most = (cells - 1) * 2 * fine;
        return t < 0 ? 0 : t > most ? most : t;
    }
    // The cell below fine cell j, and the weight of the one after.
    template <class T>
    __device__ int64_t low(int64_t j, T* weight) const {
        const int64_t t = position(j), i = t / (2 * fine);
        *weight = T(double(t - i * 2 * fine) / double(2 * fine));
        return i;
    }
    template <class T>
    __device__ T weight(int64_t t, int64_t i) const {
        const int64_t distance = t < i * 2 * fine ? i * 2 * fine - t : t - i * 2 * fine;
        return distance < 2 * fine ? T(double(2 * fine - distance) / double(2 * fine)) : T(0);
    }
    // [first, last): the fine cells that coarse cell i has a part in, a few more at most.
    __device__ int64_t first(int64_t i) const { return i <= 1 ? 0 : ((i - 1) * 2 * fine + fine - cells) / (2 * cells); }
    __device__ int64_t last(int64_t i) const {
        const int64_t end = ((i + 1) * 2 * fine + fine - cells) / (2 * cells) + 2;
        return i >= cells - 2 || end > fine ? fine : end;
    }
};

struct Sizes {
    int64_t images, queries;  // of the block
    Axis y, x;
    Metric metric;
    const double* products;   // (B, 5, h, w), or null: dot

    __host__ __device__ int64_t coarse() const { return y.cells * x.cells; }
    __host__ __device__ int64_t fine() const { return y.fine * x.fine; }
    __device__ bool is(int32_t kind) const { return products != nullptr && metric.kind == kind; }
};

// |F|^2 of fine cell m, and sum_i w_i |f_i|^2. Cells of weight zero are not read.
__device__ double square_norm(const Sizes& s, int64_t b, int64_t m, double* mean) {
    double w_y, w_x;
    const int64_t y = s.y.low(m / s.x.fine, &w_y), x = s.x.low(m % s.x.fine, &w_x), w = s.x.cells, cells = s.coarse();
    const double v_y = 1 - w_y, v_x = 1 - w_x;
    const double* const p = s.products + b * 5 * cells + y * w + x;
    const auto read = [&](bool counts, int64_t at) { return counts ? p[at] : 0.0; };
    const bool right = w_x != 0, below = w_y != 0, both = right && below;
    const double p00 = p[0], p01 = read(right, 1), p10 = read(below, w), p11 = read(both, w + 1);
    const double squares = v_y * v_y * (v_x * v_x * p00 + w_x * w_x * p01) + w_y * w_y * (v_x * v_x * p10 + w_x * w_x * p11);
    const double along_x = v_y * v_y * read(right, cells) + w_y * w_y * read(both, cells + w);
    const double along_y = v_x * v_x * read(below, 2 * cells) + w_x * w_x * read(both, 2 * cells + 1);
    const double across = read(both, 3 * cells) + read(both, 4 * cells);
    const double square = squares + 2 * (v_x * w_x * along_x + v_y * w_y * along_y + v_y * w_y * v_x * w_x * across);
    *mean = v_y * (v_x * p00 + w_x * p01) + w_y * (v_x * p10 + w_x * p11);
    return square < 0 ? 0 : square;
}

// dL/d|x|^2 from the sum over queries that makes dL/dD(x) = sum / D(x).
__device__ double of_square(double sum, double norm, const Metric& metric) {
    const bool moves = norm > 0 && !(metric.clamp_eps && norm < metric.eps);
    if (sum == 0 || (!moves && sum == sum)) return 0;
    return moves ? sum / denominator(norm, metric) / (2 * norm) : sum;
}

}  // namespace
}  // namespace simplematch::cuda
