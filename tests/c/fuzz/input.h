// The fuzzer's bytes as numbers; when they are used up, random ones that depend on the first eight.
#pragma once

#include <cstddef>
#include <cstdint>

class Input {
public:
    Input(const uint8_t* data, size_t size) : data_(data), size_(size) {
        for (size_t i = 0; i < size && i < 8; ++i) state_ = state_ << 8 | data[i];
        state_ |= 1;
    }

    uint8_t byte() { return at_ < size_ ? data_[at_++] : further(); }
    int64_t below(int64_t n) { return byte() % n; }
    bool flip() { return (byte() & 1) != 0; }
    bool seldom() { return byte() >= 224; }
    uint64_t word() {
        uint64_t value = 0;
        for (int i = 0; i < 8; ++i) value = value << 8 | byte();
        return value;
    }

private:
    uint8_t further() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return uint8_t(state_ >> 32);
    }

    const uint8_t* data_;
    size_t size_, at_ = 0;
    uint64_t state_ = 0;
};
