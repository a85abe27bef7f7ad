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

#define SIMPLEMATCH_VERSION_MAJOR 0
#define SIMPLEMATCH_VERSION_MINOR 2
#define SIMPLEMATCH_VERSION_PATCH 0

#include "simplematch/cosine_similarity.h"
#include "simplematch/gather_keypoints.h"
#include "simplematch/local_correlation.h"
#include "simplematch/localize.h"
#include "simplematch/match_all.h"
#include "simplematch/pair_scores.h"
#include "simplematch/sparse_match_cross_entropy.h"
#include "simplematch/localize_upsampled.h"
#include "simplematch/neighbour_products.h"
#include "simplematch/sparse_window_match.h"
#include "simplematch/types.h"

#endif
