// Where the windows of local_correlation lie, and in which order the queries are worked on.
//
// A cluster is a range of samples whose cells lie in one box around every query: the window, offsets that lie close
// together, or else each offset for itself. Queries are sorted by the first cell of their box: into tiles of kTileRows x
// kTileColumns cells, and by row and column inside a tile. Neighbours in this order form groups of at most kTogether.
#pragma once

#include <vector>

#include "driver.h"
#include "local_correlation.h"

namespace simplematch::cpu {

struct Cluster {
    int64_t first, last;    // samples
    int64_t rows, columns;  // of the box of cells that they read
    int64_t area() const { return rows * columns; }
};

std::vector<Cluster> list_clusters(const CorrelationProblem& p);

// Of one query in one cluster. The box reaches from (top, left); `inside` is its part of the map, or for "border" what it
// reads of the map.
struct Place {
    int64_t query;  // b * N + n
    int64_t top, left;
    Box inside;
    double x, y;    // the point, in cells
};

enum class Row : uint8_t { padding, not_finite, outside, reads };

struct GroupPlan {
    int64_t count;
    Box box;         // around the boxes of its queries
    int64_t offset;  // of its queries' weights for the cells of the box, among those of all groups
};

// Queries [first, last) of the order; their groups begin at the order's positions `first`, `first` + count, ...
struct TilePlan {
    int64_t image, first, last;
    Box box;     // around the boxes of its groups
    bool whole;  // read cells once for the tile, not for each group
};

struct ClusterPlan {
    Cluster cluster;
    int64_t tile_rows, tile_columns;  // tiles of an image
    Buffer<Place> places;             // in order
    std::vector<TilePlan> tiles;      // image by image, with empty ones
    Buffer<GroupPlan> groups;         // at the position of their first query
    int64_t most_cells;               // of what is read at once
    int64_t weights;                  // of all groups

    int64_t tile_of_row(int64_t top) const;  // of boxes that begin in this row of cells
    int64_t tile_of_column(int64_t left) const;
};

// `rows` (B, N): what becomes of each query; `outside` only for the cluster.
ClusterPlan plan_cluster(const CorrelationProblem& p, const Cluster& cluster, Row* rows, int threads);

static inline int64_t area_of(const Box& box) { return (box.bottom - box.top) * (box.right - box.left); }

// Rows that are padding or have no finite point.
void list_correlation_rows(const CorrelationProblem& p, Row* rows);

// The point of query n of image b, in cells.
struct Point {
    double x, y;
};
Point point_of(const CorrelationProblem& p, int64_t b, int64_t n);

// A sample of a query: its first cell, and the way from there.
struct SamplePlace {
    int64_t top, left;
    double below, right_of;
    bool finite;
};
SamplePlace place_sample(const CorrelationProblem& p, double x, double y, int64_t b, int64_t k);

static inline bool is_bilinear(const CorrelationProblem& p) { return p.sampling.mode == SIMPLEMATCH_BILINEAR; }
static inline bool pads_with_border(const CorrelationProblem& p) { return p.sampling.padding == SIMPLEMATCH_BORDER; }

}  // namespace simplematch::cpu
