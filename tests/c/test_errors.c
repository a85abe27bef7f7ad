/* Every wrong argument of a match and its steps, of the device and of the helpers. */
#include <math.h>
#if defined(__unix__)
#include <sys/resource.h>
#endif

#include "refusals.h"

static simplematch_status match(void) { return simplematch_sparse_window_match(&f.match, &f.result, &f.device); }
static simplematch_status match_backward(void) {
    return simplematch_sparse_window_match_backward(&f.match, &f.result, &f.upstream, &f.gradients, &f.device);
}
static simplematch_status localize(void) { return simplematch_localize(&f.localize, &f.result.matches, &f.device); }
static simplematch_status localize_backward(void) {
    return simplematch_localize_backward(
        &f.localize, &f.result.matches, &f.upstream, &f.localize_gradients, &f.device);
}
static simplematch_status gather(void) { return simplematch_gather_keypoints(&f.gather, &f.gather_result, &f.device); }
static simplematch_status gather_backward(void) {
    return simplematch_gather_keypoints_backward(&f.gather, &f.gather_upstream, &f.gather_gradients, &f.device);
}
static simplematch_status similarity(void) {
    return simplematch_cosine_similarity(&f.similarity, &f.similarity_result, &f.device);
}
static simplematch_status similarity_backward(void) {
    return simplematch_cosine_similarity_backward(
        &f.similarity, &f.similarity_result, &f.similarity_upstream, &f.similarity_gradients, &f.device);
}

static void test_null_structs(void) {
    REFUSES((void)0, simplematch_sparse_window_match(NULL, &f.result, &f.device), "problem must point to a struct");
    REFUSES((void)0, simplematch_sparse_window_match(&f.match, NULL, &f.device), "result must point to a struct");
    REFUSES((void)0, simplematch_sparse_window_match_workspace(&f.match, NULL, NULL), "bytes must point");
    REFUSES((void)0, simplematch_sparse_window_match_backward(&f.match, &f.result, NULL, &f.gradients, NULL), "upstream");
    REFUSES((void)0, simplematch_sparse_window_match_backward(&f.match, &f.result, &f.upstream, NULL, NULL), "gradients");
    REFUSES((void)0, simplematch_localize(NULL, &f.result.matches, NULL), "problem");
    REFUSES((void)0, simplematch_localize(&f.localize, NULL, NULL), "result must point to a struct");
    REFUSES((void)0, simplematch_localize_backward(&f.localize, NULL, &f.upstream, &f.localize_gradients, NULL),
            "forward must point to a struct");
    REFUSES((void)0, simplematch_localize_backward(&f.localize, &f.result.matches, &f.upstream, NULL, NULL),
            "gradients must point to a struct");
    REFUSES((void)0, simplematch_gather_keypoints(&f.gather, NULL, NULL), "result must point to a struct");
    REFUSES((void)0, simplematch_gather_keypoints_backward(&f.gather, NULL, &f.gather_gradients, NULL),
            "upstream must point to a struct");
    REFUSES((void)0, simplematch_gather_keypoints_backward(&f.gather, &f.gather_upstream, NULL, NULL),
            "gradients must point to a struct");
    ACCEPTS(f.similarity.metric.kind = SIMPLEMATCH_L1;
            f.similarity_gradients.descriptors.data = f.similarity_gradients.target.data = NULL, similarity_backward());
    REFUSES((void)0, simplematch_cosine_similarity(&f.similarity, NULL, NULL), "result must point to a struct");
    REFUSES((void)0, simplematch_cosine_similarity_backward(&f.similarity, NULL, &f.similarity_upstream,
                                                            &f.similarity_gradients, NULL), "forward must point");
    REFUSES((void)0, simplematch_cosine_similarity_backward(&f.similarity, &f.similarity_result, NULL,
                                                            &f.similarity_gradients, NULL), "upstream must point");
}

static void test_null_data(void) {
    REFUSES(f.match.source.data = NULL, match(), "source must be given, got data NULL with sizes (2, 5, 4, 6)");
    REFUSES(f.match.target.data = NULL, match(), "target must be given");
    REFUSES(f.match.keypoints.data = NULL, match(), "source must have shape (B, C, 1, N) where no keypoints are given");
    REFUSES(f.result.matches.keypoints = NULL, match(), "matches.keypoints must point to (2, 3, 2) elements, got NULL");
    REFUSES(f.result.matches.score = NULL, match(), "matches.score");
    REFUSES(f.result.matches.peak = NULL, match(), "matches.peak");
    REFUSES(f.result.matches.log_sum_exp = NULL, match(), "matches.log_sum_exp");
    REFUSES(f.result.target_norm = NULL, match(), "target_norm");
    REFUSES(f.result.window_scores = NULL, match(), "window_scores must point to (2, 3, 3, 3) elements");
    REFUSES(f.result.matches.peak = NULL, match_backward(), "matches.peak");
    REFUSES(f.localize.scores.data = NULL, localize(), "scores must be given");
    REFUSES(f.gather.keypoints.data = NULL, gather(), "keypoints must be given");
    REFUSES(f.gather_result.descriptors = NULL, gather(), "descriptors must point to (2, 3, 5) elements");
    REFUSES(f.gather_upstream.descriptors.data = NULL, gather_backward(), "upstream.descriptors must be given");
    REFUSES(f.similarity.descriptors.data = NULL, similarity(), "descriptors must be given");
    REFUSES(f.similarity_result.scores = NULL, similarity(), "scores must point to (2, 3, 4, 6) elements");
    REFUSES(f.similarity_result.target_norm = NULL, similarity_backward(), "target_norm must point to (2, 4, 6) elements");
    REFUSES(f.similarity_upstream.scores.data = NULL, similarity_backward(), "upstream.scores must be given");
    REFUSES(f.match.temperature.data = NULL, match_backward(), "gradients.temperature must not be asked for");
    REFUSES(f.result.matches.second_score = NULL, match(), "matches.second_score must point to (2, 3) elements, got NULL");
    REFUSES(f.result.matches.second_peak = NULL, match(), "matches.second_peak must point to (2, 3) elements, got NULL");
    REFUSES(f.result.matches.covariance = NULL, match_backward(), "matches.covariance must point to (2, 3, 2, 2) elements");
    REFUSES(f.result.matches.covariance = NULL, localize_backward(), "matches.covariance must point");
    ACCEPTS(f.result.matches.covariance = NULL; f.result.matches.second_score = NULL; f.result.matches.second_peak = NULL,
            match());
    ACCEPTS(f.result.matches.covariance = NULL; f.upstream.covariance.data = NULL, match_backward());
    ACCEPTS(f.match.kept_queries = 0; f.result.window_scores = NULL, match());
    ACCEPTS(f.gradients.source.data = NULL; f.gradients.keypoints.data = NULL, match_backward());
    ACCEPTS(memset(&f.match.rows, 0, sizeof f.match.rows), match());
}

static void test_dtypes(void) {
    REFUSES(f.match.source.dtype = 4, match(), "source must have dtype 0 (float32)");
    REFUSES(f.match.target.dtype = -1, match(), "target must have dtype 0 (float32), 1 (float64), 2 (bfloat16) or 3");
    REFUSES(f.match.target.dtype = 2147483647, match(), "got 2147483647");
    REFUSES(f.match.source.dtype = SIMPLEMATCH_FLOAT64, match(), "source must be float32, got float64");
    REFUSES(f.match.keypoints.dtype = SIMPLEMATCH_FLOAT16, match(), "keypoints must be float32 or float64, got float16");
    REFUSES(f.match.temperature.dtype = SIMPLEMATCH_FLOAT64, match(), "temperature must be float32");
    REFUSES(f.upstream.score.dtype = SIMPLEMATCH_BFLOAT16, match_backward(), "upstream.score must be float32");
    REFUSES(f.gradients.target.dtype = SIMPLEMATCH_FLOAT16, match_backward(), "gradients.target must be float32");
    REFUSES(f.localize_gradients.scores.dtype = 9, localize_backward(), "gradients.scores must have dtype");
    REFUSES(f.gather_upstream.descriptors.dtype = SIMPLEMATCH_FLOAT16, gather_backward(), "upstream.descriptors must be float32");
    REFUSES(f.similarity_gradients.descriptors.dtype = SIMPLEMATCH_FLOAT64, similarity_backward(), "gradients.descriptors");
}

static void test_sizes(void) {
    const int64_t huge = INT64_C(1) << 40;
    REFUSES(f.match.target.size[2] = -4, match(), "target must have sizes of at least 0, got (2, 5, -4, 6)");
    REFUSES(f.match.keypoints.size[1] = INT64_MIN, match(), "keypoints must have sizes of at least 0");
    REFUSES(f.match.target.size[3] = 0, match(), "target must have at least one channel and one cell");
    REFUSES(f.match.source.size[1] = 0, match(), "source must have at least one channel");
    REFUSES(f.match.source.size[2] = f.match.source.size[3] = INT64_MAX, match(), "source must have at most 2^40 elements");
    REFUSES(f.match.target.size[0] = 0; f.match.target.size[1] = huge, match(), "target must have at most 2^40");
    REFUSES(f.match.source.size[0] = 1, match(), "source must have the same batch size as target, got 1 and 2");
    REFUSES(f.match.source.size[1] = 4, match(), "source must have the same number of channels as target, got 4 and 5");
    REFUSES(f.match.keypoints.size[0] = 1, match(), "keypoints must have the same batch size as source");
    REFUSES(f.match.keypoints.size[2] = 3, match(), "keypoints must have shape (B, N, 2), got a last size of 3");
    REFUSES(f.match.keypoints.size[3] = 2, match(), "1 in the unused trailing sizes");
    REFUSES(f.match.keypoints.size[1] = huge / 4; f.match.keypoints.stride[1] = 0, match(), "B * N * C");
    REFUSES(f.match.temperature.size[1] = 2, match(), "temperature must have shape (B, N) = (2, 3), got (2, 2)");
    REFUSES(f.upstream.covariance.size[3] = 1, match_backward(), "upstream.covariance must have shape (B, N, 2, 2)");
    REFUSES(f.upstream.keypoints.size[1] = 4, match_backward(), "upstream.keypoints must have shape (B, N, 2)");
    REFUSES(f.gradients.target.size[3] = 5, match_backward(), "gradients.target must have the shape of target, got size 5");
    REFUSES(f.localize.scores.size[2] = 0, localize(), "scores must have at least one cell");
    REFUSES(f.localize.scores.size[1] = 2, localize(), "temperature must have shape (B, N) = (2, 2)");
    REFUSES(f.gather.keypoints.size[0] = 3, gather(), "keypoints must have the same batch size as features");
    REFUSES(f.gather_upstream.descriptors.size[2] = 4, gather_backward(),
            "upstream.descriptors must have shape (B, N, C) = (2, 3, 5)");
    REFUSES(f.similarity.descriptors.size[2] = 2, similarity(), "descriptors must have shape (B, C, 1, N)");
    REFUSES(f.similarity.descriptors.size[1] = 4, similarity(), "descriptors must have the same number of channels");
    REFUSES(f.similarity_upstream.scores.size[3] = 7, similarity_backward(), "upstream.scores must have shape (B, N, H, W)");
    ACCEPTS(f.match.keypoints.size[1] = 0; f.match.kept_queries = 0; f.match.temperature.size[1] = 0;
            memset(f.num_keypoints, 0, sizeof f.num_keypoints), match());
}

/* Cells and rows that numbers of 32 bits do not count; no memory is behind strides of 0. */
static void test_counts(void) {
    const int64_t many = (INT64_C(1) << 30) + 1;
#define REPEATED(tensor, dimension) memset((tensor).stride, 0, sizeof (tensor).stride); (tensor).size[dimension] = many
    REFUSES(REPEATED(f.match.target, 3), match(), "target must have at most 2^30 cells, got 4294967300");
    REFUSES(REPEATED(f.match.source, 3); f.match.source.size[2] = 1, match(),
            "source must have at most 2^30 cells, got 1073741825");
    REFUSES(REPEATED(f.match.keypoints, 1), match(), "keypoints must have at most 2^30 rows, got 1073741825");
    REFUSES(f.match.keypoints.data = NULL; f.match.source = f.similarity.descriptors; REPEATED(f.match.source, 3), match(),
            "source must have at most 2^30 rows");
    REFUSES(REPEATED(f.gather.features, 2), gather(), "features must have at most 2^30 cells");
    REFUSES(REPEATED(f.gather.keypoints, 1), gather(), "keypoints must have at most 2^30 rows");
    REFUSES(REPEATED(f.similarity.descriptors, 3), similarity(), "descriptors must have at most 2^30 rows");
    REFUSES(REPEATED(f.similarity.target, 2), similarity(), "target must have at most 2^30 cells");
    REFUSES(REPEATED(f.localize.scores, 2), localize(), "scores must have at most 2^30 cells");
    REFUSES(REPEATED(f.localize.scores, 1), localize(), "scores must have at most 2^30 rows");
}

static void test_strides(void) {
    REFUSES(f.match.source.stride[1] = INT64_MAX, match(), "source must reach at most 2^47 elements");
    REFUSES(f.match.source.stride[1] = INT64_MIN, match(), "source must reach at most 2^47 elements");
    REFUSES(f.gradients.source.stride[0] = 0, match_backward(), "gradients.source is written");
    REFUSES(f.gradients.target.stride[2] = 5, match_backward(), "gradients.target is written, so its elements must not");
    REFUSES(f.gradients.target.stride[2] = -5, match_backward(), "overlap");
    REFUSES(f.gradients.keypoints.stride[1] = 1, match_backward(), "gradients.keypoints is written");
    REFUSES(f.gradients.temperature.stride[0] = 2, match_backward(), "gradients.temperature is written");
    REFUSES(f.localize_gradients.scores.stride[3] = 0, localize_backward(), "gradients.scores is written");
    REFUSES(f.similarity_gradients.descriptors.stride[3] = 0, similarity_backward(), "gradients.descriptors is written");
    REFUSES(f.match.source.data = (char *)f.source + 2, match(), "source must be aligned to its elements of 4 bytes");
    REFUSES(f.result.matches.peak = (int64_t *)(void *)((char *)f.out.peak + 4), match(), "matches.peak must be aligned");
    ACCEPTS(f.match.source.stride[0] = f.match.source.stride[3] = 0, match());
    ACCEPTS(f.upstream.keypoints.stride[0] = f.upstream.keypoints.stride[1] = 0, match_backward());
    /* the map turned upside down, and the gradient of it */
    ACCEPTS(f.match.target.data = f.target[0][0][H - 1]; f.match.target.stride[2] = -W;
            f.gradients.target.data = f.out.target_gradient[0][0][H - 1]; f.gradients.target.stride[2] = -W,
            match_backward());
    /* a side of one element is never stepped along */
    ACCEPTS(f.match.keypoints.stride[3] = INT64_MIN; f.similarity.descriptors.stride[2] = INT64_MAX, match());
    ACCEPTS(f.similarity.descriptors.stride[2] = INT64_MAX; f.similarity_gradients.descriptors.stride[2] = 0,
            similarity_backward());
}

static void test_options(void) {
    simplematch_localization *l = &f.match.localization;
    REFUSES(f.match.sampling.mode = 3, match(), "sampling.mode must be 0 (floor), 1 (round) or 2 (bilinear), got 3");
    REFUSES(f.match.sampling.padding = -1, match(), "sampling.padding must be 0 (zeros) or 1 (border), got -1");
    REFUSES(f.match.sampling.to_cells_x.denominator = 0, match(), "sampling.to_cells_x.denominator must not be 0");
    REFUSES(f.match.sampling.coordinates = 3, match(), "sampling.coordinates must be 0 (corner), 1 (half_pixel) or 2");
    REFUSES(l->coordinates = -1, match(), "localization.coordinates must be 0 (corner), 1 (half_pixel) or 2");
    {
        static const int64_t sizes[2 * B] = {8, 0};
        REFUSES(f.match.sampling.image_sizes = sizes, match(),
                "sampling.image_sizes must hold sizes from 1 to 2^40 pixels, got 0 for the width of image 0");
        REFUSES(l->image_sizes = sizes, match(), "localization.image_sizes must hold sizes");
        REFUSES(f.gather.sampling.image_sizes = sizes, gather(), "sampling.image_sizes must hold sizes");
        REFUSES(f.localize.localization.image_sizes = sizes, localize(), "localization.image_sizes must hold sizes");
        REFUSES(l->image_sizes = (const int64_t *)((const char *)sizes + 1), match(), "localization.image_sizes");
    }
    REFUSES(f.match.metric.kind = -1, match(), "metric.kind must be 0 (cosine), 1 (dot), 2 (l2) or 3 (l1), got -1");
    REFUSES(f.match.metric.clamp_eps = 2, match(), "metric.clamp_eps");
    REFUSES(f.match.metric.eps = -1e-8, match(), "metric.eps must be a finite number of at least 0, got -1e-08");
    REFUSES(f.match.metric.eps = NAN, match(), "metric.eps");
    REFUSES(f.match.metric.eps = INFINITY, match(), "metric.eps");
    REFUSES(l->window.height = 0, match(), "window.height must be at least 1 cell, got 0");
    REFUSES(l->window.width = -3, match(), "window.width must be at least 1 cell, got -3");
    REFUSES(l->window.shift = 2, match(), "window.shift");
    REFUSES(l->window.shape = 4, match(),
            "window.shape must be 0 (square), 1 (plus), 2 (disc) or 3 (closed disc), got 4");
    REFUSES(f.localize.localization.window.shape = -1, localize(), "window.shape");
    REFUSES(l->window.shape = SIMPLEMATCH_DISC; l->window.disc_width = 3, match(),
            "window.disc_height must be a number of cells from 1 to 2^62 for a disc, got 0");
    REFUSES(l->window.shape = SIMPLEMATCH_CLOSED_DISC; l->window.disc_height = 3; l->window.disc_width = 0.5, match(),
            "window.disc_width must be a number of cells from 1 to 2^62 for a disc, got 0.5");
    REFUSES(l->window.shape = SIMPLEMATCH_DISC; l->window.disc_height = NAN; l->window.disc_width = 3, match(),
            "window.disc_height");
    REFUSES(l->window.shape = SIMPLEMATCH_DISC; l->window.disc_height = 3; l->window.disc_width = 1e19, match(),
            "window.disc_width");
    ACCEPTS(l->window.shape = SIMPLEMATCH_PLUS; l->window.disc_height = NAN, match());
    ACCEPTS(l->window.shape = SIMPLEMATCH_CLOSED_DISC; l->window.disc_height = l->window.disc_width = 0x1p62, match());
    REFUSES(l->window.outside_value = NAN, match(), "window.outside_value must be -inf or a finite number, got");
    REFUSES(l->window.outside_value = INFINITY, match(), "window.outside_value");
    REFUSES(l->window.sigma = -1, match(), "window.sigma must be 0 or a finite number above 0");
    REFUSES(l->window.sigma = NAN, match(), "window.sigma");
    REFUSES(l->from_cells_y.denominator = 0, match(), "localization.from_cells_y.denominator must not be 0");
    REFUSES(l->output_offset = INFINITY, match(), "localization.output_offset must be a finite number");
    REFUSES(l->second.height = -1, match(), "second.height must be at least 1 cell, or 0 for that of window, got -1");
    REFUSES(l->second.height = 1; l->second.width = 0, match(), "second.width must be at least 1 cell, got 0");
    REFUSES(l->second.height = l->second.width = 1; l->second.shape = 4, match(), "second.shape must be 0 (square), 1");
    REFUSES(l->second.height = l->second.width = 1; l->second.shape = SIMPLEMATCH_DISC, match(), "second.disc_height");
    ACCEPTS(l->second.height = l->second.width = INT64_MAX, match());
    ACCEPTS(l->second.height = l->second.width = INT64_MAX; l->second.disc_height = l->second.disc_width = 4.5;
            l->second.shape = SIMPLEMATCH_DISC; l->second.shift = 1, match());
    REFUSES(f.match.temperature.data = NULL; l->temperature = 0, match(), "localization.temperature must be a finite");
    REFUSES(f.match.temperature.data = NULL; l->temperature = NAN, match(), "localization.temperature");
    REFUSES(f.match.kept_queries = -1, match(), "kept_queries must be from 0 to N = 3, got -1");
    REFUSES(f.match.kept_queries = 4, match(), "kept_queries must be from 0 to N = 3, got 4");
    REFUSES(f.match.score_budget = 0, match(), "score_budget must be at least 1 byte, got 0");
    REFUSES(f.similarity.score_budget = -5, similarity(), "score_budget");
    REFUSES(f.similarity.metric.kind = 4, similarity_backward(), "metric.kind");
    REFUSES(f.gather.sampling.mode = -2, gather_backward(), "sampling.mode");
    REFUSES(f.localize.localization.window.height = 0, localize_backward(), "window.height");
    REFUSES(memset(&f.match, 0, sizeof f.match), match(), "target must have at least one channel and one cell");
    ACCEPTS(l->temperature = 0, match()); /* the tensor is there */
    ACCEPTS(l->window.height = l->window.width = INT64_MAX; f.match.kept_queries = 0, match());
}

static void test_values(void) {
    REFUSES(f.num_keypoints[1] = 4, match(), "rows.num_keypoints must lie between 0 and N = 3, got 4 for image 1");
    REFUSES(f.num_keypoints[0] = -1, localize(), "rows.num_keypoints");
    REFUSES(f.out.peak[1][2] = M, match_backward(), "matches.peak must hold cells from 0 to 23");
    REFUSES(f.out.peak[0][0] = -1, localize_backward(), "got -1 in image 0, row 0");
    ACCEPTS(f.out.peak[1][2] = -1; f.valid[1][2] = 0, match_backward());
    ACCEPTS(f.out.peak[1][2] = -1; f.num_keypoints[1] = 2, match_backward());
    ACCEPTS(f.out.peak[0][0] = f.out.peak[0][1] = f.out.peak[0][2] = -1; memset(f.target_mask[0], 0, M), match_backward());
    ACCEPTS(f.out.peak[1][2] = -1; use_query_masks(&f); memset(f.query_masks[1][2], 0, M), match_backward());
    REFUSES(f.out.peak[1][1] = -1; use_query_masks(&f); memset(f.query_masks[1][2], 0, M), match_backward(),
            "got -1 in image 1, row 1");
    REFUSES(f.match.rows.target_mask_stride = M - 1, match(),
            "rows.target_mask_stride must be 0 (one mask an image) or at least 24, the cells of a map, got 23");
    REFUSES(f.localize.rows.target_mask_stride = -1, localize(), "rows.target_mask_stride must be 0");
    REFUSES(f.match.rows.target_mask_stride = INT64_MAX, match(), "rows.target_mask must have at most 2^40 elements");
    ACCEPTS(use_query_masks(&f), match());
    ACCEPTS(f.match.rows.target_mask = NULL; f.match.rows.target_mask_stride = INT64_MAX, match());
}

static void test_device(void) {
    REFUSES(f.device.kind = 2, match(), "device.kind must be 0 (CPU) or 1 (CUDA), got 2");
    REFUSES(f.device.index = -1, match(), "device.index must be at least 0");
    REFUSES(f.device.threads = -1, match(), "device.threads must be 0 (all processors) or from 1 to 1024, got -1");
    REFUSES(f.device.threads = 1025, similarity(), "device.threads");
    REFUSES(f.device.workspace_bytes = -1, gather(), "device.workspace_bytes must be at least 0");
#if !defined(SIMPLEMATCH_HAS_CUDA)
    int64_t bytes;
    REFUSES_AS(SIMPLEMATCH_UNSUPPORTED, f.device.kind = SIMPLEMATCH_CUDA, match(), "built without CUDA");
    REFUSES_AS(SIMPLEMATCH_UNSUPPORTED, f.device.kind = SIMPLEMATCH_CUDA,
               simplematch_localize_workspace(&f.localize, &f.device, &bytes), "built without CUDA");
#endif
}

static void test_workspace(void) {
    int64_t bytes = -1;
    REFUSES(f.match.metric.eps = -1, simplematch_sparse_window_match_workspace(&f.match, &f.device, &bytes), "metric.eps");
    if (bytes != -1) fail(__FILE__, __LINE__, "a refused query wrote its answer");
#define NEEDS_NONE(call)                                              \
    do {                                                              \
        bytes = -1;                                                   \
        ACCEPTS((void)0, call);                                       \
        if (bytes != 0) fail(__FILE__, __LINE__, "the CPU needs no workspace"); \
    } while (0)
    NEEDS_NONE(simplematch_sparse_window_match_workspace(&f.match, NULL, &bytes));
    NEEDS_NONE(simplematch_sparse_window_match_backward_workspace(&f.match, &f.gradients, NULL, &bytes));
    REFUSES((void)0, simplematch_sparse_window_match_backward_workspace(&f.match, NULL, NULL, &bytes), "gradients must");
    NEEDS_NONE(simplematch_localize_workspace(&f.localize, NULL, &bytes));
    NEEDS_NONE(simplematch_localize_backward_workspace(&f.localize, &f.localize_gradients, NULL, &bytes));
    NEEDS_NONE(simplematch_gather_keypoints_workspace(&f.gather, NULL, &bytes));
    NEEDS_NONE(simplematch_gather_keypoints_backward_workspace(&f.gather, &f.gather_gradients, NULL, &bytes));
    NEEDS_NONE(simplematch_cosine_similarity_workspace(&f.similarity, NULL, &bytes));
    NEEDS_NONE(simplematch_cosine_similarity_backward_workspace(&f.similarity, &f.similarity_gradients, NULL, &bytes));
}

static void test_coordinates(void) {
    simplematch_affine map = {7, 7, 7};
    simplematch_sampling sampling = simplematch_sampling_default();
    REFUSES((void)0, simplematch_cells_from_pixels(3, 4, 16, &map), "coordinates must be 0 (corner)");
    REFUSES((void)0, simplematch_cells_from_pixels(0, 0, 16, &map), "cells must be from 1 to 2^40 cells, got 0");
    REFUSES((void)0, simplematch_pixels_from_cells(0, 4, -16, &map), "pixels must be from 1 to 2^40 pixels, got -16");
    REFUSES((void)0, simplematch_pixels_from_cells(0, 4, 16, NULL), "map must point to a struct");
    REFUSES((void)0, simplematch_sampling_in_pixels(NULL, 0, 4, 4, 16, 16), "sampling must point");
    REFUSES((void)0, simplematch_sampling_in_pixels(&sampling, 0, 4, 4, 16, INT64_MAX), "image_width must be from 1");
    REFUSES((void)0, simplematch_localization_in_pixels(&f.match.localization, 0, 4, 0, 16, 16), "map_width");
    if (map.numerator != 7 || sampling.to_cells_x.numerator != 1) fail(__FILE__, __LINE__, "a refused call wrote its answer");
}

/* A map of 2^28 cells that costs no memory, its scores of one query 1 GiB, under a limit of 256 MiB. */
static void test_out_of_memory(void) {
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
    struct rlimit old, low;
    getrlimit(RLIMIT_AS, &old);
    low = old;
    low.rlim_cur = (rlim_t)256 << 20;
    setrlimit(RLIMIT_AS, &low);
    REFUSES_AS(SIMPLEMATCH_OUT_OF_MEMORY,
               f.match.target.size[2] = f.match.target.size[3] = 1 << 14;
               memset(f.match.target.stride, 0, sizeof f.match.target.stride); f.match.rows.target_mask = NULL,
               match(), "not enough memory");
    setrlimit(RLIMIT_AS, &old);
#endif
}

static void test_versions(void) {
    char header[32];
    snprintf(header, sizeof header, "%d.%d.%d", SIMPLEMATCH_VERSION_MAJOR, SIMPLEMATCH_VERSION_MINOR,
             SIMPLEMATCH_VERSION_PATCH);
    if (strcmp(header, simplematch_version()) != 0) fail(__FILE__, __LINE__, "header and library are of different versions");
    if (simplematch_simd_level()[0] == '\0') fail(__FILE__, __LINE__, "no instruction set");
}

int main(void) {
    if (simplematch_error_message()[0] != '\0') fail(__FILE__, __LINE__, "a message before any failure");
    test_versions();
    test_null_structs();
    test_null_data();
    test_dtypes();
    test_sizes();
    test_counts();
    test_strides();
    test_options();
    test_values();
    test_device();
    test_workspace();
    test_coordinates();
    test_out_of_memory();
    if (failures == 0) printf("every wrong argument was refused\n");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
