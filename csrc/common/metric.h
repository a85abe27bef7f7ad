// The denominator of the cosine.
#pragma once

#include "records.h"

namespace simplematch {

// D(x) = |x| + eps, or max(|x|, eps), NaN kept; 1 for a zero vector without eps, so that its cosine is 0.
template <class T>
SIMPLEMATCH_HOST_DEVICE static inline T denominator(T norm, const Metric& metric) {
    const T eps = T(metric.eps), divisor = metric.clamp_eps ? (norm < eps ? eps : norm) : norm + eps;
    return divisor == 0 ? T(1) : divisor;
}

}  // namespace simplematch
