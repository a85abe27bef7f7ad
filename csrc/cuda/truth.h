// The Gaussian round a true point, shared by `cross_entropy` and `localize_backward`.
#pragma once

#include "common/truth.h"
#include "coordinates.h"
#include "steps.h"

namespace simplematch::cuda {

// G of one query. Numbers are double: the point is, and few cells are covered.
struct Gaussian {
    Truth truth;
    TrueWindow window;
    const uint8_t* mask;  // (M,) or null
    int64_t width;
    double least, total;  // total 0: no cell is covered

    __device__ bool covers(int32_t y, int32_t x) const {
        const BoxOf<int64_t>& box = window.box;
        return y >= box.top && y < box.bottom && x >= box.left && x < box.right && (mask == nullptr || mask[y * width + x] != 0);
    }
    __device__ double weight(int32_t y, int32_t x) const {
        return true_weight(truth, window.squared_distance(y, x), least) / total;
    }

    // Calls f(y, x) for this thread's share of the covered cells.
    template <int THREADS, class F>
    __device__ void for_each_cell(F&& f) const {
        const int32_t columns = int32_t(window.columns()), cells = int32_t(window.cells());
        for (int32_t i = threadIdx.x; i < cells; i += THREADS) {
            const int32_t y = int32_t(window.box.top) + i / columns, x = int32_t(window.box.left) + i % columns;
            if (covers(y, x)) f(y, x);
        }
    }
};

// By all threads of a block, each of which gets the result.
template <int THREADS>
__device__ inline Gaussian gaussian_of(const TruePoints& of, int64_t b, int64_t n, const uint8_t* mask, int64_t height,
                                       int64_t width, void* memory) {
    const int64_t at = b * of.points.stride[0] + n * of.points.stride[1];
    const double x = read_element(of.points, at), y = read_element(of.points, at + of.points.stride[2]);
    Gaussian g{of.truth, true_window(of.truth, x, y, height, width), mask, width, 0, 0};
    double nearest = -infinity<double>();
    g.for_each_cell<THREADS>([&](int32_t y, int32_t x) { nearest = fmax(nearest, -g.window.squared_distance(y, x)); });
    g.least = -max_of_block<THREADS>(nearest, memory);
    double total = 0;
    g.for_each_cell<THREADS>(
        [&](int32_t y, int32_t x) { total += true_weight(g.truth, g.window.squared_distance(y, x), g.least); });
    g.total = sum_of_block<THREADS>(total, memory);
    return g;
}

}  // namespace simplematch::cuda
