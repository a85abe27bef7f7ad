// Where keypoints read a map (paper eq. 6-7), and the two directions of that reading.
#pragma once

#include <vector>

#include "kernels.h"
#include "memory.h"

namespace simplematch::cpu {

// The cells that a keypoint reads, in elements of the map and as flat cell, with their weights. `slope_*`: derivative of
// a weight by the keypoint's coordinate. A keypoint that is not finite reads NaN.
struct Sample {
    int64_t offset[4];
    int64_t cell[4];
    double weight[4];
    double slope_x[4], slope_y[4];
    int32_t count;
    bool finite;
    bool whole;  // one cell, weight 1
};

Sample sample_keypoint(const View& map, const Sampling& sampling, double x, double y);

// Descriptor n of a list of descriptors, (B, C, 1, N).
Sample sample_descriptor(const View& map, int64_t n);

double read_upstream(const View& view, int64_t b, int64_t n, int64_t i = 0);

// vectors[n * stride + c] for c in [first, last) of one image; rows that are not valid become zeros.
template <class T>
void gather(const View& map, int64_t b, const Sample* samples, const uint8_t* valid, int64_t count, int64_t first,
            int64_t last, T* vectors, int64_t stride);

// sum over channels of gradient[c] * d q[c] / d (x, y), in the keypoint's units.
template <class T>
void keypoint_gradient(const View& map, int64_t b, const Sample& sample, const T* gradient, double* x, double* y);

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

}  // namespace simplematch::cpu
