// Scratch memory, and what large outputs need before they are first touched.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "common/records.h"

namespace simplematch::cpu {

// Asks for huge pages behind memory that is about to be written for the first time: fresh memory then costs one page fault
// for 2 MiB instead of 512, and threads that touch it don't queue for the kernel's lock.
void prepare_memory(void* data, int64_t bytes);

// The same for a large output.
void prepare_output(const View& output);

constexpr size_t kLargeBuffer = 8 << 20;

// Uninitialised memory, aligned to a cache line and padded by one line for whole vectors at the end.
template <class T>
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(int64_t count) {
        const size_t bytes = (size_t(count) * sizeof(T) + 127) / 64 * 64;
        data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
        if (data_ == nullptr) throw std::bad_alloc();
        if (bytes >= kLargeBuffer) prepare_memory(data_, int64_t(bytes));
    }
    Buffer(Buffer&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
    Buffer& operator=(Buffer&& other) noexcept {
        T* const mine = data_;
        data_ = other.data_;
        other.data_ = mine;
        return *this;
    }
    ~Buffer() { std::free(data_); }

    T* get() const { return data_; }
    T& operator[](int64_t i) const { return data_[i]; }

private:
    T* data_ = nullptr;
};

// Whether an output is larger than what caches hold until somebody reads it.
bool is_large(const View& output);

}  // namespace simplematch::cpu
