// What a tensor is to this library: a pointer, a type, sizes and strides. No torch, no Python.
#pragma once

#include <cstdint>

namespace simplematch {

enum class DType : int32_t { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

// A tensor of up to four dimensions; unused trailing sizes are 1. Strides count elements and may be 0 or any order.
// `data` null stands for a tensor that is not given, or not wanted; an empty tensor has any other address.
struct View {
    void* data = nullptr;
    DType dtype = DType::float32;
    int64_t size[4] = {1, 1, 1, 1};
    int64_t stride[4] = {0, 0, 0, 0};
};

// Which query rows and target cells take part; null: no restriction. All arrays are contiguous.
struct Rows {
    const int64_t* num_keypoints = nullptr;  // (B,): rows n >= num_keypoints[b] are padding
    const uint8_t* valid = nullptr;          // (B, N): rows that are 0 are padding
    const uint8_t* target_mask = nullptr;    // (B, M): cells that are 0 are neither peak nor support
};

}  // namespace simplematch
