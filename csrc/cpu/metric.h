// The denominator of the cosine.
#pragma once

#include "simd.h"
#include "simplematch/options.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// |x| + eps, or max(|x|, eps)
template <class T>
SIMPLEMATCH_INLINE T denominator(T norm, const Metric& metric) {
    const T eps = T(metric.eps);
    return metric.clamp_eps ? (norm < eps ? eps : norm) : norm + eps;
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
