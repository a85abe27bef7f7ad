// localize_backward: the gradient of the scores in every window, and the queries for the two steps that follow.
//
//     ds[m] = weight[m] P[m] / T a[m] + h [m == peak]          a[m] = <g, (x_m, y_m) - out> + l
//     dT    = -1 / T^2 sum_m P[m] s'[m] a[m]                   (sum_m P a = l, so s' may count from its largest value)
//
// with g, h, l the gradients that arrive at keypoints, score and log-sum-exp. Of the queries: their vectors, 0 in rows
// without a match, and their Factors (l2: twice the first), the second times sum_m ds s (l2: sum_m ds).
//
// Block = one query. Bytes: B N (rows x columns) numbers read and written, B N C sampled and written. At the paper's shape
// 1.9 MB of scores and 0.7 MB of queries each way.
#include "launch.h"
#include "metric.h"

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

template <class T>
struct Sums {
    T ds, ds_score;
};

// Where ds is given: its sums over the map.
template <class S, class T = Arithmetic<S>>
__device__ Sums<T> sum_given(const LocalizeBackward& step, int64_t b, int64_t n) {
    Sums<T> sums{0, 0};
    const S* const scores = static_cast<const S*>(step.scores.data) + b * step.scores.image + n * step.scores.query;
    const S* const given = static_cast<const S*>(step.ds.data) + b * step.ds.image + n * step.ds.query;
    const int32_t width = int32_t(step.width), cells = int32_t(step.height) * width;
    for (int32_t m = threadIdx.x; m < cells; m += kThreads) {
        const int32_t y = m / width, x = m % width;
        const T ds = widen(given[y * step.ds.row + x * step.ds.column]);
        sums.ds += ds;
        sums.ds_score += ds * widen(scores[y * step.scores.row + x * step.scores.column]);
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
                     height, width, at / width, at % width, box, window,
                     temperature_of<T>(step.temperature, step.localization, b, n)};
    SoftArgmax<T> s{};
    if (found) s = soft_argmax<kThreads>(row, memory);
    const T g_x = T(arriving(step.upstream.keypoints, b, n, 0) * rate(step.localization.from_cells_x));
    const T g_y = T(arriving(step.upstream.keypoints, b, n, 1) * rate(step.localization.from_cells_y));
    const T h = T(arriving(step.upstream.score, b, n, 0)), l = T(arriving(step.upstream.log_sum_exp, b, n, 0));

    Sums<T> sums{0, 0};
    T moment = 0;
    S* out = static_cast<S*>(step.ds.data);
    if (out != nullptr) out += b * step.ds.image + local * step.ds.query;
    const int32_t top = step.ds.whole_map ? 0 : box.top, left = step.ds.whole_map ? 0 : box.left;
    for (int32_t i = threadIdx.x; i < a.rows * a.columns; i += kThreads) {
        const int32_t y = top + i / a.columns, x = left + i % a.columns;
        const bool inside = found && y >= box.top && y < box.bottom && x >= box.left && x < box.right;
        T ds = 0;
        if (inside && row.supports(y, x)) {
            const T score = row.score(y, x), weight = row.weight(y, x), from_largest = score * weight - s.largest;
            const T p = s.probability(from_largest, row.temperature);
            const T moved = g_x * (T(x - row.peak_x) - s.mean_x) + g_y * (T(y - row.peak_y) - s.mean_y) + l;
            ds = weight * p / row.temperature * moved;
            if (x == row.peak_x && y == row.peak_y) ds += h;
            sums.ds += ds;
            sums.ds_score += ds * score;
            if (p != 0) moment += p * from_largest * moved;
        }
        if (out != nullptr) out[(y - top) * step.ds.row + (x - left) * step.ds.column] = narrow<S>(ds);
    }
    if (step.temperature_gradient.data == nullptr) return sums;
    moment = sum_of_block<kThreads>(moment, memory);
    if (threadIdx.x == 0) {
        const T outside = s.outside_value - s.largest;
        const T p = found && s.outside_count > 0 ? s.probability(outside, row.temperature) : T(0);
        const T moved = g_x * (s.outside_x - s.outside_count * s.mean_x) + g_y * (s.outside_y - s.outside_count * s.mean_y) +
                        l * s.outside_count;
        if (p != 0) moment += p * outside * moved;
        const T gradient = -(moment + s.largest * l) / (row.temperature * row.temperature);
        const View& to = step.temperature_gradient;
        write_element(to, b * to.stride[0] + n * to.stride[1], found ? double(gradient) : 0);
    }
    return sums;
}

// The vector of a query, for the gradients of the similarity. One that is not finite has NaN in all of its window, and
// must not spoil the cells around it: it counts as 0, unless ds was given.
template <class T, class Q>
__device__ void write_terms(const LocalizeBackward& step, int64_t b, int64_t n, int64_t slot, bool found, Sums<T> sums,
                            void* memory) {
    const int64_t C = step.source.size[1];
    T* const vector = static_cast<T*>(step.terms.vectors) + slot * C;
    Sample sample{};
    if (found) sample = sample_query(step.source, step.keypoints, step.sampling, b, n);
    T square = 0;
    for (int64_t c = threadIdx.x; c < C; c += kThreads) {
        const T q = found ? T(sampled<Q>(step.source, sample, b, c)) : T(0);
        square += q * q;
        vector[c] = step.given || is_finite(q) ? q : T(0);
    }
    const T norm = sqrt(sum_of_block<kThreads>(square, memory));
    const T total = sum_of_block<kThreads>(step.metric.kind == MetricKind::l2 ? sums.ds : sums.ds_score, memory);
    if (threadIdx.x > 0) return;
    const Factors<T> factors = factors_of(norm, step.metric);
    const T scale = step.metric.kind == MetricKind::l2 ? 2 * factors.scale : factors.scale;
    static_cast<T*>(step.terms.scale)[slot] = found ? scale : T(0);
    static_cast<T*>(step.terms.second)[slot] = found && factors.second != 0 ? factors.second * total : T(0);
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
    const Arguments arguments{step, block,
                              int32_t(step.ds.whole_map ? step.height : std::min(window.height, step.height)),
                              int32_t(step.ds.whole_map ? step.width : std::min(window.width, step.width))};
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
