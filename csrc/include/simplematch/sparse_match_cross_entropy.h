/* Gather, similarity, and cross entropy between the softmax over the whole target and a Gaussian round the true point. */
#ifndef SIMPLEMATCH_SPARSE_MATCH_CROSS_ENTROPY_H
#define SIMPLEMATCH_SPARSE_MATCH_CROSS_ENTROPY_H

#include "simplematch/sparse_window_match.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A true point to cells, and the Gaussian of width sigma cells on the kernel_size x kernel_size cells round its nearest
 * cell that lie in the map and the mask; it sums to 1. kernel_size / 2 of them lie above (left of) the nearest. */
typedef struct simplematch_truth {
    simplematch_affine to_cells_x;
    simplematch_affine to_cells_y;
    int64_t kernel_size; /* at least 1 */
    double sigma;        /* finite, above 0 */
    double temperature;  /* finite, above 0; unused where a tensor is given */
} simplematch_truth;

typedef struct simplematch_cross_entropy_problem {
    simplematch_tensor source;           /* these five as in simplematch_match_problem */
    simplematch_tensor keypoints;
    simplematch_tensor target;
    simplematch_tensor target_keypoints; /* (B, N, 2) float32 or float64; not finite: the loss is NaN */
    simplematch_tensor temperature;
    simplematch_rows rows;
    simplematch_sampling sampling;
    simplematch_metric metric;
    simplematch_truth truth;
    int64_t score_budget; /* at least 1: most bytes of scores held at a time */
} simplematch_cross_entropy_problem;

/* Nothing given, default options, 1 cell, sigma 0.5, temperature 0.02, score_budget 64 MiB. */
SIMPLEMATCH_API simplematch_cross_entropy_problem simplematch_cross_entropy_problem_default(void);

/* Contiguous. Rows that are padding, whose true point lies a cell or more outside the map, or whose window has no cell
 * of the mask, hold loss 0 and cell -1. */
typedef struct simplematch_cross_entropy_result {
    void *loss;        /* T (B, N) */
    int64_t *cell;     /* (B, N): flat cell nearest to the true point */
    void *target_norm; /* T (B, M) */
} simplematch_cross_entropy_result;

/* The gradient that arrives, any strides. */
typedef struct simplematch_cross_entropy_upstream {
    simplematch_tensor loss; /* T (B, N) */
} simplematch_cross_entropy_upstream;

SIMPLEMATCH_API simplematch_status simplematch_sparse_match_cross_entropy(
    const simplematch_cross_entropy_problem *problem, const simplematch_cross_entropy_result *result,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_sparse_match_cross_entropy_workspace(
    const simplematch_cross_entropy_problem *problem, const simplematch_device *device, int64_t *bytes);

/* `forward` is the result of the forward with the same problem. */
SIMPLEMATCH_API simplematch_status simplematch_sparse_match_cross_entropy_backward(
    const simplematch_cross_entropy_problem *problem, const simplematch_cross_entropy_result *forward,
    const simplematch_cross_entropy_upstream *upstream, const simplematch_match_gradients *gradients,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_sparse_match_cross_entropy_backward_workspace(
    const simplematch_cross_entropy_problem *problem, const simplematch_match_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
