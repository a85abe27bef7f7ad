#include "tensor_checks.h"

#include <algorithm>
#include <cinttypes>
#include <iterator>
#include <string>

namespace simplematch::abi {
namespace {

const char* dtype_name(int32_t dtype) {
    switch (dtype) {
        case SIMPLEMATCH_FLOAT32: return "float32";
        case SIMPLEMATCH_FLOAT64: return "float64";
        case SIMPLEMATCH_BFLOAT16: return "bfloat16";
        default: return "float16";
    }
}

// "(2, 3, 4)"
std::string written(const int64_t* values, int count) {
    std::string text = "(";
    for (int i = 0; i < count; ++i) text += (i == 0 ? "" : ", ") + std::to_string(values[i]);
    return text + ")";
}

int64_t length(int64_t stride) { return stride < 0 ? -stride : stride; }

bool within(int64_t stride) { return stride >= -kFarthest && stride <= kFarthest; }

bool is_empty(const View& t) {
    return std::any_of(t.size, t.size + 4, [](int64_t n) { return n == 0; });
}

void check_sizes(const char* name, const View& t, const char* shape, int dimensions) {
    for (int64_t n : t.size)
        if (n < 0) refuse("%s must have sizes of at least 0, got %s", name, written(t.size, 4).c_str());
    for (int i = dimensions; i < 4; ++i)
        if (t.size[i] != 1)
            refuse("%s must have shape %s and 1 in the unused trailing sizes, got %s", name, shape,
                   written(t.size, 4).c_str());
    if (bounded_product({t.size[0], t.size[1], t.size[2], t.size[3]}) > kMostElements)
        refuse("%s must have at most 2^40 elements, got sizes %s", name, written(t.size, 4).c_str());
}

void check_strides(const char* name, View& t) {
    int64_t farthest = 0;
    for (int i = 0; i < 4; ++i) {
        if (t.size[i] <= 1) {
            if (!within(t.stride[i])) t.stride[i] = 0;
            continue;
        }
        const bool fits = within(t.stride[i]) && length(t.stride[i]) <= (kFarthest - farthest) / (t.size[i] - 1);
        if (!fits)
            refuse("%s must reach at most 2^47 elements from its first, got strides %s with sizes %s", name,
                   written(t.stride, 4).c_str(), written(t.size, 4).c_str());
        farthest += (t.size[i] - 1) * length(t.stride[i]);
    }
}

void check_aligned(const char* name, const void* data, int64_t item) {
    const uintptr_t rest = reinterpret_cast<uintptr_t>(data) % uintptr_t(item);
    if (rest != 0)
        refuse("%s must be aligned to its elements of %d bytes, got an address %d bytes past that", name, int(item),
               int(rest));
}

}  // namespace

int64_t bounded_product(std::initializer_list<int64_t> sizes) {
    int64_t product = 1;
    for (int64_t n : sizes) {
        const int64_t factor = std::max<int64_t>(n, 1);
        if (factor > kMostElements / product) return kMostElements + 1;
        product *= factor;
    }
    return product;
}

void check_tensor(const char* name, View& t, const char* shape, int dimensions) {
    if (t.dtype < SIMPLEMATCH_FLOAT32 || t.dtype > SIMPLEMATCH_FLOAT16)
        refuse("%s must have dtype 0 (float32), 1 (float64), 2 (bfloat16) or 3 (float16), got %" PRId32, name, t.dtype);
    check_sizes(name, t, shape, dimensions);
    check_strides(name, t);
    check_aligned(name, t.data, item_size(t.dtype));
}

void check_required(const char* name, View& t, const char* shape, int dimensions) {
    check_tensor(name, t, shape, dimensions);
    if (!is_given(t) && !is_empty(t))
        refuse("%s must be given, got data NULL with sizes %s", name, written(t.size, dimensions).c_str());
}

void check_shape(const char* name, const View& t, const char* shape, std::initializer_list<int64_t> size) {
    const int count = int(size.size());
    if (!std::equal(size.begin(), size.end(), t.size))
        refuse("%s must have shape %s = %s, got %s", name, shape, written(size.begin(), count).c_str(),
               written(t.size, count).c_str());
}

void check_dtype(const char* name, const View& t, std::initializer_list<int32_t> allowed) {
    if (std::find(allowed.begin(), allowed.end(), t.dtype) != allowed.end()) return;
    std::string names;
    for (int32_t dtype : allowed) names += (names.empty() ? "" : " or ") + std::string(dtype_name(dtype));
    refuse("%s must be %s, got %s", name, names.c_str(), dtype_name(t.dtype));
}

void check_optional(const char* name, View& t, const char* shape, std::initializer_list<int64_t> size, int32_t dtype) {
    if (!is_given(t)) return;
    check_tensor(name, t, shape, int(size.size()));
    check_dtype(name, t, {dtype});
    check_shape(name, t, shape, size);
}

void check_distinct(const char* name, const View& t) {
    if (is_empty(t)) return;
    struct Side {
        int64_t stride, size;
    };
    Side sides[4];
    for (int i = 0; i < 4; ++i) sides[i] = {t.size[i] > 1 ? length(t.stride[i]) : 0, t.size[i]};
    std::stable_sort(std::begin(sides), std::end(sides), [](const Side& a, const Side& b) { return a.stride < b.stride; });
    int64_t reached = 0;
    for (const Side& side : sides) {
        if (side.size == 1) continue;
        if (side.stride <= reached)
            refuse("%s is written, so its elements must not overlap, got strides %s with sizes %s", name,
                   written(t.stride, 4).c_str(), written(t.size, 4).c_str());
        reached += (side.size - 1) * side.stride;
    }
}

void check_optional_array(const char* name, const void* data, std::initializer_list<int64_t> sizes, int64_t item) {
    if (bounded_product(sizes) > kMostElements)
        refuse("%s must have at most 2^40 elements, got shape %s", name, written(sizes.begin(), int(sizes.size())).c_str());
    check_aligned(name, data, item);
}

void check_array(const char* name, const void* data, std::initializer_list<int64_t> sizes, int64_t item) {
    check_optional_array(name, data, sizes, item);
    const bool empty = std::find(sizes.begin(), sizes.end(), 0) != sizes.end();
    if (data == nullptr && !empty)
        refuse("%s must point to %s elements, got NULL", name, written(sizes.begin(), int(sizes.size())).c_str());
}

void check_equal(const char* name, const char* dimension, int64_t value, const char* other_name, int64_t expected) {
    if (value != expected)
        refuse("%s must have the same %s as %s, got %" PRId64 " and %" PRId64, name, dimension, other_name, value, expected);
}

void check_choice(const char* name, int64_t value, int64_t most, const char* choices) {
    if (value < 0 || value > most) refuse("%s must be %s, got %" PRId64, name, choices, value);
}

}  // namespace simplematch::abi
