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

}  // namespace simplematch
