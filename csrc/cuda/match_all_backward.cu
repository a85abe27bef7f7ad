// match_all backward: the scores of blocks of rows again, ds from what arrives at both sides, then both gradients of the
// similarity.
//
//     ds[n, m] = weight_a[n] exp(s / T - log_sum_exp_a[n]) + peaked_a[n] [m == index_a[n]] + the same of b with m
//
// with weight = l / T and peaked = h of what arrives at log_sum_exp and score; NaN where that is neither 0 nor finite, or
// where what it arrives at isn't finite. Bytes: 8 N M of scores and ds, read by two steps more.
#include "match_all.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;

// What arrives at one side, (B, count).
template <class T>
struct Side {
    const int64_t* index;
    const T *score, *log_sum_exp;
    T *peaked, *weight;  // weight null: nothing arrives at log_sum_exp
};

template <class T>
struct Upstreams {
    MatchAllProblem p;
    Rows rows;
    View of_score, of_log_sum_exp;
    Side<T> side;
    int64_t count;
};

template <class T>
__device__ inline T passed_on(T gradient, T to) {
    if (gradient == 0) return T(0);
    return is_finite(gradient) && is_finite(to) ? gradient : not_a_number<T>();
}

// Block = 128 descriptors of one side.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) upstream_kernel(Upstreams<T> a) {
    const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (at >= a.p.a.size[0] * a.count) return;
    const int64_t b = at / a.count, n = at % a.count;
    const bool part = is_valid(a.rows, b, n, a.count);
    const auto arriving = [&](const View& view) {
        return view.data == nullptr || !part ? T(0) : T(read_element(view, b * view.stride[0] + n * view.stride[1]));
    };
    a.side.peaked[at] = a.side.index[at] >= 0 ? passed_on(arriving(a.of_score), a.side.score[at]) : T(0);
    if (a.side.weight != nullptr)
        a.side.weight[at] = passed_on(arriving(a.of_log_sum_exp), a.side.log_sum_exp[at]) /
                            number_of<T>(a.p.temperature, a.p.fixed_temperature, b);
}

template <class T>
struct Gradient {
    MatchAllProblem p;
    Block block;
    Side<T> a, b;
    const T* scores;  // (B, count, M) of the block
    T* ds;
    T* moment;        // (B, N): sum over m of the part of ds with weights, times s
    int64_t cells;
};

// Block = one row.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) gradient_kernel(Gradient<T> g) {
    __shared__ double memory[kThreads / kWarp * 2];
    const int64_t b = blockIdx.x / g.block.count, local = blockIdx.x % g.block.count, n = g.block.first + local;
    const int64_t row = (b * g.block.count + local) * g.cells, at = b * g.block.total + n;
    const int64_t peak = g.a.index[at];
    const T temperature = number_of<T>(g.p.temperature, g.p.fixed_temperature, b), peaked = g.a.peaked[at];
    const T weight = g.a.weight == nullptr ? T(0) : g.a.weight[at], total = weight == 0 ? T(0) : g.a.log_sum_exp[at];
    T moment = 0;
    for (int64_t m = threadIdx.x; m < g.cells; m += kThreads) {
        T ds = 0;
        if (peak >= 0 && is_valid(g.p.rows_b, b, m, g.cells)) {
            const T score = g.scores[row + m];
            const int64_t column = b * g.cells + m;
            if (weight != 0) ds += weight * exp(score / temperature - total);
            if (g.b.weight != nullptr && g.b.weight[column] != 0)
                ds += g.b.weight[column] * exp(score / temperature - g.b.log_sum_exp[column]);
            if (ds != 0) moment += ds * score;
            if (m == peak) ds += peaked;
            if (g.b.index[column] == n) ds += g.b.peaked[column];
        }
        g.ds[row + m] = ds;
    }
    moment = sum_of_block<kThreads>(moment, memory);
    if (threadIdx.x == 0) g.moment[at] = moment;
}

template <class T>
struct Numbers {
    MatchAllProblem p;
    MatchAllGradients wanted;
    Side<T> side[2];
    int64_t count[2];
    const T* moment;  // (B, N), or null: there are no pairs
};

// Block = one image: dz = sum of weight P_bin, dT = -1/T (sum of the moments + z dz).
template <class T>
__global__ void __launch_bounds__(kThreads, 1) numbers_kernel(Numbers<T> a) {
    __shared__ double memory[kThreads / kWarp * 2];
    const int64_t b = blockIdx.x;
    const T temperature = number_of<T>(a.p.temperature, a.p.fixed_temperature, b);
    const T bin = number_of<T>(a.p.bin_score, a.p.fixed_bin_score, b);
    T moment = 0, of_bin = 0, lost = 0;
    for (int i = 0; i < 2; ++i)
        for (int64_t n = threadIdx.x; n < a.count[i]; n += kThreads) {
            const int64_t at = b * a.count[i] + n;
            if (i == 0 && a.moment != nullptr) moment += a.moment[at];
            const T weight = a.side[i].weight == nullptr ? T(0) : a.side[i].weight[at];
            if (weight != weight) lost = weight;
            if (weight != 0 && has_bin(a.p)) of_bin += weight * exp(bin / temperature - a.side[i].log_sum_exp[at]);
        }
    moment = sum_of_block<kThreads>(moment, memory);
    of_bin = sum_of_block<kThreads>(of_bin, memory);
    lost = sum_of_block<kThreads>(lost, memory);
    if (threadIdx.x > 0) return;
    if (of_bin != 0) moment += of_bin * bin;
    if (a.wanted.temperature.data != nullptr)
        write_element(a.wanted.temperature, b * a.wanted.temperature.stride[0], double(-(moment + lost) / temperature));
    if (a.wanted.bin_score.data != nullptr)
        write_element(a.wanted.bin_score, b * a.wanted.bin_score.stride[0], double(of_bin));
}

struct WriteCells {
    const void* rows;  // (B, total, C) in the type of the arithmetic, or null: zeros
    View to;
    Block block;
    int64_t channels;
};

// Rows as the cells of a map from `first` on. Block = one row.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) write_cells_kernel(WriteCells a) {
    const int64_t b = blockIdx.x / a.block.count, n = a.block.first + blockIdx.x % a.block.count;
    S* const cell = static_cast<S*>(a.to.data) + b * a.to.stride[0] + n / a.to.size[3] * a.to.stride[2] +
                    n % a.to.size[3] * a.to.stride[3];
    const Arithmetic<S>* const row = static_cast<const Arithmetic<S>*>(a.rows);
    for (int64_t c = threadIdx.x; c < a.channels; c += kThreads)
        cell[c * a.to.stride[1]] =
            narrow<S>(row == nullptr ? Arithmetic<S>(0) : row[(b * a.block.total + n) * a.channels + c]);
}

void write_cells(const void* rows, const View& to, const Block& block, Stream stream) {
    with_storage(to.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(write_cells_kernel<S>, block.images * block.count, kThreads, WriteCells{rows, to, block, to.size[1]}, stream,
               "match_all_backward");
    });
}

struct Plan {
    SetPlan set;
    QueryTerms terms{};
    void *ds, *moment, *partial = nullptr;
    void *peaked[2], *weight[2];

    Plan(const MatchAllProblem& p, const MatchAllGradients& wanted, Workspace& workspace) : set(p, 2, workspace) {
        const int64_t channels = p.a.size[1], rows = set.images * set.count;
        ds = workspace.take(set.images * set.most * set.cells * set.item);
        moment = workspace.take(rows * set.item);
        for (int i = 0; i < 2; ++i)
            for (void** const array : {&peaked[i], &weight[i]})
                *array = workspace.take(set.images * (i == 0 ? set.count : set.cells) * set.item);
        terms.splits = 1;
        terms.split_stride = rows * channels;
        terms.vectors = workspace.take(terms.split_stride * set.item);
        terms.divisor = workspace.take(rows * set.item);
        terms.own = workspace.take(rows * set.item);
        if (set.most < set.count && wanted.b.data != nullptr && wanted.b.dtype != set.dtype)
            partial = workspace.take(set.images * set.cells * channels * set.item);
    }

    // The gradient of b in the type of the arithmetic, its axes in the order of `out`.
    View sums_like(const View& out) const {
        if (partial == nullptr) return out;
        const int64_t C = out.size[1], H = out.size[2], W = out.size[3];
        View view = contiguous(partial, set.dtype, out.size[0], C, H, W);
        if (walk_of(out).channels_last) view.stride[1] = 1, view.stride[2] = W * C, view.stride[3] = C;
        return view;
    }
};

template <class T>
void run_as(const MatchAllProblem& p, const MatchAllResult& forward, const MatchAllUpstream& upstream,
            const MatchAllGradients& wanted, const Plan& plan, Stream stream) {
    const SetPlan& set = plan.set;
    const auto side = [&](int i, const int64_t* index, const void* score, const void* log_sum_exp, const Rows& rows,
                          const View& of_score, const View& of_log_sum_exp) {
        T* const weight = is_given(of_log_sum_exp) && log_sum_exp != nullptr ? static_cast<T*>(plan.weight[i]) : nullptr;
        const Side<T> made{index, static_cast<const T*>(score), static_cast<const T*>(log_sum_exp),
                           static_cast<T*>(plan.peaked[i]), weight};
        const int64_t count = i == 0 ? set.count : set.cells;
        launch(upstream_kernel<T>, tiles_of(set.images * count, kThreads), kThreads,
               Upstreams<T>{p, rows, of_score, of_log_sum_exp, made, count}, stream, "match_all_backward");
        return made;
    };
    const Side<T> a = side(0, forward.index_a, forward.score_a, forward.log_sum_exp_a, p.rows_a, upstream.score_a,
                           upstream.log_sum_exp_a);
    const Side<T> b = side(1, forward.index_b, forward.score_b, forward.log_sum_exp_b, p.rows_b, upstream.score_b,
                           upstream.log_sum_exp_b);
    if (set.empty()) {
        for (const View& view : {wanted.a, wanted.b})
            if (is_given(view)) write_cells(nullptr, view, {set.images, 0, cells_of(view), cells_of(view)}, stream);
    } else if (!set.is_row) {
        list_cells(p.a, set.points, stream);
    }
    View out_row;
    const bool row_out = as_row(wanted.a, &out_row);
    for (int64_t first = 0; first < set.count && !set.empty(); first += set.most) {
        const Block block = set.block(first);
        set.run(p, block, stream);
        launch(gradient_kernel<T>, set.images * block.count, kThreads,
               Gradient<T>{p, block, a, b, static_cast<const T*>(set.scores), static_cast<T*>(plan.ds),
                           static_cast<T*>(plan.moment), set.cells},
               stream, "match_all_backward");
        const int64_t width = p.b.size[3];
        LocalizeBackward step{};
        step.scores = {set.scores, block.count * set.cells, set.cells, width, 1, true};
        step.ds = {plan.ds, block.count * set.cells, set.cells, width, 1, true};
        step.dtype = set.dtype;
        step.given = true;
        step.height = p.b.size[2], step.width = width;
        const QuerySource source = set.source(p);
        step.source = source.source, step.keypoints = source.keypoints, step.sampling = source.sampling;
        step.metric = p.metric;
        step.terms = plan.terms;
        localize_backward(step, block, stream);
        const ScoreGradient dense{{plan.ds, step.ds.image, step.ds.query, width, 1, true}, step.scores, nullptr, Window{}};
        if (is_given(wanted.b)) {
            const bool last = first + block.count == set.count;
            const View sums = plan.sums_like(wanted.b);
            target_backward(dense, plan.terms, forward.norm_b, p.b, p.metric, block, first == 0 ? kNotGiven : sums,
                            last ? wanted.b : sums, stream);
        }
        if (!is_given(wanted.a)) continue;
        query_backward(dense, plan.terms, forward.norm_b, p.b, p.metric, block,
                       row_out ? from(out_row, 3, first) : kNotGiven, stream);
        if (!row_out) write_cells(plan.terms.vectors, wanted.a, block, stream);
    }
    if (is_given(wanted.temperature) || is_given(wanted.bin_score))
        launch(numbers_kernel<T>, set.images, kThreads,
               Numbers<T>{p, wanted, {a, b}, {set.count, set.cells}, set.empty() ? nullptr : static_cast<const T*>(plan.moment)},
               stream, "match_all_backward");
}

}  // namespace

int64_t workspace_backward(const MatchAllProblem& problem, const MatchAllGradients& gradients, const Device&) {
    Workspace workspace(nullptr);
    const Plan plan(problem, gradients, workspace);
    return workspace.used();
}

void run_backward(const MatchAllProblem& p, const MatchAllResult& forward, const MatchAllUpstream& upstream,
                  const MatchAllGradients& gradients, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const Plan plan(p, gradients, workspace);
    with_arithmetic(plan.set.dtype, [&](auto* type) {
        run_as<std::remove_pointer_t<decltype(type)>>(p, forward, upstream, gradients, plan, stream);
    });
}

}  // namespace simplematch::cuda
