// Picks the instruction set, once.
#include <cstdlib>
#include <cstring>

#include "cpu/run.h"
#include "kernels.h"

namespace simplematch::cpu {
namespace {

enum class Level { baseline, avx2, avx512 };

Level detect() {
    Level level = Level::baseline;
#if defined(SIMPLEMATCH_HAS_AVX2)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        level = Level::avx2;
    if (level == Level::avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        level = Level::avx512;
    if (const char* wanted = std::getenv("SIMPLEMATCH_SIMD")) {
        const Level most = !std::strcmp(wanted, "baseline") ? Level::baseline
                           : !std::strcmp(wanted, "avx2")   ? Level::avx2
                                                            : Level::avx512;
        level = most < level ? most : level;
    }
#endif
    return level;
}

Level level() {
    static const Level chosen = detect();
    return chosen;
}

}  // namespace

template <class T>
const Kernels<T>& kernels() {
#if defined(SIMPLEMATCH_HAS_AVX2)
    if (level() == Level::avx512) return avx512::kernels<T>();
    if (level() == Level::avx2) return avx2::kernels<T>();
#endif
    return baseline::kernels<T>();
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

const char* simd_level() {
    switch (level()) {
        case Level::avx512: return "avx512";
        case Level::avx2: return "avx2";
        default: return "baseline";
    }
}

}  // namespace simplematch::cpu
