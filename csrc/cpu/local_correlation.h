// local_correlation: a few queries and the rows of the cells that their windows cover, and the steps on them.
//
// Queries whose windows overlap form a group: each number of a cell that is loaded meets all queries of the group. Rows
// are T, zeros after the C channels up to `channels`, a multiple of kChannelUnit.
//
//     correlate     s[q][i]  = <query_q, cell_i>
//     add_cells     dq[q]    = sum_i w[q][i] cell_i
//     add_queries   dcell_i += sum_q w[q][i] query_q
#pragma once

#include <cstdint>

#include "simplematch/simplematch.h"

namespace simplematch::cpu {

constexpr int kTogether = 4;
constexpr int64_t kChannelUnit = 16;

template <class T>
struct CellGroup {
    int64_t queries;  // at most kTogether
    const T* query[kTogether];
    int64_t cells;
    const T* const* cell;
    int64_t channels;
};

// The window of one query: (rows, columns) samples from a box of one row and column more, or as many for "nearest".
template <class T>
struct WindowBlend {
    int64_t rows, columns;
    bool bilinear;
    T right_of, below;  // the way from the upper left cell of a sample to the sample
    T scale;
    int64_t pitch;      // from one row of the box to the next
};

// Numbers from one row of `columns` samples to the next where zeros surround them: one before, and whole vectors after.
constexpr int64_t padded_row(int64_t columns) { return columns + 34; }

// Weights of the cells of a box for one query, to those of the gradients: 0 has no part, and what is not finite is NaN.
template <class T>
struct WeightFinish {
    int64_t cells;
    const T* weights;
    const T* cell_unknown;  // NaN where a cell is not finite, else 0
    T query_unknown;
    const T* cell_divisor;  // or null: 1
    T query_divisor;
    T* for_query;   // or null
    T* for_target;  // or null
};

template <class T>
struct CorrelationSteps {
    // Rows of `stride` numbers, one for each query.
    void (*correlate)(const CellGroup<T>&, T* scores, int64_t stride);
    void (*add_cells)(const CellGroup<T>&, const T* weights, int64_t stride, T* const* gradient);
    void (*add_queries)(const CellGroup<T>&, const T* weights, int64_t stride, T* const* gradient);
    // g = (g - v / |v| <g, v> / D(v)) / D(v) for the cosine: from the gradient by v / D(v) to that by v.
    void (*finish_gradient)(T* gradient, const T* vector, int64_t channels, T norm, const simplematch_metric& metric);
    // s / query_divisor / cell_divisor, unless that is null; whether all are finite.
    bool (*finish_scores)(T* scores, int64_t cells, T query_divisor, const T* cell_divisor);
    // Samples from a box of scores, and the transpose, from samples surrounded by zeros; cells of weight zero are not
    // read. Both may read, and the second writes zeros, past the end of a row by less than a vector.
    void (*blend)(const T* box, const WindowBlend<T>&, T* samples);
    void (*unblend)(const T* padded, const WindowBlend<T>&, T* box);
    void (*finish_weights)(const WeightFinish<T>&);
    // Cells (y, left <= x < right) of image b as rows of `stride` numbers.
    void (*read_cells)(const simplematch_tensor& map, int64_t b, int64_t y, int64_t left, int64_t right, T* to,
                       int64_t stride);
    void (*write_cells)(const simplematch_tensor& map, int64_t b, int64_t y, int64_t left, int64_t right, const T* from,
                        int64_t stride);
};

}  // namespace simplematch::cpu
