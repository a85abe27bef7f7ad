/* Every wrong argument of the operators beside a match; those of match_all and pair_scores are in files of their own. */
#include <math.h>

#include "refusals.h"

static simplematch_status entropy(void) {
    return simplematch_sparse_match_cross_entropy(&f.entropy, &f.entropy_result, &f.device);
}
static simplematch_status entropy_backward(void) {
    return simplematch_sparse_match_cross_entropy_backward(
        &f.entropy, &f.entropy_result, &f.entropy_upstream, &f.gradients, &f.device);
}
static simplematch_status correlation(void) {
    return simplematch_local_correlation(&f.correlation, &f.correlation_result, &f.device);
}
static simplematch_status correlation_backward(void) {
    return simplematch_local_correlation_backward(
        &f.correlation, &f.correlation_upstream, &f.correlation_gradients, &f.device);
}
static simplematch_status neighbours(void) {
    return simplematch_neighbour_products(&f.neighbours, &f.neighbours_result, &f.device);
}
static simplematch_status neighbours_backward(void) {
    return simplematch_neighbour_products_backward(&f.neighbours, &f.neighbours_upstream, &f.neighbours_gradients, &f.device);
}
static simplematch_status upsampled(void) {
    return simplematch_localize_upsampled(&f.upsampled, &f.upsampled_result, &f.device);
}
static simplematch_status upsampled_backward(void) {
    return simplematch_localize_upsampled_backward(
        &f.upsampled, &f.upsampled_result, &f.upsampled_upstream, &f.upsampled_gradients, &f.device);
}

/* More than numbers of 32 bits count; no memory is behind strides of 0. */
static void repeat(simplematch_tensor *t, int dimension) {
    memset(t->stride, 0, sizeof t->stride);
    t->size[dimension] = (INT64_C(1) << 30) + 1;
}

static void test_correlation(void) {
    simplematch_correlation_problem *p = &f.correlation;
    ACCEPTS((void)0, correlation());
    ACCEPTS((void)0, correlation_backward());
    REFUSES((void)0, simplematch_local_correlation(NULL, &f.correlation_result, NULL), "problem must point to a struct");
    REFUSES((void)0, simplematch_local_correlation(p, NULL, NULL), "result must point to a struct");
    REFUSES((void)0, simplematch_local_correlation_backward(p, NULL, &f.correlation_gradients, NULL), "upstream must point");
    REFUSES(f.correlation_result.correlation = NULL, correlation(), "correlation must point to (2, 3, 9) elements, got NULL");
    REFUSES(p->queries.data = NULL, correlation(), "queries must be given");
    REFUSES(p->queries.size[1] = 4, correlation(), "queries must have the same number of channels as target");
    REFUSES(p->queries.dtype = SIMPLEMATCH_FLOAT64, correlation(), "queries");
    REFUSES(p->queries.size[3] = 2, correlation(), "coords must have one point for each of the 2 queries, got 3");
    REFUSES(p->coords.data = NULL, correlation(), "coords must be given");
    REFUSES(p->coords.size[2] = 1, correlation(), "coords must have shape (B, N, 2)");
    REFUSES(p->radius_x = -1, correlation(), "radius_x must be from 0 to 1048576 cells, got -1");
    REFUSES(p->radius_y = INT64_MAX, correlation(), "radius_y must be from 0 to 1048576 cells");
    REFUSES(p->offsets = p->coords; p->offsets.size[2] = 1, correlation(), "offsets must have shape (B, K, 2)");
    REFUSES(p->offsets = p->coords; p->offsets.size[1] = 0, correlation(), "offsets must have at least one sample");
    REFUSES(p->offsets = p->coords; p->offsets.dtype = SIMPLEMATCH_FLOAT16, correlation(), "offsets must");
    REFUSES(p->rows.target_mask = f.target_mask[0], correlation(), "rows.target_mask must be NULL, got an address");
    REFUSES(f.num_keypoints[1] = N + 1, correlation(), "rows.num_keypoints must lie between 0 and N = 3, got 4");
    REFUSES(p->sampling.mode = SIMPLEMATCH_FLOOR, correlation(), "sampling.mode must be 1 (round) or 2 (bilinear)");
    REFUSES(p->metric.kind = SIMPLEMATCH_L2, correlation(), "metric.kind must be 0 (cosine) or 1 (dot)");
    REFUSES(p->metric.kind = SIMPLEMATCH_L1, correlation(), "metric.kind must be 0 (cosine) or 1 (dot) for local");
    REFUSES(p->scale = NAN, correlation(), "scale must be a finite number");
    REFUSES(f.correlation_upstream.correlation.size[2] = 8, correlation_backward(),
            "upstream.correlation must have shape (B, N, K)");
    REFUSES(f.correlation_gradients.coords.stride[2] = 0, correlation_backward(), "gradients.coords is written");
    REFUSES(f.correlation_gradients.queries.size[3] = 4, correlation_backward(), "gradients.queries must have the shape");
    REFUSES(repeat(&p->target, 3), correlation(), "target must have at most 2^30 cells, got 4294967300");
    REFUSES(repeat(&p->queries, 3), correlation(), "queries must have at most 2^30 rows, got 1073741825");
}

static void test_cross_entropy(void) {
    simplematch_truth *t = &f.entropy.truth;
    int64_t bytes = -1;
    REFUSES((void)0, simplematch_sparse_match_cross_entropy(NULL, &f.entropy_result, NULL), "problem must point to a struct");
    REFUSES((void)0, simplematch_sparse_match_cross_entropy_backward(&f.entropy, &f.entropy_result, NULL, &f.gradients, NULL),
            "upstream must point to a struct");
    REFUSES(f.entropy.target_keypoints.data = NULL, entropy(), "target_keypoints must be given");
    REFUSES(f.entropy.target_keypoints.dtype = SIMPLEMATCH_FLOAT16, entropy(), "target_keypoints must be float32 or float64");
    REFUSES(f.entropy.target_keypoints.size[1] = 2, entropy(), "target_keypoints must have the same number of rows as keypoints");
    REFUSES(f.entropy.target_keypoints.size[0] = 1, entropy(), "target_keypoints must have the same batch size as target");
    REFUSES(f.entropy_result.loss = NULL, entropy(), "loss must point to (2, 3) elements, got NULL");
    REFUSES(f.entropy_result.cell = NULL, entropy_backward(), "cell must point to (2, 3) elements, got NULL");
    REFUSES(f.entropy_upstream.loss.data = NULL, entropy_backward(), "upstream.loss must be given");
    REFUSES(f.entropy_upstream.loss.size[1] = 2, entropy_backward(), "upstream.loss must have shape (B, N) = (2, 3)");
    REFUSES(f.gradients.target.size[3] = 5, entropy_backward(), "gradients.target must have the shape of target");
    REFUSES(t->kernel_size = 0, entropy(), "truth.kernel_size must be at least 1 cell, got 0");
    REFUSES(t->sigma = 0, entropy(), "truth.sigma must be a finite number above 0, got 0");
    REFUSES(t->sigma = NAN, entropy(), "truth.sigma");
    REFUSES(t->to_cells_x.denominator = 0, entropy(), "truth.to_cells_x.denominator must not be 0");
    REFUSES(f.entropy.temperature.data = NULL; t->temperature = 0, entropy(), "truth.temperature must be a finite");
    REFUSES(f.entropy.score_budget = 0, entropy(), "score_budget must be at least 1 byte");
    REFUSES(f.num_keypoints[1] = 4, entropy(), "rows.num_keypoints must lie between 0 and N = 3");
    REFUSES(f.out.cell[1][2] = M, entropy_backward(), "cell must hold numbers from -1 to 23 as the forward wrote them, got 24");
    ACCEPTS(f.out.cell[1][2] = -1, entropy_backward());
    ACCEPTS(t->kernel_size = INT64_MAX; t->sigma = 1e300, entropy());
    ACCEPTS(f.entropy.keypoints.data = NULL; f.entropy.source = f.similarity.descriptors, entropy());
    ACCEPTS((void)0, simplematch_sparse_match_cross_entropy_workspace(&f.entropy, NULL, &bytes));
    ACCEPTS((void)0, simplematch_sparse_match_cross_entropy_backward_workspace(&f.entropy, &f.gradients, NULL, &bytes));
    if (bytes != 0) fail(__FILE__, __LINE__, "the CPU needs no workspace");
}

static void test_neighbours(void) {
    ACCEPTS((void)0, neighbours());
    ACCEPTS((void)0, neighbours_backward());
    REFUSES((void)0, simplematch_neighbour_products(&f.neighbours, NULL, NULL), "result must point to a struct");
    REFUSES((void)0, simplematch_neighbour_products_backward(&f.neighbours, NULL, &f.neighbours_gradients, NULL),
            "upstream must point to a struct");
    REFUSES(f.neighbours.features.data = NULL, neighbours(), "features must be given");
    REFUSES(f.neighbours_result.products = NULL, neighbours(), "products must point to (2, 5, 4, 6) elements, got NULL");
    REFUSES(f.neighbours_upstream.products = NULL, neighbours_backward(), "upstream.products must point to (2, 5, 4, 6)");
    REFUSES(f.neighbours_gradients.features.stride[3] = 0, neighbours_backward(), "gradients.features is written");
    REFUSES(repeat(&f.neighbours.features, 2), neighbours(), "features must have at most 2^30 cells");
}

static void test_upsampled(void) {
    simplematch_upsampled_problem *p = &f.upsampled;
    int64_t bytes = -1;
    ACCEPTS((void)0, upsampled());
    ACCEPTS((void)0, upsampled_backward());
    ACCEPTS(p->score_budget = 1, upsampled_backward());
    REFUSES((void)0, simplematch_localize_upsampled(NULL, &f.upsampled_result, NULL), "problem must point to a struct");
    REFUSES((void)0, simplematch_localize_upsampled(p, NULL, NULL), "result must point to a struct");
    REFUSES(p->scores.data = NULL, upsampled(), "scores must be given");
    REFUSES(p->scores.size[2] = 0, upsampled(), "scores must have at least one cell, got h = 0, w = 6");
    REFUSES(p->products = NULL, upsampled(), "products must point to (2, 5, 4, 6) elements, got NULL");
    REFUSES(p->height = 0, upsampled(), "height and width must be at least 1, got 0 and 12");
    REFUSES(p->height = p->width = 1 << 20, upsampled(), "height and width must make at most 2^30 cells, got 1048576 x 1048576");
    REFUSES(repeat(&p->scores, 1), upsampled(), "scores must have at most 2^30 rows");
    REFUSES(repeat(&p->scores, 3), upsampled(), "scores must have at most 2^30 cells");
    REFUSES(p->score_budget = 0, upsampled(), "score_budget must be at least 1 byte, got 0");
    REFUSES(f.num_keypoints[1] = N + 1, upsampled(), "rows.num_keypoints must lie between 0 and N = 3, got 4");
    REFUSES(f.upsampled_result.covariance = f.out.covariance, upsampled(),
            "covariance, second_score and second_peak must be NULL");
    REFUSES(f.upsampled_upstream.covariance = f.upstream.covariance, upsampled_backward(), "matches.covariance must point to");
    REFUSES(f.out.peak[0][0] = 4 * M, upsampled_backward(), "matches.peak must hold cells from 0 to 95");
    REFUSES(p->metric.kind = SIMPLEMATCH_DOT, upsampled_backward(), "gradients.products must be NULL for metric 1 (dot)");
    ACCEPTS((void)0, simplematch_localize_upsampled_workspace(p, NULL, &bytes));
    ACCEPTS((void)0, simplematch_localize_upsampled_backward_workspace(p, &f.upsampled_gradients, NULL, &bytes));
    if (bytes != 0) fail(__FILE__, __LINE__, "the CPU needs no workspace");
}

int main(void) {
    test_correlation();
    test_cross_entropy();
    test_neighbours();
    test_upsampled();
    if (failures == 0) printf("every wrong argument was refused\n");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
