/* Descriptors at keypoints. */
#ifndef SIMPLEMATCH_GATHER_KEYPOINTS_H
#define SIMPLEMATCH_GATHER_KEYPOINTS_H

#include "simplematch/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct simplematch_gather_problem {
    simplematch_tensor features;  /* (B, C, H, W) */
    simplematch_tensor keypoints; /* (B, N, 2) float32 or float64 */
    simplematch_sampling sampling;
} simplematch_gather_problem;

SIMPLEMATCH_API simplematch_gather_problem simplematch_gather_problem_default(void);

typedef struct simplematch_gather_result {
    void *descriptors; /* (B, N, C) in the dtype of the features, contiguous */
} simplematch_gather_result;

/* The gradient that arrives, any strides. */
typedef struct simplematch_gather_upstream {
    simplematch_tensor descriptors; /* (B, N, C) in the dtype of the features */
} simplematch_gather_upstream;

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_gather_gradients {
    simplematch_tensor features;
    simplematch_tensor keypoints;
} simplematch_gather_gradients;

SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints(
    const simplematch_gather_problem *problem, const simplematch_gather_result *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints_workspace(
    const simplematch_gather_problem *problem, const simplematch_device *device, int64_t *bytes);
SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints_backward(
    const simplematch_gather_problem *problem, const simplematch_gather_upstream *upstream,
    const simplematch_gather_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints_backward_workspace(
    const simplematch_gather_problem *problem, const simplematch_gather_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
