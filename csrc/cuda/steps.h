// The steps of the operators on the GPU: each launches one kernel on the given stream and returns.
//
// A step works on a block: images from the first of its views on, and `count` of their queries from `first` on. Views
// and arrays given by the caller are whole along the queries; what the steps pass on is that of the block.
#pragma once

#include "common/records.h"
#include "common/truth.h"
#include "window.h"

namespace simplematch::cuda {

struct Stream {
    void* handle;    // cudaStream_t
    int processors;  // of its device
};

// Queries `first` .. `first + count` of the `total` of each of `images` images.
struct Block {
    int64_t images, first, count, total;
};

// Queries as `similarity` reads them: (parts, B, channels, queries) padded with zeros to whole tiles, in the type of the
// target. Bilinear samples of 16-bit maps need more than 16 bits: their second part is what the first rounds off.
struct QueryTiles {
    void* data;
    void* squares;  // (B, channels / 32, queries): sums of squares (see `gather`) in the type of the arithmetic
    int parts;

    static constexpr int64_t kTile = 32;
    static int64_t padded_queries(int64_t count) { return round_up(count, kTile); }
    static int64_t padded_channels(int64_t channels) { return round_up(channels, 2 * kTile); }
};

// The best cells of each tile of the target: (B, N, tiles).
struct TileBest {
    int64_t* key;
    int32_t* cell;
    int64_t tiles;
};

// What the gradients of the similarity read of the queries, row b * total + n of each array: vectors (splits, B, total, C)
// in the type of the arithmetic, q / D(q) (cosine) or q, of which `query_backward` makes the gradient, in parts
// `split_stride` numbers apart; (B, total) what that sum is divided by; and the vector's factor in its own term.
struct QueryTerms {
    void* vectors;
    void* divisor;
    void* own;
    int64_t splits, split_stride;
};

// ds and s of the same cells, in the type of the arithmetic; peaks (B, total) of the windows, or null: the whole map.
struct ScoreGradient {
    CellValues<const void> ds, scores;
    const int64_t* peak;
    Window window;

    // The window of query n of the block, empty where it has no match.
    __device__ Box box(const Block& block, int64_t b, int64_t n, const View& target) const {
        const int32_t height = int32_t(target.size[2]), width = int32_t(target.size[3]);
        if (n >= block.count) return {0, 0, 0, 0};
        if (peak == nullptr) return {0, 0, height, width};
        const int64_t at = peak[b * block.total + block.first + n];
        return at < 0 ? Box{0, 0, 0, 0} : window_box(window, int32_t(at), height, width);
    }
};

// What queries are sampled from: a map at keypoints, or a list of descriptors (B, C, 1, N) where these are not given.
struct QuerySource {
    View source, keypoints;
    Sampling sampling;
};

// gather (paper eq. 6-7): q_n = sample(F, p_n), as tiles for `similarity`, or as rows (B, N, C) in the map's own type.
void gather(const QuerySource& from, const Rows& rows, const Block& block, const QueryTiles& queries, Stream stream);
void gather_rows(const QuerySource& from, void* descriptors, Stream stream);

// similarity (paper eq. 9): scores (B, N, M) of the block; norms (B, M) and best if not null.
struct Similarity {
    QueryTiles queries;  // as `gather` sampled them from `from`
    QuerySource from;
    View target;
    CellMasks masks;
    Metric metric;
    void* scores;
    void* norms;
    TileBest best;
};
int64_t similarity_tile(const View& target, const Block& block, Stream stream);  // cells of a tile
int64_t similarity_tiles(const View& target, const Block& block, Stream stream);
void similarity(const Similarity& step, const Block& block, Stream stream);

// norms: |f_m| of every cell of a map, (B, M) in the type of the arithmetic.
void norms(const View& map, void* norms, Stream stream);

// localize (paper eq. 10-12): rows are searched if `best.key` is null. kept (B, kept_queries, rows, columns) or null.
void localize(const View& scores, const TileBest& best, const Rows& rows, const View& temperature,
              const Localization& localization, const Block& block, const Matches& matches, void* kept,
              int64_t kept_queries, Stream stream);

// details: covariance and second best cell of rows that `localize` has found the peaks of, as far as they are wanted; `best`
// is that of `similarity`, in tiles of `tile` cells, or has no key.
void details(const View& scores, const TileBest& best, int64_t tile, const Rows& rows, const View& temperature,
             const Localization& localization, const Block& block, const Matches& matches, Stream stream);

// Where queries truly lie: points (B, total, 2), data null: a match alone.
struct TruePoints {
    View points;
    Truth truth;
};

// cross_entropy: the losses of the block's rows and the cells nearest to their true points.
void cross_entropy(const View& scores, const TruePoints& points, const Rows& rows, const View& temperature,
                   const Localization& whole_map, const Block& block, const CrossEntropyResult& result, Stream stream);

// localize_backward: ds of the block, the temperature's gradient, and the queries for what follows (vectors null: none).
struct LocalizeBackward {
    CellValues<const void> scores;  // of the block, in `dtype`
    CellValues<void> ds;            // of the block, data null: not wanted
    int32_t dtype;                    // of scores and ds
    bool given;                     // ds is there already; only the terms of the queries are made
    int64_t height, width;
    const int64_t* peak;            // (B, total)
    CellMasks masks;
    View temperature;
    Localization localization;
    Upstream upstream;
    const void* covariance;         // (B, total, 2, 2) of the forward, if a gradient of it arrives
    View temperature_gradient;
    View source, keypoints;
    Sampling sampling;
    Metric metric;
    QueryTerms terms;
    TruePoints truth;               // given: the gradient that arrives at the log-sum-exp is that of a cross entropy
    const void* losses;             // (B, total) in `dtype`, of the cross entropy
};
void localize_backward(const LocalizeBackward& step, const Block& block, Stream stream);

// target_backward: dFt_m from ds and the queries, plus `previous` (data null: zeros).
void target_backward(const ScoreGradient& scores, const QueryTerms& queries, const void* target_norm, const View& target,
                     const Metric& metric, const Block& block, const View& previous, const View& gradient, Stream stream);

// query_backward: dq_n from ds and the target, as `splits` partial sums in place of the vectors, or into `gradient`
// (B, C, 1, N of the block) if that is given.
int64_t query_backward_splits(const View& target, int64_t queries, Stream stream);
void query_backward(const ScoreGradient& scores, const QueryTerms& queries, const void* target_norm, const View& target,
                    const Metric& metric, const Block& block, const View& gradient, Stream stream);

// source_backward: dFs from rows of gradients (splits, B, N, C) of any strides, and the keypoints' own gradient.
struct SourceBackward {
    View rows;              // (splits, B, N, C)
    const int64_t* peak;    // (B, N), below 0: padding; or null
    View source, keypoints;
    Sampling sampling;
    View source_gradient, keypoints_gradient;
};
void source_backward(const SourceBackward& step, Stream stream);

}  // namespace simplematch::cuda
