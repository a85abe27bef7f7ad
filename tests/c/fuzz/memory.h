// Memory for the arguments of one call: each tensor and array in an allocation of exactly its size, so that the
// sanitizer sees every step beside it, and watched: inputs never change, outputs only as a whole and only on success.
#pragma once

#include <initializer_list>
#include <memory>
#include <vector>

#include "simplematch/simplematch.h"

enum class Role { input, output };

class Memory {
public:
    // `wild`: inputs also hold NaN, infinities and numbers of all sizes.
    Memory(uint64_t seed, bool wild) : state_(seed | 1), wild_(wild) {}

    // Give an address to a tensor or an array that has any address now; NULL stays NULL.
    void give(simplematch_tensor& tensor, Role role);
    void* give(const void* wanted, std::initializer_list<int64_t> sizes, int64_t item, Role role);
    // An input array of integers from `least` to `most`.
    const int64_t* give_integers(const void* wanted, std::initializer_list<int64_t> sizes, int64_t least, int64_t most);

    // Some argument would need more memory than a test has, and the library may rightly accept it: don't call.
    bool too_large() const { return too_large_; }
    // Some argument is so large that the library has to refuse it.
    bool must_be_refused() const { return must_be_refused_; }

    // Each ends the program with a message if it doesn't hold.
    void check_inputs_unchanged() const;
    void check_outputs_unchanged() const;
    void check_outputs_written() const;

private:
    struct Region {
        std::unique_ptr<char[]> data;
        std::vector<char> before;
        size_t bytes;
        Role role;
        int64_t item;
        std::vector<int64_t> elements;  // of an output: where they lie
    };

    Region& add(int64_t count, int64_t item, Role role);
    void fill(Region& region);
    uint64_t random();
    double number();

    std::vector<Region> regions_;
    uint64_t state_;
    bool wild_, too_large_ = false, must_be_refused_ = false;
};

[[noreturn]] void broken(const char* rule);
