/* Scores of queries with a window of the target around given points. */
#ifndef SIMPLEMATCH_LOCAL_CORRELATION_H
#define SIMPLEMATCH_LOCAL_CORRELATION_H

#include "simplematch/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* K samples of each query: the window of (2 radius_y + 1) x (2 radius_x + 1) samples a cell apart, row by row, around its
 * point, or the given offsets. */
typedef struct simplematch_correlation_problem {
    simplematch_tensor queries; /* (B, C, Hq, Wq): a map of N = Hq * Wq queries */
    simplematch_tensor target;  /* (B, C, H, W), dtype of `queries` */
    simplematch_tensor coords;  /* (B, N, 2) float32 or float64 as (x, y); not finite: the row becomes NaN */
    simplematch_tensor offsets; /* (B, K, 2) float32 or float64, in cells; or not given: the window. Not finite: NaN */
    simplematch_rows rows;      /* target_mask must be NULL */
    simplematch_sampling sampling; /* SIMPLEMATCH_ROUND or SIMPLEMATCH_BILINEAR; the padding holds for both. image_sizes
                                      must be NULL: coords of images of several sizes come in cells */
    simplematch_metric metric;     /* SIMPLEMATCH_COSINE or SIMPLEMATCH_DOT */
    int64_t radius_y, radius_x;    /* from 0 to 2^20, also beside offsets, which leave them unused */
    double scale;                  /* multiplies the result; finite */
} simplematch_correlation_problem;

/* Nothing given; bilinear samples of the dot product, radius 4, scale 1. */
SIMPLEMATCH_API simplematch_correlation_problem simplematch_correlation_problem_default(void);

/* Contiguous. Padding holds zeros. */
typedef struct simplematch_correlation_result {
    void *correlation; /* T (B, N, K) */
} simplematch_correlation_result;

/* The gradient that arrives, any strides. */
typedef struct simplematch_correlation_upstream {
    simplematch_tensor correlation; /* T (B, N, K) */
} simplematch_correlation_upstream;

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_correlation_gradients {
    simplematch_tensor queries;
    simplematch_tensor target;
    simplematch_tensor coords;
} simplematch_correlation_gradients;

SIMPLEMATCH_API simplematch_status simplematch_local_correlation(
    const simplematch_correlation_problem *problem, const simplematch_correlation_result *result,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_local_correlation_workspace(
    const simplematch_correlation_problem *problem, const simplematch_device *device, int64_t *bytes);
SIMPLEMATCH_API simplematch_status simplematch_local_correlation_backward(
    const simplematch_correlation_problem *problem, const simplematch_correlation_upstream *upstream,
    const simplematch_correlation_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_local_correlation_backward_workspace(
    const simplematch_correlation_problem *problem, const simplematch_correlation_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
