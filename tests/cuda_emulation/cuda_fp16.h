#pragma once

#include "../../csrc/cpu/storage.h"

using __half = simplematch::cpu::Float16;

inline float __half2float(__half x) { return simplematch::cpu::to_float(x); }
inline __half __float2half(float x) {
    __half result;
    simplematch::cpu::from_float(x, &result);
    return result;
}
