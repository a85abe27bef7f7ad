// The gradients of local_correlation on the CPU, from g = dL/dout and the weights v[n, m] = scale * sum_k weight_k(m) g[n, k]:
//
//     dq_n      = from sum_m v[n, m] f_m / D(f_m), by the derivative of q / D(q)                     by tiles of queries
//     df_m      = from sum_n v[n, m] q_n / D(q_n), by the derivative of f / D(f)                     by tiles of cells
//     dcoords_n = scale * sum_k g[n, k] sum_m dweight_k(m) s[n, m]
//
// The first pass leaves the weights of every query for the cells of its group. The second asks, for every tile of cells,
// which groups cover it: a gather, so there is nothing to add to from two threads.
#include <memory>

#include "common/affine.h"
#include "local_correlation_driver.h"

namespace simplematch::cpu {
namespace {

constexpr int64_t kCellRows = 8, kCellColumns = 32;  // of a tile of cells

template <class T>
struct Scratch {
    Scratch(const CorrelationProblem& p, const ClusterPlan& plan, int64_t channels)
        : reader(p.target, true, plan.most_cells), cells(plan.most_cells), stride(plan.most_cells + kSlack),
          scores(kTogether * stride + kSlack), weights(kTogether * stride + kSlack), box(plan.cluster.area() + 2 * kSlack),
          samples(samples_of(p)), padded(0), gradient(kTogether * packed_row(channels)) {
        if (is_given(p.offsets)) return;
        const int64_t numbers = (2 * p.radius_y + 3) * padded_row(2 * p.radius_x + 1) + kSlack;
        padded = Buffer<T>(numbers);
        std::fill(padded.get(), padded.get() + numbers, T(0));
    }

    CellReader<T> reader;
    GroupCells<T> cells;
    int64_t stride;
    Buffer<T> scores, weights, box, samples, padded, gradient;
};

template <class T>
struct Backward {
    const CorrelationProblem& p;
    const CorrelationUpstream& upstream;
    const CorrelationGradients& wanted;
    const QueryRows<T>& queries;
    const T* zeros;           // a row
    T* query_gradient;        // (B, N, packed_row(C)), or null
    double* point_gradient;   // (B, N, 2), or null

    void read_upstream_of(int64_t query, const Cluster& cluster, Scratch<T>& scratch) const {
        const View& g = upstream.correlation;
        const int64_t all = queries_of(p), columns = is_given(p.offsets) ? samples_of(p) : 2 * p.radius_x + 1;
        const T* const from = static_cast<const T*>(g.data) + query / all * g.stride[0] + query % all * g.stride[1];
        for (int64_t k = cluster.first; k < cluster.last; ++k) scratch.samples[k] = from[k * g.stride[2]];
        if (is_given(p.offsets)) return;
        for (int64_t y = 0; y < 2 * p.radius_y + 1; ++y)
            for (int64_t x = 0; x < columns; ++x)
                scratch.padded[(y + 1) * padded_row(columns) + x + 1] = scratch.samples[y * columns + x];
    }

    // Weights of the cells of the group for one query.
    void weigh(const ClusterPlan& plan, const Place& place, const Box& group, T* weights, Scratch<T>& scratch) const {
        const CorrelationSteps<T>& steps = kernels<T>().correlation;
        const int64_t columns = group.right - group.left;
        std::fill(weights, weights + area_of(group), T(0));
        if (is_whole(place, plan.cluster, p)) {
            T* const first = weights + (place.top - group.top) * columns + place.left - group.left;
            return steps.unblend(scratch.padded.get(), window_blend<T>(p, place, columns), first);
        }
        T* const box = scratch.box.get();
        if (!is_given(p.offsets)) {
            steps.unblend(scratch.padded.get(), window_blend<T>(p, place, plan.cluster.columns), box);
        } else {
            std::fill(box, box + plan.cluster.area(), T(0));
            for (int64_t k = plan.cluster.first; k < plan.cluster.last; ++k) {
                const T g = T(p.scale) * scratch.samples[k];
                const Taps taps = taps_of(p, plan.cluster, place, place.query / queries_of(p), k);
                for (int i = 0; i < (g == 0 ? 0 : taps.count); ++i)
                    if (taps.weight[i] != 0) box[taps.cell[i]] += T(taps.weight[i]) * g;
            }
        }
        for_each_cell(p, plan.cluster, place, group, [&](int64_t i, int64_t j) { weights[j] += box[i]; });
    }

    // The point's gradient in cells, from the scores of the group's cells.
    void move_point(const ClusterPlan& plan, const Place& place, const Box& group, const T* scores,
                    Scratch<T>& scratch) const {
        if (!is_bilinear(p)) return;
        T* const box = scratch.box.get();
        std::fill(box, box + plan.cluster.area(), T(0));
        for_each_cell(p, plan.cluster, place, group, [&](int64_t i, int64_t j) { box[i] = scores[j]; });
        const int64_t pitch = plan.cluster.columns, columns = 2 * p.radius_x + 1;
        double dx = 0, dy = 0;
        if (is_given(p.offsets)) {
            for (int64_t k = plan.cluster.first; k < plan.cluster.last; ++k) {
                const double g = p.scale * double(scratch.samples[k]);
                const Taps taps = taps_of(p, plan.cluster, place, place.query / queries_of(p), k);
                for (int i = 0; i < (g == 0 ? 0 : taps.count); ++i) {
                    const double product = g * double(box[taps.cell[i]]);
                    if (taps.slope_x[i] != 0) dx += taps.slope_x[i] * product;
                    if (taps.slope_y[i] != 0) dy += taps.slope_y[i] * product;
                }
            }
        } else {
            const WindowBlend<T> w = window_blend<T>(p, place, pitch);
            const T left = 1 - w.right_of, right = w.right_of, above = 1 - w.below, below = w.below;
            for (int64_t y = 0; y < w.rows; ++y)
                for (int64_t x = 0; x < columns; ++x) {
                    const T g = scratch.samples[y * columns + x];
                    if (g == 0) continue;
                    const T* const s = box + y * pitch + x;
                    const T along_x = above * (s[1] - s[0]) + (below != 0 ? below * (s[pitch + 1] - s[pitch]) : T(0));
                    const T along_y = left * (s[pitch] - s[0]) + (right != 0 ? right * (s[pitch + 1] - s[1]) : T(0));
                    dx += double(g) * double(along_x);
                    dy += double(g) * double(along_y);
                }
            dx *= p.scale;
            dy *= p.scale;
        }
        point_gradient[2 * place.query] += dx;
        point_gradient[2 * place.query + 1] += dy;
    }

    void run_group(const ClusterPlan& plan, int64_t image, int64_t first, T* for_target, Scratch<T>& scratch) const {
        const GroupPlan& of_group = plan.groups[first];
        const CorrelationSteps<T>& steps = kernels<T>().correlation;
        const int64_t all = queries_of(p), channels = p.target.size[1], stride = scratch.stride;
        const bool cosine = p.metric.kind == SIMPLEMATCH_COSINE;
        CellGroup<T> group{of_group.count, {}, area_of(of_group.box), scratch.cells.row.get(),
                           round_up(channels, kChannelUnit)};
        T norm[kTogether];
        for (int64_t q = 0; q < group.queries; ++q) {
            const int64_t query = plan.places[first + q].query;
            group.query[q] = queries.row(image, query - image * all);
            norm[q] = queries.norm(query);
        }
        if (point_gradient != nullptr) {
            scratch.cells.list(scratch.reader, of_group.box, p.metric, true, nullptr);
            score_group(group, scratch.cells, norm, p.metric, channels, scratch.scores.get(), stride);
        }
        scratch.cells.list(scratch.reader, of_group.box, p.metric, true, zeros);
        T* gradient[kTogether];
        for (int64_t q = 0; q < group.queries; ++q) {
            const Place& place = plan.places[first + q];
            T* const weights = scratch.weights.get() + q * stride;
            read_upstream_of(place.query, plan.cluster, scratch);
            if (point_gradient != nullptr)
                move_point(plan, place, of_group.box, scratch.scores.get() + q * stride, scratch);
            weigh(plan, place, of_group.box, weights, scratch);
            const T unknown = norm[q] - norm[q] == 0 ? T(0) : std::numeric_limits<T>::quiet_NaN();
            const T divisor = cosine && unknown == 0 ? denominator(norm[q], p.metric) : T(1);
            steps.finish_weights({group.cells, weights, scratch.cells.unknown.get(), unknown,
                                  cosine ? scratch.cells.divisor.get() : nullptr, divisor,
                                  query_gradient == nullptr ? nullptr : weights,
                                  for_target == nullptr ? nullptr : for_target + of_group.offset + q * group.cells});
            if (query_gradient != nullptr) gradient[q] = query_gradient + place.query * packed_row(channels);
        }
        if (query_gradient != nullptr) steps.add_cells(group, scratch.weights.get(), stride, gradient);
    }

    void run_tile(const ClusterPlan& plan, const TilePlan& tile, T* for_target, Scratch<T>& scratch) const {
        if (tile.first == tile.last) return;
        if (tile.whole) scratch.reader.read(tile.image, tile.box);
        for (int64_t i = tile.first; i < tile.last; i += plan.groups[i].count) {
            if (!tile.whole) scratch.reader.read(tile.image, plan.groups[i].box);
            run_group(plan, tile.image, i, for_target, scratch);
        }
    }

    // Adds to the cells of a tile that the weights of a group reach; whether there are any.
    bool add_group(const ClusterPlan& plan, int64_t image, int64_t first, const T* weights, const Box& tile, T* sums,
                   T** row) const {
        const GroupPlan& of_group = plan.groups[first];
        const Box& box = of_group.box;
        const int64_t top = std::max(box.top, tile.top), bottom = std::min(box.bottom, tile.bottom);
        const int64_t left = std::max(box.left, tile.left), right = std::min(box.right, tile.right);
        if (top >= bottom || left >= right) return false;
        const int64_t all = queries_of(p), channels = p.target.size[1], stride = packed_row(channels);
        CellGroup<T> group{of_group.count, {}, right - left, nullptr, round_up(channels, kChannelUnit)};
        for (int64_t q = 0; q < group.queries; ++q) {
            const int64_t query = plan.places[first + q].query;
            const bool finite = queries.norm(query) - queries.norm(query) == 0;
            group.query[q] = finite ? queries.row(image, query - image * all) : zeros;
        }
        for (int64_t y = top; y < bottom; ++y) {
            for (int64_t x = left; x < right; ++x)
                row[x - left] = sums + ((y - tile.top) * (tile.right - tile.left) + x - tile.left) * stride;
            const T* const from = weights + of_group.offset + (y - box.top) * (box.right - box.left) + left - box.left;
            kernels<T>().correlation.add_queries(group, from, area_of(box), row);
        }
        return true;
    }
};

// Tiles of cells, to each of which a thread adds what reaches it, cluster after cluster: the plan and the weights of one
// cluster are gone when those of the next are made.
template <class T>
class TargetGradient {
public:
    TargetGradient(const Backward<T>& backward, size_t clusters, int threads)
        : backward_(backward), p_(backward.p), channels_(p_.target.size[1]), stride_(packed_row(channels_)), threads_(threads),
          down_((p_.target.size[2] + kCellRows - 1) / kCellRows),
          across_((p_.target.size[3] + kCellColumns - 1) / kCellColumns), tiles_(p_.target.size[0] * down_ * across_),
          alone_(clusters == 1), sums_((alone_ ? threads : tiles_) * kCellRows * kCellColumns * stride_), reached_(tiles_) {
        for (int i = 0; i < threads; ++i) readers_.emplace_back(p_.target, true, kCellRows * kCellColumns);
    }

    // The first cluster finds no sums, and the last leaves the gradient.
    void add(const ClusterPlan& plan, const T* weights, bool first, bool last) {
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
        for (int64_t t = 0; t < tiles_; ++t) {
            const int64_t image = t / (down_ * across_), top = t / across_ % down_ * kCellRows, left = t % across_ * kCellColumns;
            const Box tile{top, left, std::min(top + kCellRows, p_.target.size[2]),
                           std::min(left + kCellColumns, p_.target.size[3])};
            T* const sums = sums_.get() + (alone_ ? thread_index() : t) * kCellRows * kCellColumns * stride_;
            if (first) {
                std::fill(sums, sums + area_of(tile) * stride_, T(0));
                reached_[t] = 0;
            }
            if (add_cluster(plan, weights, image, tile, sums)) reached_[t] = 1;
            if (last) write(image, tile, sums, reached_[t] != 0);
        }
    }

private:
    // Whether the cluster reaches the tile.
    bool add_cluster(const ClusterPlan& plan, const T* weights, int64_t image, const Box& tile, T* sums) const {
        T* row[kCellColumns];
        bool reached = false;
        const int64_t first_row = plan.tile_of_row(tile.top - plan.cluster.rows);
        const int64_t last_row = plan.tile_of_row(tile.bottom);
        const int64_t first_column = plan.tile_of_column(tile.left - plan.cluster.columns);
        const int64_t last_column = plan.tile_of_column(tile.right);
        for (int64_t y = first_row; y <= last_row; ++y)
            for (int64_t x = first_column; x <= last_column; ++x) {
                const TilePlan& from = plan.tiles[size_t((image * plan.tile_rows + y) * plan.tile_columns + x)];
                for (int64_t i = from.first; i < from.last; i += plan.groups[i].count)
                    reached |= backward_.add_group(plan, image, i, weights, tile, sums, row);
            }
        return reached;
    }

    void write(int64_t image, const Box& tile, T* sums, bool reached) {
        const CorrelationSteps<T>& steps = kernels<T>().correlation;
        CellReader<T>& reader = readers_[size_t(thread_index())];
        const int64_t columns = tile.right - tile.left;
        const bool moves = reached && p_.metric.kind == SIMPLEMATCH_COSINE;
        if (moves) reader.read(image, tile);
        for (int64_t y = tile.top; y < tile.bottom; ++y) {
            T* const row = sums + (y - tile.top) * columns * stride_;
            for (int64_t x = 0; moves && x < columns; ++x)
                steps.finish_gradient(row + x * stride_, reader.row(y, tile.left) + x * reader.stride(),
                                      round_up(channels_, kChannelUnit), reader.norms(y, tile.left)[x], p_.metric);
            steps.write_cells(backward_.wanted.target, image, y, tile.left, tile.right, row, stride_);
        }
    }

    const Backward<T>& backward_;
    const CorrelationProblem& p_;
    const int64_t channels_, stride_;
    const int threads_;
    const int64_t down_, across_, tiles_;
    const bool alone_;  // one cluster: its sums need not be kept
    const Buffer<T> sums_;
    const Buffer<uint8_t> reached_;
    std::vector<CellReader<T>> readers_;
};

// Rows (B, N) of `gradient` to the map of queries.
template <class T>
void write_queries(const CorrelationProblem& p, const View& to, const QueryRows<T>& queries, T* gradient, int threads) {
    const CorrelationSteps<T>& steps = kernels<T>().correlation;
    const int64_t batch = to.size[0], height = to.size[2], width = to.size[3], channels = to.size[1];
    const int64_t stride = packed_row(channels), pieces = (width + kTile - 1) / kTile;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < batch * height * pieces; ++task) {
        const int64_t left = task % pieces * kTile, right = std::min(left + kTile, width);
        const int64_t y = task / pieces % height, b = task / pieces / height, n = y * width + left;
        T* const rows = gradient + (b * height * width + n) * stride;
        for (int64_t i = 0; i < right - left; ++i)
            steps.finish_gradient(rows + i * stride, queries.row(b, n + i), round_up(channels, kChannelUnit),
                                  queries.norm(b * height * width + n + i), p.metric);
        steps.write_cells(to, b, y, left, right, rows, stride);
    }
}

void write_points(const CorrelationProblem& p, const View& to, const double* gradient) {
    const double rate_x = rate(p.sampling.to_cells_x), rate_y = rate(p.sampling.to_cells_y);
    for (int64_t b = 0; b < to.size[0]; ++b)
        for (int64_t n = 0; n < to.size[1]; ++n) {
            const double* const g = gradient + 2 * (b * to.size[1] + n);
            const int64_t at = b * to.stride[0] + n * to.stride[1];
            write_element(to, at, g[0] * rate_x);
            write_element(to, at + to.stride[2], g[1] * rate_y);
        }
}

template <class T>
void correlate_all_backward(const CorrelationProblem& p, const CorrelationUpstream& upstream,
                            const CorrelationGradients& wanted, int wanted_threads) {
    const int64_t batch = p.target.size[0], count = batch * queries_of(p), channels = p.target.size[1];
    const int64_t height = p.target.size[2], width = p.target.size[3], stride = packed_row(channels);
    const double operations = double(count) * double(samples_of(p)) * double(channels);
    const int threads = threads_for(wanted_threads, std::max(operations, double(batch * height * width * channels)));
    Buffer<Row> rows(count);
    list_correlation_rows(p, rows.get());
    const QueryRows<T> queries(p.queries, true, threads);
    Buffer<T> zeros(stride), query_gradient(is_given(wanted.queries) ? count * stride : 0);
    Buffer<double> point_gradient(is_given(wanted.coords) ? 2 * count : 0);
    std::fill(zeros.get(), zeros.get() + stride, T(0));
    if (is_given(wanted.queries)) std::fill(query_gradient.get(), query_gradient.get() + count * stride, T(0));
    if (is_given(wanted.coords)) std::fill(point_gradient.get(), point_gradient.get() + 2 * count, 0.0);
    const Backward<T> backward{p, upstream, wanted, queries, zeros.get(),
                               is_given(wanted.queries) ? query_gradient.get() : nullptr,
                               is_given(wanted.coords) ? point_gradient.get() : nullptr};

    // Without queries too, there is a gradient of the target to write.
    const std::vector<Cluster> clusters = count == 0 ? std::vector<Cluster>{{0, 0, 1, 1}} : list_clusters(p);
    std::unique_ptr<TargetGradient<T>> target;
    if (is_given(wanted.target)) target = std::make_unique<TargetGradient<T>>(backward, clusters.size(), threads);
    for (size_t i = 0; i < clusters.size(); ++i) {
        const ClusterPlan plan = plan_cluster(p, clusters[i], rows.get(), threads);
        const Buffer<T> weights(target == nullptr ? 0 : plan.weights);
        std::vector<Scratch<T>> scratch;
        for (int k = 0; k < threads; ++k) scratch.emplace_back(p, plan, channels);
        const int64_t tiles = int64_t(plan.tiles.size());
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
        for (int64_t t = 0; t < tiles; ++t)
            backward.run_tile(plan, plan.tiles[size_t(t)], target == nullptr ? nullptr : weights.get(),
                              scratch[size_t(thread_index())]);
        if (target != nullptr) target->add(plan, weights.get(), i == 0, i + 1 == clusters.size());
    }
    if (is_given(wanted.queries)) write_queries(p, wanted.queries, queries, query_gradient.get(), threads);
    if (is_given(wanted.coords)) write_points(p, wanted.coords, point_gradient.get());
}

}  // namespace

void run_backward(const CorrelationProblem& problem, const CorrelationUpstream& upstream,
                  const CorrelationGradients& gradients, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64)
        return correlate_all_backward<double>(problem, upstream, gradients, threads);
    correlate_all_backward<float>(problem, upstream, gradients, threads);
}

}  // namespace simplematch::cpu
