// What a product makes of a coefficient a and a vector of values b: the inner loops are the same whatever is summed.
#pragma once

#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

// sum + a b
template <class T>
struct MultiplyAdd {
    SIMPLEMATCH_INLINE Vector<T> operator()(Vector<T> sum, T a, Vector<T> b) const { return sum + a * b; }
};

template <class T>
SIMPLEMATCH_INLINE Vector<T> magnitude(Vector<T> x) {
    using Bits = typename Simd<T>::Bits;
    return (Vector<T>)((Bits)x & (~Bits{} >> 1));
}

// sum + |a - b|: three operations where a product has one. The magnitude is multiplied by a 1 of which the compiler doesn't
// know: that rounds like a sum, but the processor has other units for it than for the difference, which both share a cycle.
template <class T>
struct AddDistance {
    Vector<T> one = broadcast(T(1));

    SIMPLEMATCH_INLINE AddDistance() {
#if defined(__FMA__)
        asm("" : "+v"(one));
#endif
    }
    SIMPLEMATCH_INLINE Vector<T> operator()(Vector<T> sum, T a, Vector<T> b) const { return sum + magnitude<T>(b - a) * one; }
};

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
