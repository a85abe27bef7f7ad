// How a kernel is launched, and the types it is made for.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "common.h"
#include "steps.h"

namespace simplematch::cuda {

inline void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("CUDA failed in ") + what + ": " + cudaGetErrorString(status));
}

// One kernel of one argument, on a line of blocks.
template <class Arguments>
void launch(void (*kernel)(Arguments), int64_t blocks, int threads, Arguments arguments, Stream stream, const char* name) {
    if (blocks == 0) return;
    if (blocks > 0x7fffffff) throw std::runtime_error(std::string(name) + ": the problem has more than 2^31 tiles");
    void* all[] = {&arguments};
    check(cudaLaunchKernel(kernel, dim3(unsigned(blocks)), dim3(unsigned(threads)), all, 0,
                           static_cast<cudaStream_t>(stream.handle)),
          name);
}

// Calls f with a null pointer of the storage type, which names the type.
template <class F>
void with_storage(int32_t dtype, F&& f) {
    switch (dtype) {
        case SIMPLEMATCH_FLOAT32: return f(static_cast<float*>(nullptr));
        case SIMPLEMATCH_FLOAT64: return f(static_cast<double*>(nullptr));
        case SIMPLEMATCH_BFLOAT16: return f(static_cast<__nv_bfloat16*>(nullptr));
        default: return f(static_cast<__half*>(nullptr));
    }
}

// The same with the type of the arithmetic.
template <class F>
void with_arithmetic(int32_t dtype, F&& f) {
    dtype == SIMPLEMATCH_FLOAT64 ? f(static_cast<double*>(nullptr)) : f(static_cast<float*>(nullptr));
}

template <class F>
void with_bool(bool value, F&& f) {
    value ? f(std::true_type{}) : f(std::false_type{});
}

// How a kernel walks a map: along the channels if they lie closest, and in vectors of 16 bytes where every row allows.
struct Walk {
    bool channels_last, vectors;
};

inline Walk walk_of(const View& map) {
    const int64_t lanes = 16 / item_size(map.dtype);
    const int64_t cell = map.size[3] > 1 ? map.stride[3] : map.stride[2];
    const bool one_cell = map.size[2] * map.size[3] == 1;
    const bool channels_last = map.size[1] > 1 && (one_cell ? map.stride[1] == 1 : map.stride[1] < (cell < 1 ? 1 : cell));
    const auto whole = [&](int64_t stride, int64_t size) { return size == 1 || stride % lanes == 0; };
    bool vectors = reinterpret_cast<uintptr_t>(map.data) % 16 == 0 && whole(map.stride[0], map.size[0]);
    if (channels_last) {
        vectors = vectors && map.stride[1] == 1 && map.size[1] % lanes == 0 && whole(map.stride[2], map.size[2]) &&
                  whole(map.stride[3], map.size[3]);
    } else {
        const bool flat = map.stride[3] == 1 && (map.size[2] == 1 || map.stride[2] == map.size[3]);
        vectors = vectors && flat && map.size[2] * map.size[3] % lanes == 0 && whole(map.stride[1], map.size[1]);
    }
    return {channels_last, vectors};
}

}  // namespace simplematch::cuda
