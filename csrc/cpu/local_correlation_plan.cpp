#include "local_correlation_plan.h"

#include <cmath>
#include <limits>

#include "common/affine.h"

namespace simplematch::cpu {
namespace {

constexpr int64_t kTileRows = 8, kTileColumns = 16;
constexpr double kFar = 1e15;  // cells: every sample lies outside any map

double whole(const CorrelationProblem& p, double x) { return is_bilinear(p) ? std::floor(x) : std::nearbyint(x); }

int64_t to_cell(double x) { return int64_t(std::min(std::max(x, -kFar), kFar)); }

int64_t clamped(int64_t x, int64_t least, int64_t most) { return std::min(std::max(x, least), most); }

Box inside_of(const CorrelationProblem& p, const Cluster& c, int64_t top, int64_t left) {
    const int64_t height = p.target.size[2], width = p.target.size[3], bottom = top + c.rows, right = left + c.columns;
    if (pads_with_border(p))
        return {clamped(top, 0, height - 1), clamped(left, 0, width - 1), clamped(bottom - 1, 0, height - 1) + 1,
                clamped(right - 1, 0, width - 1) + 1};
    return {std::max<int64_t>(top, 0), std::max<int64_t>(left, 0), std::min(bottom, height), std::min(right, width)};
}

void include(Box& box, const Box& other) {
    box.top = std::min(box.top, other.top);
    box.left = std::min(box.left, other.left);
    box.bottom = std::max(box.bottom, other.bottom);
    box.right = std::max(box.right, other.right);
}

// Groups of a sorted tile: as many neighbours as make the common box worth its extra cells.
void group_tile(TilePlan& tile, const Place* places, GroupPlan* groups) {
    int64_t cells = 0;
    for (int64_t i = tile.first; i < tile.last;) {
        GroupPlan group{1, places[i].inside, 0};
        int64_t own = area_of(group.box);
        for (int64_t j = i + 1; j < tile.last && group.count < kTogether; ++j) {
            Box box = group.box;
            include(box, places[j].inside);
            const int64_t with_next = own + area_of(places[j].inside);
            if (2 * (group.count + 1) * area_of(box) > 3 * with_next) break;
            group = {group.count + 1, box, 0};
            own = with_next;
        }
        groups[i] = group;
        cells += area_of(group.box);
        if (i == tile.first) tile.box = group.box;
        include(tile.box, group.box);
        i += group.count;
    }
    tile.whole = area_of(tile.box) <= cells;
}

// The extent of offsets [first, last) of all images along an axis; those that are not finite are left out.
struct Extent {
    double least = std::numeric_limits<double>::infinity(), most = -std::numeric_limits<double>::infinity();
};

Extent extent_of(const View& offsets, int64_t axis) {
    Extent e;
    for (int64_t b = 0; b < offsets.size[0]; ++b)
        for (int64_t k = 0; k < offsets.size[1]; ++k) {
            const double x = read_upstream(offsets, b, k, axis);
            if (!std::isfinite(x)) continue;
            e.least = std::min(e.least, x);
            e.most = std::max(e.most, x);
        }
    return e;
}

}  // namespace

std::vector<Cluster> list_clusters(const CorrelationProblem& p) {
    const int64_t samples = samples_of(p), extra = is_bilinear(p) ? 1 : 0;
    if (!is_given(p.offsets)) return {{0, samples, 2 * p.radius_y + 1 + extra, 2 * p.radius_x + 1 + extra}};
    const Extent x = extent_of(p.offsets, 0), y = extent_of(p.offsets, 1);
    const double rows = y.most - y.least + 4, columns = x.most - x.least + 4;
    const bool finite = rows > 0 && columns > 0;  // an axis without a finite offset has no extent
    if (samples > 1 && finite && rows * columns <= double(6 * samples + 64))
        return {{0, samples, int64_t(rows), int64_t(columns)}};
    std::vector<Cluster> clusters;
    for (int64_t k = 0; k < samples; ++k) clusters.push_back({k, k + 1, 1 + extra, 1 + extra});
    return clusters;
}

Point point_of(const CorrelationProblem& p, int64_t b, int64_t n) {
    return {apply(p.sampling.to_cells_x, read_upstream(p.coords, b, n, 0)),
            apply(p.sampling.to_cells_y, read_upstream(p.coords, b, n, 1))};
}

void list_correlation_rows(const CorrelationProblem& p, Row* rows) {
    const int64_t batch = p.target.size[0], queries = queries_of(p);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t n = 0; n < queries; ++n) {
            const Point point = point_of(p, b, n);
            rows[b * queries + n] = !is_valid(p.rows, b, n, queries)                       ? Row::padding
                                    : std::isfinite(point.x) && std::isfinite(point.y) ? Row::reads
                                                                                         : Row::not_finite;
        }
}

SamplePlace place_sample(const CorrelationProblem& p, double x, double y, int64_t b, int64_t k) {
    x += read_upstream(p.offsets, b, k, 0);
    y += read_upstream(p.offsets, b, k, 1);
    const double left = whole(p, x), top = whole(p, y);
    return {to_cell(top), to_cell(left), y - top, x - left, std::isfinite(x) && std::isfinite(y)};
}

int64_t ClusterPlan::tile_of_row(int64_t top) const {
    return clamped((top + cluster.rows) / kTileRows, 0, tile_rows - 1);
}
int64_t ClusterPlan::tile_of_column(int64_t left) const {
    return clamped((left + cluster.columns) / kTileColumns, 0, tile_columns - 1);
}

ClusterPlan plan_cluster(const CorrelationProblem& p, const Cluster& cluster, Row* rows, int threads) {
    const int64_t batch = p.target.size[0], queries = queries_of(p), height = p.target.size[2], width = p.target.size[3];
    ClusterPlan plan{cluster, (height + cluster.rows) / kTileRows + 1, (width + cluster.columns) / kTileColumns + 1,
                     Buffer<Place>(batch * queries), {}, Buffer<GroupPlan>(batch * queries), 1, 0};
    const bool of_window = !is_given(p.offsets), alone = cluster.last - cluster.first == 1;
    double least_x = 0, least_y = 0;
    if (!of_window && !alone) least_x = extent_of(p.offsets, 0).least, least_y = extent_of(p.offsets, 1).least;

    Buffer<Place> found(batch * queries);
    Buffer<int64_t> tile_of(batch * queries);
    const int64_t of_image = plan.tile_rows * plan.tile_columns;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < batch * queries; ++i) {
        tile_of[i] = -1;
        if (rows[i] == Row::padding || rows[i] == Row::not_finite) continue;
        const int64_t b = i / queries;
        const Point point = point_of(p, b, i % queries);
        Place place{i, 0, 0, {}, point.x, point.y};
        if (of_window) {
            place.top = to_cell(whole(p, point.y)) - p.radius_y;
            place.left = to_cell(whole(p, point.x)) - p.radius_x;
        } else if (alone) {
            const SamplePlace sample = place_sample(p, point.x, point.y, b, cluster.first);
            rows[i] = Row::outside;
            if (!sample.finite) continue;
            place.top = sample.top;
            place.left = sample.left;
        } else {
            place.top = to_cell(whole(p, point.y + least_y));
            place.left = to_cell(whole(p, point.x + least_x));
        }
        place.inside = inside_of(p, cluster, place.top, place.left);
        const bool reads = place.inside.top < place.inside.bottom && place.inside.left < place.inside.right;
        rows[i] = reads ? Row::reads : Row::outside;
        if (!reads) continue;
        found[i] = place;
        tile_of[i] = b * of_image + plan.tile_of_row(place.top) * plan.tile_columns + plan.tile_of_column(place.left);
    }

    std::vector<int64_t> next(size_t(batch * of_image) + 1);
    for (int64_t i = 0; i < batch * queries; ++i)
        if (tile_of[i] >= 0) ++next[size_t(tile_of[i]) + 1];
    for (size_t t = 1; t < next.size(); ++t) next[t] += next[t - 1];
    plan.tiles.resize(size_t(batch * of_image));
    for (int64_t t = 0; t < batch * of_image; ++t)
        plan.tiles[size_t(t)] = {t / of_image, next[size_t(t)], next[size_t(t) + 1], {}, false};
    for (int64_t i = 0; i < batch * queries; ++i)
        if (tile_of[i] >= 0) plan.places[next[size_t(tile_of[i])]++] = found[i];

    int64_t most = 1;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) reduction(max : most) if (threads > 1)
    for (int64_t t = 0; t < batch * of_image; ++t) {
        TilePlan& tile = plan.tiles[size_t(t)];
        if (tile.first == tile.last) continue;
        std::sort(plan.places.get() + tile.first, plan.places.get() + tile.last, [](const Place& a, const Place& b) {
            return a.top != b.top ? a.top < b.top : a.left != b.left ? a.left < b.left : a.query < b.query;
        });
        group_tile(tile, plan.places.get(), plan.groups.get());
        if (tile.whole) most = std::max(most, area_of(tile.box));
        for (int64_t i = tile.first; i < tile.last; i += plan.groups[i].count)
            most = std::max(most, area_of(plan.groups[i].box));
    }
    plan.most_cells = most;
    const int64_t end = plan.tiles.empty() ? 0 : plan.tiles.back().last;
    for (int64_t i = 0; i < end; i += plan.groups[i].count) {
        plan.groups[i].offset = plan.weights;
        plan.weights += plan.groups[i].count * area_of(plan.groups[i].box);
    }
    return plan;
}

}  // namespace simplematch::cpu
