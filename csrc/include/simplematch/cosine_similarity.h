/* Scores of descriptors with every cell. */
#ifndef SIMPLEMATCH_COSINE_SIMILARITY_H
#define SIMPLEMATCH_COSINE_SIMILARITY_H

#include "simplematch/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct simplematch_similarity_problem {
    simplematch_tensor descriptors; /* (B, C, 1, N): a map of one row with a cell for each query */
    simplematch_tensor target;      /* (B, C, H, W), dtype of `descriptors` */
    simplematch_metric metric;
    int64_t score_budget; /* at least 1 */
} simplematch_similarity_problem;

SIMPLEMATCH_API simplematch_similarity_problem simplematch_similarity_problem_default(void);

/* Contiguous. */
typedef struct simplematch_similarity_result {
    void *scores;      /* T (B, N, H, W) */
    void *target_norm; /* T (B, M) */
} simplematch_similarity_result;

/* The gradient that arrives, any strides. */
typedef struct simplematch_similarity_upstream {
    simplematch_tensor scores; /* T (B, N, H, W) */
} simplematch_similarity_upstream;

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_similarity_gradients {
    simplematch_tensor descriptors;
    simplematch_tensor target;
} simplematch_similarity_gradients;

SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity(
    const simplematch_similarity_problem *problem, const simplematch_similarity_result *result,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity_workspace(
    const simplematch_similarity_problem *problem, const simplematch_device *device, int64_t *bytes);
/* `forward` is the result of the forward with the same problem. */
SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity_backward(
    const simplematch_similarity_problem *problem, const simplematch_similarity_result *forward,
    const simplematch_similarity_upstream *upstream, const simplematch_similarity_gradients *gradients,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity_backward_workspace(
    const simplematch_similarity_problem *problem, const simplematch_similarity_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
