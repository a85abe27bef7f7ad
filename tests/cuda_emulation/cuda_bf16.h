#pragma once

#include "../../csrc/cpu/storage.h"

using __nv_bfloat16 = simplematch::cpu::BFloat16;

inline float __bfloat162float(__nv_bfloat16 x) { return simplematch::cpu::to_float(x); }
inline __nv_bfloat16 __float2bfloat16(float x) {
    __nv_bfloat16 result;
    simplematch::cpu::from_float(x, &result);
    return result;
}
