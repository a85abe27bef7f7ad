/* Inner products of every cell with itself and its neighbours. */
#ifndef SIMPLEMATCH_NEIGHBOUR_PRODUCTS_H
#define SIMPLEMATCH_NEIGHBOUR_PRODUCTS_H

#include "simplematch/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct simplematch_neighbour_problem {
    simplematch_tensor features; /* (B, C, H, W) */
} simplematch_neighbour_problem;

SIMPLEMATCH_API simplematch_neighbour_problem simplematch_neighbour_problem_default(void);

/* Float64 for features of every dtype, contiguous (B, 5, H, W): products of the cell (y, x) with itself, with (y, x + 1), with
 * (y + 1, x) and with (y + 1, x + 1), and of (y, x + 1) with (y + 1, x). 0 where one of the two lies outside the map. */
typedef struct simplematch_neighbour_result {
    double *products;
} simplematch_neighbour_result;

/* The gradient that arrives, contiguous. */
typedef struct simplematch_neighbour_upstream {
    const double *products;
} simplematch_neighbour_upstream;

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_neighbour_gradients {
    simplematch_tensor features;
} simplematch_neighbour_gradients;

SIMPLEMATCH_API simplematch_status simplematch_neighbour_products(
    const simplematch_neighbour_problem *problem, const simplematch_neighbour_result *result,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_neighbour_products_workspace(
    const simplematch_neighbour_problem *problem, const simplematch_device *device, int64_t *bytes);
SIMPLEMATCH_API simplematch_status simplematch_neighbour_products_backward(
    const simplematch_neighbour_problem *problem, const simplematch_neighbour_upstream *upstream,
    const simplematch_neighbour_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_neighbour_products_backward_workspace(
    const simplematch_neighbour_problem *problem, const simplematch_neighbour_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
