#include "fixture.h"

#include <string.h>

static void fill(void *data, size_t count, unsigned seed) {
    float *to = (float *)data;
    for (size_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        to[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
}

static void fill_inputs(fixture *f) {
    fill(f->source, sizeof f->source / sizeof(float), 1);
    fill(f->target, sizeof f->target / sizeof(float), 2);
    fill(f->scores, sizeof f->scores / sizeof(float), 3);
    fill(f->descriptors, sizeof f->descriptors / sizeof(float), 4);
    fill(f->arriving, sizeof f->arriving / sizeof(float), 5);
    for (int b = 0; b < B; ++b) {
        f->num_keypoints[b] = N;
        f->image_temperature[b] = 0.5f;
        for (int n = 0; n < N; ++n) {
            f->valid[b][n] = 1;
            f->temperature[b][n] = 0.5f;
            f->keypoints[b][n][0] = (float)n + 0.25f;
            f->keypoints[b][n][1] = (float)b + 0.5f;
            f->target_keypoints[b][n][0] = (float)n + 1.75f;
            f->target_keypoints[b][n][1] = (float)b + 0.25f;
        }
        memset(f->target_mask[b], 1, M);
        for (int k = 0; k < 5; ++k)
            for (int m = 0; m < M; ++m) {
                f->products[b][k][m] = k == 0 ? 1 + 0.1 * (m % 7) : 0.01 * (k + m % 5);
                f->products_arriving[b][k][m] = 0.1 * (m % 5) - 0.2;
            }
    }
}

static simplematch_tensor floats(void *data, int64_t a, int64_t b, int64_t c, int64_t d) {
    return simplematch_contiguous(data, SIMPLEMATCH_FLOAT32, a, b, c, d);
}

static void set_up_match(fixture *f) {
    simplematch_match_problem *p = &f->match;
    *p = simplematch_match_problem_default();
    p->source = floats(f->source, B, C, H, W);
    p->target = floats(f->target, B, C, H, W);
    p->keypoints = floats(f->keypoints, B, N, 2, 1);
    p->temperature = floats(f->temperature, B, N, 1, 1);
    p->rows.num_keypoints = f->num_keypoints;
    p->rows.valid = f->valid[0];
    p->rows.target_mask = f->target_mask[0];
    p->sampling.mode = SIMPLEMATCH_BILINEAR;
    p->localization.window.height = p->localization.window.width = WINDOW;
    p->kept_queries = N;

    outputs *out = &f->out;
    f->result.matches.keypoints = out->keypoints;
    f->result.matches.score = out->score;
    f->result.matches.peak = out->peak[0];
    f->result.matches.log_sum_exp = out->log_sum_exp;
    f->result.matches.covariance = out->covariance;
    f->result.matches.second_score = out->second_score;
    f->result.matches.second_peak = out->second_peak[0];
    f->result.target_norm = out->target_norm;
    f->result.window_scores = out->window_scores;
    f->upstream.keypoints = floats(f->arriving, B, N, 2, 1);
    f->upstream.score = floats(f->arriving, B, N, 1, 1);
    f->upstream.log_sum_exp = floats(f->arriving, B, N, 1, 1);
    f->upstream.covariance = floats(f->arriving, B, N, 2, 2);
    f->gradients.source = floats(out->source_gradient, B, C, H, W);
    f->gradients.keypoints = floats(out->keypoints_gradient, B, N, 2, 1);
    f->gradients.target = floats(out->target_gradient, B, C, H, W);
    f->gradients.temperature = floats(out->temperature_gradient, B, N, 1, 1);
}

static void set_up_parts(fixture *f) {
    f->localize = simplematch_localize_problem_default();
    f->localize.scores = floats(f->scores, B, N, H, W);
    f->localize.temperature = f->match.temperature;
    f->localize.rows = f->match.rows;
    f->localize.localization = f->match.localization;
    f->localize_gradients.scores = floats(f->out.scores_gradient, B, N, H, W);
    f->localize_gradients.temperature = f->gradients.temperature;

    f->gather = simplematch_gather_problem_default();
    f->gather.features = f->match.source;
    f->gather.keypoints = f->match.keypoints;
    f->gather.sampling = f->match.sampling;
    f->gather_result.descriptors = f->out.descriptors;
    f->gather_upstream.descriptors = floats(f->arriving, B, N, C, 1);
    f->gather_gradients.features = f->gradients.source;
    f->gather_gradients.keypoints = f->gradients.keypoints;

    f->similarity = simplematch_similarity_problem_default();
    f->similarity.descriptors = floats(f->descriptors, B, C, 1, N);
    f->similarity.target = f->match.target;
    f->similarity_result.scores = f->out.scores;
    f->similarity_result.target_norm = f->out.target_norm;
    f->similarity_upstream.scores = floats(f->arriving, B, N, H, W);
    f->similarity_gradients.descriptors = floats(f->out.descriptors_gradient, B, C, 1, N);
    f->similarity_gradients.target = f->gradients.target;

    f->correlation = simplematch_correlation_problem_default();
    f->correlation.queries = f->similarity.descriptors;
    f->correlation.target = f->match.target;
    f->correlation.coords = floats(f->keypoints, B, N, 2, 1);
    f->correlation.rows.num_keypoints = f->num_keypoints;
    f->correlation.radius_y = f->correlation.radius_x = 1;
    f->correlation_result.correlation = f->out.correlation;
    f->correlation_upstream.correlation = floats(f->arriving, B, N, 9, 1);
    f->correlation_gradients.queries = f->similarity_gradients.descriptors;
    f->correlation_gradients.target = f->gradients.target;
    f->correlation_gradients.coords = floats(f->out.keypoints_gradient, B, N, 2, 1);
}

static void set_up_entropy(fixture *f) {
    simplematch_cross_entropy_problem *p = &f->entropy;
    *p = simplematch_cross_entropy_problem_default();
    p->source = f->match.source;
    p->keypoints = f->match.keypoints;
    p->target = f->match.target;
    p->target_keypoints = floats(f->target_keypoints, B, N, 2, 1);
    p->temperature = f->match.temperature;
    p->rows = f->match.rows;
    p->sampling = f->match.sampling;
    p->truth.kernel_size = 3;
    f->entropy_result.loss = f->out.loss;
    f->entropy_result.cell = f->out.cell[0];
    f->entropy_result.target_norm = f->out.target_norm;
    f->entropy_upstream.loss = floats(f->arriving, B, N, 1, 1);
}

static void set_up_match_all(fixture *f) {
    outputs *out = &f->out;
    simplematch_match_all_problem *p = &f->match_all;
    *p = simplematch_match_all_problem_default();
    p->a = f->similarity.descriptors;
    p->b = f->match.target;
    p->temperature = floats(f->image_temperature, B, 1, 1, 1);
    p->rows_a.num_keypoints = f->num_keypoints;
    f->match_all_result = (simplematch_match_all_result){
        out->index_a[0], out->score, out->log_sum_exp, out->second_score, out->index_b[0], out->score_b, out->log_sum_exp_b,
        out->second_b, out->mutual[0], out->norm_a, out->target_norm};
    f->match_all_upstream.score_a = f->match_all_upstream.log_sum_exp_a = floats(f->arriving, B, N, 1, 1);
    f->match_all_upstream.score_b = f->match_all_upstream.log_sum_exp_b = floats(f->arriving, B, M, 1, 1);
    f->match_all_gradients.a = f->similarity_gradients.descriptors;
    f->match_all_gradients.b = f->gradients.target;
    f->match_all_gradients.temperature = floats(out->image_gradient, B, 1, 1, 1);
}

static void set_up_pairs(fixture *f) {
    for (int i = 0; i < B; ++i)
        for (int n = 0; n < N; ++n) f->first_of_pair[i][n] = n, f->second_of_pair[i][n] = 2 * n;
    f->pairs = simplematch_pair_problem_default();
    f->pairs.a = f->similarity.descriptors;
    f->pairs.b = f->match.target;
    f->pairs.index_a = f->first_of_pair[0];
    f->pairs.index_b = f->second_of_pair[0];
    f->pairs.pairs = N;
    f->pairs_result.scores = f->out.score;
    f->pairs_upstream.scores = floats(f->arriving, B, N, 1, 1);
    f->pairs_gradients.a = f->similarity_gradients.descriptors;
    f->pairs_gradients.b = f->gradients.target;
}

static void set_up_upsampled(fixture *f) {
    f->neighbours = simplematch_neighbour_problem_default();
    f->neighbours.features = f->match.target;
    f->neighbours_result.products = f->out.products[0][0];
    f->neighbours_upstream.products = f->products_arriving[0][0];
    f->neighbours_gradients.features = f->gradients.target;

    f->upsampled = simplematch_upsampled_problem_default();
    f->upsampled.scores = f->localize.scores;
    f->upsampled.products = f->products[0][0];
    f->upsampled.temperature = f->match.temperature;
    f->upsampled.rows.num_keypoints = f->num_keypoints;
    f->upsampled.metric.kind = SIMPLEMATCH_COSINE;
    f->upsampled.localization = f->match.localization;
    f->upsampled.height = 2 * H;
    f->upsampled.width = 2 * W;
    f->upsampled_result = f->result.matches;
    f->upsampled_result.covariance = f->upsampled_result.second_score = NULL;
    f->upsampled_result.second_peak = NULL;
    f->upsampled_upstream = f->upstream;
    f->upsampled_upstream.covariance.data = NULL;
    f->upsampled_gradients.scores = f->localize_gradients.scores;
    f->upsampled_gradients.products = f->out.products_gradient[0][0];
    f->upsampled_gradients.temperature = f->gradients.temperature;
}

void set_up(fixture *f) {
    memset(f, 0, sizeof *f);
    f->device = simplematch_device_default();
    f->device.threads = 1;
    fill_inputs(f);
    set_up_match(f);
    set_up_parts(f);
    set_up_entropy(f);
    set_up_match_all(f);
    set_up_pairs(f);
    set_up_upsampled(f);
}

void use_query_masks(fixture *f) {
    simplematch_rows *rows[] = {&f->match.rows, &f->localize.rows, &f->entropy.rows};
    memset(f->query_masks, 1, sizeof f->query_masks);
    for (int i = 0; i < 3; ++i) {
        rows[i]->target_mask = f->query_masks[0][0];
        rows[i]->target_mask_stride = M;
    }
}
