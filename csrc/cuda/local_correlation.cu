// local_correlation: out[n, k] = scale * sum over the cells of sample k of weight s, and its gradients.
//
//     v[n, j]   = scale * sum_k weight_k(j) g[n, k]
//     dq_n      = (sum_j v f_j / D(f_j) - q_n / |q_n| sum_j v s) / D(q_n)
//     df_m      = (sum_n v q_n / D(q_n) - f_m / |f_m| sum_n v s) / D(f_m)
//     dcoords_n = scale * sum_k g[n, k] sum_j dweight_k(j) s[n, j]
//
// The J cells of a query are those of its window's box, row by row, (2 ry + 2) (2 rx + 2) of them, or with offsets the four
// cells of each sample in turn: each is scored once, and samples are blended from scores. Bytes: J C of the target for each
// query, most of them out of the nearest caches, twice in the backward; C for each pair of a query and a cell that it
// reads, out of L2, for df; and 12 N J of scores, weights and cells written and read.
#include "coordinates.h"
#include "driver.h"
#include "metric.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kChannels = 4;  // of a thread, in the sum for a cell

struct Correlation {
    CorrelationProblem p;
    int64_t queries, samples, cells;       // N, K, J
    void *scores, *norms, *query_norms;    // (B, N, J), (B, M), (B, N)
    void* weights;                         // (B, N, J)
    int32_t* cell;                         // (B, N, J): flat, -1 where v is 0
    void* correlation;                     // (B, N, K)
    View upstream;
    CorrelationGradients gradients;
};

struct Point {
    double x, y;
    bool valid, finite;
};

__device__ double whole(const Correlation& a, double x) {
    return a.p.sampling.mode == SIMPLEMATCH_BILINEAR ? floor(x) : rint(x);
}

__device__ Point point_of(const Correlation& a, int64_t b, int64_t n) {
    const View& c = a.p.coords;
    const int64_t at = b * c.stride[0] + n * c.stride[1];
    const double x = apply(a.p.sampling.to_cells_x, read_element(c, at));
    const double y = apply(a.p.sampling.to_cells_y, read_element(c, at + c.stride[2]));
    return {x, y, is_valid(a.p.rows, b, n, a.queries), is_finite(x) && is_finite(y)};
}

// The place of sample k with offsets; without them that of the query, whose samples all have its way from cell to cell.
__device__ Point sample_of(const Correlation& a, Point point, int64_t b, int64_t k) {
    const View& o = a.p.offsets;
    if (o.data == nullptr) return point;
    const int64_t at = b * o.stride[0] + k * o.stride[1];
    point.x += read_element(o, at);
    point.y += read_element(o, at + o.stride[2]);
    point.finite = point.finite && is_finite(point.x) && is_finite(point.y);
    return point;
}

// Cell j of a query, or -1 where the map has none.
__device__ int32_t cell_of(const Correlation& a, const Point& point, int64_t b, int64_t j) {
    const int extra = a.p.sampling.mode == SIMPLEMATCH_BILINEAR ? 1 : 0;
    const int64_t height = a.p.target.size[2], width = a.p.target.size[3];
    double x, y;
    if (a.p.offsets.data == nullptr) {
        const int64_t columns = 2 * a.p.radius_x + 1 + extra;
        x = whole(a, point.x) + double(j % columns - a.p.radius_x);
        y = whole(a, point.y) + double(j / columns - a.p.radius_y);
        if (!point.finite) return -1;
    } else {
        const int taps = 1 + 3 * extra;
        const Point sample = sample_of(a, point, b, j / taps);
        if (!sample.finite) return -1;
        x = whole(a, sample.x) + double(j % taps % 2);
        y = whole(a, sample.y) + double(j % taps / 2);
    }
    if (a.p.sampling.padding == SIMPLEMATCH_BORDER) {
        x = clamped(x, width), y = clamped(y, height);
    } else if (!(x >= 0 && x < double(width) && y >= 0 && y < double(height))) {
        return -1;
    }
    return int32_t(int64_t(y) * width + int64_t(x));
}

// Corner i of sample k: its index among the cells of the query, its weight and its slopes.
struct Tap {
    int64_t j;
    double weight, slope_x, slope_y;
};

__device__ int taps_of(const Correlation& a) { return a.p.sampling.mode == SIMPLEMATCH_BILINEAR ? 4 : 1; }

__device__ Tap tap_of(const Correlation& a, const Point& sample, int64_t k, int i) {
    if (taps_of(a) == 1) return {k, 1, 0, 0};
    const double right = sample.x - floor(sample.x), below = sample.y - floor(sample.y);
    const double weight_x = i % 2 == 0 ? 1 - right : right, weight_y = i / 2 == 0 ? 1 - below : below;
    const int64_t columns = 2 * a.p.radius_x + 1;
    const int64_t j = a.p.offsets.data == nullptr ? (k / columns + i / 2) * (columns + 1) + k % columns + i % 2 : 4 * k + i;
    return {j, weight_x * weight_y, i % 2 == 0 ? -weight_y : weight_y, i / 2 == 0 ? -weight_x : weight_x};
}

template <class S>
__device__ const S* vector_of(const View& map, int64_t b, int64_t m) {
    return static_cast<const S*>(map.data) + b * map.stride[0] + m / map.size[3] * map.stride[2] +
           m % map.size[3] * map.stride[3];
}

__device__ int64_t cells_in(const View& map) { return map.size[2] * map.size[3]; }

struct Norms {
    View map;
    void* norms;
};

// Euclidean norms of the cells of a map, in float64: a warp takes one.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) norms_kernel(Norms a) {
    const int64_t cells = a.map.size[2] * a.map.size[3];
    const int64_t i = blockIdx.x * int64_t(kThreads / kWarp) + threadIdx.x / kWarp;
    if (i >= a.map.size[0] * cells) return;
    const S* const vector = vector_of<S>(a.map, i / cells, i % cells);
    double square = 0;
    for (int64_t c = threadIdx.x % kWarp; c < a.map.size[1]; c += kWarp) {
        const double x = double(widen(vector[c * a.map.stride[1]]));
        square += x * x;
    }
    square = sum_of_warp(square);
    if (threadIdx.x % kWarp == 0) static_cast<Arithmetic<S>*>(a.norms)[i] = Arithmetic<S>(sqrt(square));
}

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
        to[c * a.gradients.queries.stride[1]] = narrow<S>(finish_gradient(total, own, q[c * a.p.queries.stride[1]], norm, a.p.metric));
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
        if (c < C)
            to[c * a.gradients.target.stride[1]] = narrow<S>(finish_gradient(total[k], own, f[c * a.p.target.stride[1]], norm, a.p.metric));
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

Correlation plan(const CorrelationProblem& p, Workspace& workspace, bool backward) {
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

template <class S>
void score(const Correlation& a, Stream stream) {
    constexpr int64_t warps = kThreads / kWarp;
    const int64_t batch = a.p.target.size[0];
    if (a.p.metric.kind == SIMPLEMATCH_COSINE) {
        launch(norms_kernel<S>, tiles_of(batch * cells_of(a.p.target), warps), kThreads, Norms{a.p.target, a.norms}, stream,
               "local_correlation");
        launch(norms_kernel<S>, tiles_of(batch * a.queries, warps), kThreads, Norms{a.p.queries, a.query_norms}, stream,
               "local_correlation");
    }
    with_bool(walk_of(a.p.target).channels_last, [&](auto lanes) {
        launch(scores_kernel<S, decltype(lanes)::value>, batch * a.queries, kThreads, a, stream, "local_correlation");
    });
}

}  // namespace

int64_t workspace(const CorrelationProblem& p, const Device&) {
    Workspace workspace(nullptr);
    plan(p, workspace, false);
    return workspace.used();
}

int64_t workspace_backward(const CorrelationProblem& p, const CorrelationGradients&, const Device&) {
    Workspace workspace(nullptr);
    plan(p, workspace, true);
    return workspace.used();
}

void run(const CorrelationProblem& p, const CorrelationResult& result, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    Correlation a = plan(p, workspace, false);
    a.correlation = result.correlation;
    with_storage(p.target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        score<S>(a, stream);
        launch(samples_kernel<Arithmetic<S>>, tiles_of(p.target.size[0] * a.queries * a.samples, kThreads), kThreads, a,
               stream, "local_correlation");
    });
}

void run_backward(const CorrelationProblem& p, const CorrelationUpstream& upstream, const CorrelationGradients& gradients,
                  const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    Correlation a = plan(p, workspace, true);
    a.upstream = upstream.correlation;
    a.gradients = gradients;
    const int64_t batch = p.target.size[0], rows = batch * a.queries;
    const char* const name = "local_correlation_backward";
    with_storage(p.target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        using T = Arithmetic<S>;
        score<S>(a, stream);
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
