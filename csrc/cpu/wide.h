// Numbers of any storage type as vectors of float64.
#pragma once

#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

typedef float HalfFloats __attribute__((vector_size(kVectorBytes / 2)));
typedef uint32_t HalfBits __attribute__((vector_size(kVectorBytes / 2)));
typedef uint16_t QuarterHalves __attribute__((vector_size(kVectorBytes / 4)));

// kLanes<double> numbers from p on.
template <class S>
SIMPLEMATCH_INLINE Vector<double> load_wide(const S* p) {
    if constexpr (kSame<S, double>) {
        return load<double>(p);
    } else if constexpr (kSame<S, float>) {
        HalfFloats floats;
        __builtin_memcpy(&floats, p, sizeof floats);
        return __builtin_convertvector(floats, Vector<double>);
    } else if constexpr (kSame<S, BFloat16>) {
        QuarterHalves halves;
        __builtin_memcpy(&halves, p, sizeof halves);
        return __builtin_convertvector((HalfFloats)(__builtin_convertvector(halves, HalfBits) << 16), Vector<double>);
    } else {
#if defined(__AVX512F__)
        const auto floats = (HalfFloats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__F16C__)
        const auto floats = (HalfFloats)_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
        HalfFloats floats;
        for (int i = 0; i < kLanes<double>; ++i) floats[i] = to_float(p[i]);
#endif
        return __builtin_convertvector(floats, Vector<double>);
    }
}

// The first `count` < kLanes<double> numbers, zeros after them.
template <class S>
SIMPLEMATCH_INLINE Vector<double> load_wide_first(const S* p, int64_t count) {
    S numbers[kLanes<double>] = {};
    for (int64_t i = 0; i < count; ++i) numbers[i] = p[i];
    return load_wide(numbers);
}

template <class S>
SIMPLEMATCH_INLINE void store_wide(S* p, Vector<double> v) {
    if constexpr (kSame<S, double>) {
        store<double>(p, v);
        return;
    }
    const auto floats = __builtin_convertvector(v, HalfFloats);
    if constexpr (kSame<S, float>) {
        __builtin_memcpy(p, &floats, sizeof floats);
    } else if constexpr (kSame<S, BFloat16>) {
        const HalfBits bits = (HalfBits)floats, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        const HalfBits numbers = floats == floats ? rounded : (HalfBits{} + 0x7fc0u);
        const auto halves = __builtin_convertvector(numbers, QuarterHalves);
        __builtin_memcpy(p, &halves, sizeof halves);
    } else if constexpr (kSame<S, Float16>) {
#if defined(__AVX512F__)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)floats, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_cvtps_ph((__m128)floats, _MM_FROUND_TO_NEAREST_INT));
#else
        for (int i = 0; i < kLanes<double>; ++i) from_float(floats[i], p + i);
#endif
    }
}

template <class S>
SIMPLEMATCH_INLINE void store_wide_first(S* p, Vector<double> v, int64_t count) {
    S numbers[kLanes<double>];
    store_wide(numbers, v);
    for (int64_t i = 0; i < count; ++i) p[i] = numbers[i];
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
