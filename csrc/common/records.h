// The records of simplematch.h under the names that the kernels use, and what follows from a record alone.
//
// Everything in csrc/common has internal linkage: the steps on the CPU are compiled once for each instruction set, and the
// linker must not mix them.
#pragma once

#include "simplematch/simplematch.h"

#if defined(__CUDACC__)
#define SIMPLEMATCH_HOST_DEVICE __host__ __device__
#else
#define SIMPLEMATCH_HOST_DEVICE
#endif

namespace simplematch {

using View = simplematch_tensor;
using Rows = simplematch_rows;
using AffineMap = simplematch_affine;
using Sampling = simplematch_sampling;
using Metric = simplematch_metric;
using Window = simplematch_window;
using Localization = simplematch_localization;
using Device = simplematch_device;

using MatchProblem = simplematch_match_problem;
using Matches = simplematch_matches;
using MatchResult = simplematch_match_result;
using Upstream = simplematch_upstream;
using MatchGradients = simplematch_match_gradients;

using LocalizeProblem = simplematch_localize_problem;
using LocalizeGradients = simplematch_localize_gradients;

using GatherProblem = simplematch_gather_problem;
using GatherResult = simplematch_gather_result;
using GatherUpstream = simplematch_gather_upstream;
using GatherGradients = simplematch_gather_gradients;

using SimilarityProblem = simplematch_similarity_problem;
using SimilarityResult = simplematch_similarity_result;
using SimilarityUpstream = simplematch_similarity_upstream;
using SimilarityGradients = simplematch_similarity_gradients;

using MatchAllProblem = simplematch_match_all_problem;
using MatchAllResult = simplematch_match_all_result;
using MatchAllUpstream = simplematch_match_all_upstream;
using MatchAllGradients = simplematch_match_all_gradients;

using Truth = simplematch_truth;
using CrossEntropyProblem = simplematch_cross_entropy_problem;
using CrossEntropyResult = simplematch_cross_entropy_result;
using CrossEntropyUpstream = simplematch_cross_entropy_upstream;

using NeighbourProblem = simplematch_neighbour_problem;
using NeighbourResult = simplematch_neighbour_result;
using NeighbourUpstream = simplematch_neighbour_upstream;
using NeighbourGradients = simplematch_neighbour_gradients;

using UpsampledProblem = simplematch_upsampled_problem;
using UpsampledGradients = simplematch_upsampled_gradients;

using CorrelationProblem = simplematch_correlation_problem;
using CorrelationResult = simplematch_correlation_result;
using CorrelationUpstream = simplematch_correlation_upstream;
using CorrelationGradients = simplematch_correlation_gradients;

using PairProblem = simplematch_pair_problem;
using PairResult = simplematch_pair_result;
using PairUpstream = simplematch_pair_upstream;
using PairGradients = simplematch_pair_gradients;

constexpr View kNotGiven = {nullptr, SIMPLEMATCH_FLOAT32, {1, 1, 1, 1}, {0, 0, 0, 0}};
constexpr Rows kAllRows = {nullptr, nullptr, nullptr, 0};

SIMPLEMATCH_HOST_DEVICE static constexpr bool is_given(const View& view) { return view.data != nullptr; }

// Bytes of one element.
static constexpr int64_t item_size(int32_t dtype) {
    return dtype == SIMPLEMATCH_FLOAT64 ? 8 : dtype == SIMPLEMATCH_FLOAT32 ? 4 : 2;
}

// T: the dtype of the arithmetic and the results.
static constexpr int32_t arithmetic_of(int32_t dtype) {
    return dtype == SIMPLEMATCH_FLOAT64 ? SIMPLEMATCH_FLOAT64 : SIMPLEMATCH_FLOAT32;
}

static constexpr int64_t cells_of(const View& map) { return map.size[2] * map.size[3]; }

// N: of the keypoints, or of a list of descriptors.
static constexpr int64_t queries_of(const MatchProblem& p) {
    return is_given(p.keypoints) ? p.keypoints.size[1] : p.source.size[3];
}

static constexpr int64_t queries_of(const CrossEntropyProblem& p) {
    return is_given(p.keypoints) ? p.keypoints.size[1] : p.source.size[3];
}

static constexpr int64_t queries_of(const CorrelationProblem& p) { return p.queries.size[2] * p.queries.size[3]; }

// K: of the window, or of the offsets.
static constexpr int64_t samples_of(const CorrelationProblem& p) {
    return is_given(p.offsets) ? p.offsets.size[1] : (2 * p.radius_y + 1) * (2 * p.radius_x + 1);
}

// The masks of queries over a target's cells, `image` and `query` bytes apart; data null: all cells take part.
struct CellMasks {
    const uint8_t* data;
    int64_t image, query;  // query 0: one for all queries of an image

    SIMPLEMATCH_HOST_DEVICE constexpr const uint8_t* of(int64_t b, int64_t n) const {
        return data == nullptr ? nullptr : data + b * image + n * query;
    }
};

SIMPLEMATCH_HOST_DEVICE static constexpr CellMasks masks_of(const Rows& rows, int64_t queries, int64_t cells) {
    const int64_t query = rows.target_mask == nullptr ? 0 : rows.target_mask_stride;  // of no mask it says nothing
    return {rows.target_mask, query == 0 ? cells : queries * query, query};
}

// Whether query n of image b is no padding; whether it has a cell to select is not looked at.
SIMPLEMATCH_HOST_DEVICE static constexpr bool is_valid(const Rows& rows, int64_t b, int64_t n, int64_t queries) {
    if (rows.num_keypoints != nullptr && n >= rows.num_keypoints[b]) return false;
    return rows.valid == nullptr || rows.valid[b * queries + n] != 0;
}

}  // namespace simplematch
