// Where keypoints read a map (paper eq. 6-7), what they read, and how that moves with the keypoints.
#pragma once

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

// Query n of image b: a keypoint's place on the map, or column n of a list of descriptors where no keypoints are given.
Sample sample_query(const View& map, const View& keypoints, const Sampling& sampling, int64_t b, int64_t n);

// Descriptor n of a list of descriptors, (B, C, 1, N).
Sample sample_descriptor(const View& map, int64_t n);

double read_upstream(const View& view, int64_t b, int64_t n, int64_t i = 0, int64_t j = 0);

// vectors[n * stride + c] for c in [first, last) of one image; rows that are not valid become zeros.
template <class T>
void gather(const View& map, int64_t b, const Sample* samples, const uint8_t* valid, int64_t count, int64_t first,
            int64_t last, T* vectors, int64_t stride);

// The same, and zeros behind the last channel of the map.
template <class T>
void gather_padded(const View& map, int64_t b, const Sample* samples, const uint8_t* valid, int64_t count, int64_t first,
                   int64_t last, T* vectors, int64_t stride);

// sum over channels of gradient[c] * d q[c] / d (x, y), in the keypoint's units.
template <class T>
void keypoint_gradient(const View& map, int64_t b, const Sample& sample, const T* gradient, double* x, double* y);

}  // namespace simplematch::cpu
