/* Every descriptor of one set against every one of another, both ways at once. */
#ifndef SIMPLEMATCH_MATCH_ALL_H
#define SIMPLEMATCH_MATCH_ALL_H

#include "simplematch/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* N and M: the cells of the maps a and b, from 0 to 2^30. A list of descriptors (B, N, C) is a map (B, C, 1, N). */
typedef struct simplematch_match_all_problem {
    simplematch_tensor a;           /* (B, C, H, W), N = H * W */
    simplematch_tensor b;           /* (B, C, H', W'), M = H' * W', dtype of `a` */
    simplematch_tensor temperature; /* (B,) T, above 0, or not given; stride 0: one number for all images */
    simplematch_tensor bin_score;   /* (B,) T, or not given */
    simplematch_rows rows_a;        /* which descriptors of a take part; `target_mask` NULL */
    simplematch_rows rows_b;        /* which descriptors of b take part, (B, M) likewise */
    simplematch_metric metric;
    double fixed_temperature; /* finite, above 0; unused where a tensor is given */
    double fixed_bin_score;   /* finite, or -INFINITY: there is no bin; unused where a tensor is given */
    int64_t score_budget;     /* at least 1: most bytes of scores that a GPU holds at a time; the CPU holds none */
} simplematch_match_all_problem;

/* Nothing given; the cosine, temperature 1, no bin, score_budget 64 MiB. */
SIMPLEMATCH_API simplematch_match_all_problem simplematch_match_all_problem_default(void);

/* Contiguous. Padded descriptors, and those without a candidate, hold index -1, score 0, log_sum_exp 0, second 0 and mutual
 * 0; but the log_sum_exp of one without a candidate is that of the bin alone, if there is a bin. */
typedef struct simplematch_match_all_result {
    int64_t *index_a;    /* (B, N) best m of each n, the lowest of equals, NaN above all */
    void *score_a;       /* T (B, N) s[n, index_a[n]] */
    void *log_sum_exp_a; /* T (B, N) log of the sum of exp(s[n, m] / temperature) over m and the bin; NULL with
                            log_sum_exp_b: not wanted */
    void *second_a;      /* T (B, N) the best score of another m, -INFINITY if there is none; NULL with second_b: not wanted */
    int64_t *index_b;    /* (B, M) best n of each m, and so on */
    void *score_b;       /* T (B, M) */
    void *log_sum_exp_b; /* T (B, M) or NULL */
    void *second_b;      /* T (B, M) or NULL */
    uint8_t *mutual;     /* (B, N) 1: index_b[index_a[n]] is n; else 0 */
    void *norm_a;        /* T (B, N) Euclidean norm of each descriptor, padded ones included */
    void *norm_b;        /* T (B, M) */
} simplematch_match_all_result;

/* Gradients that arrive, any strides; not given: zeros. */
typedef struct simplematch_match_all_upstream {
    simplematch_tensor score_a;       /* T (B, N) */
    simplematch_tensor log_sum_exp_a; /* T (B, N); not given where the forward did not compute it */
    simplematch_tensor score_b;       /* T (B, M) */
    simplematch_tensor log_sum_exp_b; /* T (B, M) */
} simplematch_match_all_upstream;

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_match_all_gradients {
    simplematch_tensor a;
    simplematch_tensor b;
    simplematch_tensor temperature; /* (B,) */
    simplematch_tensor bin_score;   /* (B,) */
} simplematch_match_all_gradients;

SIMPLEMATCH_API simplematch_status simplematch_match_all(
    const simplematch_match_all_problem *problem, const simplematch_match_all_result *result,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_match_all_workspace(
    const simplematch_match_all_problem *problem, const simplematch_device *device, int64_t *bytes);
/* `forward` is the result of the forward with the same problem. */
SIMPLEMATCH_API simplematch_status simplematch_match_all_backward(
    const simplematch_match_all_problem *problem, const simplematch_match_all_result *forward,
    const simplematch_match_all_upstream *upstream, const simplematch_match_all_gradients *gradients,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_match_all_backward_workspace(
    const simplematch_match_all_problem *problem, const simplematch_match_all_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
