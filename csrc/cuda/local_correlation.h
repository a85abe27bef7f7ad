// What the kernels of local_correlation share: the problem, and where the samples of a query lie.
//
// The J cells of a query are those of its window's box, row by row, (2 ry + 2) (2 rx + 2) of them, or with offsets the four
// cells of each sample in turn.
#pragma once

#include "coordinates.h"
#include "driver.h"

namespace simplematch::cuda {

constexpr int kCorrelationThreads = 128;  // of a block
struct Correlation {
    CorrelationProblem p;
    int64_t queries, samples, cells;       // N, K, J
    void *scores, *norms, *query_norms;    // (B, N, J), (B, M), (B, N)
    void* weights;                         // (B, N, J)
    int32_t* cell;                         // (B, N, J): flat, -1 where v is 0
    void* correlation;                     // (B, N, K)
    View upstream;
    CorrelationGradients gradients;
};

struct Point {
    double x, y;
    bool valid, finite;
};

__device__ inline double whole(const Correlation& a, double x) {
    return a.p.sampling.mode == SIMPLEMATCH_BILINEAR ? floor(x) : rint(x);
}

__device__ inline Point point_of(const Correlation& a, int64_t b, int64_t n) {
    const View& c = a.p.coords;
    const int64_t at = b * c.stride[0] + n * c.stride[1];
    const double x = apply(a.p.sampling.to_cells_x, read_element(c, at));
    const double y = apply(a.p.sampling.to_cells_y, read_element(c, at + c.stride[2]));
    return {x, y, is_valid(a.p.rows, b, n, a.queries), is_finite(x) && is_finite(y)};
}

// The place of sample k with offsets; without them that of the query, whose samples all have its way from cell to cell.
__device__ inline Point sample_of(const Correlation& a, Point point, int64_t b, int64_t k) {
    const View& o = a.p.offsets;
    if (o.data == nullptr) return point;
    const int64_t at = b * o.stride[0] + k * o.stride[1];
    point.x += read_element(o, at);
    point.y += read_element(o, at + o.stride[2]);
    point.finite = point.finite && is_finite(point.x) && is_finite(point.y);
    return point;
}

// Cell j of a query, or -1 where the map has none.
__device__ inline int32_t cell_of(const Correlation& a, const Point& point, int64_t b, int64_t j) {
    const int extra = a.p.sampling.mode == SIMPLEMATCH_BILINEAR ? 1 : 0;
    const int64_t height = a.p.target.size[2], width = a.p.target.size[3];
    double x, y;
    if (a.p.offsets.data == nullptr) {
        const int64_t columns = 2 * a.p.radius_x + 1 + extra;
        x = whole(a, point.x) + double(j % columns - a.p.radius_x);
        y = whole(a, point.y) + double(j / columns - a.p.radius_y);
        if (!point.finite) return -1;
    } else {
        const int taps = 1 + 3 * extra;
        const Point sample = sample_of(a, point, b, j / taps);
        if (!sample.finite) return -1;
        x = whole(a, sample.x) + double(j % taps % 2);
        y = whole(a, sample.y) + double(j % taps / 2);
    }
    if (a.p.sampling.padding == SIMPLEMATCH_BORDER) {
        x = clamped(x, width), y = clamped(y, height);
    } else if (!(x >= 0 && x < double(width) && y >= 0 && y < double(height))) {
        return -1;
    }
    return int32_t(int64_t(y) * width + int64_t(x));
}

// Corner i of sample k: its index among the cells of the query, its weight and its slopes.
struct Tap {
    int64_t j;
    double weight, slope_x, slope_y;
};

__device__ inline int taps_of(const Correlation& a) { return a.p.sampling.mode == SIMPLEMATCH_BILINEAR ? 4 : 1; }

__device__ inline Tap tap_of(const Correlation& a, const Point& sample, int64_t k, int i) {
    if (taps_of(a) == 1) return {k, 1, 0, 0};
    const double right = sample.x - floor(sample.x), below = sample.y - floor(sample.y);
    const double weight_x = i % 2 == 0 ? 1 - right : right, weight_y = i / 2 == 0 ? 1 - below : below;
    const int64_t columns = 2 * a.p.radius_x + 1;
    const int64_t j = a.p.offsets.data == nullptr ? (k / columns + i / 2) * (columns + 1) + k % columns + i % 2 : 4 * k + i;
    return {j, weight_x * weight_y, i % 2 == 0 ? -weight_y : weight_y, i / 2 == 0 ? -weight_x : weight_x};
}

template <class S>
__device__ const S* vector_of(const View& map, int64_t b, int64_t m) {
    return static_cast<const S*>(map.data) + b * map.stride[0] + m / map.size[3] * map.stride[2] +
           m % map.size[3] * map.stride[3];
}

__device__ inline int64_t cells_in(const View& map) { return map.size[2] * map.size[3]; }

// Takes the memory of a problem from the workspace.
Correlation plan_correlation(const CorrelationProblem& p, Workspace& workspace, bool backward);

// Scores of all cells of all queries, and the norms that they are divided by.
void score_cells(const Correlation& a, Stream stream);

}  // namespace simplematch::cuda
