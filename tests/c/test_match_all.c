/* match_all through the C interface: results and gradients against loops in double, and every wrong argument. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "simplematch/simplematch.h"

enum { B = 2, C = 5, N = 7, H = 2, W = 3, M = H * W };

typedef struct results {
    int64_t index_a[B][N], index_b[B][M];
    double score_a[B][N], log_sum_exp_a[B][N], second_a[B][N], norm_a[B][N];
    double score_b[B][M], log_sum_exp_b[B][M], second_b[B][M], norm_b[B][M];
    uint8_t mutual[B][N];
} results;

static double a[B][C][N], b[B][C][M], temperature[B] = {0.4, 0.7}, bin_score[B] = {0.3, -0.2};
static double up_a[B][N], up_b[B][M], grad_a[B][C][N], grad_b[B][C][M], grad_temperature[B], grad_bin[B];
static int64_t num_a[B] = {N, 4};
static results out, before;
static simplematch_match_all_problem p;
static simplematch_match_all_result r;
static simplematch_match_all_upstream upstream;
static simplematch_match_all_gradients gradients;
static int failures;

static void fail(int line, const char *what) {
    fprintf(stderr, "test_match_all.c:%d: %s\n", line, what);
    ++failures;
}
#define EXPECT(condition)                              \
    do {                                               \
        if (!(condition)) fail(__LINE__, #condition);  \
    } while (0)

static simplematch_status forward(void) { return simplematch_match_all(&p, &r, NULL); }
static simplematch_status backward(void) { return simplematch_match_all_backward(&p, &r, &upstream, &gradients, NULL); }

static void set_up(void) {
    unsigned state = 1;
    for (int i = 0; i < B * C * (N + M); ++i) {
        double *const to = i < B * C * N ? &a[0][0][0] + i : &b[0][0][0] + (i - B * C * N);
        state = state * 1664525u + 1013904223u;
        *to = (double)(state >> 8) / (1 << 23) - 1;
    }
    for (int i = 0; i < B; ++i) {
        for (int n = 0; n < N; ++n) up_a[i][n] = 0.1 * n - 0.3;
        for (int m = 0; m < M; ++m) up_b[i][m] = 0.4 - 0.1 * m;
    }
    p = simplematch_match_all_problem_default();
    p.a = simplematch_contiguous(a, SIMPLEMATCH_FLOAT64, B, C, 1, N);
    p.b = simplematch_contiguous(b, SIMPLEMATCH_FLOAT64, B, C, H, W);
    p.temperature = simplematch_contiguous(temperature, SIMPLEMATCH_FLOAT64, B, 1, 1, 1);
    p.bin_score = simplematch_contiguous(bin_score, SIMPLEMATCH_FLOAT64, B, 1, 1, 1);
    p.rows_a.num_keypoints = num_a;
    memset(&out, 0x5A, sizeof out);
    r = (simplematch_match_all_result){out.index_a[0], out.score_a, out.log_sum_exp_a, out.second_a, out.index_b[0], out.score_b,
                                       out.log_sum_exp_b, out.second_b, out.mutual[0], out.norm_a, out.norm_b};
    upstream.score_a = upstream.log_sum_exp_a = simplematch_contiguous(up_a, SIMPLEMATCH_FLOAT64, B, N, 1, 1);
    upstream.score_b = upstream.log_sum_exp_b = simplematch_contiguous(up_b, SIMPLEMATCH_FLOAT64, B, M, 1, 1);
    gradients.a = simplematch_contiguous(grad_a, SIMPLEMATCH_FLOAT64, B, C, 1, N);
    gradients.b = simplematch_contiguous(grad_b, SIMPLEMATCH_FLOAT64, B, C, H, W);
    gradients.temperature = simplematch_contiguous(grad_temperature, SIMPLEMATCH_FLOAT64, B, 1, 1, 1);
    gradients.bin_score = simplematch_contiguous(grad_bin, SIMPLEMATCH_FLOAT64, B, 1, 1, 1);
}

static double score(int i, int n, int m) {
    double product = 0, square_a = 0, square_b = 0;
    for (int c = 0; c < C; ++c) {
        product += a[i][c][n] * b[i][c][m];
        square_a += a[i][c][n] * a[i][c][n];
        square_b += b[i][c][m] * b[i][c][m];
    }
    return product / (sqrt(square_a) + 1e-8) / (sqrt(square_b) + 1e-8);
}

/* Index, score, second and log-sum-exp of one descriptor, of a if `of_a`. */
static void check_one(int i, int one, int of_a) {
    const int others = of_a ? M : (int)num_a[i];
    int best = 0;
    double second = -INFINITY, total = exp(bin_score[i] / temperature[i]);
    for (int k = 0; k < others; ++k) {
        const double s = of_a ? score(i, one, k) : score(i, k, one);
        const double top = of_a ? score(i, one, best) : score(i, best, one);
        total += exp(s / temperature[i]);
        if (k > 0 && s > top) second = top, best = k;
        else if (k > 0 && s > second) second = s;
    }
    EXPECT((of_a ? out.index_a[i][one] : out.index_b[i][one]) == best);
    EXPECT(fabs((of_a ? out.score_a[i][one] : out.score_b[i][one]) - (of_a ? score(i, one, best) : score(i, best, one))) < 1e-12);
    EXPECT(fabs((of_a ? out.second_a[i][one] : out.second_b[i][one]) - second) < 1e-12);
    EXPECT(fabs((of_a ? out.log_sum_exp_a[i][one] : out.log_sum_exp_b[i][one]) - log(total)) < 1e-12);
}

/* The scalar of which the gradients are taken. */
static double loss(void) {
    double sum = 0;
    if (forward() != SIMPLEMATCH_OK) fail(__LINE__, simplematch_error_message());
    for (int i = 0; i < B; ++i) {
        for (int n = 0; n < N; ++n) sum += up_a[i][n] * (out.score_a[i][n] + out.log_sum_exp_a[i][n]);
        for (int m = 0; m < M; ++m) sum += up_b[i][m] * (out.score_b[i][m] + out.log_sum_exp_b[i][m]);
    }
    return sum;
}

static void check_slope(int line, double *number, double gradient) {
    const double kept = *number, step = 1e-6;
    *number = kept + step;
    const double above = loss();
    *number = kept - step;
    const double below = loss();
    *number = kept;
    if (fabs((above - below) / (2 * step) - gradient) > 1e-7) fail(line, "a gradient is not the slope");
}

static void test_results(void) {
    set_up();
    if (forward() != SIMPLEMATCH_OK) fail(__LINE__, simplematch_error_message());
    for (int i = 0; i < B; ++i) {
        for (int n = 0; n < N; ++n) {
            if (n < num_a[i]) {
                check_one(i, n, 1);
                EXPECT(out.mutual[i][n] == (out.index_b[i][out.index_a[i][n]] == n));
            } else {
                EXPECT(out.index_a[i][n] == -1 && out.score_a[i][n] == 0 && out.log_sum_exp_a[i][n] == 0 && !out.mutual[i][n]);
            }
        }
        for (int m = 0; m < M; ++m) check_one(i, m, 0);
    }
    if (backward() != SIMPLEMATCH_OK) fail(__LINE__, simplematch_error_message());
    EXPECT(grad_a[1][0][5] == 0);
    for (int i = 0; i < B; ++i) {
        check_slope(__LINE__, &temperature[i], grad_temperature[i]);
        check_slope(__LINE__, &bin_score[i], grad_bin[i]);
        for (int c = 0; c < C; ++c) {
            check_slope(__LINE__, &a[i][c][2], grad_a[i][c][2]);
            check_slope(__LINE__, &b[i][c][3], grad_b[i][c][3]);
        }
    }
    r.log_sum_exp_a = r.log_sum_exp_b = r.second_a = r.second_b = NULL;  /* not wanted */
    EXPECT(forward() == SIMPLEMATCH_OK);
    int64_t bytes = -1;
    EXPECT(simplematch_match_all_workspace(&p, NULL, &bytes) == SIMPLEMATCH_OK && bytes == 0);
    bytes = -1;
    EXPECT(simplematch_match_all_backward_workspace(&p, &gradients, NULL, &bytes) == SIMPLEMATCH_OK && bytes == 0);
}

#define REFUSES(spoil, call, words)                                                                       \
    do {                                                                                                  \
        set_up();                                                                                         \
        memset(out.index_a, 0, sizeof out.index_a), memset(out.index_b, 0, sizeof out.index_b);           \
        spoil;                                                                                            \
        before = out;                                                                                     \
        if ((call) != SIMPLEMATCH_INVALID_ARGUMENT) fail(__LINE__, "it was not refused");                 \
        if (strstr(simplematch_error_message(), words) == NULL) fail(__LINE__, simplematch_error_message()); \
        if (memcmp(&before, &out, sizeof out) != 0) fail(__LINE__, "outputs changed");                    \
    } while (0)

static void test_errors(void) {
    int64_t too_many[B] = {N + 1, 0};
    uint8_t mask[B * N] = {0};
    REFUSES((void)0, simplematch_match_all(NULL, &r, NULL), "problem must point to a struct");
    REFUSES((void)0, simplematch_match_all(&p, NULL, NULL), "result must point to a struct");
    REFUSES(p.a.data = NULL, forward(), "a must");
    REFUSES(p.a.dtype = SIMPLEMATCH_FLOAT32, forward(), "a must");
    REFUSES(p.a.size[0] = 1, forward(), "a must have the same batch size as b");
    REFUSES(p.a.size[1] = 2, forward(), "a must have the same number of channels as b");
    REFUSES((p.a.size[1] = 0, p.b.size[1] = 0), forward(), "a must have at least one channel");
    REFUSES((p.a.size[3] = (INT64_C(1) << 30) + 1, memset(p.a.stride, 0, sizeof p.a.stride)), forward(),
            "a must have at most 2^30 cells, got 1073741825");
    REFUSES((p.b.size[2] = INT64_C(1) << 30, memset(p.b.stride, 0, sizeof p.b.stride)), forward(),
            "b must have at most 2^30 cells, got 3221225472");
    REFUSES(p.temperature.size[0] = 3, forward(), "temperature must have shape (B,)");
    REFUSES(p.bin_score.dtype = SIMPLEMATCH_FLOAT32, forward(), "bin_score must");
    REFUSES(p.rows_a.num_keypoints = too_many, forward(), "rows_a.num_keypoints must lie between 0 and N = 7");
    REFUSES(p.rows_b.num_keypoints = too_many, forward(), "rows_b.num_keypoints must lie between 0 and M = 6");
    REFUSES(p.rows_b.target_mask = mask, forward(), "rows_b.target_mask must be NULL");
    REFUSES(p.metric.kind = 9, forward(), "metric");
    REFUSES((p.temperature.data = NULL, p.fixed_temperature = 0), forward(),
            "fixed_temperature must be a finite number above 0");
    REFUSES((p.bin_score.data = NULL, p.fixed_bin_score = NAN), forward(),
            "fixed_bin_score must be a finite number or -INFINITY");
    REFUSES(p.score_budget = 0, forward(), "score_budget");
    REFUSES(r.index_a = NULL, forward(), "index_a");
    REFUSES(r.mutual = NULL, forward(), "mutual");
    REFUSES(r.norm_b = NULL, forward(), "norm_b");
    REFUSES(r.log_sum_exp_b = NULL, forward(), "log_sum_exp_a and log_sum_exp_b must be given both or neither");
    REFUSES(r.second_a = NULL, forward(), "second_a and second_b must be given both or neither");
    REFUSES(upstream.score_a.size[1] = 2, backward(), "upstream.score_a must have shape (B, N)");
    REFUSES(upstream.log_sum_exp_b.dtype = SIMPLEMATCH_FLOAT32, backward(), "upstream.log_sum_exp_b must");
    REFUSES(gradients.b.size[2] = 1, backward(), "gradients.b must have the shape of b");
    REFUSES(p.bin_score.data = NULL, backward(), "gradients.bin_score must not be asked for");
    REFUSES(out.index_a[0][0] = M, backward(), "index_a must hold numbers from -1 to 5");
    REFUSES(out.index_b[1][2] = -2, backward(), "index_b must hold numbers from -1 to 6");
}

int main(void) {
    test_results();
    test_errors();
    if (failures == 0) printf("match_all: all tests passed\n");
    return failures != 0;
}
