// A map that is read as if it had been upsampled: what the steps of localize_upsampled take.
#pragma once

#include <cstdint>

namespace simplematch::cpu {

// The cell below each fine one of an axis and the weight of the cell after that; the lower has the rest of 1.
template <class T>
struct UpsampledAxis {
    int64_t cells, fine;
    const int64_t* low;         // (fine,), ascending
    const int64_t* first;       // (cells + 1,): the first fine cell whose `low` is the index or greater
    const T* weight;            // (fine,)
    const double* exact_weight;
};

// One image. Fine scores are those of the coarse cells interpolated, then
//     cosine: times `terms`, 1 / D of the upsampled cells; the coarse scores come times D(f_i)
//     l2:     plus `terms`, sum_i w_i |f_i|^2 - |sum_i w_i f_i|^2, and at most 0
template <class T>
struct Upsampling {
    UpsampledAxis<T> y, x;
    int32_t kind;            // of the metric; SIMPLEMATCH_DOT: no terms
    const double* products;  // (5, h, w)
    const T* terms;          // (H, W)
};

constexpr int64_t kNeighbourCells = 56;    // whole vectors, and fewer than kTile, of which a neighbour is the next
constexpr int64_t kNeighbourChannels = 16;  // at a time

}  // namespace simplematch::cpu
