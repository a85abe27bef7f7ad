// local_correlation: out[n, k] = scale * sum over the cells of sample k of weight s
//
// Each of the J cells of a query is scored once, and samples are blended from scores. Bytes: J C of the target for each
// query, most of them out of the nearest caches; 4 N J of scores written and read; N K written.
#include "local_correlation.h"

#include "metric.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = kCorrelationThreads;

template <class T>
__device__ bool is_safe_norm(T norm) {
    return sizeof(T) == 8 || norm == 0 || (norm >= T(0x1p-52) && norm <= T(0x1p62));
}

// <q, f> over channels first, first + step, ... in T or, where float32 would lose it, in float64.
template <class U, class S>
__device__ U product(const Correlation& a, const S* q, const S* f, int first, int step) {
    U total = 0;
    for (int64_t c = first; c < a.p.target.size[1]; c += step)
        total += U(widen(q[c * a.p.queries.stride[1]])) * U(widen(f[c * a.p.target.stride[1]]));
    return total;
}

// Block = one query. LANES: a warp takes a cell and its lanes the channels, where those are adjacent; else a thread takes
// a cell, since cells are.
template <class S, bool LANES>
__global__ void __launch_bounds__(kThreads, 1) scores_kernel(Correlation a) {
    using T = Arithmetic<S>;
    const int64_t b = blockIdx.x / a.queries, n = blockIdx.x % a.queries;
    const bool cosine = a.p.metric.kind == SIMPLEMATCH_COSINE;
    const Point point = point_of(a, b, n);
    const S* const q = vector_of<S>(a.p.queries, b, n);
    const T length = cosine ? static_cast<const T*>(a.query_norms)[blockIdx.x] : T(1);
    T* const scores = static_cast<T*>(a.scores) + blockIdx.x * a.cells;
    const int team = LANES ? kWarp : 1, member = LANES ? threadIdx.x % kWarp : 0;
    for (int64_t j = threadIdx.x / team; j < a.cells; j += kThreads / team) {
        const int32_t m = point.valid ? cell_of(a, point, b, j) : -1;
        T score = 0;
        if (m >= 0) {
            const S* const f = vector_of<S>(a.p.target, b, m);
            const T norm = cosine ? static_cast<const T*>(a.norms)[b * cells_in(a.p.target) + m] : T(1);
            const bool safe = is_safe_norm(length) && is_safe_norm(norm);
            score = product<T>(a, q, f, member, team);
            if (LANES) score = sum_of_warp(score);
            if (!safe || (!cosine && sizeof(T) == 4 && !is_finite(score))) {
                double exact = product<double>(a, q, f, member, team);
                if (LANES) exact = sum_of_warp(exact);
                const Metric& metric = a.p.metric;
                if (cosine) exact = exact / denominator(double(length), metric) / denominator(double(norm), metric);
                score = T(exact);
            } else if (cosine) {
                score = score / denominator(length, a.p.metric) / denominator(norm, a.p.metric);
            }
        }
        if (member == 0) scores[j] = score;
    }
}

// Thread = one sample.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) samples_kernel(Correlation a) {
    const int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
    if (i >= a.p.target.size[0] * a.queries * a.samples) return;
    const int64_t row = i / a.samples, k = i % a.samples, b = row / a.queries;
    const Point point = point_of(a, b, row % a.queries), sample = sample_of(a, point, b, k);
    const T* const scores = static_cast<const T*>(a.scores) + row * a.cells;
    T total = 0;
    for (int t = 0; sample.finite && t < taps_of(a); ++t) {
        const Tap tap = tap_of(a, sample, k, t);
        if (tap.weight != 0) total += T(tap.weight) * scores[tap.j];
    }
    total *= T(a.p.scale);
    static_cast<T*>(a.correlation)[i] = !point.valid ? T(0) : sample.finite ? total : not_a_number<T>();
}

template <class S>
void score(const Correlation& a, Stream stream) {
    if (a.p.metric.kind == SIMPLEMATCH_COSINE) {
        norms(a.p.target, a.norms, stream);
        norms(a.p.queries, a.query_norms, stream);
    }
    with_bool(walk_of(a.p.target).channels_last, [&](auto lanes) {
        launch(scores_kernel<S, decltype(lanes)::value>, a.p.target.size[0] * a.queries, kThreads, a, stream,
               "local_correlation");
    });
}

}  // namespace

Correlation plan_correlation(const CorrelationProblem& p, Workspace& workspace, bool backward) {
    Correlation a{};
    a.p = p;
    a.queries = queries_of(p);
    a.samples = samples_of(p);
    const int64_t extra = p.sampling.mode == SIMPLEMATCH_BILINEAR ? 1 : 0, batch = p.target.size[0];
    a.cells = is_given(p.offsets) ? a.samples * (1 + 3 * extra)
                                  : (2 * p.radius_y + 1 + extra) * (2 * p.radius_x + 1 + extra);
    const int64_t item = item_size(arithmetic_of(p.target.dtype)), entries = batch * a.queries * a.cells;
    a.scores = workspace.take(entries * item);
    if (p.metric.kind == SIMPLEMATCH_COSINE) {
        a.norms = workspace.take(batch * cells_of(p.target) * item);
        a.query_norms = workspace.take(batch * a.queries * item);
    }
    if (!backward) return a;
    a.weights = workspace.take(entries * item);
    a.cell = static_cast<int32_t*>(workspace.take(entries * int64_t(sizeof(int32_t))));
    return a;
}

void score_cells(const Correlation& a, Stream stream) {
    with_storage(a.p.target.dtype, [&](auto* type) { score<std::remove_pointer_t<decltype(type)>>(a, stream); });
}

int64_t workspace(const CorrelationProblem& p, const Device&) {
    Workspace workspace(nullptr);
    plan_correlation(p, workspace, false);
    return workspace.used();
}

void run(const CorrelationProblem& p, const CorrelationResult& result, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    Correlation a = plan_correlation(p, workspace, false);
    a.correlation = result.correlation;
    score_cells(a, stream);
    with_storage(p.target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(samples_kernel<Arithmetic<S>>, tiles_of(p.target.size[0] * a.queries * a.samples, kThreads), kThreads, a,
               stream, "local_correlation");
    });
}

}  // namespace simplematch::cuda
