// The fuzzer's bytes as numbers; zeros when they are used up.
#pragma once

#include <cstddef>
#include <cstdint>

class Input {
public:
    Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

    uint8_t byte() { return at_ < size_ ? data_[at_++] : uint8_t(0); }
    int64_t below(int64_t n) { return byte() % n; }
    bool flip() { return (byte() & 1) != 0; }
    bool seldom() { return byte() >= 224; }
    uint64_t word() {
        uint64_t value = 0;
        for (int i = 0; i < 8; ++i) value = value << 8 | byte();
        return value;
    }

private:
    const uint8_t* data_;
    size_t size_, at_ = 0;
};
