// localize_backward: the gradient of the scores in every window, and the queries for the two steps that follow.
//
//     ds[m] = weight[m] P[m] / T a[m] + h [m == peak]          a[m] = <g, (x_m, y_m) - out> + l
//     dT    = -1 / T^2 sum_m P[m] s'[m] a[m]                   (sum_m P a = l, so s' may count from its largest value)
//
// with g, h, l the gradients that arrive at keypoints, score and log-sum-exp. A row to which only zeros arrive passes on
// zeros; else a lost row (see SoftArgmax), or one to which a number arrives that is not finite, passes on NaN to its
// temperature and to every cell that its softmax reads in the window. Of the queries: their QueryTerms, 0 in rows without
// a match and for numbers that are not finite, whose ds is 0 or NaN.
//
// The loss of a cross entropy is the log-sum-exp less sum_m G[m] s[m] / T, so its gradient is that of the log-sum-exp with
// P - G for P. A row whose loss is not finite is lost.
//
// Block = one query. Bytes: B N (rows x columns) numbers read and written, B N C sampled and written. At the paper's shape
// 1.9 MB of scores and 0.7 MB of queries each way.
#include "launch.h"
#include "metric.h"
#include "truth.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;

struct Arguments {
    LocalizeBackward step;
    Block block;
    int32_t rows, columns;  // of ds: the box of the window, or the map
};

__device__ inline double arriving(const View& upstream, int64_t b, int64_t n, int64_t i) {
    if (upstream.data == nullptr) return 0;
    return read_element(upstream, b * upstream.stride[0] + n * upstream.stride[1] + i * upstream.stride[2]);
}

// What arrives at one row, the keypoint's gradient per cell.
template <class T>
struct Arriving {
    T x, y, score, log_sum_exp;
    bool any, finite;  // not all zero; all finite

    __device__ Arriving(const LocalizeBackward& step, int64_t b, int64_t n) {
        const double g_x = arriving(step.upstream.keypoints, b, n, 0), g_y = arriving(step.upstream.keypoints, b, n, 1);
        const double h = arriving(step.upstream.score, b, n, 0), l = arriving(step.upstream.log_sum_exp, b, n, 0);
        const AffineMaps from_cells = maps_from_cells(step.localization, b, step.height, step.width);
        x = T(g_x * rate(from_cells.x)), y = T(g_y * rate(from_cells.y));
        score = T(h), log_sum_exp = T(l);
        any = g_x != 0 || g_y != 0 || h != 0 || l != 0;
        finite = is_finite(g_x) && is_finite(g_y) && is_finite(h) && is_finite(l);
    }
};

template <class T>
struct Sums {
    T ds = 0, ds_score = 0;

    __device__ void add(T d, T score) {
        if (d != 0) ds += d, ds_score += d * score;
    }
};

// Where ds is given: its sums over the map, NaN where it is not finite or moves a score that is not.
template <class S, class T = Arithmetic<S>>
__device__ Sums<T> sum_given(const LocalizeBackward& step, int64_t b, int64_t n) {
    Sums<T> sums;
    const S* const scores = static_cast<const S*>(step.scores.data) + b * step.scores.image + n * step.scores.query;
    const S* const given = static_cast<const S*>(step.ds.data) + b * step.ds.image + n * step.ds.query;
    const int32_t width = int32_t(step.width), cells = int32_t(step.height) * width;
    for (int32_t m = threadIdx.x; m < cells; m += kThreads) {
        const int32_t y = m / width, x = m % width;
        const T ds = widen(given[y * step.ds.row + x * step.ds.column]);
        const T score = widen(scores[y * step.scores.row + x * step.scores.column]);
        sums.add(ds == 0 || (is_finite(ds) && is_finite(score)) ? ds : not_a_number<T>(), score);
    }
    return sums;
}

// ds of one row, and the gradient of its temperature.
template <class S, class T = Arithmetic<S>>
__device__ Sums<T> differentiate(const Arguments& a, int64_t b, int64_t local, int64_t n, int32_t peak, void* memory) {
    const LocalizeBackward& step = a.step;
    const bool found = peak >= 0;
    const int32_t height = int32_t(step.height), width = int32_t(step.width), at = found ? peak : 0;
    const Window& window = step.localization.window;
    const Box box = window_box(window, at, height, width);
    const CellValues<const S> values{static_cast<const S*>(step.scores.data), step.scores.image, step.scores.query,
                                     step.scores.row, step.scores.column, step.scores.whole_map};
    const Row<S> row{values.origin(b, local, box), step.scores.row, step.scores.column,
                     step.target_mask == nullptr ? nullptr : step.target_mask + b * step.height * step.width,
                     height, width, is_given(step.truth.points) ? -1 : at / width, at % width, box, window,
                     temperature_of<T>(step.temperature, step.localization, b, n)};
    const Arriving<T> g(step, b, n);
    const bool passes = found && g.any, entropy = is_given(step.truth.points);
    SoftArgmax<T> s{};
    Gaussian truth{};
    if (passes) s = soft_argmax<kThreads>(row, memory);
    if (passes && entropy) truth = gaussian_of<kThreads>(step.truth, b, n, row.mask, height, width, memory);
    const bool lost = s.lost || !g.finite || (entropy && !is_finite(static_cast<const T*>(step.losses)[b * a.block.total + n]));

    Sums<T> sums;
    T moment = 0;
    S* out = static_cast<S*>(step.ds.data);
    if (out != nullptr) out += b * step.ds.image + local * step.ds.query;
    const int32_t top = step.ds.whole_map ? 0 : box.top, left = step.ds.whole_map ? 0 : box.left;
    for (int32_t i = threadIdx.x; i < a.rows * a.columns; i += kThreads) {
        const int32_t y = top + i / a.columns, x = left + i % a.columns;
        const bool inside = passes && y >= box.top && y < box.bottom && x >= box.left && x < box.right;
        T ds = 0;
        if (inside && row.supports(y, x)) {
            const T weighted = row.weighted(y, x);
            T p = s.exponential(weighted, row.temperature) / s.total;
            if (entropy && truth.covers(y, x)) p -= T(truth.weight(y, x));
            const T moved = g.x * (T(x - row.peak_x) - s.mean_x) + g.y * (T(y - row.peak_y) - s.mean_y) + g.log_sum_exp;
            ds = row.weight(y, x) * p / row.temperature * moved;
            if (x == row.peak_x && y == row.peak_y) ds += g.score;
            if (lost) ds = not_a_number<T>();
            if (p != 0) moment += p * (weighted - s.largest) * moved;
            sums.add(ds, row.score(y, x));
        }
        if (out != nullptr) out[(y - top) * step.ds.row + (x - left) * step.ds.column] = narrow<S>(ds);
    }
    if (step.temperature_gradient.data == nullptr) return sums;
    moment = sum_of_block<kThreads>(moment, memory);
    if (threadIdx.x == 0) {
        const T p = s.outside_count > 0 ? s.exponential(s.outside_value, row.temperature) / s.total : T(0);
        const T moved = g.x * (s.outside_x - s.outside_count * s.mean_x) + g.y * (s.outside_y - s.outside_count * s.mean_y) +
                        g.log_sum_exp * s.outside_count;
        if (p != 0) moment += p * (s.outside_value - s.largest) * moved;
        const T base = entropy ? T(0) : s.largest;  // sum_m (P - G) = 0
        T gradient = -(moment + base * g.log_sum_exp) / row.temperature / row.temperature;
        if (lost) gradient = not_a_number<T>();
        const View& to = step.temperature_gradient;
        write_element(to, b * to.stride[0] + n * to.stride[1], passes ? double(gradient) : 0);
    }
    return sums;
}

// The QueryTerms of a query, for the gradients of the similarity. Its norm is summed in double, which no float overflows.
template <class T, class Q>
__device__ void write_terms(const LocalizeBackward& step, int64_t b, int64_t n, int64_t slot, bool found, Sums<T> sums,
                            void* memory) {
    const int64_t C = step.source.size[1];
    T* const vector = static_cast<T*>(step.terms.vectors) + slot * C;
    Sample sample{};
    if (found) sample = sample_query(step.source, step.keypoints, step.sampling, b, n);
    double square = 0;
    for (int64_t c = threadIdx.x; c < C; c += kThreads) {
        const T q = found ? T(sampled<Q>(step.source, sample, b, c)) : T(0);
        square += double(q) * double(q);
        vector[c] = is_finite(q) ? q : T(0);
    }
    const T norm = T(sqrt(sum_of_block<kThreads>(square, memory)));
    const T divisor = unit_divisor(norm, step.metric);
    if (divisor != 1)
        for (int64_t c = threadIdx.x; c < C; c += kThreads) vector[c] /= divisor;
    const bool cosine = step.metric.kind == SIMPLEMATCH_COSINE;
    const T total = sum_of_block<kThreads>(cosine ? sums.ds_score : sums.ds, memory);
    if (threadIdx.x > 0) return;
    const T inverse = inverse_norm(norm, step.metric), sum = cosine ? total : total / sum_divisor(norm, step.metric);
    static_cast<T*>(step.terms.divisor)[slot] = sum_divisor(norm, step.metric);
    static_cast<T*>(step.terms.own)[slot] = total != total ? total : inverse == 0 ? T(0) : inverse * sum;
}

// S: of the scores, Q: of the source.
template <class S, class Q>
__global__ void __launch_bounds__(kThreads, 1) localize_backward_kernel(Arguments a) {
    using T = Arithmetic<S>;
    __shared__ Best memory[kThreads / kWarp];
    const int64_t b = blockIdx.x / a.block.count, local = blockIdx.x % a.block.count, n = a.block.first + local;
    bool found = true;
    Sums<T> sums;
    if (a.step.given) {
        sums = sum_given<S>(a.step, b, local);
    } else {
        const int64_t peak = a.step.peak[b * a.block.total + n];
        found = peak >= 0 && peak < a.step.height * a.step.width;
        sums = differentiate<S>(a, b, local, n, int32_t(peak), memory);
    }
    if (a.step.terms.vectors != nullptr)
        write_terms<T, Q>(a.step, b, n, b * a.block.total + n, found, sums, memory);
}

}  // namespace

void localize_backward(const LocalizeBackward& step, const Block& block, Stream stream) {
    const Window& window = step.localization.window;
    const Arguments arguments{step, block, int32_t(step.ds.whole_map ? step.height : box_rows(window, step.height)),
                              int32_t(step.ds.whole_map ? step.width : box_columns(window, step.width))};
    const auto run = [&](auto kernel) {
        launch(kernel, block.images * block.count, kThreads, arguments, stream, "localize_backward");
    };
    if (step.terms.vectors == nullptr)
        return with_storage(step.dtype, [&](auto* type) {
            using S = std::remove_pointer_t<decltype(type)>;
            run(localize_backward_kernel<S, S>);
        });
    with_storage(step.source.dtype, [&](auto* type) {
        using Q = std::remove_pointer_t<decltype(type)>;
        run(localize_backward_kernel<Arithmetic<Q>, Q>);
    });
}

}  // namespace simplematch::cuda
