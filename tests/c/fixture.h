/* One valid small call of every operator, to be spoilt by the tests: B = 2, C = 5, N = 3, maps of 4 x 6 cells. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <stddef.h>

#include "simplematch/simplematch.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { B = 2, C = 5, N = 3, H = 4, W = 6, M = H * W, WINDOW = 3 };

/* Everything that the library may write lies in here, so that one comparison finds every byte that changed. */
typedef struct outputs {
    float keypoints[B][N][2], score[B][N], log_sum_exp[B][N], target_norm[B][M], window_scores[B][N][WINDOW][WINDOW];
    float covariance[B][N][2][2], second_score[B][N];
    /* not floats: from peak to cell */
    int64_t peak[B][N], second_peak[B][N], index_a[B][N], index_b[B][M];
    double products[B][5][M], products_gradient[B][5][M];
    uint8_t mutual[B][N];
    int64_t cell[B][N];
    float source_gradient[B][C][H][W], target_gradient[B][C][H][W], keypoints_gradient[B][N][2], temperature_gradient[B][N];
    float score_b[B][M], log_sum_exp_b[B][M], second_b[B][M], norm_a[B][N], image_gradient[B];
    float loss[B][N];
    float descriptors[B][N][C], descriptors_gradient[B][N][C], scores[B][N][M], scores_gradient[B][N][M];
    float correlation[B][N][9];
} outputs;

typedef struct fixture {
    simplematch_device device;
    simplematch_match_problem match;
    simplematch_match_result result;
    simplematch_upstream upstream;
    simplematch_match_gradients gradients;
    simplematch_localize_problem localize;
    simplematch_localize_gradients localize_gradients;
    simplematch_gather_problem gather;
    simplematch_gather_result gather_result;
    simplematch_gather_upstream gather_upstream;
    simplematch_gather_gradients gather_gradients;
    simplematch_similarity_problem similarity;
    simplematch_similarity_result similarity_result;
    simplematch_similarity_upstream similarity_upstream;
    simplematch_similarity_gradients similarity_gradients;
    simplematch_cross_entropy_problem entropy;
    simplematch_cross_entropy_result entropy_result;
    simplematch_cross_entropy_upstream entropy_upstream;
    simplematch_correlation_problem correlation;
    simplematch_correlation_result correlation_result;
    simplematch_correlation_upstream correlation_upstream;
    simplematch_correlation_gradients correlation_gradients;
    simplematch_match_all_problem match_all;
    simplematch_match_all_result match_all_result;
    simplematch_match_all_upstream match_all_upstream;
    simplematch_match_all_gradients match_all_gradients;
    simplematch_pair_problem pairs; /* (n, 2 n) */
    simplematch_pair_result pairs_result;
    simplematch_pair_upstream pairs_upstream;
    simplematch_pair_gradients pairs_gradients;
    simplematch_neighbour_problem neighbours;
    simplematch_neighbour_result neighbours_result;
    simplematch_neighbour_upstream neighbours_upstream;
    simplematch_neighbour_gradients neighbours_gradients;
    simplematch_upsampled_problem upsampled; /* of the scores, as a map of twice the height and width */
    simplematch_matches upsampled_result;
    simplematch_upstream upsampled_upstream;
    simplematch_upsampled_gradients upsampled_gradients;
    int64_t num_keypoints[B], first_of_pair[B][N], second_of_pair[B][N];
    uint8_t valid[B][N], target_mask[B][M], query_masks[B][N][M];
    float source[B][C][H][W], target[B][C][H][W], keypoints[B][N][2], target_keypoints[B][N][2];
    float temperature[B][N], image_temperature[B], scores[B][N][M];
    double products[B][5][M], products_arriving[B][5][M];
    float descriptors[B][C][1][N], arriving[B][N][M];
    outputs out;
} fixture;

void set_up(fixture *f);

/* A mask for each query of all problems, of all cells. */
void use_query_masks(fixture *f);

#ifdef __cplusplus
}
#endif

#endif
