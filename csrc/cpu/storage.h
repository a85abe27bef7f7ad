// Single numbers between storage types and arithmetic types. Everything here has internal linkage: this header is
// compiled for several instruction sets, and the linker must not mix them.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/records.h"

namespace simplematch::cpu {

struct BFloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

template <class To, class From>
static inline To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

static inline float to_float(float x) { return x; }
static inline double to_float(double x) { return x; }
static inline float to_float(BFloat16 x) { return bit_cast<float>(uint32_t(x.bits) << 16); }
static inline float to_float(Float16 x) {
    const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16;
    const uint32_t rest = uint32_t(x.bits & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) return bit_cast<float>(sign | 0x70000000u | rest);  // infinity, NaN
    return bit_cast<float>(sign | bit_cast<uint32_t>(bit_cast<float>(rest) * 0x1p112f));  // exact, also below 2^-14
}

static inline void from_float(float x, float* to) { *to = x; }
static inline void from_float(double x, double* to) { *to = x; }
static inline void from_float(double x, float* to) { *to = float(x); }
static inline void from_float(float x, double* to) { *to = x; }
static inline void from_float(float x, BFloat16* to) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
static inline void from_float(float x, Float16* to) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) {
        half = 0x7e00u;
    } else if (magnitude >= 0x477ff000u) {
        half = 0x7c00u;  // rounds to infinity
    } else if (magnitude < 0x38800000u) {
        // below 2^-14: adding 1/2 leaves the result's 10 bits, rounded to nearest even, at the end of the significand
        half = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    } else {
        half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    to->bits = uint16_t(sign | half);
}
static inline void from_float(double x, BFloat16* to) { from_float(float(x), to); }
static inline void from_float(double x, Float16* to) { from_float(float(x), to); }

// Calls f with a null pointer of the storage type, which names the type.
template <class F>
static inline void with_storage(int32_t dtype, F&& f) {
    switch (dtype) {
        case SIMPLEMATCH_FLOAT32: return f(static_cast<float*>(nullptr));
        case SIMPLEMATCH_FLOAT64: return f(static_cast<double*>(nullptr));
        case SIMPLEMATCH_BFLOAT16: return f(static_cast<BFloat16*>(nullptr));
        default: return f(static_cast<Float16*>(nullptr));
    }
}

// One element of a tensor as float64.
static inline double read_element(const View& view, int64_t offset) {
    switch (view.dtype) {
        case SIMPLEMATCH_FLOAT32: return static_cast<const float*>(view.data)[offset];
        case SIMPLEMATCH_FLOAT64: return static_cast<const double*>(view.data)[offset];
        case SIMPLEMATCH_BFLOAT16: return to_float(static_cast<const BFloat16*>(view.data)[offset]);
        default: return to_float(static_cast<const Float16*>(view.data)[offset]);
    }
}

static inline void write_element(const View& view, int64_t offset, double value) {
    switch (view.dtype) {
        case SIMPLEMATCH_FLOAT32: static_cast<float*>(view.data)[offset] = float(value); break;
        case SIMPLEMATCH_FLOAT64: static_cast<double*>(view.data)[offset] = value; break;
        case SIMPLEMATCH_BFLOAT16: from_float(value, static_cast<BFloat16*>(view.data) + offset); break;
        default: from_float(value, static_cast<Float16*>(view.data) + offset); break;
    }
}

}  // namespace simplematch::cpu
