/* libsimplematch: keypoints of one feature map found in another, forward and backward. C99 and C++17.
 *
 * Maps are (B, C, H, W) of any strides; a cell's flat index is m = y * W + x, and M = H * W. Coordinates are (x, y).
 * Arithmetic and results are float32, or float64 if the target (the features, the scores) is float64: T below.
 * Equations and conventions: docs/semantics.md.
 *
 * Every operator returns a status. All arguments are checked before anything is read or written: after
 * SIMPLEMATCH_INVALID_ARGUMENT or SIMPLEMATCH_UNSUPPORTED no memory of the caller has changed, and
 * simplematch_error_message() says in one sentence which argument, what came and what may come. What can't be checked
 * is the caller's: that memory is as large as sizes and strides say, and that outputs don't overlap other arguments.
 *
 * Begin each struct with its simplematch_*_default(): zeroed memory is not a valid set of options. Functions may be
 * called from several threads at once, and never throw.
 */
#ifndef SIMPLEMATCH_H
#define SIMPLEMATCH_H

#include <stdint.h>

#define SIMPLEMATCH_VERSION_MAJOR 0
#define SIMPLEMATCH_VERSION_MINOR 2
#define SIMPLEMATCH_VERSION_PATCH 0

#if defined(__GNUC__)
#define SIMPLEMATCH_API __attribute__((visibility("default")))
#else
#define SIMPLEMATCH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ---------------------------------------------------------------------------------------------------- */

typedef enum simplematch_status {
    SIMPLEMATCH_OK = 0,
    SIMPLEMATCH_INVALID_ARGUMENT = 1, /* nothing was read or written */
    SIMPLEMATCH_UNSUPPORTED = 2,      /* this build can't; nothing was read or written */
    SIMPLEMATCH_OUT_OF_MEMORY = 3,    /* outputs may hold part of a result */
    SIMPLEMATCH_DEVICE_ERROR = 4,     /* the GPU refused; outputs may hold part of a result */
    SIMPLEMATCH_INTERNAL_ERROR = 5    /* a mistake of the library: please report it */
} simplematch_status;

/* The last failure of the calling thread in one sentence; "" if there was none. Valid until the thread's next failure. */
SIMPLEMATCH_API const char *simplematch_error_message(void);

/* "0.2.0": the version of the library that is loaded. SIMPLEMATCH_VERSION_* are those of this header. */
SIMPLEMATCH_API const char *simplematch_version(void);

/* "avx512", "avx2" or "baseline": the instructions in use. The environment variable SIMPLEMATCH_SIMD, read once, lowers
 * the choice. */
SIMPLEMATCH_API const char *simplematch_simd_level(void);

/* ---- tensors --------------------------------------------------------------------------------------------------- */

/* Codes are int32_t in the structs. */
enum { SIMPLEMATCH_FLOAT32 = 0, SIMPLEMATCH_FLOAT64 = 1, SIMPLEMATCH_BFLOAT16 = 2, SIMPLEMATCH_FLOAT16 = 3 };

/* A tensor of up to four dimensions; unused trailing sizes are 1. Strides count elements and may have any order and
 * sign; inputs may repeat elements (stride 0). Outputs may not: sorted by length, each stride must reach past all
 * elements of the dimensions with shorter ones, as in every array that was allocated, padded, sliced, transposed or
 * flipped. `data` NULL: not given, or not wanted. Inputs are only read. Data is aligned to its elements. */
typedef struct simplematch_tensor {
    void *data;
    int32_t dtype;
    int64_t size[4];
    int64_t stride[4];
} simplematch_tensor;

/* A tensor in C order. Unused trailing sizes are 1. */
SIMPLEMATCH_API simplematch_tensor simplematch_contiguous(
    void *data, int32_t dtype, int64_t size0, int64_t size1, int64_t size2, int64_t size3);

/* Which query rows and target cells take part; NULL: no restriction. Contiguous. */
typedef struct simplematch_rows {
    const int64_t *num_keypoints; /* (B,) from 0 to N: rows n >= num_keypoints[b] are padding */
    const uint8_t *valid;         /* (B, N): rows that are 0 are padding */
    const uint8_t *target_mask;   /* (B, M): cells that are 0 are neither peak nor support */
} simplematch_rows;

/* ---- options --------------------------------------------------------------------------------------------------- */

/* y = (x * numerator + shift) / denominator, in float64. */
typedef struct simplematch_affine {
    int64_t numerator;
    int64_t shift;
    int64_t denominator; /* not 0 */
} simplematch_affine;

/* How pixels meet cells, per axis (cell from pixel):
 *     corner         pixel * cells / pixels
 *     half_pixel     (pixel + 1/2) * cells / pixels - 1/2
 *     align_corners  pixel * (cells - 1) / (pixels - 1)        one pixel, or one cell: everything at 0 */
enum { SIMPLEMATCH_CORNER = 0, SIMPLEMATCH_HALF_PIXEL = 1, SIMPLEMATCH_ALIGN_CORNERS = 2 };

enum { SIMPLEMATCH_FLOOR = 0, SIMPLEMATCH_ROUND = 1, SIMPLEMATCH_BILINEAR = 2 };
enum { SIMPLEMATCH_ZEROS = 0, SIMPLEMATCH_BORDER = 1 };

/* How a keypoint reads a map: to cells first, then the mode. The first two modes clamp to the map; a bilinear sample
 * finds zeros outside, or clamps its coordinates where the padding is SIMPLEMATCH_BORDER. */
typedef struct simplematch_sampling {
    simplematch_affine to_cells_x;
    simplematch_affine to_cells_y;
    int32_t mode;    /* SIMPLEMATCH_FLOOR, ... */
    int32_t padding; /* SIMPLEMATCH_ZEROS or SIMPLEMATCH_BORDER */
} simplematch_sampling;

enum { SIMPLEMATCH_COSINE = 0, SIMPLEMATCH_DOT = 1, SIMPLEMATCH_L2 = 2 };

/* The cosine divides by |x| + eps, or by max(|x|, eps) if `clamp_eps`; that of a zero vector is 0. l2 is -|q - f|^2. Scores are
   right at any magnitude of float32 features, and NaN and infinities lead where docs/semantics.md says. */
typedef struct simplematch_metric {
    int32_t kind;      /* SIMPLEMATCH_COSINE, ... */
    int32_t clamp_eps; /* 0 or 1 */
    double eps;        /* finite, at least 0 */
} simplematch_metric;

/* The cells around the peak that take part in the soft-argmax. 1 x 1 is the argmax; the map's size is the whole map.
 * height / 2 cells lie above the peak, width / 2 left of it; both may exceed the map. */
typedef struct simplematch_window {
    int64_t height;       /* at least 1 */
    int64_t width;        /* at least 1 */
    int32_t shift;        /* 1: a window that leaves the map is pushed inside; 0: it is cut */
    int32_t disc;         /* 1: only cells with (2 dx / width)^2 + (2 dy / height)^2 < 1 */
    double outside_value; /* score of the cells outside: finite, or -INFINITY: they take no part */
    double sigma;         /* > 0: scores are multiplied by exp(-d^2 / (2 sigma^2)) around the peak; 0: they are not */
} simplematch_window;

/* From scores to coordinates. */
typedef struct simplematch_localization {
    simplematch_window window;
    double temperature; /* finite, above 0; unused where a tensor is given */
    simplematch_affine from_cells_x;
    simplematch_affine from_cells_y;
    double output_offset; /* added to both coordinates; finite */
} simplematch_localization;

SIMPLEMATCH_API simplematch_sampling simplematch_sampling_default(void);         /* floor, keypoints in cells */
SIMPLEMATCH_API simplematch_metric simplematch_metric_default(void);             /* cosine, eps 1e-8 added */
SIMPLEMATCH_API simplematch_localization simplematch_localization_default(void); /* 45 x 45, 0.02, in cells */

/* The maps of one axis of `cells` cells and `pixels` pixels; `coordinates` is SIMPLEMATCH_CORNER, ... */
SIMPLEMATCH_API simplematch_status simplematch_cells_from_pixels(
    int32_t coordinates, int64_t cells, int64_t pixels, simplematch_affine *map);
SIMPLEMATCH_API simplematch_status simplematch_pixels_from_cells(
    int32_t coordinates, int64_t cells, int64_t pixels, simplematch_affine *map);

/* Keypoints in pixels of an image behind a map of map_height x map_width cells; results likewise. */
SIMPLEMATCH_API simplematch_status simplematch_sampling_in_pixels(
    simplematch_sampling *sampling, int32_t coordinates, int64_t map_height, int64_t map_width, int64_t image_height,
    int64_t image_width);
SIMPLEMATCH_API simplematch_status simplematch_localization_in_pixels(
    simplematch_localization *localization, int32_t coordinates, int64_t map_height, int64_t map_width,
    int64_t image_height, int64_t image_width);

/* ---- where it runs --------------------------------------------------------------------------------------------- */

enum { SIMPLEMATCH_CPU = 0, SIMPLEMATCH_CUDA = 1 };

/* All memory of a call lies on its device. NULL instead of a device: the CPU, all processors. */
typedef struct simplematch_device {
    int32_t kind;
    int32_t index;           /* CUDA: number of the GPU */
    int32_t threads;         /* CPU: 1 to 1024, or 0: as many as OpenMP gives */
    void *stream;            /* CUDA: a cudaStream_t; the call returns before its work is done */
    void *workspace;         /* scratch memory of workspace_bytes bytes, as many as the operator's _workspace() says, */
    int64_t workspace_bytes; /* aligned to 256 on a GPU; the CPU needs none */
} simplematch_device;

SIMPLEMATCH_API simplematch_device simplematch_device_default(void); /* the CPU, all processors */

/* ---- sparse_window_match: gather, similarity, argmax, window, soft-argmax ---------------------------------------- */

typedef struct simplematch_match_problem {
    simplematch_tensor source;      /* (B, C, Hs, Ws); or descriptors (B, C, 1, N) when `keypoints` is not given */
    simplematch_tensor keypoints;   /* (B, N, 2) float32 or float64; not finite: the row becomes NaN */
    simplematch_tensor target;      /* (B, C, H, W), dtype of `source` */
    simplematch_tensor temperature; /* (B, N) T; or not given: localization.temperature. Not above 0: NaN */
    simplematch_rows rows;
    simplematch_sampling sampling;
    simplematch_metric metric;
    simplematch_localization localization;
    int64_t kept_queries; /* 0 to N: the first K queries whose window scores are kept for the backward, which computes
                             the others again */
    int64_t score_budget; /* at least 1: most bytes of scores held at a time */
} simplematch_match_problem;

/* Nothing given, default options, kept_queries 0, score_budget 64 MiB. */
SIMPLEMATCH_API simplematch_match_problem simplematch_match_problem_default(void);

/* Of each query where it matches; contiguous. Padding, and rows whose mask has no cell, hold -1, 0, -1, 0. */
typedef struct simplematch_matches {
    void *keypoints;   /* T (B, N, 2) as (x, y) */
    void *score;       /* T (B, N): the score at the peak */
    int64_t *peak;     /* (B, N): flat cell */
    void *log_sum_exp; /* T (B, N): of score / temperature over everything in the softmax */
} simplematch_matches;

/* What the backward reads besides the inputs; contiguous. */
typedef struct simplematch_match_result {
    simplematch_matches matches;
    void *target_norm;   /* T (B, M) */
    void *window_scores; /* T (B, K, min(window.height, H), min(window.width, W)); unused if K = kept_queries is 0 */
} simplematch_match_result;

/* Gradients that arrive at the outputs, T, any strides; not given: zeros. */
typedef struct simplematch_upstream {
    simplematch_tensor keypoints;   /* (B, N, 2) */
    simplematch_tensor score;       /* (B, N) */
    simplematch_tensor log_sum_exp; /* (B, N) */
} simplematch_upstream;

/* Gradients to compute, with shape and dtype of their input; not given: not wanted. Every element is written. */
typedef struct simplematch_match_gradients {
    simplematch_tensor source;
    simplematch_tensor keypoints;
    simplematch_tensor target;
    simplematch_tensor temperature;
} simplematch_match_gradients;

SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match(
    const simplematch_match_problem *problem, const simplematch_match_result *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match_workspace(
    const simplematch_match_problem *problem, const simplematch_device *device, int64_t *bytes);

/* `forward` is the result of the forward with the same problem. */
SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match_backward(
    const simplematch_match_problem *problem, const simplematch_match_result *forward,
    const simplematch_upstream *upstream, const simplematch_match_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_sparse_window_match_backward_workspace(
    const simplematch_match_problem *problem, const simplematch_match_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

/* ---- localize: score maps to coordinates ------------------------------------------------------------------------- */

typedef struct simplematch_localize_problem {
    simplematch_tensor scores;      /* (B, N, H, W) */
    simplematch_tensor temperature; /* (B, N) T, or not given */
    simplematch_rows rows;
    simplematch_localization localization;
} simplematch_localize_problem;

SIMPLEMATCH_API simplematch_localize_problem simplematch_localize_problem_default(void);

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_localize_gradients {
    simplematch_tensor scores;
    simplematch_tensor temperature;
} simplematch_localize_gradients;

SIMPLEMATCH_API simplematch_status simplematch_localize(
    const simplematch_localize_problem *problem, const simplematch_matches *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_localize_workspace(
    const simplematch_localize_problem *problem, const simplematch_device *device, int64_t *bytes);
SIMPLEMATCH_API simplematch_status simplematch_localize_backward(
    const simplematch_localize_problem *problem, const simplematch_matches *forward, const simplematch_upstream *upstream,
    const simplematch_localize_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_localize_backward_workspace(
    const simplematch_localize_problem *problem, const simplematch_localize_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

/* ---- gather_keypoints: descriptors at keypoints ------------------------------------------------------------------ */

typedef struct simplematch_gather_problem {
    simplematch_tensor features;  /* (B, C, H, W) */
    simplematch_tensor keypoints; /* (B, N, 2) float32 or float64 */
    simplematch_sampling sampling;
} simplematch_gather_problem;

SIMPLEMATCH_API simplematch_gather_problem simplematch_gather_problem_default(void);

typedef struct simplematch_gather_result {
    void *descriptors; /* (B, N, C) in the dtype of the features, contiguous */
} simplematch_gather_result;

/* The gradient that arrives, any strides. */
typedef struct simplematch_gather_upstream {
    simplematch_tensor descriptors; /* (B, N, C) in the dtype of the features */
} simplematch_gather_upstream;

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_gather_gradients {
    simplematch_tensor features;
    simplematch_tensor keypoints;
} simplematch_gather_gradients;

SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints(
    const simplematch_gather_problem *problem, const simplematch_gather_result *result, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints_workspace(
    const simplematch_gather_problem *problem, const simplematch_device *device, int64_t *bytes);
SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints_backward(
    const simplematch_gather_problem *problem, const simplematch_gather_upstream *upstream,
    const simplematch_gather_gradients *gradients, const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_gather_keypoints_backward_workspace(
    const simplematch_gather_problem *problem, const simplematch_gather_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

/* ---- cosine_similarity: scores of descriptors with every cell ---------------------------------------------------- */

typedef struct simplematch_similarity_problem {
    simplematch_tensor descriptors; /* (B, C, 1, N): a map of one row with a cell for each query */
    simplematch_tensor target;      /* (B, C, H, W), dtype of `descriptors` */
    simplematch_metric metric;
    int64_t score_budget; /* at least 1 */
} simplematch_similarity_problem;

SIMPLEMATCH_API simplematch_similarity_problem simplematch_similarity_problem_default(void);

/* Contiguous. */
typedef struct simplematch_similarity_result {
    void *scores;      /* T (B, N, H, W) */
    void *target_norm; /* T (B, M) */
} simplematch_similarity_result;

/* The gradient that arrives, any strides. */
typedef struct simplematch_similarity_upstream {
    simplematch_tensor scores; /* T (B, N, H, W) */
} simplematch_similarity_upstream;

/* Gradients to compute, as in simplematch_match_gradients. */
typedef struct simplematch_similarity_gradients {
    simplematch_tensor descriptors;
    simplematch_tensor target;
} simplematch_similarity_gradients;

SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity(
    const simplematch_similarity_problem *problem, const simplematch_similarity_result *result,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity_workspace(
    const simplematch_similarity_problem *problem, const simplematch_device *device, int64_t *bytes);
/* `forward` is the result of the forward with the same problem. */
SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity_backward(
    const simplematch_similarity_problem *problem, const simplematch_similarity_result *forward,
    const simplematch_similarity_upstream *upstream, const simplematch_similarity_gradients *gradients,
    const simplematch_device *device);
SIMPLEMATCH_API simplematch_status simplematch_cosine_similarity_backward_workspace(
    const simplematch_similarity_problem *problem, const simplematch_similarity_gradients *gradients,
    const simplematch_device *device, int64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
