// pair_scores: what its backward reads and writes, and the steps on a few rows of one image.
//
//     s_k = s(a[index_a[k]], b[index_b[k]])        da_n = sum over the pairs k of n of ds_k d s_k / d a_n
#pragma once

#include "common/records.h"

namespace simplematch::cpu {

// One of both sets, with the pairs of each of its rows: order[start[n]] to order[start[n + 1]], in the order of k. Pairs that
// are padding, and those with an index beyond this set, belong to no row.
struct PairSide {
    View features, gradient;  // gradient data null: not wanted
    const int64_t* index;     // (B, K)
    const int64_t* start;     // (B, N + 2), of which the last is not read
    const int64_t* order;     // (B, K)

    int64_t rows() const { return cells_of(features); }
    const int64_t* starts(int64_t b) const { return start + b * (rows() + 2); }
};

// The gradient of the set `own`. A row of the other set that has one pair alone can be written beside it, when both rows are
// in the cache; the gradient of the other set then begins with what is left to write.
struct PairBackward {
    PairSide own, other;
    int64_t pairs;      // K
    View upstream;      // (B, K)
    const void* scores; // (B, K)
    Metric metric;
    bool writes_other;  // rows with one pair
    bool left_by_other; // these rows of `own` are not written
};

constexpr int64_t kMostPairRows = 64;

struct PairSteps {
    // Of pairs [first, last) of image b, at most kMostPairRows.
    void (*scores)(const PairProblem&, int64_t b, int64_t first, int64_t last, void* scores, double* scratch);
    // Rows [first, last) of image b, at most kMostPairRows.
    void (*gradient)(const PairBackward&, int64_t b, int64_t first, int64_t last, double* scratch);
};

// Whether rows are read and written where they lie.
static inline bool has_rows(const View& map) { return map.stride[1] == 1 || map.size[1] == 1; }

}  // namespace simplematch::cpu
