// local_correlation on the CPU: out[n, k] = scale * sum over the cells m of sample k of weight(m) s[n, m]
//
// A window of bilinear samples a cell apart has one set of weights: the scores of its (2 ry + 2) (2 rx + 2) cells are
// computed once and blended, so a query costs C (2 ry + 2) (2 rx + 2) multiply-adds, and reads that many cells, most of
// them shared with its neighbours in the order of local_correlation_plan.h.
#include "local_correlation_driver.h"

namespace simplematch::cpu {
namespace {

// Memory of a thread.
template <class T>
struct Scratch {
    Scratch(const CorrelationProblem& p, const ClusterPlan& plan, bool with_norms)
        : reader(p.target, with_norms, plan.most_cells), cells(plan.most_cells),
          stride(plan.most_cells + kSlack), scores(kTogether * stride + kSlack), box(plan.cluster.area() + kSlack) {}

    CellReader<T> reader;
    GroupCells<T> cells;
    int64_t stride;
    Buffer<T> scores, box;
};

template <class T>
struct Forward {
    const CorrelationProblem& p;
    const QueryRows<T>& queries;
    const ClusterPlan& plan;
    T* result;
    bool with_norms;

    void write_samples(const Place& place, const Box& group, const T* scores, T* box) const {
        const int64_t of_query = samples_of(p), all = queries_of(p), columns = group.right - group.left;
        const CorrelationSteps<T>& steps = kernels<T>().correlation;
        T* const to = result + place.query * of_query;
        if (is_whole(place, plan.cluster, p)) {
            const T* const first = scores + (place.top - group.top) * columns + place.left - group.left;
            return steps.blend(first, window_blend<T>(p, place, columns), to);
        }
        std::fill(box, box + plan.cluster.area(), T(0));
        for_each_cell(p, plan.cluster, place, group, [&](int64_t i, int64_t j) { box[i] = scores[j]; });
        if (!is_given(p.offsets)) return steps.blend(box, window_blend<T>(p, place, plan.cluster.columns), to);
        for (int64_t k = plan.cluster.first; k < plan.cluster.last; ++k) {
            const Taps taps = taps_of(p, plan.cluster, place, place.query / all, k);
            T total = taps.finite ? T(0) : std::numeric_limits<T>::quiet_NaN();
            for (int i = 0; i < taps.count; ++i)
                if (taps.weight[i] != 0) total += T(taps.weight[i]) * box[taps.cell[i]];
            to[k] = T(p.scale) * total;
        }
    }

    void run_group(int64_t image, int64_t first, const GroupPlan& plan_of_group, Scratch<T>& scratch) const {
        const int64_t all = queries_of(p);
        scratch.cells.list(scratch.reader, plan_of_group.box, p.metric, with_norms, nullptr);
        CellGroup<T> group{plan_of_group.count, {}, scratch.cells.count, scratch.cells.row.get(),
                           round_up(p.target.size[1], kChannelUnit)};
        T norm[kTogether] = {};
        for (int64_t q = 0; q < group.queries; ++q) {
            const int64_t query = plan.places[first + q].query;
            group.query[q] = queries.row(image, query - image * all);
            if (with_norms) norm[q] = queries.norm(query);
        }
        score_group(group, scratch.cells, norm, p.metric, p.target.size[1], scratch.scores.get(), scratch.stride);
        for (int64_t q = 0; q < group.queries; ++q)
            write_samples(plan.places[first + q], plan_of_group.box, scratch.scores.get() + q * scratch.stride,
                          scratch.box.get());
    }

    void run_tile(const TilePlan& tile, Scratch<T>& scratch) const {
        if (tile.first == tile.last) return;
        if (tile.whole) scratch.reader.read(tile.image, tile.box);
        for (int64_t i = tile.first; i < tile.last; i += plan.groups[i].count) {
            if (!tile.whole) scratch.reader.read(tile.image, plan.groups[i].box);
            run_group(tile.image, i, plan.groups[i], scratch);
        }
    }
};

// Samples that read no cell.
template <class T>
void write_constants(const CorrelationProblem& p, const Cluster& cluster, const Row* rows, T* result) {
    const int64_t of_query = samples_of(p), all = queries_of(p);
    const T nan = std::numeric_limits<T>::quiet_NaN();
    for (int64_t i = 0; i < p.target.size[0] * all; ++i) {
        if (rows[i] == Row::reads) continue;
        T* const to = result + i * of_query;
        std::fill(to + cluster.first, to + cluster.last, rows[i] == Row::not_finite ? nan : T(0));
        if (rows[i] != Row::outside || !is_given(p.offsets)) continue;
        const Point point = point_of(p, i / all, i % all);
        for (int64_t k = cluster.first; k < cluster.last; ++k)
            if (!place_sample(p, point.x, point.y, i / all, k).finite) to[k] = nan;
    }
}

template <class T>
void correlate_all(const CorrelationProblem& p, const CorrelationResult& result, int wanted_threads) {
    const int64_t count = p.target.size[0] * queries_of(p);
    if (count == 0) return;
    const double operations = double(count) * double(samples_of(p)) * double(p.target.size[1]);
    const int threads = threads_for(wanted_threads, operations);
    const bool cosine = p.metric.kind == SIMPLEMATCH_COSINE;
    Buffer<Row> rows(count);
    list_correlation_rows(p, rows.get());
    const QueryRows<T> queries(p.queries, cosine, threads);
    for (const Cluster& cluster : list_clusters(p)) {
        const ClusterPlan plan = plan_cluster(p, cluster, rows.get(), threads);
        const Forward<T> forward{p, queries, plan, static_cast<T*>(result.correlation), cosine};
        std::vector<Scratch<T>> scratch;
        for (int i = 0; i < threads; ++i) scratch.emplace_back(p, plan, cosine);
        const int64_t tiles = int64_t(plan.tiles.size());
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
        for (int64_t t = 0; t < tiles; ++t) forward.run_tile(plan.tiles[size_t(t)], scratch[size_t(thread_index())]);
        write_constants(p, cluster, rows.get(), static_cast<T*>(result.correlation));
    }
}

}  // namespace

void run(const CorrelationProblem& problem, const CorrelationResult& result, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64) return correlate_all<double>(problem, result, threads);
    correlate_all<float>(problem, result, threads);
}

}  // namespace simplematch::cpu
