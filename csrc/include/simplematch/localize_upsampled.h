/* From scores of a map to coordinates in the map upsampled bilinearly, which is never made. */
#ifndef SIMPLEMATCH_LOCALIZE_UPSAMPLED_H
#define SIMPLEMATCH_LOCALIZE_UPSAMPLED_H

#include "simplematch/sparse_window_match.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The scores of cells f_i become those of the upsampled cells m, whose weights are w:
 *     dot     s_m = sum_i w_i s_i
 *     cosine  s_m = sum_i w_i D(f_i) s_i / D(sum_i w_i f_i)
 *     l2      s_m = sum_i w_i s_i + sum_i w_i |f_i|^2 - |sum_i w_i f_i|^2, at most 0 */
typedef struct simplematch_upsampled_problem {
    simplematch_tensor scores;      /* (B, N, h, w), as simplematch_cosine_similarity gives them */
    const double *products;         /* (B, 5, h, w), of simplematch_neighbour_products; NULL for the metric "dot" */
    simplematch_tensor temperature; /* (B, N) T, or not given */
    simplematch_rows rows;          /* a target mask has height x width cells */
    simplematch_metric metric;
    simplematch_localization localization;
    int64_t height; /* of the upsampled map; at least 1 */
    int64_t width;
    int64_t score_budget; /* at least 1: most bytes of scores held at a time */
} simplematch_upsampled_problem;

/* Nothing given; metric "dot", which is what scores without vectors need, a map of 1 x 1, score_budget 64 MiB. */
SIMPLEMATCH_API simplematch_upsampled_problem simplematch_upsampled_problem_default(void);

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_upsampled_gradients {
    simplematch_tensor scores;
    double *products; /* contiguous, or NULL */
    simplematch_tensor temperature;
} simplematch_upsampled_gradients;

/* The covariance, second_score and second_peak of the result must be NULL, and no gradient arrives at a covariance. */
SIMPLEMATCH_API simplematch_status simplematch_localize_upsampled(
    const simplematch_upsampled_problem *problem, const simplematch_matches *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_localize_upsampled_workspace(
    const simplematch_upsampled_problem *problem, const simplematch_device *device, int64_t *bytes);
SIMPLEMATCH_API simplematch_status simplematch_localize_upsampled_backward(
    const simplematch_upsampled_problem *problem, const simplematch_matches *forward,
    const simplematch_upstream *upstream, const simplematch_upsampled_gradients *gradients,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_localize_upsampled_backward_workspace(
    const simplematch_upsampled_problem *problem, const simplematch_upsampled_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
