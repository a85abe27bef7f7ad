// Checks of one tensor, array or pointer. Each refuses with a sentence that names the argument; none reads the data. A
// tensor loses the strides that nobody steps along, which are not checked and so must not be multiplied.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "error.h"

namespace simplematch::abi {

// More elements than any machine holds, few enough that no sum or product of sizes in the kernels overflows.
constexpr int64_t kMostElements = int64_t(1) << 40;
// Farthest element from the first, either way.
constexpr int64_t kFarthest = int64_t(1) << 47;

// The product of sizes, none of them below 0: an empty dimension counts as 1. More than kMostElements: kMostElements + 1.
int64_t bounded_product(std::initializer_list<int64_t> sizes);

template <class T>
const T& check_pointer(const char* name, const T* pointer) {
    if (pointer == nullptr) refuse("%s must point to a struct, got NULL", name);
    return *pointer;
}

// dtype code, sizes, strides and alignment of a tensor of `dimensions` dimensions; `shape` is like "(B, C, H, W)".
void check_tensor(const char* name, View& tensor, const char* shape, int dimensions);
// Also there, unless it is empty.
void check_required(const char* name, View& tensor, const char* shape, int dimensions);
void check_shape(const char* name, const View& tensor, const char* shape, std::initializer_list<int64_t> size);
void check_dtype(const char* name, const View& tensor, std::initializer_list<int32_t> allowed);
// All of that, of a tensor that may be missing.
void check_optional(const char* name, View& tensor, const char* shape, std::initializer_list<int64_t> size, int32_t dtype);
// No two elements at one address.
void check_distinct(const char* name, const View& tensor);

// A contiguous array of `sizes` elements of `item` bytes each.
void check_array(const char* name, const void* data, std::initializer_list<int64_t> sizes, int64_t item);
// The same, where NULL stands for "not given".
void check_optional_array(const char* name, const void* data, std::initializer_list<int64_t> sizes, int64_t item);

void check_equal(const char* name, const char* dimension, int64_t value, const char* other_name, int64_t expected);
void check_choice(const char* name, int64_t value, int64_t most, const char* choices);

}  // namespace simplematch::abi
