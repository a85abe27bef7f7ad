// The operators on the CPU.
//
// Maps are (B, C, H, W) of any strides; M = H * W cells, cell m = y * W + x. Arithmetic and results are float32, or
// float64 if the target (the features, the scores) is float64: T below. Result arrays are contiguous. Every element
// of every result and gradient is written. Results do not depend on the number of threads.
#pragma once

#include "simplematch/options.h"
#include "simplematch/types.h"

namespace simplematch {

// Of each query n: where it matches. Invalid rows hold -1, 0, -1, 0.
struct Matches {
    void* keypoints = nullptr;    // T (B, N, 2) as (x, y)
    void* score = nullptr;        // T (B, N) similarity at the peak
    int64_t* peak = nullptr;      // (B, N) flat cell
    void* log_sum_exp = nullptr;  // T (B, N)
};

// What the backward of sparse_window_match reads besides the inputs.
struct ForwardResult {
    Matches matches;
    void* target_norm = nullptr;    // T (B, M)
    void* window_scores = nullptr;  // T (B, kept_queries, rows, columns): scores of the window clipped to the map
};

// Gradients that arrive at the outputs, any strides; data null stands for zeros.
struct Upstream {
    View keypoints;    // (B, N, 2)
    View score;        // (B, N)
    View log_sum_exp;  // (B, N)
};

struct MatchProblem {
    View source;       // (B, C, Hs, Ws), or descriptors (B, C, 1, N) when `keypoints` is not given
    View keypoints;    // (B, N, 2) float32 or float64
    View target;       // (B, C, H, W)
    Rows rows;
    View temperature;  // (B, N) T, or not given: localization.temperature
    Sampling sampling;
    Metric metric;
    Localization localization;
    int64_t kept_queries = 0;            // the first K queries whose window scores are kept
    int64_t score_budget = 64ll << 20;   // most bytes of scores held at a time
    int threads = 1;
};

// Gradients to compute; data null: not wanted. Shapes of the inputs, temperature (B, N), any strides.
struct MatchGradients {
    View source;
    View keypoints;
    View target;
    View temperature;
};

struct LocalizeProblem {
    View scores;  // (B, N, H, W)
    Rows rows;
    View temperature;
    Localization localization;
    int threads = 1;
};

struct SimilarityProblem {
    View descriptors;  // (B, C, 1, N) as a map, like MatchProblem::source
    View target;       // (B, C, H, W)
    Metric metric;
    int64_t score_budget = 64ll << 20;
    int threads = 1;
};

void sparse_window_match(const MatchProblem& problem, const ForwardResult& result);
void sparse_window_match_backward(
    const MatchProblem& problem, const ForwardResult& forward, const Upstream& upstream, const MatchGradients& gradients);

void localize(const LocalizeProblem& problem, const Matches& matches);
void localize_backward(
    const LocalizeProblem& problem, const Matches& matches, const Upstream& upstream, const View& scores_gradient,
    const View& temperature_gradient);

// descriptors (B, N, C) in the dtype of the features, contiguous.
void gather_keypoints(const View& features, const View& keypoints, const Sampling& sampling, void* descriptors, int threads);
void gather_keypoints_backward(
    const View& gradient, const View& features, const View& keypoints, const Sampling& sampling,
    const View& features_gradient, const View& keypoints_gradient, int threads);

// scores T (B, N, H, W) and target_norm T (B, M), contiguous.
void cosine_similarity(const SimilarityProblem& problem, void* scores, void* target_norm);
void cosine_similarity_backward(
    const SimilarityProblem& problem, const View& gradient, const void* scores, const void* target_norm,
    const View& descriptors_gradient, const View& target_gradient);

// "avx512", "avx2" or "baseline": the instructions in use. The environment variable SIMPLEMATCH_SIMD, read once, lowers it.
const char* simd_level();

}  // namespace simplematch
