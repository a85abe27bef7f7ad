/* pair_scores through the C interface: scores and gradients against loops in double, and every wrong argument. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "simplematch/simplematch.h"

enum { B = 2, C = 5, N = 7, H = 2, W = 3, M = H * W, K = 8 };

typedef struct outputs {
    double scores[B][K], grad_a[B][C][N], grad_b[B][M][C];
} outputs;

static double a[B][C][N], b[B][M][C], arriving[B][K];
/* A row of several pairs, rows of one, of none, padding on either side. */
static int64_t index_a[B][K], index_b[B][K];
static const int64_t first_of_pair[K] = {4, 0, 0, 2, -1, 6, 0, 5}, second_of_pair[K] = {5, 1, 1, 0, 2, -3, 4, 2};
static outputs out, before;
static simplematch_pair_problem p;
static simplematch_pair_result r;
static simplematch_pair_upstream upstream;
static simplematch_pair_gradients gradients;
static int failures;

static void fail(int line, const char *what) {
    fprintf(stderr, "test_pair_scores.c:%d: %s\n", line, what);
    ++failures;
}
#define EXPECT(condition)                              \
    do {                                               \
        if (!(condition)) fail(__LINE__, #condition);  \
    } while (0)

static simplematch_status forward(void) { return simplematch_pair_scores(&p, &r, NULL); }
static simplematch_status backward(void) { return simplematch_pair_scores_backward(&p, &r, &upstream, &gradients, NULL); }

static void set_up(void) {
    unsigned state = 1;
    for (int i = 0; i < B * C * (N + M); ++i) {
        double *const to = i < B * C * N ? &a[0][0][0] + i : &b[0][0][0] + (i - B * C * N);
        state = state * 1664525u + 1013904223u;
        *to = (double)(state >> 8) / (1 << 23) - 1;
    }
    for (int i = 0; i < B; ++i)
        for (int k = 0; k < K; ++k) {
            arriving[i][k] = k == 7 ? 0 : 0.1 * k - 0.25;
            index_a[i][k] = first_of_pair[(k + i) % K];
            index_b[i][k] = second_of_pair[(k + i) % K];
        }
    p = simplematch_pair_problem_default();
    p.a = simplematch_contiguous(a, SIMPLEMATCH_FLOAT64, B, C, 1, N);
    p.b = (simplematch_tensor){b, SIMPLEMATCH_FLOAT64, {B, C, H, W}, {M * C, 1, W * C, C}};
    p.index_a = index_a[0];
    p.index_b = index_b[0];
    p.pairs = K;
    memset(&out, 0x5A, sizeof out);
    r.scores = out.scores;
    upstream.scores = simplematch_contiguous(arriving, SIMPLEMATCH_FLOAT64, B, K, 1, 1);
    gradients.a = p.a;
    gradients.a.data = out.grad_a;
    gradients.b = p.b;
    gradients.b.data = out.grad_b;
}

static double score(int i, int64_t n, int64_t m, int kind) {
    double product = 0, square_a = 0, square_b = 0, squares = 0, distance = 0;
    for (int c = 0; c < C; ++c) {
        const double x = a[i][c][n], y = b[i][m][c];
        product += x * y;
        square_a += x * x;
        square_b += y * y;
        squares += (x - y) * (x - y);
        distance += fabs(x - y);
    }
    switch (kind) {
        case SIMPLEMATCH_COSINE: return product / (sqrt(square_a) + 1e-8) / (sqrt(square_b) + 1e-8);
        case SIMPLEMATCH_DOT: return product;
        case SIMPLEMATCH_L2: return -squares;
        default: return -distance;
    }
}

static double loss(void) {
    double sum = 0;
    if (forward() != SIMPLEMATCH_OK) fail(__LINE__, simplematch_error_message());
    for (int i = 0; i < B; ++i)
        for (int k = 0; k < K; ++k) sum += arriving[i][k] * out.scores[i][k];
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

static void test_results(int kind) {
    set_up();
    p.metric.kind = kind;
    if (forward() != SIMPLEMATCH_OK) fail(__LINE__, simplematch_error_message());
    for (int i = 0; i < B; ++i)
        for (int k = 0; k < K; ++k) {
            const int64_t n = index_a[i][k], m = index_b[i][k];
            EXPECT(fabs(out.scores[i][k] - (n < 0 || m < 0 ? 0 : score(i, n, m, kind))) < 1e-12);
        }
    if (backward() != SIMPLEMATCH_OK) fail(__LINE__, simplematch_error_message());
    const outputs found = out;
    for (int i = 0; i < B; ++i)
        for (int c = 0; c < C; ++c) {
            for (int n = 0; n < N; ++n) check_slope(__LINE__, &a[i][c][n], found.grad_a[i][c][n]);
            for (int m = 0; m < M; ++m) check_slope(__LINE__, &b[i][m][c], found.grad_b[i][m][c]);
            EXPECT(found.grad_a[i][c][1] == 0 && found.grad_a[i][c][3] == 0 && found.grad_b[i][3][c] == 0);
        }
    out = found;
    gradients.b.data = NULL; /* one of both */
    memset(out.grad_a, 0x5A, sizeof out.grad_a);
    if (backward() != SIMPLEMATCH_OK) fail(__LINE__, simplematch_error_message());
    for (int i = 0; i < B * C * N; ++i) EXPECT((&out.grad_a[0][0][0])[i] == (&found.grad_a[0][0][0])[i]);
}

static void test_nothing(void) {
    int64_t bytes = -1;
    set_up();
    p.pairs = 0;
    p.index_a = p.index_b = NULL;
    r.scores = NULL;
    upstream.scores = simplematch_contiguous(NULL, SIMPLEMATCH_FLOAT64, B, 0, 1, 1);
    EXPECT(forward() == SIMPLEMATCH_OK && backward() == SIMPLEMATCH_OK);
    for (int i = 0; i < B * C * N; ++i) EXPECT((&out.grad_a[0][0][0])[i] == 0);
    set_up();
    p.b.size[3] = gradients.b.size[3] = 0; /* an empty set, so that all pairs must be padding */
    for (int i = 0; i < B * K; ++i) (&index_b[0][0])[i] = -1;
    EXPECT(forward() == SIMPLEMATCH_OK && out.scores[1][3] == 0);
    EXPECT(backward() == SIMPLEMATCH_OK && out.grad_a[1][4][6] == 0);
    set_up();
    EXPECT(simplematch_pair_scores_workspace(&p, NULL, &bytes) == SIMPLEMATCH_OK && bytes == 0);
    bytes = -1;
    EXPECT(simplematch_pair_scores_backward_workspace(&p, &gradients, NULL, &bytes) == SIMPLEMATCH_OK && bytes == 0);
}

#define REFUSES(spoil, call, words)                                                                       \
    do {                                                                                                  \
        set_up();                                                                                         \
        spoil;                                                                                            \
        before = out;                                                                                     \
        if ((call) != SIMPLEMATCH_INVALID_ARGUMENT) fail(__LINE__, "it was not refused");                 \
        if (strstr(simplematch_error_message(), words) == NULL) fail(__LINE__, simplematch_error_message()); \
        if (memcmp(&before, &out, sizeof out) != 0) fail(__LINE__, "outputs changed");                    \
    } while (0)

static void test_errors(void) {
    REFUSES((void)0, simplematch_pair_scores(NULL, &r, NULL), "problem must point to a struct");
    REFUSES((void)0, simplematch_pair_scores(&p, NULL, NULL), "result must point to a struct");
    REFUSES((void)0, simplematch_pair_scores_backward(&p, NULL, &upstream, &gradients, NULL), "forward must point to a struct");
    REFUSES((void)0, simplematch_pair_scores_backward(&p, &r, NULL, &gradients, NULL), "upstream must point to a struct");
    REFUSES((void)0, simplematch_pair_scores_backward(&p, &r, &upstream, NULL, NULL), "gradients must point to a struct");
    REFUSES((void)0, simplematch_pair_scores_workspace(&p, NULL, NULL), "bytes must point");
    REFUSES(p.a.data = NULL, forward(), "a must be given");
    REFUSES(p.a.size[0] = 1, forward(), "a must have the same batch size as b");
    REFUSES(p.b.size[1] = 4, forward(), "a must have the same number of channels as b");
    REFUSES(p.b.dtype = SIMPLEMATCH_FLOAT32, forward(), "a must be float32, got float64");
    REFUSES(p.a.size[1] = p.b.size[1] = 0, forward(), "a must have at least one channel");
    REFUSES(p.pairs = -1, forward(), "pairs must be from 0 to 2^30, got -1");
    REFUSES(p.pairs = INT64_MAX, forward(), "pairs must be from 0 to 2^30");
    REFUSES(p.index_a = NULL, forward(), "index_a must point to (2, 8) elements, got NULL");
    REFUSES(p.index_b = NULL, backward(), "index_b must point to (2, 8) elements, got NULL");
    REFUSES(p.metric.kind = 4, forward(), "metric.kind");
    REFUSES(p.metric.eps = -1, forward(), "metric.eps");
    REFUSES(r.scores = NULL, forward(), "scores must point to (2, 8) elements, got NULL");
    REFUSES(r.scores = NULL, backward(), "scores must point to (2, 8) elements, got NULL");
    REFUSES(index_a[1][2] = N, forward(),
            "index_a must be below the number of cells of a, 7, or negative, got 7 in image 1, pair 2");
    REFUSES(index_b[0][3] = M, backward(),
            "index_b must be below the number of cells of b, 6, or negative, got 6 in image 0, pair 3");
    REFUSES(upstream.scores.data = NULL, backward(), "upstream.scores must be given");
    REFUSES(upstream.scores.size[1] = 2, backward(), "upstream.scores must have shape (B, K) = (2, 8)");
    REFUSES(upstream.scores.dtype = SIMPLEMATCH_FLOAT32, backward(), "upstream.scores must be float64");
    REFUSES(gradients.a.size[3] = 2, backward(), "gradients.a must have the shape of a");
    REFUSES(gradients.b.dtype = SIMPLEMATCH_FLOAT32, backward(), "gradients.b must be float64");
    REFUSES(gradients.b.stride[3] = 0, backward(), "gradients.b is written");
}

int main(void) {
    for (int kind = SIMPLEMATCH_COSINE; kind <= SIMPLEMATCH_L1; ++kind) test_results(kind);
    test_nothing();
    test_errors();
    if (failures == 0) printf("pair_scores agrees with its definition, and every wrong argument was refused\n");
    return failures == 0 ? 0 : 1;
}
