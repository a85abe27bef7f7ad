/* What all operators of simplematch.h share: status, tensors, options, and where an operator runs. */
#ifndef SIMPLEMATCH_TYPES_H
#define SIMPLEMATCH_TYPES_H

#include <stdint.h>

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

/* "0.2.0": the version of the library that is loaded. SIMPLEMATCH_VERSION_* are those of simplematch.h. */
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
    const uint8_t *target_mask;   /* (B, M), or (B, N, M): cells that are 0 are neither peak nor support */
    int64_t target_mask_stride;   /* 0: the queries of an image share a mask, (B, M). Else from the mask of one query to that
                                     of the next, at least M */
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
 * finds zeros outside, or clamps its coordinates where the padding is SIMPLEMATCH_BORDER. `image_sizes` gives every image
 * of the batch its own maps, those that simplematch_sampling_in_pixels makes of its size. */
typedef struct simplematch_sampling {
    simplematch_affine to_cells_x;
    simplematch_affine to_cells_y;
    int32_t mode;               /* SIMPLEMATCH_FLOOR, ... */
    int32_t padding;            /* SIMPLEMATCH_ZEROS or SIMPLEMATCH_BORDER */
    const int64_t *image_sizes; /* (B, 2): height and width of each image, at least 1; or NULL: to_cells_* for all */
    int32_t coordinates;        /* with image_sizes: SIMPLEMATCH_CORNER, ... */
} simplematch_sampling;

enum { SIMPLEMATCH_COSINE = 0, SIMPLEMATCH_DOT = 1, SIMPLEMATCH_L2 = 2, SIMPLEMATCH_L1 = 3 };

/* The cosine divides by |x| + eps, or by max(|x|, eps) if `clamp_eps`; that of a zero vector is 0. l2 is -|q - f|^2,
 * l1 minus the sum of |q_c - f_c|, whose derivative is 0 where both are equal. Scores are right at any magnitude of float32
 * features, and NaN and infinities lead where docs/semantics.md says. */
typedef struct simplematch_metric {
    int32_t kind;      /* SIMPLEMATCH_COSINE, ... */
    int32_t clamp_eps; /* 0 or 1 */
    double eps;        /* finite, at least 0 */
} simplematch_metric;

/* Which cells of a window's box, (dx, dy) from the peak, belong to the window:
 *     square         all
 *     plus           dx = 0 or dy = 0
 *     disc           (2 dx / disc_width)^2 + (2 dy / disc_height)^2 < 1
 *     closed disc    (2 dx / disc_width)^2 + (2 dy / disc_height)^2 <= 1       within rounding, 2^-48, cells lie on the edge */
enum { SIMPLEMATCH_SQUARE = 0, SIMPLEMATCH_PLUS = 1, SIMPLEMATCH_DISC = 2, SIMPLEMATCH_CLOSED_DISC = 3 };

/* The cells around the peak that take part in the soft-argmax. 1 x 1 is the argmax; the map's size is the whole map. Of its
 * box, height / 2 cells lie above the peak, width / 2 left of it; both may exceed the map. A disc needs a box of the odd
 * numbers of cells that it reaches: what lies beyond the box is cut. */
typedef struct simplematch_window {
    int64_t height;       /* of the box, at least 1 */
    int64_t width;        /* at least 1 */
    int32_t shift;        /* 1: a square that leaves the map is pushed inside; 0: it is cut, as other shapes always are */
    int32_t shape;        /* SIMPLEMATCH_SQUARE, ... */
    double disc_height;   /* of a disc, in cells, real: from 1 to 2^62; of other shapes unused */
    double disc_width;
    double outside_value; /* score of the cells outside: finite, or -INFINITY: they take no part */
    double sigma;         /* > 0: scores are multiplied by exp(-d^2 / (2 sigma^2)) around the peak; 0: they are not */
} simplematch_window;

/* From scores to coordinates. `image_sizes` as in simplematch_sampling, by simplematch_localization_in_pixels. */
typedef struct simplematch_localization {
    simplematch_window window;
    double temperature; /* finite, above 0; unused where a tensor is given */
    simplematch_affine from_cells_x;
    simplematch_affine from_cells_y;
    double output_offset;       /* added to both coordinates; finite */
    const int64_t *image_sizes; /* (B, 2): height and width of each image, at least 1; or NULL: from_cells_* for all */
    int32_t coordinates;        /* with image_sizes: SIMPLEMATCH_CORNER, ... */
    simplematch_window second;  /* second_peak is the best cell outside this; height 0: outside `window`. Its value and
                                   sigma say nothing */
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

#ifdef __cplusplus
}
#endif

#endif
