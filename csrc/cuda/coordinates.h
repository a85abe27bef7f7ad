// How a keypoint samples a map.
#pragma once

#include "common.h"
#include "common/affine.h"

namespace simplematch::cuda {

// The cells that a query is sampled from: one, or four corners of which `inside` tells whether the map has them.
// Corner 2 * i + j lies i columns and j rows from the first.
struct Sample {
    double x, y;           // of the first cell
    double part_x, part_y; // how far the point lies beyond it, bilinear
    bool bilinear;
    bool finite;           // otherwise the query is NaN
};

struct Corner {
    int64_t x, y;
    double weight_x, weight_y;
    bool inside;
};

__device__ inline double clamped(double x, int64_t cells) { return fmin(fmax(x, 0.0), double(cells - 1)); }

__device__ inline Sample sample_at(double x, double y, int64_t height, int64_t width, const Sampling& sampling) {
    Sample s{};
    s.bilinear = sampling.mode == SIMPLEMATCH_BILINEAR;
    s.finite = is_finite(x) && is_finite(y);
    if (!s.finite) return s;
    if (!s.bilinear) {
        const bool floor = sampling.mode == SIMPLEMATCH_FLOOR;
        s.x = clamped(floor ? trunc(x) : rint(x), width);
        s.y = clamped(floor ? trunc(y) : rint(y), height);
        return s;
    }
    if (sampling.padding == SIMPLEMATCH_BORDER) x = clamped(x, width), y = clamped(y, height);
    s.x = floor(x), s.y = floor(y);
    s.part_x = x - s.x, s.part_y = y - s.y;
    return s;
}

// Query n of image b: a keypoint's place on the map, or column n of a list of descriptors.
__device__ inline Sample sample_query(const View& source, const View& keypoints, const Sampling& sampling, int64_t b, int64_t n) {
    if (keypoints.data == nullptr) {
        Sample s{};
        s.x = double(n);
        s.finite = true;
        return s;
    }
    const int64_t at = b * keypoints.stride[0] + n * keypoints.stride[1], height = source.size[2], width = source.size[3];
    const AffineMaps to_cells = maps_to_cells(sampling, b, height, width);
    return sample_at(apply(to_cells.x, read_element(keypoints, at)),
                     apply(to_cells.y, read_element(keypoints, at + keypoints.stride[2])), height, width, sampling);
}

__device__ inline Corner corner(const Sample& s, int i, int j, int64_t height, int64_t width) {
    const double x = s.x + i, y = s.y + j;
    const bool inside = x >= 0 && x < double(width) && y >= 0 && y < double(height);
    return {inside ? int64_t(x) : 0, inside ? int64_t(y) : 0, i == 0 ? 1 - s.part_x : s.part_x,
            j == 0 ? 1 - s.part_y : s.part_y, inside};
}

// Channel c of a query. A corner of weight zero isn't read, so what it holds doesn't matter. Fewer corners unrolled take
// fewer registers.
template <class S, int UNROLL = 4>
__device__ inline Arithmetic<S> sampled(const View& source, const Sample& s, int64_t b, int64_t c) {
    using T = Arithmetic<S>;
    const S* const plane = static_cast<const S*>(source.data) + b * source.stride[0] + c * source.stride[1];
    if (!s.finite) return not_a_number<T>();
    if (!s.bilinear) return widen(plane[int64_t(s.y) * source.stride[2] + int64_t(s.x) * source.stride[3]]);
    T total = 0;
#pragma unroll UNROLL
    for (int k = 0; k < 4; ++k) {
        const Corner at = corner(s, k / 2, k % 2, source.size[2], source.size[3]);
        const T weight = T(at.weight_x * at.weight_y);
        if (at.inside && weight != 0)
            total += weight * widen(plane[at.y * source.stride[2] + at.x * source.stride[3]]);
    }
    return total;
}

}  // namespace simplematch::cuda
