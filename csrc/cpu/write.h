// Rows of numbers to memory, past the cache where nobody reads them soon.
#pragma once

#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// to[i] = value(i), where value gives the vector from i on. Whole lines go `past_cache` if they begin with `to`.
template <class T, class S, class F>
SIMPLEMATCH_INLINE void write_values(S* to, int64_t count, bool past_cache, F&& value) {
    constexpr int n = kLanes<T>;
    constexpr int64_t line = 64 / sizeof(S);
    int64_t i = 0;
    if (past_cache && reinterpret_cast<uintptr_t>(to) % 64 == 0)
        for (; i + n <= count / line * line; i += n) stream<T>(to + i, value(i));
    for (; i + n <= count; i += n) store<T>(to + i, value(i));
    if (i < count) store_first<T>(to + i, value(i), count - i);
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
