/* Gather, similarity, argmax, window, soft-argmax. */
#ifndef SIMPLEMATCH_SPARSE_WINDOW_MATCH_H
#define SIMPLEMATCH_SPARSE_WINDOW_MATCH_H

#include "simplematch/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct simplematch_match_problem {
    simplematch_tensor source;      /* (B, C, Hs, Ws); or descriptors (B, C, 1, N) when `keypoints` is not given */
    simplematch_tensor keypoints;   /* (B, N, 2) float32 or float64; not finite: the row becomes NaN */
    simplematch_tensor target;      /* (B, C, H, W), dtype of `source` */
    simplematch_tensor temperature; /* (B, N) T; or not given: localization.temperature. Not above 0: NaN */
    simplematch_rows rows;
    simplematch_sampling sampling;
    simplematch_metric metric;
    simplematch_localization localization;
    int64_t kept_queries; /* 0 to N: the first K queries whose window scores are kept for the backward, which computes
                             the others again */
    int64_t score_budget; /* at least 1: most bytes of scores held at a time */
} simplematch_match_problem;

/* Nothing given, default options, kept_queries 0, score_budget 64 MiB. */
SIMPLEMATCH_API simplematch_match_problem simplematch_match_problem_default(void);

/* Of each query where it matches; contiguous. Padding, and rows whose mask has no cell, hold -1, 0, -1, 0. */
typedef struct simplematch_matches {
    void *keypoints;   /* T (B, N, 2) as (x, y) */
    void *score;       /* T (B, N): the score at the peak */
    int64_t *peak;     /* (B, N): flat cell */
    void *log_sum_exp; /* T (B, N): of score / temperature over everything in the softmax */
    /* NULL: not wanted. Padding holds 0, 0, -1. */
    void *covariance;     /* T (B, N, 2, 2): of (x, y) under the softmax, in the units of keypoints squared */
    void *second_score;   /* T (B, N): of second_peak; -INFINITY without one. Given with second_peak, or neither */
    int64_t *second_peak; /* (B, N): flat cell of the best score outside localization.second; -1: there is none */
} simplematch_matches;

/* What the backward reads besides the inputs; contiguous. */
typedef struct simplematch_match_result {
    simplematch_matches matches;
    void *target_norm;   /* T (B, M) */
    void *window_scores; /* T (B, K, min(window.height, H), min(window.width, W)); unused if K = kept_queries is 0 */
} simplematch_match_result;

/* Gradients that arrive at the outputs, T, any strides; not given: zeros. */
typedef struct simplematch_upstream {
    simplematch_tensor keypoints;   /* (B, N, 2) */
    simplematch_tensor score;       /* (B, N) */
    simplematch_tensor log_sum_exp; /* (B, N) */
    simplematch_tensor covariance;  /* (B, N, 2, 2); the backward then reads the covariance of the forward */
} simplematch_upstream;

/* Gradients to compute, with shape and dtype of their input; not given: not wanted. Every element is written. */
typedef struct simplematch_match_gradients {
    simplematch_tensor source;
    simplematch_tensor keypoints;
    simplematch_tensor target;
    simplematch_tensor temperature;
} simplematch_match_gradients;

SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match(
    const simplematch_match_problem *problem, const simplematch_match_result *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match_workspace(
    const simplematch_match_problem *problem, const simplematch_device *device, int64_t *bytes);

/* `forward` is the result of the forward with the same problem. */
SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match_backward(
    const simplematch_match_problem *problem, const simplematch_match_result *forward,
    const simplematch_upstream *upstream, const simplematch_match_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match_backward_workspace(
    const simplematch_match_problem *problem, const simplematch_match_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
