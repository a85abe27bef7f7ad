/* The library from C: points of a random map, found again in a copy that was shifted by some cells.
 *
 *     find_shift [dx dy]
 *
 * Prints a line "x y -> x y" for each point. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simplematch/simplematch.h"

enum { C = 32, H = 40, W = 40, N = 3 };

static float source[C][H][W], target[C][H][W];

static void fill_maps(int dx, int dy) {
    unsigned state = 1;
    for (int c = 0; c < C; ++c)
        for (int y = 0; y < H; ++y)
            for (int x = 0; x < W; ++x) {
                state = state * 1664525u + 1013904223u; /* a linear congruential generator: the high bits are random */
                source[c][y][x] = (float)(state >> 8) / 8388608.0f - 1.0f;
                target[c][((y + dy) % H + H) % H][((x + dx) % W + W) % W] = source[c][y][x];
            }
}

int main(int count, char **arguments) {
    fill_maps(count > 2 ? atoi(arguments[1]) : 7, count > 2 ? atoi(arguments[2]) : 3);
    float keypoints[N][2] = {{4, 5}, {20, 11}, {30, 30}}; /* (x, y) in cells */

    simplematch_match_problem problem = simplematch_match_problem_default();
    problem.source = simplematch_contiguous(source, SIMPLEMATCH_FLOAT32, 1, C, H, W);
    problem.target = simplematch_contiguous(target, SIMPLEMATCH_FLOAT32, 1, C, H, W);
    problem.keypoints = simplematch_contiguous(keypoints, SIMPLEMATCH_FLOAT32, 1, N, 2, 1);
    problem.localization.window.height = problem.localization.window.width = 9;

    float found[N][2], score[N], log_sum_exp[N];
    int64_t peak[N];
    static float target_norm[H * W];
    simplematch_match_result result;
    memset(&result, 0, sizeof result);
    result.matches.keypoints = found;
    result.matches.score = score;
    result.matches.peak = peak;
    result.matches.log_sum_exp = log_sum_exp;
    result.target_norm = target_norm;

    if (simplematch_sparse_window_match(&problem, &result, NULL) != SIMPLEMATCH_OK) {
        fprintf(stderr, "%s\n", simplematch_error_message());
        return 1;
    }
    for (int n = 0; n < N; ++n)
        printf("%g %g -> %.4f %.4f\n", keypoints[n][0], keypoints[n][1], found[n][0], found[n][1]);
    return 0;
}
