// The search for the best cell, shared by localize and second_best.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// The lowest index of the greatest of the selectable numbers; NaN is greater than everything. -1 if none is.
template <class T>
int64_t find_peak(const T* scores, const uint8_t* mask, int64_t count) {
    constexpr int n = kLanes<T>;
    using Integers = typename Simd<T>::Integers;
    if (mask != nullptr) {
        int64_t best = -1;
        for (int64_t m = 0; m < count; ++m) {
            if (!mask[m]) continue;
            if (scores[m] != scores[m]) return m;
            if (best < 0 || scores[m] > scores[best]) best = m;
        }
        return best;
    }
    Vector<T> greatest = broadcast(-T(__builtin_inf()));
    Integers ordered = greatest == greatest;
    int64_t m = 0;
    for (; m + n <= count; m += n) {
        const Vector<T> v = load<T>(scores + m);
        greatest = larger<T>(v, greatest);
        ordered &= (v == v);
    }
    T max = -T(__builtin_inf());
    bool has_nan = false;
    for (int i = 0; i < n; ++i) {
        max = greatest[i] > max ? greatest[i] : max;
        has_nan |= ordered[i] == 0;
    }
    for (; m < count; ++m) {
        max = scores[m] > max ? scores[m] : max;
        has_nan |= scores[m] != scores[m];
    }
    if (has_nan) {
        for (int64_t i = 0; i < count; ++i)
            if (scores[i] != scores[i]) return i;
    }
    for (int64_t first = 0; first < count; first += kTile) {
        const int64_t last = first + kTile < count ? first + kTile : count;
        int found = 0;
        for (int64_t i = first; i < last; ++i) found |= scores[i] == max;
        for (int64_t i = first; found && i < last; ++i)
            if (scores[i] == max) return i;
    }
    return 0;
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
