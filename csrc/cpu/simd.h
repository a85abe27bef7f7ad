// Vectors of the instruction set this file is compiled for, written with the compiler's vector extension.
//
// SIMPLEMATCH_LEVEL names the instruction set and the namespace of everything in it.
#pragma once

#include "storage.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {

#define SIMPLEMATCH_INLINE inline __attribute__((always_inline))

// The product keeps kRows x kVectors accumulators: 24 of 32 registers, or 12 of 16.
constexpr int kRows = 6;
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kVectors = 4;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kVectors = 2;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr int kVectors = 4;
#else
constexpr int kVectorBytes = 16;
constexpr int kVectors = 2;
#endif

template <class T>
struct Simd;
template <>
struct Simd<float> {
    typedef float Vector __attribute__((vector_size(kVectorBytes)));
    typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
    typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
    typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
};
template <>
struct Simd<double> {
    typedef double Vector __attribute__((vector_size(kVectorBytes)));
    typedef int64_t Integers __attribute__((vector_size(kVectorBytes)));
    typedef uint64_t Bits __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using Vector = typename Simd<T>::Vector;
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));
template <class T>
constexpr int kStrip = kVectors * kLanes<T>;

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;

template <class T>
SIMPLEMATCH_INLINE Vector<T> broadcast(T x) {
    return Vector<T>{} + x;
}

template <class T>
SIMPLEMATCH_INLINE Vector<T> iota(T first) {
    Vector<T> v;
    for (int i = 0; i < kLanes<T>; ++i) v[i] = first + T(i);
    return v;
}

// kLanes<T> numbers stored as S.
template <class T, class S>
SIMPLEMATCH_INLINE Vector<T> load(const S* p) {
    if constexpr (kSame<T, S>) {
        Vector<T> v;
        __builtin_memcpy(&v, p, sizeof v);
        return v;
    } else if constexpr (kSame<T, float> && kSame<S, BFloat16>) {
        typename Simd<float>::Halves halves;
        __builtin_memcpy(&halves, p, sizeof halves);
        return (Vector<T>)(__builtin_convertvector(halves, typename Simd<float>::Bits) << 16);
#if defined(__AVX512F__)
    } else if constexpr (kSame<T, float> && kSame<S, Float16>) {
        return (Vector<T>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
    } else if constexpr (kSame<T, float> && kSame<S, Float16>) {
        return (Vector<T>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
    } else {
        T numbers[kLanes<T>];
        for (int i = 0; i < kLanes<T>; ++i) numbers[i] = T(to_float(p[i]));
        return load<T>(numbers);
    }
}

template <class T, class S>
SIMPLEMATCH_INLINE void store(S* p, Vector<T> v) {
    if constexpr (kSame<T, S>) {
        __builtin_memcpy(p, &v, sizeof v);
    } else if constexpr (kSame<T, float> && kSame<S, BFloat16>) {
        using Bits = typename Simd<float>::Bits;
        const Bits bits = (Bits)v;
        const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        const Bits numbers = (v == v) ? rounded : (Bits{} + 0x7fc0u);
        const auto halves = __builtin_convertvector(numbers, typename Simd<float>::Halves);
        __builtin_memcpy(p, &halves, sizeof halves);
#if defined(__AVX512F__)
    } else if constexpr (kSame<T, float> && kSame<S, Float16>) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    } else if constexpr (kSame<T, float> && kSame<S, Float16>) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#endif
    } else {
        for (int i = 0; i < kLanes<T>; ++i) from_float(v[i], p + i);
    }
}

// The first `count` < kLanes<T> numbers; `rest` after them.
template <class T, class S>
SIMPLEMATCH_INLINE Vector<T> load_first(const S* p, int64_t count, S rest = S{}) {
#if defined(__AVX512F__)
    if constexpr (kSame<T, float> && kSame<S, float>)
        return (Vector<T>)_mm512_mask_loadu_ps(_mm512_set1_ps(rest), __mmask16((1u << count) - 1), p);
    if constexpr (kSame<T, double> && kSame<S, double>)
        return (Vector<T>)_mm512_mask_loadu_pd(_mm512_set1_pd(rest), __mmask8((1u << count) - 1), p);
#elif defined(__AVX2__)
    if constexpr (kSame<T, S>) {
        typename Simd<T>::Integers lane;
        for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
        const auto inside = lane < decltype(lane[0] + 0)(count);
        Vector<T> v;
        if constexpr (kSame<T, float>) v = (Vector<T>)_mm256_maskload_ps(p, (__m256i)inside);
        if constexpr (kSame<T, double>) v = (Vector<T>)_mm256_maskload_pd(p, (__m256i)inside);
        return inside ? v : broadcast(rest);
    }
#endif
    S numbers[kLanes<T>];
    for (int i = 0; i < kLanes<T>; ++i) numbers[i] = rest;
    for (int64_t i = 0; i < count; ++i) numbers[i] = p[i];
    return load<T>(numbers);
}

template <class T, class S>
SIMPLEMATCH_INLINE void store_first(S* p, Vector<T> v, int64_t count) {
#if defined(__AVX512F__)
    if constexpr (kSame<T, float> && kSame<S, float>)
        return _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v);
    if constexpr (kSame<T, double> && kSame<S, double>)
        return _mm512_mask_storeu_pd(p, __mmask8((1u << count) - 1), (__m512d)v);
#endif
    S numbers[kLanes<T>];
    store<T>(numbers, v);
    for (int64_t i = 0; i < count; ++i) p[i] = numbers[i];
}

// Past the cache, for memory that is written whole and read much later: no line is fetched first. `p` is aligned to the
// vector as stored. Only worth it if every line is written completely.
template <class T, class S>
SIMPLEMATCH_INLINE void stream(S* p, Vector<T> v) {
#if defined(__x86_64__)
    S numbers[kLanes<T>];
    store<T>(numbers, v);
    if constexpr (sizeof numbers == 16) {
        _mm_stream_si128(reinterpret_cast<__m128i*>(p), _mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers)));
        return;
    }
#if defined(__AVX2__)
    if constexpr (sizeof numbers == 32) {
        _mm256_stream_si256(
            reinterpret_cast<__m256i*>(p), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers)));
        return;
    }
#endif
#if defined(__AVX512F__)
    if constexpr (sizeof numbers == 64) {
        _mm512_stream_si512(reinterpret_cast<__m512i*>(p), _mm512_loadu_si512(numbers));
        return;
    }
#endif
#endif
    store<T>(p, v);
}

// Makes streamed memory visible to other threads.
SIMPLEMATCH_INLINE void end_streaming() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

template <class T>
SIMPLEMATCH_INLINE Vector<T> larger(Vector<T> a, Vector<T> b) {
    return a > b ? a : b;
}

// e^x to about one unit in the last place: x = n ln 2 + r, Taylor series in r, and scaling by 2^n, where the processor
// has no instruction for it in two exact steps so that results below the smallest normal number come out too. NaN stays
// NaN.
SIMPLEMATCH_INLINE Vector<float> exponential(Vector<float> x) {
    using V = Vector<float>;
    x = x < -104.0f ? broadcast(-104.0f) : x;
    x = x > 89.0f ? broadcast(89.0f) : x;
    const V shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum's last bits are round(x / ln 2)
    const V n = shifted - 12582912.0f;
    const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    V p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
#if defined(__AVX512F__)
    return (V)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    using Integers = typename Simd<float>::Integers;
    const Integers power = (Integers)shifted - 0x4b400000;
    const Integers half = power >> 1;
    return p * (V)((half + 127) << 23) * (V)((power - half + 127) << 23);
#endif
}

SIMPLEMATCH_INLINE Vector<double> exponential(Vector<double> x) {
    using V = Vector<double>;
    x = x < -746.0 ? broadcast(-746.0) : x;
    x = x > 710.0 ? broadcast(710.0) : x;
    const V shifted = x * 1.4426950408889634 + 6755399441055744.0;  // 1.5 * 2^52
    const V n = shifted - 6755399441055744.0;
    const V r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    V p = r * (1.0 / 6227020800) + (1.0 / 479001600);
    p = p * r + (1.0 / 39916800);
    p = p * r + (1.0 / 3628800);
    p = p * r + (1.0 / 362880);
    p = p * r + (1.0 / 40320);
    p = p * r + (1.0 / 5040);
    p = p * r + (1.0 / 720);
    p = p * r + (1.0 / 120);
    p = p * r + (1.0 / 24);
    p = p * r + (1.0 / 6);
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
#if defined(__AVX512F__)
    return (V)_mm512_scalef_pd((__m512d)p, (__m512d)n);
#else
    using Integers = typename Simd<double>::Integers;
    const Integers power = (Integers)shifted - 0x4338000000000000;
    const Integers half = power >> 1;
    return p * (V)((half + 1023) << 52) * (V)((power - half + 1023) << 52);
#endif
}

// Lane i of the result is lane which[i] of a and b, counted through.
template <class V, class Integers>
SIMPLEMATCH_INLINE V shuffle(V a, V b, Integers which) {
#if defined(__clang__)
    constexpr int n = sizeof(V) / sizeof(a[0]);
    V result;
#pragma unroll
    for (int i = 0; i < n; ++i) result[i] = which[i] < n ? a[which[i]] : b[which[i] - n];
    return result;
#else
    return __builtin_shuffle(a, b, which);
#endif
}

// Lanes moved down by `distance`, the first ones to the end.
template <class T, int distance>
SIMPLEMATCH_INLINE Vector<T> rotate(Vector<T> v) {
    typename Simd<T>::Integers which;
    for (int lane = 0; lane < kLanes<T>; ++lane) which[lane] = (lane + distance) % kLanes<T>;
    return shuffle(v, v, which);
}

template <class T, int width = kLanes<T> / 2>
SIMPLEMATCH_INLINE T sum(Vector<T> v) {
    v += rotate<T, width>(v);
    if constexpr (width > 1) return sum<T, width / 2>(v);
    return v[0];
}

template <class T, int width = kLanes<T> / 2>
SIMPLEMATCH_INLINE T largest_lane(Vector<T> v) {
    v = larger<T>(rotate<T, width>(v), v);
    if constexpr (width > 1) return largest_lane<T, width / 2>(v);
    return v[0];
}

// Bit i says whether a and b are equal in lane i.
template <class T>
SIMPLEMATCH_INLINE uint64_t equal_lanes(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
    if constexpr (kSame<T, float>) return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ);
    if constexpr (kSame<T, double>) return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_EQ_OQ);
#elif defined(__AVX2__)
    if constexpr (kSame<T, float>) return uint64_t(_mm256_movemask_ps((__m256)(a == b)));
    if constexpr (kSame<T, double>) return uint64_t(_mm256_movemask_pd((__m256d)(a == b)));
#endif
    uint64_t bits = 0;
    for (int i = 0; i < kLanes<T>; ++i) bits |= uint64_t(a[i] == b[i] ? 1 : 0) << i;
    return bits;
}

// Bit i says whether a is greater than b in lane i.
template <class T>
SIMPLEMATCH_INLINE uint64_t greater_lanes(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
    if constexpr (kSame<T, float>) return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
    if constexpr (kSame<T, double>) return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ);
#elif defined(__AVX2__)
    if constexpr (kSame<T, float>) return uint64_t(_mm256_movemask_ps((__m256)(a > b)));
    if constexpr (kSame<T, double>) return uint64_t(_mm256_movemask_pd((__m256d)(a > b)));
#endif
    uint64_t bits = 0;
    for (int i = 0; i < kLanes<T>; ++i) bits |= uint64_t(a[i] > b[i] ? 1 : 0) << i;
    return bits;
}

// One round of the transposition: in each pair of rows at `distance`, blocks of `distance` lanes change places.
template <class T, int distance>
SIMPLEMATCH_INLINE void exchange(Vector<T>* rows) {
    constexpr int n = kLanes<T>;
    typename Simd<T>::Integers low, high;
    for (int lane = 0; lane < n; ++lane) {
        const bool first = lane / distance % 2 == 0;
        low[lane] = first ? lane : n + lane - distance;
        high[lane] = first ? lane + distance : n + lane;
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        if (i / distance % 2 != 0) continue;
        const Vector<T> a = rows[i], b = rows[i + distance];
        rows[i] = shuffle(a, b, low);
        rows[i + distance] = shuffle(a, b, high);
    }
    if constexpr (distance > 1) exchange<T, distance / 2>(rows);
}

// rows[i][j] <-> rows[j][i] of kLanes x kLanes numbers, in place.
template <class T>
SIMPLEMATCH_INLINE void transpose(Vector<T>* rows) {
    exchange<T, kLanes<T> / 2>(rows);
}

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
