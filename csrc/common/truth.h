// Where the true point of a query lies, and which cells of the target its Gaussian may cover.
#pragma once

#include <cmath>

#include "affine.h"
#include "defaults.h"
#include "window.h"

namespace simplematch {

struct TrueWindow {
    BoxOf<int64_t> box;  // the cells round the nearest one that the map has; none: the point lies outside
    double x, y;         // the point in cells, on the map
    int64_t cell;        // the nearest
    bool known;          // the point is finite

    SIMPLEMATCH_HOST_DEVICE int64_t columns() const { return box.right - box.left; }
    SIMPLEMATCH_HOST_DEVICE int64_t cells() const { return (box.bottom - box.top) * columns(); }

    // Of a cell to the point.
    SIMPLEMATCH_HOST_DEVICE double squared_distance(int64_t row, int64_t column) const {
        const double dx = double(column) - x, dy = double(row) - y;
        return dx * dx + dy * dy;
    }
};

// exp(-(squared - least) / (2 sigma^2)): counted from the least distance, so that a narrow Gaussian between cells keeps
// the nearest one.
SIMPLEMATCH_HOST_DEVICE static inline double true_weight(const Truth& truth, double squared, double least) {
    return exp(-(squared - least) / (2 * truth.sigma * truth.sigma));
}

// The point (x, y) as the user gave it. Up to a cell outside it counts as the nearest point of the map.
SIMPLEMATCH_HOST_DEVICE static inline TrueWindow true_window(
    const Truth& truth, double x, double y, int64_t height, int64_t width) {
    TrueWindow w{{0, 0, 0, 0}, apply(truth.to_cells_x, x), apply(truth.to_cells_y, y), -1, true};
    w.known = w.x - w.x == 0 && w.y - w.y == 0;
    if (!w.known) w.x = w.y = 0;
    if (!(w.x > -1 && w.x < double(width) && w.y > -1 && w.y < double(height))) return w;
    w.x = w.x < 0 ? 0 : w.x > double(width - 1) ? double(width - 1) : w.x;
    w.y = w.y < 0 ? 0 : w.y > double(height - 1) ? double(height - 1) : w.y;
    const int64_t row = int64_t(rint(w.y)), column = int64_t(rint(w.x));
    w.cell = row * width + column;
    const int64_t before = least_of(truth.kernel_size / 2, most_of(height, width));  // no farther than the map reaches
    const int64_t after = least_of(truth.kernel_size - truth.kernel_size / 2, most_of(height, width));
    w.box = {most_of(row - before, 0), most_of(column - before, 0), least_of(row + after, height),
             least_of(column + after, width)};
    return w;
}

// The match whose softmax, over the whole map, is compared with the truth.
static inline MatchProblem match_of(const CrossEntropyProblem& p) {
    MatchProblem match = kDefault<MatchProblem>;
    match.source = p.source;
    match.keypoints = p.keypoints;
    match.target = p.target;
    match.temperature = p.temperature;
    match.rows = p.rows;
    match.sampling = p.sampling;
    match.metric = p.metric;
    match.localization.window.height = p.target.size[2];
    match.localization.window.width = p.target.size[3];
    match.localization.temperature = p.truth.temperature;
    match.score_budget = p.score_budget;
    return match;
}

}  // namespace simplematch
