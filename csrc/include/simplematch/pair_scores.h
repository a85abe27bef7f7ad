/* Scores of chosen pairs of descriptors of two sets. */
#ifndef SIMPLEMATCH_PAIR_SCORES_H
#define SIMPLEMATCH_PAIR_SCORES_H

#include "simplematch/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* N and M: the cells of the maps a and b, from 0 to 2^30. A list of descriptors (B, N, C) is a map (B, C, 1, N). */
typedef struct simplematch_pair_problem {
    simplematch_tensor a;   /* (B, C, H, W), N = H * W */
    simplematch_tensor b;   /* (B, C, H', W'), M = H' * W', dtype of `a` */
    const int64_t *index_a; /* (B, K) cells of a, below N; negative: the pair is padding. Contiguous */
    const int64_t *index_b; /* (B, K) cells of b, below M; likewise */
    int64_t pairs;          /* K, from 0 to 2^30 */
    simplematch_metric metric;
} simplematch_pair_problem;

/* Nothing given, no pairs; the cosine. */
SIMPLEMATCH_API simplematch_pair_problem simplematch_pair_problem_default(void);

/* Contiguous. Padding holds zeros. A GPU, on which indices aren't checked, writes NaN where one is beyond its set. */
typedef struct simplematch_pair_result {
    void *scores; /* T (B, K) */
} simplematch_pair_result;

/* The gradient that arrives, any strides. */
typedef struct simplematch_pair_upstream {
    simplematch_tensor scores; /* T (B, K) */
} simplematch_pair_upstream;

/* Gradients to compute, as in simplematch_match_gradients; those of descriptors without a pair are zeros. */
typedef struct simplematch_pair_gradients {
    simplematch_tensor a;
    simplematch_tensor b;
} simplematch_pair_gradients;

SIMPLEMATCH_API simplematch_status simplematch_pair_scores(
    const simplematch_pair_problem *problem, const simplematch_pair_result *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_pair_scores_workspace(
    const simplematch_pair_problem *problem, const simplematch_device *device, int64_t *bytes);
/* `forward` is the result of the forward with the same problem. */
SIMPLEMATCH_API simplematch_status simplematch_pair_scores_backward(
    const simplematch_pair_problem *problem, const simplematch_pair_result *forward,
    const simplematch_pair_upstream *upstream, const simplematch_pair_gradients *gradients,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_pair_scores_backward_workspace(
    const simplematch_pair_problem *problem, const simplematch_pair_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
