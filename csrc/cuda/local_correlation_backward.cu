// The gradients of local_correlation, from g = dL/dout:
//
//     v[n, j]   = scale * sum_k weight_k(j) g[n, k]
//     dq_n      = (sum_j v f_j / D(f_j) - q_n / |q_n| sum_j v s) / D(q_n)
//     df_m      = (sum_n v q_n / D(q_n) - f_m / |f_m| sum_n v s) / D(f_m)
//     dcoords_n = scale * sum_k g[n, k] sum_j dweight_k(j) s[n, j]
//
// Bytes: J C of the target for each query, twice, most of them out of the nearest caches; C for each pair of a query and a
// cell that it reads, out of L2, for df; 12 N J of scores, weights and cells written and read.
#include "local_correlation.h"

#include "metric.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = kCorrelationThreads;
constexpr int kChannels = 4;  // of a thread, in the sum for a cell

template <class T>
__device__ T upstream_of(const Correlation& a, int64_t b, int64_t n, int64_t k) {
    const View& g = a.upstream;
    return static_cast<const T*>(g.data)[b * g.stride[0] + n * g.stride[1] + k * g.stride[2]];
}

// Thread = one cell of one query: its weight, NaN where that or its score isn't finite.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) weights_kernel(Correlation a) {
    const int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
    if (i >= a.p.target.size[0] * a.queries * a.cells) return;
    const int64_t row = i / a.cells, j = i % a.cells, b = row / a.queries, n = row % a.queries;
    const Point point = point_of(a, b, n);
    const int32_t m = point.valid ? cell_of(a, point, b, j) : -1;
    const int64_t rows = 2 * a.p.radius_y + 1, columns = 2 * a.p.radius_x + 1;
    T v = 0;
    for (int t = 0; m >= 0 && t < taps_of(a); ++t) {
        int64_t k = j;
        if (a.p.offsets.data != nullptr) {
            if (taps_of(a) == 4 && t != j % 4) continue;
            k = j / taps_of(a);
        } else if (taps_of(a) == 4) {
            const int64_t y = j / (columns + 1) - t / 2, x = j % (columns + 1) - t % 2;
            if (y < 0 || y >= rows || x < 0 || x >= columns) continue;
            k = y * columns + x;
        }
        const T weight = T(tap_of(a, sample_of(a, point, b, k), k, t).weight) * T(a.p.scale), g = upstream_of<T>(a, b, n, k);
        if (weight != 0 && g != 0) v += weight * g;
    }
    if (v != 0 && !(is_finite(v) && is_finite(static_cast<const T*>(a.scores)[i]))) v = not_a_number<T>();
    static_cast<T*>(a.weights)[i] = v;
    a.cell[i] = v == 0 ? -1 : m;
}

// From the sum of weighted other vectors to the gradient of x: (sum - x / |x| own) / D(x) for the cosine.
template <class S, class T = Arithmetic<S>>
__device__ T finish_gradient(T total, T own, S x, T norm, const Metric& metric) {
    if (metric.kind != SIMPLEMATCH_COSINE) return total;
    const T value = widen(x), unit = is_finite(value) ? value * inverse_norm(norm, metric) : T(0);
    return (total - (own == 0 ? T(0) : own * unit)) / unit_divisor(norm, metric);
}

// Block = one query.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) query_gradient_kernel(Correlation a) {
    using T = Arithmetic<S>;
    __shared__ T memory[kThreads / kWarp];
    const int64_t b = blockIdx.x / a.queries, n = blockIdx.x % a.queries, M = cells_in(a.p.target);
    const bool cosine = a.p.metric.kind == SIMPLEMATCH_COSINE;
    const T* const weights = static_cast<const T*>(a.weights) + blockIdx.x * a.cells;
    const int32_t* const cell = a.cell + blockIdx.x * a.cells;
    T own = 0;
    for (int64_t j = threadIdx.x; cosine && j < a.cells; j += kThreads)
        if (cell[j] >= 0) own += weights[j] * static_cast<const T*>(a.scores)[blockIdx.x * a.cells + j];
    own = sum_of_block<kThreads>(own, memory);
    const S* const q = vector_of<S>(a.p.queries, b, n);
    const T norm = cosine ? static_cast<const T*>(a.query_norms)[blockIdx.x] : T(1);
    S* const to = const_cast<S*>(vector_of<S>(a.gradients.queries, b, n));
    for (int64_t c = threadIdx.x; c < a.p.target.size[1]; c += kThreads) {
        T total = 0;
        for (int64_t j = 0; j < a.cells; ++j) {
            if (cell[j] < 0) continue;
            const T f = widen(vector_of<S>(a.p.target, b, cell[j])[c * a.p.target.stride[1]]);
            const T divisor = cosine ? unit_divisor(static_cast<const T*>(a.norms)[b * M + cell[j]], a.p.metric) : T(1);
            total += weights[j] / divisor * (is_finite(f) ? f : T(0));
        }
        const S value = q[c * a.p.queries.stride[1]];
        to[c * a.gradients.queries.stride[1]] = narrow<S>(finish_gradient(total, own, value, norm, a.p.metric));
    }
}

// The weight of cell m in query `row`, and its product with the score: a sum, because "border" reads a cell from several
// places, and offsets may meet. Returns whether there is any.
template <class T>
__device__ bool weight_of_cell(const Correlation& a, int64_t row, int32_t m, T& weight, T& with_score) {
    const T* const weights = static_cast<const T*>(a.weights) + row * a.cells;
    const T* const scores = static_cast<const T*>(a.scores) + row * a.cells;
    int64_t first = 0, last = a.cells;
    if (a.p.offsets.data == nullptr && a.p.sampling.padding == SIMPLEMATCH_ZEROS) {
        const int64_t columns = 2 * a.p.radius_x + 1 + taps_of(a) / 4, rows = 2 * a.p.radius_y + 1 + taps_of(a) / 4;
        const Point point = point_of(a, row / a.queries, row % a.queries);
        if (!point.finite) return false;
        const double y = double(m / a.p.target.size[3]) - whole(a, point.y) + double(a.p.radius_y);
        const double x = double(m % a.p.target.size[3]) - whole(a, point.x) + double(a.p.radius_x);
        if (!(y >= 0 && y < double(rows) && x >= 0 && x < double(columns))) return false;
        first = int64_t(y) * columns + int64_t(x);
        last = first + 1;
    }
    bool any = false;
    for (int64_t j = first; j < last; ++j) {
        if (a.cell[row * a.cells + j] != m) continue;
        weight += weights[j];
        with_score += weights[j] * scores[j];
        any = true;
    }
    return any;
}

// Block = one cell x kThreads * kChannels channels. Threads look for the queries that read it, kThreads at a time, list
// them in order, and sum their vectors.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) target_gradient_kernel(Correlation a) {
    using T = Arithmetic<S>;
    __shared__ T weight[kThreads];
    __shared__ int64_t query[kThreads];
    __shared__ int found_by[kThreads / kWarp];
    __shared__ T memory[kThreads / kWarp];
    const int64_t M = cells_in(a.p.target), C = a.p.target.size[1], tiles = tiles_of(C, kThreads * kChannels);
    const int64_t c0 = blockIdx.x % tiles * kThreads * kChannels + threadIdx.x, b = blockIdx.x / tiles / M;
    const int32_t m = int32_t(blockIdx.x / tiles % M);
    const bool cosine = a.p.metric.kind == SIMPLEMATCH_COSINE;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    T total[kChannels] = {}, own = 0;
    for (int64_t n0 = 0; n0 < a.queries; n0 += kThreads) {
        const int64_t row = b * a.queries + n0 + threadIdx.x;
        T mine = 0, with_score = 0;
        const bool reads = n0 + threadIdx.x < a.queries && weight_of_cell(a, row, m, mine, with_score);
        own += with_score;
        const unsigned lanes = __ballot_sync(kAllLanes, reads ? 1 : 0);
        int before = 0, count = 0;
        for (int i = 0; i < kWarp; ++i) {
            before += i < lane && (lanes >> i & 1u) ? 1 : 0;
            count += lanes >> i & 1u ? 1 : 0;
        }
        if (lane == 0) found_by[warp] = count;
        __syncthreads();
        int all = 0;
        for (int w = 0; w < kThreads / kWarp; ++w) {
            before += w < warp ? found_by[w] : 0;
            all += found_by[w];
        }
        if (reads) {
            const T divisor = cosine ? unit_divisor(static_cast<const T*>(a.query_norms)[row], a.p.metric) : T(1);
            weight[before] = mine / divisor;
            query[before] = n0 + threadIdx.x;
        }
        __syncthreads();
        for (int i = 0; i < all; ++i) {
            const S* const q = vector_of<S>(a.p.queries, b, query[i]);
            for (int k = 0; k < kChannels; ++k) {
                const int64_t c = c0 + k * kThreads;
                if (c >= C) continue;
                const T value = widen(q[c * a.p.queries.stride[1]]);
                total[k] += weight[i] * (is_finite(value) ? value : T(0));
            }
        }
        __syncthreads();
    }
    own = sum_of_block<kThreads>(own, memory);
    const T norm = cosine ? static_cast<const T*>(a.norms)[b * M + m] : T(1);
    const S* const f = vector_of<S>(a.p.target, b, m);
    S* const to = const_cast<S*>(vector_of<S>(a.gradients.target, b, m));
    for (int k = 0; k < kChannels; ++k) {
        const int64_t c = c0 + k * kThreads;
        if (c >= C) continue;
        const S value = f[c * a.p.target.stride[1]];
        to[c * a.gradients.target.stride[1]] = narrow<S>(finish_gradient(total[k], own, value, norm, a.p.metric));
    }
}

// Block = one query.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) coords_gradient_kernel(Correlation a) {
    __shared__ double memory[kThreads / kWarp];
    const int64_t b = blockIdx.x / a.queries, n = blockIdx.x % a.queries;
    const Point point = point_of(a, b, n);
    const T* const scores = static_cast<const T*>(a.scores) + blockIdx.x * a.cells;
    double x = 0, y = 0;
    for (int64_t k = threadIdx.x; point.valid && point.finite && k < a.samples; k += kThreads) {
        const Point sample = sample_of(a, point, b, k);
        const double g = a.p.scale * double(upstream_of<T>(a, b, n, k));
        for (int t = 0; sample.finite && g != 0 && t < taps_of(a); ++t) {
            const Tap tap = tap_of(a, sample, k, t);
            const double with_score = g * double(scores[tap.j]);
            if (tap.slope_x != 0) x += tap.slope_x * with_score;
            if (tap.slope_y != 0) y += tap.slope_y * with_score;
        }
    }
    x = sum_of_block<kThreads>(x, memory);
    y = sum_of_block<kThreads>(y, memory);
    if (threadIdx.x > 0) return;
    const View& to = a.gradients.coords;
    const int64_t at = b * to.stride[0] + n * to.stride[1];
    write_element(to, at, x * rate(a.p.sampling.to_cells_x));
    write_element(to, at + to.stride[2], y * rate(a.p.sampling.to_cells_y));
}

}  // namespace

int64_t workspace_backward(const CorrelationProblem& p, const CorrelationGradients&, const Device&) {
    Workspace workspace(nullptr);
    plan_correlation(p, workspace, true);
    return workspace.used();
}

void run_backward(const CorrelationProblem& p, const CorrelationUpstream& upstream, const CorrelationGradients& gradients,
                  const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    Correlation a = plan_correlation(p, workspace, true);
    a.upstream = upstream.correlation;
    a.gradients = gradients;
    const int64_t batch = p.target.size[0], rows = batch * a.queries;
    const char* const name = "local_correlation_backward";
    score_cells(a, stream);
    with_storage(p.target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        using T = Arithmetic<S>;
        if (is_given(gradients.coords)) launch(coords_gradient_kernel<T>, rows, kThreads, a, stream, name);
        if (!is_given(gradients.queries) && !is_given(gradients.target)) return;
        launch(weights_kernel<T>, tiles_of(rows * a.cells, kThreads), kThreads, a, stream, name);
        if (is_given(gradients.queries)) launch(query_gradient_kernel<S>, rows, kThreads, a, stream, name);
        if (!is_given(gradients.target)) return;
        const int64_t blocks = batch * cells_of(p.target) * tiles_of(p.target.size[1], kThreads * kChannels);
        launch(target_gradient_kernel<S>, blocks, kThreads, a, stream, name);
    });
}

}  // namespace simplematch::cuda
