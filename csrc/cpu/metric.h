// The denominator of the cosine.
#pragma once

#include "simd.h"
#include "simplematch/options.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// |x| + eps, or max(|x|, eps); 1 for a zero vector without eps, whose cosine is 0.
template <class T>
SIMPLEMATCH_INLINE T denominator(T norm, const Metric& metric) {
    const T eps = T(metric.eps), divisor = metric.clamp_eps ? (norm < eps ? eps : norm) : norm + eps;
    return divisor == 0 ? T(1) : divisor;
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
