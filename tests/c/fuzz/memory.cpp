#include "memory.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace {

constexpr char kUntouched = char(0xA5);
constexpr int64_t kMostOfATest = 1 << 14;         // elements
constexpr __int128 kMostElements = __int128(1) << 40;  // of the library
constexpr __int128 kFarthest = __int128(1) << 47;

// Elements, an empty side counting as one as it does in the library's bound; -1: a negative side.
__int128 bound(const int64_t* sizes, size_t count) {
    __int128 product = 1;
    for (size_t i = 0; i < count; ++i) {
        if (sizes[i] < 0) return -1;
        product = std::min<__int128>(product * std::max<int64_t>(sizes[i], 1), 2 * kMostElements);
    }
    return product;
}

bool is_empty(const int64_t* sizes, size_t count) { return std::find(sizes, sizes + count, 0) != sizes + count; }

int64_t bytes_of(int32_t dtype) {
    return dtype == SIMPLEMATCH_FLOAT64 ? 8 : dtype == SIMPLEMATCH_FLOAT32 ? 4 : 2;
}

}  // namespace

void broken(const char* rule) {
    std::fprintf(stderr, "broken: %s (last message: %s)\n", rule, simplematch_error_message());
    std::abort();
}

uint64_t Memory::random() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
}

double Memory::number() {
    const double ordinary = double(random() % 4001) / 500 - 2;
    if (!wild_ || random() % 8 != 0) return ordinary;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double special[] = {infinity, -infinity, std::nan(""), 0, -0.0, 1e300, -1e38, 1e-300, 1e-40};
    return special[random() % (sizeof special / sizeof *special)];
}

Memory::Region& Memory::add(int64_t count, int64_t item, Role role) {
    const size_t bytes = size_t(count * item);
    regions_.push_back({std::unique_ptr<char[]>(new char[bytes]), {}, bytes, role, item, {}});
    std::memset(regions_.back().data.get(), kUntouched, bytes);
    return regions_.back();
}

void Memory::fill(Region& region) {
    for (size_t at = 0; at + size_t(region.item) <= region.bytes; at += size_t(region.item)) {
        char* const to = region.data.get() + at;
        const double value = number();
        const float single = float(value);
        const uint16_t half = uint16_t(wild_ ? random() : 0x3000 + random() % 0x0c00);
        if (region.item == 8) std::memcpy(to, &value, 8);
        if (region.item == 4) std::memcpy(to, &single, 4);
        if (region.item == 2) std::memcpy(to, &half, 2);
        if (region.item == 1) *to = char(random() % 4 != 0);
    }
    region.before.assign(region.data.get(), region.data.get() + region.bytes);
}

void Memory::give(simplematch_tensor& t, Role role) {
    if (t.data == nullptr) return;
    const __int128 elements = bound(t.size, 4);
    __int128 lowest = 0, highest = 0;
    for (int i = 0; i < 4; ++i) {
        if (t.size[i] <= 1) continue;
        const __int128 reach = __int128(t.size[i] - 1) * t.stride[i];
        (reach < 0 ? lowest : highest) += reach;
    }
    const bool refused = elements < 0 || elements > kMostElements || highest - lowest > kFarthest;
    const bool large = elements > kMostOfATest || highest - lowest > kMostOfATest;
    must_be_refused_ |= refused;
    too_large_ |= large && !refused;
    const bool whole = !refused && !large;
    const bool empty = is_empty(t.size, 4);
    Region& region = add(!whole ? 1 : empty ? 0 : int64_t(highest - lowest) + 1, bytes_of(t.dtype), role);
    if (role == Role::input) fill(region);
    t.data = region.data.get() + (whole && !empty ? -int64_t(lowest) * region.item : 0);
    if (role == Role::input || !whole || empty) return;
    for (int64_t i = 0; i < t.size[0]; ++i)
        for (int64_t j = 0; j < t.size[1]; ++j)
            for (int64_t k = 0; k < t.size[2]; ++k)
                for (int64_t l = 0; l < t.size[3]; ++l) {
                    int64_t at = -int64_t(lowest);
                    const int64_t index[] = {i, j, k, l};
                    for (int d = 0; d < 4; ++d)
                        if (t.size[d] > 1) at += index[d] * t.stride[d];
                    region.elements.push_back(at);
                }
}

void* Memory::give(const void* wanted, std::initializer_list<int64_t> sizes, int64_t item, Role role) {
    if (wanted == nullptr) return nullptr;
    const __int128 elements = bound(sizes.begin(), sizes.size());
    const bool refused = elements < 0 || elements > kMostElements, large = elements > kMostOfATest;
    must_be_refused_ |= refused;
    too_large_ |= large && !refused;
    const bool whole = !refused && !large;
    const bool empty = is_empty(sizes.begin(), sizes.size());
    Region& region = add(!whole ? 1 : empty ? 0 : int64_t(elements), item, role);
    if (role == Role::input) {
        fill(region);
    } else if (whole && !empty) {
        for (int64_t i = 0; i < int64_t(elements); ++i) region.elements.push_back(i);
    }
    return region.data.get();
}

const int64_t* Memory::give_integers(const void* wanted, std::initializer_list<int64_t> sizes, int64_t least, int64_t most) {
    void* const data = give(wanted, sizes, sizeof(int64_t), Role::input);
    if (data == nullptr) return nullptr;
    Region& region = regions_.back();
    for (size_t at = 0; at + 8 <= region.bytes; at += 8) {
        const int64_t value = most >= least ? least + int64_t(random() % (uint64_t(most - least) + 1)) : least;
        std::memcpy(region.data.get() + at, &value, 8);
    }
    region.before.assign(region.data.get(), region.data.get() + region.bytes);
    return static_cast<const int64_t*>(data);
}

void Memory::check_inputs_unchanged() const {
    for (const Region& r : regions_)
        if (r.role == Role::input && !std::equal(r.before.begin(), r.before.end(), r.data.get()))
            broken("inputs are only read");
}

void Memory::check_outputs_unchanged() const {
    const auto untouched = [](char c) { return c == kUntouched; };
    for (const Region& r : regions_)
        if (r.role == Role::output && !std::all_of(r.data.get(), r.data.get() + r.bytes, untouched))
            broken("a refused call writes nothing");
}

void Memory::check_outputs_written() const {
    const auto untouched = [](char c) { return c == kUntouched; };
    for (const Region& r : regions_) {
        if (r.role == Role::input) continue;
        std::vector<char> is_element(r.bytes, 0);
        for (int64_t at : r.elements) {
            char* const data = r.data.get() + at * r.item;
            // two bytes may be that number by chance
            if (r.item > 2 && std::all_of(data, data + r.item, untouched)) broken("every element of an output is written");
            std::fill_n(is_element.begin() + at * r.item, r.item, 1);
        }
        for (size_t i = 0; i < r.bytes; ++i)
            if (!is_element[i] && r.data[i] != kUntouched) broken("nothing is written between the elements of an output");
    }
}
