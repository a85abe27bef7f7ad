// localize_backward: the gradient of the scores in every window, and the queries for the two steps that follow.
//
//     ds[m] = weight[m] P[m] / T a[m] + h [m == peak]          a[m] = <g, c_m - out> + l + <G, (c_m - out) (c_m - out)^T - C>
//     dT    = -1 / T^2 sum_m P[m] s'[m] a[m]                   (sum_m P a = l, so s' may count from its largest value)
//
// with g, h, l, G the gradients that arrive at keypoints, score, log-sum-exp and the covariance C, c_m = (x_m, y_m). A row
// to which only zeros arrive passes on zeros; else a lost row (see SoftArgmax), or one to which a number arrives that is
// not finite, passes on NaN to its temperature and to every cell that its softmax reads in the window. Of the queries:
// their QueryTerms, 0 in rows without a match and for numbers that are not finite, whose ds is 0 or NaN.
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

__device__ inline double arriving(const View& upstream, int64_t b, int64_t n, int64_t i, int64_t j = 0) {
    if (upstream.data == nullptr) return 0;
    return read_element(upstream, b * upstream.stride[0] + n * upstream.stride[1] + i * upstream.stride[2] +
                                      j * upstream.stride[3]);
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

// What arrives at the covariance C of one row: <G, D> = xx D.xx + xy D.xy + yy D.yy in cells, and <G, C>.
template <class T>
struct ArrivingSpread {
    T xx = 0, xy = 0, yy = 0, product = 0;
    bool any = false, finite = true;

    __device__ ArrivingSpread(const LocalizeBackward& step, int64_t b, int64_t n, int64_t total) {
        const AffineMaps from_cells = maps_from_cells(step.localization, b, step.height, step.width);
        const double rate_x = rate(from_cells.x), rate_y = rate(from_cells.y);
        const T* const covariance = static_cast<const T*>(step.covariance) + 4 * (b * total + n);
        double sums[3] = {0, 0, 0}, found = 0;
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 2; ++j) {
                const double g = arriving(step.upstream.covariance, b, n, i, j);
                sums[i + j] += g * (i == 0 ? rate_x : rate_y) * (j == 0 ? rate_x : rate_y);
                found += g * double(covariance[2 * i + j]);
                any = any || g != 0;
                finite = finite && is_finite(g);
            }
        xx = T(sums[0]), xy = T(sums[1]), yy = T(sums[2]), product = T(found);
    }

    __device__ T moved(T dx, T dy) const { return xx * dx * dx + xy * dx * dy + yy * dy * dy - product; }
};

struct NoSpread {
    static constexpr bool any = false, finite = true;
    __device__ NoSpread(const LocalizeBackward&, int64_t, int64_t, int64_t) {}
};

// The part of a thread in the sum of `moved` over the cells outside the window.
template <class S, class T = Arithmetic<S>>
__device__ T moved_outside(const Row<S>& row, const SoftArgmax<T>& s, const ArrivingSpread<T>& spread) {
    T sum = 0;
    for (int32_t m = threadIdx.x; m < row.height * row.width; m += kThreads) {
        const int32_t y = m / row.width, x = m % row.width;
        if (row.is_outside(y, x)) sum += spread.moved(T(x - row.peak_x) - s.mean_x, T(y - row.peak_y) - s.mean_y);
    }
    return sum;
}

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
template <class S, bool spreads, class T = Arithmetic<S>>
__device__ Sums<T> differentiate(const Arguments& a, int64_t b, int64_t local, int64_t n, int32_t peak, void* memory) {
    const LocalizeBackward& step = a.step;
    const bool found = peak >= 0;
    const int32_t height = int32_t(step.height), width = int32_t(step.width), at = found ? peak : 0;
    const Window& window = step.localization.window;
    const Box box = window_box(window, at, height, width);
    const CellValues<const S> values{static_cast<const S*>(step.scores.data), step.scores.image, step.scores.query,
                                     step.scores.row, step.scores.column, step.scores.whole_map};
    const Row<S> row{values.origin(b, local, box), step.scores.row, step.scores.column,
                     step.masks.of(b, n),
                     height, width, is_given(step.truth.points) ? -1 : at / width, at % width, box, window,
                     temperature_of<T>(step.temperature, step.localization, b, n)};
    const Arriving<T> g(step, b, n);
    const bool entropy = is_given(step.truth.points);
    const std::conditional_t<spreads, ArrivingSpread<T>, NoSpread> spread(step, b, n, a.block.total);
    const bool passes = found && (g.any || spread.any);
    SoftArgmax<T> s{};
    Gaussian truth{};
    if (passes) s = soft_argmax<kThreads>(row, memory);
    if (passes && entropy) truth = gaussian_of<kThreads>(step.truth, b, n, row.mask, height, width, memory);
    const auto lost_loss = [&] { return !is_finite(static_cast<const T*>(step.losses)[b * a.block.total + n]); };
    const bool lost = s.lost || !g.finite || !spread.finite || (entropy && lost_loss());

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
            const T dx = T(x - row.peak_x) - s.mean_x, dy = T(y - row.peak_y) - s.mean_y;
            T moved = g.x * dx + g.y * dy + g.log_sum_exp;
            if constexpr (spreads) moved += spread.moved(dx, dy);
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
    T outside_moved = 0;
    if constexpr (spreads)
        if (s.outside_count > 0) outside_moved = sum_of_block<kThreads>(moved_outside(row, s, spread), memory);
    if (threadIdx.x == 0) {
        const T p = s.outside_count > 0 ? s.exponential(s.outside_value, row.temperature) / s.total : T(0);
        T moved = g.x * (s.outside_x - s.outside_count * s.mean_x) + g.y * (s.outside_y - s.outside_count * s.mean_y) +
                  g.log_sum_exp * s.outside_count;
        if constexpr (spreads) moved += outside_moved;
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

// S: of the scores, Q: of the source. `spreads`: a gradient arrives at the covariance.
template <class S, class Q, bool spreads>
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
        sums = differentiate<S, spreads>(a, b, local, n, int32_t(peak), memory);
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
            with_bool(is_given(step.upstream.covariance), [&](auto spreads) { run(localize_backward_kernel<S, S, spreads>); });
        });
    with_storage(step.source.dtype, [&](auto* type) {
        using Q = std::remove_pointer_t<decltype(type)>;
        with_bool(is_given(step.upstream.covariance),
                  [&](auto spreads) { run(localize_backward_kernel<Arithmetic<Q>, Q, spreads>); });
    });
}

}  // namespace simplematch::cuda
