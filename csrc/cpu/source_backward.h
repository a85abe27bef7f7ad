// source_backward: the gradient of the map that keypoints read, from the gradients of what they read.
#pragma once

#include <vector>

#include "gather.h"

namespace simplematch::cpu {

// One summand of the map's gradient: `weight` times gradient row n belongs to `cell`.
struct Scatter {
    int64_t cell;
    int64_t n;
    double weight;
};

// Memory for the summands of `count` keypoints. To be called outside of a team of threads, where it may throw.
std::vector<Scatter> reserve_scatter(int64_t count, const Sampling& sampling);

// Summands in the order of their cells, and of n within a cell. Allocates nothing in a reserved list.
void list_scatter(const Sample* samples, const uint8_t* valid, int64_t count, std::vector<Scatter>& list);

// source_backward: dF[c, cell] = sum over the keypoints n that read the cell of weight * dq[n][c]
//
// Writes every element, zeros included, of part `part` of `parts` of image b. Keypoints that share a cell are summed in
// the order of n: no atomics, repeatable to the bit.
template <class T>
void source_backward(const View& gradient, int64_t b, const std::vector<Scatter>& scatter, const T* vectors,
                     int64_t stride, int64_t part, int64_t parts);

// The same for a list of descriptors (B, C, 1, N), of which queries [first, first + count) have rows of vectors: channels
// [first_channel, last_channel) of their columns.
template <class T>
void write_queries(const View& gradient, int64_t b, int64_t first, int64_t count, const T* vectors, int64_t stride,
                   int64_t first_channel, int64_t last_channel);

}  // namespace simplematch::cpu
