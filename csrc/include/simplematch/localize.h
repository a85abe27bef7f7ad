/* From score maps to coordinates. */
#ifndef SIMPLEMATCH_LOCALIZE_H
#define SIMPLEMATCH_LOCALIZE_H

#include "simplematch/sparse_window_match.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct simplematch_localize_problem {
    simplematch_tensor scores;      /* (B, N, H, W) */
    simplematch_tensor temperature; /* (B, N) T, or not given */
    simplematch_rows rows;
    simplematch_localization localization;
} simplematch_localize_problem;

SIMPLEMATCH_API simplematch_localize_problem simplematch_localize_problem_default(void);

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_localize_gradients {
    simplematch_tensor scores;
    simplematch_tensor temperature;
} simplematch_localize_gradients;

SIMPLEMATCH_API simplematch_status simplematch_localize(
    const simplematch_localize_problem *problem, const simplematch_matches *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_localize_workspace(
    const simplematch_localize_problem *problem, const simplematch_device *device, int64_t *bytes);
SIMPLEMATCH_API simplematch_status simplematch_localize_backward(
    const simplematch_localize_problem *problem, const simplematch_matches *forward, const simplematch_upstream *upstream,
    const simplematch_localize_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_localize_backward_workspace(
    const simplematch_localize_problem *problem, const simplematch_localize_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
