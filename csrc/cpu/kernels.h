// The steps of the operators, for one instruction set: what the drivers call for each tile, row or range of channels.
//
// A step sees a block: some images, some of their queries. B, N are those of the block; tensors start at its first
// image. Query vectors have a row of `stride` numbers each, a multiple of kTile, zeros after the C channels.
#pragma once

#include "common/window.h"
#include "local_correlation.h"
#include "match_all.h"
#include "pair_scores.h"
#include "row_sums.h"
#include "upsampling.h"

namespace simplematch::cpu {

constexpr int64_t kTile = 64;  // cells of a tile; also the unit of channels

constexpr int64_t tiles_of(int64_t cells) { return (cells + kTile - 1) / kTile; }

template <class T>
struct Queries {
    int64_t count;             // N
    int64_t stride;
    const T* vectors;          // (B, N, stride)
    const T* norm;             // (B, N), of the vectors as they were sampled
    const int32_t* rows;       // (B, N): the valid rows of each image come first
    const int32_t* row_count;  // (B,)
};

// similarity: s[n, m] for the valid rows n and one tile of cells m, and the cells' norms.
template <class T>
struct SimilarityWork {
    View target;
    Queries<T> queries;
    Metric metric;
    T* scores;       // (B, N, M)
    T* target_norm;  // (B, M)
    bool norm_known;
    const int32_t* active = nullptr;        // (B, tiles, N): where given, rows that need the tile, which come first,
    const int32_t* active_count = nullptr;  // (B, tiles), in place of all valid rows
    bool past_cache = false;                // the scores are larger than the caches: write them past them
};

using Box = BoxOf<int64_t>;

// Whether a box has a cell in [first, last) of a map's cells.
static inline bool meets_cells(const Box& box, int64_t first, int64_t last, int64_t width) {
    const int64_t top = most_of(box.top, first / width), bottom = least_of(box.bottom, (last - 1) / width + 1);
    for (int64_t y = top; y < bottom; ++y)
        if (y * width + box.left < last && y * width + box.right > first) return true;
    return false;
}

// Number of selectable cells and sums of their coordinates.
struct CellTotals {
    double count, x, y;
};

// Sums of the products of their coordinates.
struct CellSquares {
    double xx, xy, yy;
};

// x and y of the cells in a map's first `rows` rows, padded to whole vectors: the map repeats them strip by strip.
template <class T>
struct Strip {
    int64_t rows;
    const T* x;
    const T* y;
};

template <class T>
struct RowWork {
    int64_t height, width;
    Window window;
    const T* scores;      // forward: the row's M scores; backward: the score of the box's first cell,
    int64_t row_stride;   // and the distance between its rows
    const uint8_t* mask;  // (M,) or null
    CellTotals totals;
    T temperature;
    T* scratch;           // height * round_up(width, kTile) + 2 * round_up(width, kTile)
    Strip<T> strip = {};  // without rows: not given
    const CellSquares* squares = nullptr;  // for covariances where cells outside the window count
};

struct RowResult {
    int64_t peak;
    double score, x, y, log_sum_exp;  // (x, y) in cells
};

// Of the expected point, in cells squared.
struct Covariance {
    double xx, xy, yy;
};

// The best cell outside a window, -1: there is none.
struct SecondBest {
    int64_t peak;
    double score;
};

// Upstream gradient of the covariance, in cells: <G, C> = xx C.xx + xy C.xy + yy C.yy, which is `product` for the C of the
// forward.
struct SpreadGradient {
    double xx, xy, yy, product;
    bool given, any;  // any: not all of G is zero
};

template <class T>
struct RowGradient {
    int64_t peak;
    double x, y, score, log_sum_exp;                       // upstream, (x, y) in cells
    T* scores;                                             // out: rows of `stride` numbers, for the cells of the box
    int64_t stride;
    double temperature, sum, sum_with_score;               // out: dT, sum of ds, sum of ds * s
    bool only_scores = false;                              // these three are not needed
    SpreadGradient spread = {};                            // upstream
};

// Up to 64 rows of maps of at most kTile cells, whose softmax takes the whole map; `strip` is the whole map.
template <class T>
struct SmallMaps {
    int64_t height, width, rows;
    const T* scores;  // rows of `stride` numbers
    int64_t stride;
    const T* temperature;
    Strip<T> strip;
};

// Whether the softmax of every peak is that of the whole map.
static inline bool covers_map(const Window& window, int64_t height, int64_t width) {
    const bool square = window.shape == SIMPLEMATCH_SQUARE;
    return !(window.sigma > 0) && square && window.shift && window.height >= height && window.width >= width;
}

// Rows whose numbers of one cell lie side by side.
template <class T>
struct SideBySide {
    T* first;
    int64_t cell_stride, cells, rows;
};

// Scores or their gradients of query (b, n), inside its box.
template <class T>
struct WindowScores {
    const T* data;
    int64_t image_stride, query_stride, row_stride;
    bool whole_map;  // each query has all M cells; otherwise only the box, from its first cell
};

template <class T>
static inline const T* first_of_box(const WindowScores<T>& w, int64_t b, int64_t n, const Box& box) {
    const T* row = w.data + b * w.image_stride + n * w.query_stride;
    return w.whole_map ? row + box.top * w.row_stride + box.left : row;
}

// Weights of the products of the backward, by tile of target cells: cosine w = ds / D(f), dot and l1 w = ds, l2 w = 2 ds; 0 where
// ds is, whatever the cell holds. Queries come as q / D(q) for the cosine.
template <class T>
struct WeightWork {
    int64_t height, width;
    Queries<T> queries;
    Metric metric;
    const Box* boxes;            // (B, N)
    WindowScores<T> gradients, scores;
    const T* target_norm;        // (B, M)
    bool first;                  // block of queries of these images
    T* weights;                  // (B, tiles, N, kTile); rows not in `active` are left as they are
    int32_t* active;             // (B, tiles, N): the queries whose box meets the tile come first
    int32_t* active_count;       // (B, tiles)
    T* cell_sum;                 // (B, tiles * kTile): sum over n of ds * s (l2: of ds), added to unless `first`
    T* cell_own;              // (B, tiles * kTile): what multiplies f in dFt, or f / |f| in extreme tiles
    T* cell_inverse;             // (B, tiles * kTile): 1 / |f| in extreme tiles
    uint8_t* extreme;            // (B, tiles): tiles with a norm that is not finite, or whose square leaves the type
};

// target_backward: dFt_m = sum_n w[n, m] u_n - cell_own_m f_m                               u = q / D(q) for the cosine,
// query_backward:  dq_n  = (sum_m w[n, m] f_m - query_own_n u_n) / D(q_n)                   else q, and no D
// l1: dFt_m = -sum_n w[n, m] sign(f_m - q_n), dq_n = sum_m w[n, m] sign(f_m - q_n)
//
// Numbers of u and f that are not finite count as 0 here: the weights of their cells are 0 or NaN.
template <class T>
struct GradientWork {
    View target;
    View gradient;               // dFt, or data null
    Queries<T> queries;
    const T* weights;
    const int32_t* active;
    const int32_t* active_count;
    const T* cell_own;
    const T* cell_inverse;
    const uint8_t* extreme;
    Metric metric;
    T* query_gradient;           // (B, N, stride) like the query vectors, or null; images `query_image_stride` apart
    int64_t query_image_stride;
    const T* query_own;       // (B, N)
    T* sums;                     // (tiles * kTile * stride) where dFt is summed over blocks, or null: one block
    bool first, last;            // block
    bool past_cache;             // dFt is larger than the caches: write it past them
};

template <class T>
struct Kernels {
    void (*similarity)(const SimilarityWork<T>&, int64_t b, int64_t tile, T* scratch);
    void (*norms)(const T* rows, int64_t stride, int64_t channels, int64_t count, T* norm);
    void (*to_units)(T* rows, int64_t stride, int64_t channels, int64_t count, const T* norm, const Metric& metric);
    RowResult (*localize)(const RowWork<T>&);
    void (*localize_backward)(const RowWork<T>&, RowGradient<T>&);
    Covariance (*covariance)(const RowWork<T>&, int64_t peak);
    SecondBest (*second_best)(const RowWork<T>&, const Window& around, int64_t peak);
    // Bit i of the results: row i is done, else it is a case for the function of one row. A peak of -1: no row.
    uint64_t (*localize_small)(const SmallMaps<T>&, RowResult* results);
    uint64_t (*localize_small_backward)(const SmallMaps<T>&, const RowGradient<T>* rows);
    // To and from lines of `stride` numbers, at least round_up(cells, kTile).
    void (*read_side_by_side)(const SideBySide<const T>&, T* lines, int64_t stride);
    void (*write_side_by_side)(const SideBySide<T>&, const T* lines, int64_t stride);
    RowSums (*sum_row)(const T* row, const T* scores, int64_t cells);
    void (*copy_row)(const T* from, const T* scores, int64_t cells, T* to);
    void (*weights)(const WeightWork<T>&, int64_t b, int64_t tile);
    void (*target_and_query_backward)(const GradientWork<T>&, int64_t b, int64_t first, int64_t last, T* scratch);
    MatchAllSteps<T> match_all;
    // kNeighbourCells cells from `first` on of image b; products and their gradient start at that image.
    void (*neighbour_products)(const View& features, int64_t b, int64_t first, double* products, T* scratch);
    void (*neighbour_products_backward)(const View& features, const double* upstream, const View& gradient, int64_t b,
                                        int64_t first, T* scratch);
    void (*upsample)(const Upsampling<T>&, const T* coarse, T* fine, T* scratch);
    void (*upsample_backward)(const Upsampling<T>&, const BoxOf<int64_t>&, const T* fine, T* gradient, T* coarse, T* scratch);
    void (*upsampled_terms)(const Upsampling<T>&, const Metric&, int64_t y, T* terms, double* scratch);
    void (*upsampled_terms_backward)(const Upsampling<T>&, const Metric&, int64_t y, const T* sums, double* squares,
                                     double* scratch);
    CorrelationSteps<T> correlation;
    PairSteps pairs;
};

// Numbers from one row of cells to the next, [cell][channel]: whole vectors, and one line so that rows do not share few
// sets of the nearest cache.
static inline int64_t cell_row(int64_t channels) { return round_up(channels, kTile) + 16; }

constexpr int64_t kChannelsAtATime = 64;  // of `similarity`: 16 KiB of float32, half of the nearest cache

// From so many queries on, whose sums would fill the second level of the cache, `similarity` keeps the packed tile there
// instead and takes some queries at a time, if the tile leaves room for them. Which way it goes changes no bit.
constexpr int64_t kManyQueries = 1536, kQueriesTogether = 24, kMostChannelsKept = 2048;

static inline bool keeps_tiles(int64_t queries, int64_t channels) {
    return queries >= kManyQueries && channels <= kMostChannelsKept;
}

static inline int64_t similarity_scratch(int64_t queries, int64_t channels) {
    const int64_t few = kChannelsAtATime + queries, many = channels + kQueriesTogether;
    return kTile * (keeps_tiles(queries, channels) && many > few ? many : few);
}
static inline int64_t row_scratch(int64_t height, int64_t width) { return (height + 2) * round_up(width, kTile); }
static inline int64_t gradient_scratch(int64_t channels) { return 3 * kTile * cell_row(channels); }

// Chosen once: the best instruction set that was compiled and that this processor has.
template <class T>
const Kernels<T>& kernels();

namespace avx512 {
template <class T>
const Kernels<T>& kernels();
}
namespace avx2 {
template <class T>
const Kernels<T>& kernels();
}
namespace baseline {
template <class T>
const Kernels<T>& kernels();
}

}  // namespace simplematch::cpu
