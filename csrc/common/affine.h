// Between pixels and cells: the affine maps of sampling and localization.
#pragma once

#include "records.h"

namespace simplematch {

// In float64, every operation rounded by itself: a fused product could put a pixel into the next cell. Files for the CPU
// that call this are compiled with -ffp-contract=off.
SIMPLEMATCH_HOST_DEVICE static inline double apply(const AffineMap& map, double x) {
#if defined(__CUDA_ARCH__)
    return __dadd_rn(__dmul_rn(x, double(map.numerator)), double(map.shift)) / double(map.denominator);
#else
    return (x * double(map.numerator) + double(map.shift)) / double(map.denominator);
#endif
}

// How fast the result moves with x.
SIMPLEMATCH_HOST_DEVICE static inline double rate(const AffineMap& map) {
    return double(map.numerator) / double(map.denominator);
}

// From an axis of `from` steps to one of `to` steps: between pixels and cells, either way.
SIMPLEMATCH_HOST_DEVICE static constexpr AffineMap rescale(int32_t coordinates, int64_t from, int64_t to) {
    if (coordinates == SIMPLEMATCH_CORNER) return {to, 0, from};
    // (x + 1/2) * to / from - 1/2, over the common denominator 2 * from
    if (coordinates == SIMPLEMATCH_HALF_PIXEL) return {2 * to, to - from, 2 * from};
    if (from > 1) return {to - 1, 0, from - 1};
    return {0, 0, 1};
}

// The maps of both axes.
struct AffineMaps {
    AffineMap x, y;
};

// From the pixels of image b to cells of the map.
SIMPLEMATCH_HOST_DEVICE static inline AffineMaps maps_to_cells(const Sampling& s, int64_t b, int64_t height, int64_t width) {
    if (s.image_sizes == nullptr) return {s.to_cells_x, s.to_cells_y};
    const int64_t* const size = s.image_sizes + 2 * b;
    return {rescale(s.coordinates, size[1], width), rescale(s.coordinates, size[0], height)};
}

// From cells of a map to the pixels of image b.
SIMPLEMATCH_HOST_DEVICE static inline AffineMaps maps_from_cells(
    const Localization& l, int64_t b, int64_t height, int64_t width) {
    if (l.image_sizes == nullptr) return {l.from_cells_x, l.from_cells_y};
    const int64_t* const size = l.image_sizes + 2 * b;
    return {rescale(l.coordinates, width, size[1]), rescale(l.coordinates, height, size[0])};
}

}  // namespace simplematch
