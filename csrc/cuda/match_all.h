// What the forward and the backward of match_all share: its sets as queries and as maps, and blocks of rows.
#pragma once

#include "driver.h"

namespace simplematch::cuda {

// The cells of a map as the row (B, C, 1, N) that queries are, if they follow each other in memory.
inline bool as_row(const View& map, View* row) {
    const int64_t height = map.size[2], width = map.size[3];
    if (height != 1 && width != 1 && map.stride[2] != width * map.stride[3]) return false;
    *row = map;
    row->size[2] = 1, row->size[3] = height * width;
    row->stride[2] = 0, row->stride[3] = width == 1 && height > 1 ? map.stride[2] : map.stride[3];
    return true;
}

// Rows of a, as queries in the map b, in blocks of which the scores fit the budget.
struct SetPlan {
    int64_t images, count, cells, most;
    int32_t dtype;
    int64_t item;
    View row;
    bool is_row;
    void *scores, *points;
    SimilarityScratch scratch;

    SetPlan(const MatchAllProblem& p, int64_t copies, Workspace& workspace)
        : images(p.a.size[0]), count(cells_of(p.a)), cells(cells_of(p.b)), dtype(arithmetic_of(p.a.dtype)),
          item(item_size(dtype)) {
        is_row = as_row(p.a, &row);
        const int64_t bytes = copies * images * cells * item;
        most = std::max<int64_t>(1, std::min(count, p.score_budget / std::max<int64_t>(1, bytes)));
        scores = workspace.take(images * most * cells * item);
        points = is_row ? nullptr : workspace.take(count * 2 * int64_t(sizeof(double)));
        scratch = SimilarityScratch(workspace, p.b, images, most, false, false);
    }

    bool empty() const { return images * count * cells == 0; }

    // The cells of a: a list of descriptors, or a map at the points that `list_cells` fills.
    QuerySource source(const MatchAllProblem& p) const {
        if (is_row) return {row, kNotGiven, {}};
        const View keypoints{points, SIMPLEMATCH_FLOAT64, {images, count, 2, 1}, {0, 2, 1, 1}};
        return {p.a, keypoints, {{1, 0, 1}, {1, 0, 1}, SIMPLEMATCH_FLOOR, SIMPLEMATCH_ZEROS, nullptr, SIMPLEMATCH_CORNER}};
    }

    Block block(int64_t first) const { return {images, first, std::min(most, count - first), count}; }

    void run(const MatchAllProblem& p, const Block& block, Stream stream) const {
        scratch.run(source(p), p.rows_a, p.b, p.metric, block, scores, nullptr, stream);
    }
};

// (x, y) of every cell of a map as float64 keypoints (N, 2).
void list_cells(const View& map, void* points, Stream stream);

// The temperature of an image, or the score of the bin.
template <class T>
__device__ inline T number_of(const View& given, double fixed, int64_t b) {
    return T(given.data == nullptr ? fixed : read_element(given, b * given.stride[0]));
}

__device__ inline bool has_bin(const MatchAllProblem& p) {
    return p.bin_score.data != nullptr || p.fixed_bin_score != -infinity<double>();
}

}  // namespace simplematch::cuda
