// localize_upsampled: the kernels around `localize`, by blocks of queries whose fine scores fit the score budget.
//
// A fine cell j of an axis of F fine and f coarse cells lies at t_j / 2F, t_j = clamp((2 j + 1) f - F, 0, (f - 1) 2F); the
// weight of coarse cell i is max(0, 1 - |t_j / 2F - i|). Positions are integers, so that every backend has the same cells.
//
// Bytes of a forward: the fine scores written and read once, 8 B N H W. The backward computes them again, and reads and
// writes as much for ds, for its rows, and for the sums over queries; no sum is split between threads.
#include "driver.h"
#include "upsampling.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
struct Terms {
    Sizes sizes;
    T* fine;        // (B, H, W): 1 / D(F) for the cosine, sum_i w_i |f_i|^2 - |F|^2 for l2
    T* coarse;      // (B, h, w): D(f) for the cosine
    const T* sums;  // or null; (B, H, W), over queries of ds s or ds: `squares` is made instead
    double* squares;
};

template <class T>
__global__ void __launch_bounds__(kThreads) terms_kernel(Terms<T> a) {
    const Sizes& s = a.sizes;
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, fine = s.fine(), coarse = s.coarse();
    const bool cosine = s.is(SIMPLEMATCH_COSINE);
    if (cosine && a.sums == nullptr && i < s.images * coarse)
        a.coarse[i] = T(denominator(sqrt(s.products[i / coarse * 5 * coarse + i % coarse]), s.metric));
    if (i >= s.images * fine) return;
    double mean;
    const double square = square_norm(s, i / fine, i % fine, &mean);
    if (a.sums == nullptr) {
        a.fine[i] = T(cosine ? 1 / denominator(sqrt(square), s.metric) : mean - square);
    } else {
        const double sum = -double(a.sums[i]);
        a.squares[i] = cosine ? of_square(sum, sqrt(square), s.metric) : sum;
    }
}

template <class T>
struct Upsample {
    Sizes sizes;
    View scores;  // of the block
    const T* coarse;
    const T* terms;
    T* fine;  // (B, N of the block, H, W)
};

template <class S>
__global__ void __launch_bounds__(kThreads) upsample_kernel(Upsample<Arithmetic<S>> a) {
    using T = Arithmetic<S>;
    const Sizes& s = a.sizes;
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, fine = s.fine();
    if (i >= s.images * s.queries * fine) return;
    const int64_t row = i / fine, m = i % fine, b = row / s.queries, n = row % s.queries;
    T w_y, w_x;
    const int64_t y = s.y.low(m / s.x.fine, &w_y), x = s.x.low(m % s.x.fine, &w_x);
    const int64_t* const stride = a.scores.stride;
    const S* const scores = static_cast<const S*>(a.scores.data) + b * stride[0] + n * stride[1];
    const bool cosine = s.is(SIMPLEMATCH_COSINE);
    const auto read = [&](int64_t dy, int64_t dx) {
        const T score = widen(scores[(y + dy) * stride[2] + (x + dx) * stride[3]]);
        return cosine ? score * a.coarse[b * s.coarse() + (y + dy) * s.x.cells + x + dx] : score;
    };
    const auto along = [&](int64_t dy) { return w_x == T(0) ? read(dy, 0) : (1 - w_x) * read(dy, 0) + w_x * read(dy, 1); };
    T u = w_y == T(0) ? along(0) : (1 - w_y) * along(0) + w_y * along(1);
    if (cosine) u *= a.terms[b * fine + m];
    if (s.is(SIMPLEMATCH_L2) && is_finite(u)) {
        const T moved = u + a.terms[b * fine + m];
        u = moved > T(0) ? T(0) : moved;
    }
    a.fine[i] = u;
}

// out[i] = sum_j w_i(j) given[j] along the columns, then along the rows; where `given` or a sum is 0, factors have no part.
template <class T>
struct Reduce {
    Sizes sizes;
    bool rows;
    const T* given;    // (B, N, H, W), with `rows` (B, N, H, w)
    const T* factors;  // or null; of `given`: (B, H, W), with `rows` of the sum: (B, h, w)
    View out;          // (B, N, H, w), with `rows` (B, N, h, w)
};

template <class T>
__global__ void __launch_bounds__(kThreads) reduce_kernel(Reduce<T> a) {
    const Sizes& s = a.sizes;
    const int64_t height = a.rows ? s.y.cells : s.y.fine, width = s.x.cells, cells = height * width;
    const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (at >= s.images * s.queries * cells) return;
    const int64_t row = at / cells, y = at % cells / width, x = at % width, b = row / s.queries, n = row % s.queries;
    const Axis& axis = a.rows ? s.y : s.x;
    const int64_t i = a.rows ? y : x, step = a.rows ? width : 1, start = a.rows ? x : y * s.x.fine;
    const T* const given = a.given + row * s.y.fine * (a.rows ? width : s.x.fine) + start;
    const T* const factors = a.rows || a.factors == nullptr ? nullptr : a.factors + b * s.fine() + start;
    T total = 0;
    for (int64_t j = axis.first(i), last = axis.last(i); j < last; ++j) {
        const T weight = axis.template weight<T>(axis.position(j), i);
        T g = weight == T(0) ? T(0) : given[j * step];
        if (factors != nullptr && g != T(0)) g *= factors[j];
        total += weight * g;
    }
    if (a.rows && a.factors != nullptr && total != T(0)) total *= a.factors[b * s.coarse() + y * width + x];
    const int64_t* const stride = a.out.stride;
    write_element(a.out, b * stride[0] + n * stride[1] + y * stride[2] + x * stride[3], double(total));
}

// sums[m] (+)= sum_n gradient[n, m] scores[n, m], or without scores of the gradient, in the order of n.
template <class T>
struct SumQueries {
    int64_t images, queries;
    View gradient, scores;  // (B, N, H, W); scores data null: ones
    T* sums;                // (B, H, W)
    bool first;
};

template <class T>
__global__ void __launch_bounds__(kThreads) sum_queries_kernel(SumQueries<T> a) {
    const int64_t width = a.gradient.size[3], cells = a.gradient.size[2] * width;
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= a.images * cells) return;
    const int64_t b = i / cells, y = i % cells / width, x = i % width;
    T total = a.first ? T(0) : a.sums[i];
    const bool scored = a.scores.data != nullptr;
    int64_t of_gradient = b * a.gradient.stride[0] + y * a.gradient.stride[2] + x * a.gradient.stride[3];
    int64_t of_score = b * a.scores.stride[0] + y * a.scores.stride[2] + x * a.scores.stride[3];
    for (int64_t n = 0; n < a.queries; ++n, of_gradient += a.gradient.stride[1], of_score += a.scores.stride[1]) {
        const T gradient = T(read_element(a.gradient, of_gradient));
        if (gradient == T(0)) continue;
        total += scored ? gradient * T(read_element(a.scores, of_score)) : gradient;
    }
    a.sums[i] = total;
}

struct ProductsGradient {
    Sizes sizes;
    const double* squares;  // (B, H, W): dL/d|F|^2
    const double* coarse;   // (B, h, w): sum over queries of ds s, of the cosine
    double* out;            // (B, 5, h, w)
};

__global__ void __launch_bounds__(kThreads) products_gradient_kernel(ProductsGradient a) {
    const Sizes& s = a.sizes;
    const int64_t cells = s.coarse(), at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (at >= s.images * cells) return;
    const int64_t b = at / cells, m = at % cells, i = m / s.x.cells, j = m % s.x.cells;
    double own = 0, right = 0, below = 0, across = 0;
    for (int64_t y = s.y.first(i), last_y = s.y.last(i); y < last_y; ++y) {
        const int64_t t_y = s.y.position(y);
        const double w_y = s.y.weight<double>(t_y, i), next_y = s.y.weight<double>(t_y, i + 1);
        if (w_y == 0) continue;
        for (int64_t x = s.x.first(j), last_x = s.x.last(j); x < last_x; ++x) {
            const int64_t t_x = s.x.position(x);
            const double w_x = s.x.weight<double>(t_x, j), next_x = s.x.weight<double>(t_x, j + 1);
            const double g = w_x == 0 ? 0 : a.squares[b * s.fine() + y * s.x.fine + x];
            if (g == 0) continue;
            own += w_y * w_y * w_x * w_x * g - (s.is(SIMPLEMATCH_L2) ? w_y * w_x * g : 0);
            if (next_x != 0) right += 2 * w_y * w_y * w_x * next_x * g;
            if (next_y != 0) below += 2 * w_y * next_y * w_x * w_x * g;
            if (next_x != 0 && next_y != 0) across += 2 * w_y * next_y * w_x * next_x * g;
        }
    }
    if (s.is(SIMPLEMATCH_COSINE)) own += of_square(a.coarse[at], sqrt(s.products[b * 5 * cells + m]), s.metric);
    double* const out = a.out + b * 5 * cells + m;
    out[0] = own;
    out[cells] = right;
    out[2 * cells] = below;
    out[3 * cells] = out[4 * cells] = across;
}

int64_t blocks_for(int64_t numbers) { return tiles_of(numbers, kThreads); }

// What a call holds, and its launches.
struct Plan {
    Sizes sizes;       // of all images and the largest block
    int64_t count;
    int32_t dtype;     // of the arithmetic
    void *terms = nullptr, *coarse = nullptr, *fine = nullptr;

    Plan(const UpsampledProblem& p, Workspace& workspace)
        : sizes{p.scores.size[0], 0, {p.scores.size[2], p.height}, {p.scores.size[3], p.width}, p.metric,
                p.metric.kind == SIMPLEMATCH_DOT ? nullptr : p.products},
          count(p.scores.size[1]), dtype(arithmetic_of(p.scores.dtype)) {
        const int64_t query = sizes.images * sizes.fine() * item();
        sizes.queries = std::max<int64_t>(1, std::min(count, p.score_budget / std::max<int64_t>(1, query)));
        fine = workspace.take(sizes.queries * query);
        if (sizes.products == nullptr) return;
        terms = workspace.take(query);
        coarse = workspace.take(sizes.images * sizes.coarse() * item());
    }
    int64_t item() const { return item_size(dtype); }
    bool cosine() const { return sizes.products != nullptr && sizes.metric.kind == SIMPLEMATCH_COSINE; }

    Block block(int64_t first) const { return {sizes.images, first, std::min(sizes.queries, count - first), count}; }
    Sizes of(const Block& block) const {
        Sizes s = sizes;
        s.queries = block.count;
        return s;
    }
    View fine_view(void* data, const Block& block) const {
        return contiguous(data, dtype, sizes.images, block.count, sizes.y.fine, sizes.x.fine);
    }

    void prepare(const void* sums, double* squares, Stream stream) const {
        if (sizes.products == nullptr) return;
        const int64_t numbers = sizes.images * std::max(sizes.fine(), sizes.coarse());
        with_arithmetic(dtype, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            const Terms<T> arguments{sizes, static_cast<T*>(terms), static_cast<T*>(coarse), static_cast<const T*>(sums),
                                     squares};
            launch(terms_kernel<T>, blocks_for(numbers), kThreads, arguments, stream, "upsampled_terms");
        });
    }
    void upsample(const View& scores, const Block& block, Stream stream) const {
        with_storage(scores.dtype, [&](auto* type) {
            using S = std::remove_pointer_t<decltype(type)>;
            using T = Arithmetic<S>;
            const Upsample<T> arguments{of(block), from(scores, 1, block.first), static_cast<const T*>(coarse),
                                        static_cast<const T*>(terms), static_cast<T*>(fine)};
            launch(upsample_kernel<S>, blocks_for(block.images * block.count * sizes.fine()), kThreads, arguments, stream,
                   "upsample");
        });
    }
    // The gradient of the block's coarse scores, to `out`; `narrow`: (B, N of the block, H, w).
    void reduce(const void* ds, void* narrow, const View& out, const Block& block, Stream stream) const {
        with_arithmetic(dtype, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            const T* const of_fine = static_cast<const T*>(cosine() ? terms : nullptr);
            const T* const of_coarse = static_cast<const T*>(cosine() ? coarse : nullptr);
            const View between = contiguous(narrow, dtype, sizes.images, block.count, sizes.y.fine, sizes.x.cells);
            const Reduce<T> columns{of(block), false, static_cast<const T*>(ds), of_fine, between};
            const Reduce<T> rows{of(block), true, static_cast<const T*>(narrow), of_coarse, out};
            const int64_t maps = block.images * block.count;
            launch(reduce_kernel<T>, blocks_for(maps * sizes.y.fine * sizes.x.cells), kThreads, columns, stream, "reduce");
            launch(reduce_kernel<T>, blocks_for(maps * sizes.coarse()), kThreads, rows, stream, "reduce");
        });
    }
};

template <class T>
void sum_queries(const View& gradient, const View& scores, const Block& block, T* sums, Stream stream) {
    const SumQueries<T> arguments{block.images, block.count, gradient, scores, sums, block.first == 0};
    launch(sum_queries_kernel<T>, blocks_for(block.images * gradient.size[2] * gradient.size[3]), kThreads, arguments, stream,
           "sum_queries");
}

// What the backward holds besides.
struct BackwardPlan {
    Plan plan;
    bool sums;         // the products' gradient is wanted
    void *ds, *narrow, *scores = nullptr, *fine_sums = nullptr;
    double *coarse_sums = nullptr, *squares = nullptr;

    BackwardPlan(const UpsampledProblem& p, const UpsampledGradients& wanted, Workspace& workspace)
        : plan(p, workspace), sums(wanted.products != nullptr && plan.sizes.products != nullptr) {
        const Sizes& s = plan.sizes;
        ds = workspace.take(s.images * s.queries * s.fine() * plan.item());
        narrow = workspace.take(s.images * s.queries * s.y.fine * s.x.cells * plan.item());
        if (!sums) return;
        if (!is_given(wanted.scores)) scores = workspace.take(s.images * s.queries * s.coarse() * plan.item());
        fine_sums = workspace.take(s.images * s.fine() * plan.item());
        coarse_sums = static_cast<double*>(workspace.take(s.images * s.coarse() * int64_t(sizeof(double))));
        squares = static_cast<double*>(workspace.take(s.images * s.fine() * int64_t(sizeof(double))));
    }
};

void localize_block_backward(const UpsampledProblem& p, const BackwardPlan& held, const Matches& forward,
                             const Upstream& upstream, const UpsampledGradients& wanted, const Block& block, Stream stream) {
    const Sizes& s = held.plan.sizes;
    const int64_t cells = s.fine();
    LocalizeBackward step{};
    step.scores = {held.plan.fine, block.count * cells, cells, s.x.fine, 1, true};
    step.ds = {held.ds, block.count * cells, cells, s.x.fine, 1, true};
    step.dtype = held.plan.dtype;
    step.height = s.y.fine, step.width = s.x.fine;
    step.peak = forward.peak;
    step.masks = masks_of(p.rows, block.total, cells);
    step.temperature = p.temperature;
    step.localization = p.localization;
    step.upstream = upstream;
    step.temperature_gradient = wanted.temperature;
    localize_backward(step, block, stream);
}

}  // namespace

int64_t workspace(const UpsampledProblem& problem, const Device&) {
    Workspace workspace(nullptr);
    const Plan plan(problem, workspace);
    return workspace.used();
}

void run(const UpsampledProblem& p, const Matches& result, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const Plan plan(p, workspace);
    if (plan.sizes.images * plan.count == 0) return;
    plan.prepare(nullptr, nullptr, stream);
    for (int64_t first = 0; first < plan.count; first += plan.sizes.queries) {
        const Block block = plan.block(first);
        plan.upsample(p.scores, block, stream);
        localize(plan.fine_view(plan.fine, block), TileBest{nullptr, nullptr, 0}, p.rows, p.temperature, p.localization, block,
                 result, nullptr, 0, stream);
    }
}

int64_t workspace_backward(const UpsampledProblem& problem, const UpsampledGradients& gradients, const Device&) {
    Workspace workspace(nullptr);
    const BackwardPlan plan(problem, gradients, workspace);
    return workspace.used();
}

void run_backward(const UpsampledProblem& p, const Matches& forward, const Upstream& upstream,
                  const UpsampledGradients& wanted, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const BackwardPlan held(p, wanted, workspace);
    const Plan& plan = held.plan;
    const Sizes& s = plan.sizes;
    if (s.images == 0) return;
    plan.prepare(nullptr, nullptr, stream);
    for (int64_t first = 0; first < plan.count; first += s.queries) {
        const Block block = plan.block(first);
        plan.upsample(p.scores, block, stream);
        localize_block_backward(p, held, forward, upstream, wanted, block, stream);
        const View own = contiguous(held.scores, plan.dtype, s.images, block.count, s.y.cells, s.x.cells);
        const View out = is_given(wanted.scores) ? from(wanted.scores, 1, first) : own;
        if (is_given(out)) plan.reduce(held.ds, held.narrow, out, block, stream);
        if (!held.sums) continue;
        View given = out, scores = from(p.scores, 1, first);
        with_arithmetic(plan.dtype, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            const View fine = plan.cosine() ? plan.fine_view(plan.fine, block) : kNotGiven;
            sum_queries<T>(plan.fine_view(held.ds, block), fine, block, static_cast<T*>(held.fine_sums), stream);
        });
        if (plan.cosine()) sum_queries<double>(given, scores, block, held.coarse_sums, stream);
    }
    if (!held.sums) return;
    if (plan.count == 0) {  // sums over no queries
        const View none = contiguous(nullptr, SIMPLEMATCH_FLOAT64, s.images, 0, 5 * s.y.cells, s.x.cells);
        return sum_queries<double>(none, kNotGiven, {s.images, 0, 0, 0}, wanted.products, stream);
    }
    plan.prepare(held.fine_sums, held.squares, stream);
    const ProductsGradient arguments{s, held.squares, held.coarse_sums, wanted.products};
    launch(products_gradient_kernel, blocks_for(s.images * s.coarse()), kThreads, arguments, stream, "products_gradient");
}

}  // namespace simplematch::cuda
