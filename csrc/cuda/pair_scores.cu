// pair_scores and its backward: s_k = s(a[index_a[k]], b[index_b[k]]).
//
// Sums are made in float64. A warp takes a pair, its lanes the channels. The backward finds the factors of each pair in the
// same way, then the gradient of each set in tiles of cells and channels: a block looks through all pairs for those of its
// cells, as source_backward does for keypoints, and adds them in the order of k, without atomics. Bytes: two rows of each pair
// read by the forward, four by the backward, which writes both gradients once; the indices are read by every tile.
#include "common/pair.h"
#include "driver.h"
#include "tile.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 256, kCells = 32, kChannels = 64;
constexpr int kGroups = kThreads / kChannels, kEach = kCells / kGroups;

__device__ inline int64_t offset_of(const View& map, int64_t b, int64_t cell) {
    return b * map.stride[0] + cell / map.size[3] * map.stride[2] + cell % map.size[3] * map.stride[3];
}

// Sums over the channels of one pair, for all lanes of its warp: |x|^2, |y|^2, and what the metric makes of both vectors.
struct PairSums {
    double square_x, square_y, term;
};

template <class S>
__device__ PairSums sums_of_pair(const PairProblem& p, int64_t b, int64_t n, int64_t m) {
    const S* const x = static_cast<const S*>(p.a.data) + offset_of(p.a, b, n);
    const S* const y = static_cast<const S*>(p.b.data) + offset_of(p.b, b, m);
    PairSums sums{0, 0, 0};
#pragma unroll 4
    for (int64_t c = threadIdx.x % kWarp; c < p.a.size[1]; c += kWarp) {
        const double q = double(widen(x[c * p.a.stride[1]])), f = double(widen(y[c * p.b.stride[1]]));
        if (p.metric.kind == SIMPLEMATCH_COSINE) {
            sums.square_x += q * q;
            sums.square_y += f * f;
        }
        sums.term += p.metric.kind == SIMPLEMATCH_L2   ? -(q - f) * (q - f)
                     : p.metric.kind == SIMPLEMATCH_L1 ? -fabs(q - f)
                                                       : q * f;
    }
    return {sum_of_warp(sums.square_x), sum_of_warp(sums.square_y), sum_of_warp(sums.term)};
}

struct PairScores {
    PairProblem problem;
    void* scores;
};

template <class S>
__global__ void __launch_bounds__(kThreads, 1) pair_scores_kernel(PairScores a) {
    const PairProblem& p = a.problem;
    const int64_t at = blockIdx.x * int64_t(kThreads / kWarp) + threadIdx.x / kWarp;
    if (at >= p.a.size[0] * p.pairs) return;
    const int64_t n = p.index_a[at], m = p.index_b[at];
    double score = 0;
    if (n >= 0 && m >= 0) {
        score = not_a_number<double>();
        if (n < p.a.size[2] * p.a.size[3] && m < p.b.size[2] * p.b.size[3]) {
            const PairSums sums = sums_of_pair<S>(p, at / p.pairs, n, m);
            score = sums.term;
            if (p.metric.kind == SIMPLEMATCH_COSINE)
                score = score / denominator(sqrt(sums.square_x), p.metric) / denominator(sqrt(sums.square_y), p.metric);
        }
    }
    if (threadIdx.x % kWarp == 0) static_cast<Arithmetic<S>*>(a.scores)[at] = Arithmetic<S>(score);
}

struct FindFactors {
    PairProblem problem;
    const void* scores;
    View upstream;
    PairFactors *of_a, *of_b;  // (B, K)
};

// Zeros where nothing arrives; a weight of NaN where what arrives, or the score, isn't finite.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) pair_factors_kernel(FindFactors a) {
    const PairProblem& p = a.problem;
    const int64_t at = blockIdx.x * int64_t(kThreads / kWarp) + threadIdx.x / kWarp;
    if (at >= p.a.size[0] * p.pairs) return;
    const int64_t n = p.index_a[at], m = p.index_b[at], b = at / p.pairs, k = at % p.pairs;
    const double ds = read_element(a.upstream, b * a.upstream.stride[0] + k * a.upstream.stride[1]);
    const double score = static_cast<const Arithmetic<S>*>(a.scores)[at];
    PairFactors of_a{0, 0, 0, 0}, of_b{0, 0, 0, 0};
    if (n >= 0 && m >= 0 && ds != 0) {
        const bool known = n < p.a.size[2] * p.a.size[3] && m < p.b.size[2] * p.b.size[3] && is_finite(ds) && is_finite(score);
        PairSums sums{0, 0, 0};
        if (known && p.metric.kind == SIMPLEMATCH_COSINE) sums = sums_of_pair<S>(p, b, n, m);
        of_a = pair_factors(ds, score, sqrt(sums.square_x), p.metric);
        of_b = pair_factors(ds, score, sqrt(sums.square_y), p.metric);
        if (!known) of_a.weight = of_b.weight = not_a_number<double>();
    }
    if (threadIdx.x % kWarp > 0) return;
    a.of_a[at] = of_a;
    a.of_b[at] = of_b;
}

// The gradient of the set `own`.
struct PairGradient {
    View own, other, gradient;
    const int64_t *index_own, *index_other;
    const PairFactors *of_own, *of_other;
    int64_t pairs;
    bool absolute;  // the metric is l1
};

// Block = 32 cells x 64 channels. A thread has one channel of every fourth cell; a pair is added by those of its cell.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) pair_gradient_kernel(PairGradient a) {
    __shared__ int8_t cell_of[kThreads];  // of the pairs that are looked at together
    __shared__ unsigned found[kThreads / kWarp];
    __shared__ int64_t to[kCells];
    const int64_t C = a.gradient.size[1], N = a.own.size[2] * a.own.size[3];
    const int64_t channel_tiles = tiles_of(C, kChannels), cell_tiles = tiles_of(N, kCells);
    const int64_t b = blockIdx.x / channel_tiles / cell_tiles, n0 = blockIdx.x / channel_tiles % cell_tiles * kCells;
    const int64_t c = blockIdx.x % channel_tiles * kChannels + threadIdx.x % kChannels;
    const int group = threadIdx.x / kChannels;
    const int64_t *const index_own = a.index_own + b * a.pairs, *const index_other = a.index_other + b * a.pairs;
    list_cells<kCells>(a.gradient, n0, N, to);
    __syncthreads();
    double total[kEach] = {};
    for (int64_t k0 = 0; k0 < a.pairs; k0 += kThreads) {
        const int64_t k = k0 + threadIdx.x;
        const int64_t n = k < a.pairs && index_other[k] >= 0 ? index_own[k] : -1;
        const bool here = n >= n0 && n < n0 + kCells && n < N;
        cell_of[threadIdx.x] = int8_t(here ? n - n0 : -1);
        const unsigned lanes = __ballot_sync(kAllLanes, here);
        if (threadIdx.x % kWarp == 0) found[threadIdx.x / kWarp] = lanes;
        __syncthreads();
        for (int word = 0; word < kThreads / kWarp; ++word)
            for (unsigned left = found[word]; left != 0; left &= left - 1) {
                const int i = word * kWarp + __ffs(left) - 1, r = cell_of[i];
                if (r % kGroups != group || c >= C) continue;
                const int64_t at = b * a.pairs + k0 + i;
                const PairFactors own = a.of_own[at];
                if (own.weight == 0) continue;
                double value = own.weight;  // NaN, or
                if (own.weight == own.weight) {
                    const double x = widen(static_cast<const S*>(a.own.data)[offset_of(a.own, b, n0 + r) + c * a.own.stride[1]]);
                    const double y = widen(static_cast<const S*>(
                        a.other.data)[offset_of(a.other, b, index_other[k0 + i]) + c * a.other.stride[1]]);
                    value = a.absolute ? own.weight * sign_of_difference(y, x)
                                       : own.weight * (a.of_other[at].scale * y) - own.own * (own.direction * x);
                }
#pragma unroll
                for (int e = 0; e < kEach; ++e) total[e] += e == r / kGroups ? value : 0.0;  // an index would need a stack
            }
        __syncthreads();
    }
    S* const image = static_cast<S*>(a.gradient.data) + b * a.gradient.stride[0];
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
        const int64_t cell = to[group + e * kGroups];
        if (cell != kNoCell && c < C) image[cell + c * a.gradient.stride[1]] = narrow<S>(Arithmetic<S>(total[e]));
    }
}

// (B, K) of each side.
struct FactorMemory {
    PairFactors *of_a, *of_b;

    FactorMemory(const PairProblem& p, Workspace& workspace) {
        const int64_t bytes = p.a.size[0] * p.pairs * int64_t(sizeof(PairFactors));
        of_a = static_cast<PairFactors*>(workspace.take(bytes));
        of_b = static_cast<PairFactors*>(workspace.take(bytes));
    }
};

template <class S>
void gradient_of(const PairGradient& side, Stream stream) {
    if (!is_given(side.gradient)) return;
    const View& out = side.gradient;
    launch(pair_gradient_kernel<S>, out.size[0] * tiles_of(cells_of(out), kCells) * tiles_of(out.size[1], kChannels), kThreads,
           side, stream, "pair_scores_backward");
}

int64_t blocks_of(const PairProblem& p) { return tiles_of(p.a.size[0] * p.pairs, kThreads / kWarp); }

}  // namespace

void run(const PairProblem& p, const PairResult& result, const Device& device) {
    const OnDevice guard(device.index);
    with_storage(p.a.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(pair_scores_kernel<S>, blocks_of(p), kThreads, PairScores{p, result.scores}, stream_of(device), "pair_scores");
    });
}

int64_t workspace_backward(const PairProblem& p, const PairGradients&, const Device&) {
    Workspace workspace(nullptr);
    const FactorMemory memory(p, workspace);
    return workspace.used();
}

void run_backward(const PairProblem& p, const PairResult& forward, const PairUpstream& upstream, const PairGradients& gradients,
                  const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    Workspace workspace(device.workspace);
    const FactorMemory memory(p, workspace);
    const bool absolute = p.metric.kind == SIMPLEMATCH_L1;
    with_storage(p.a.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(pair_factors_kernel<S>, blocks_of(p), kThreads,
               FindFactors{p, forward.scores, upstream.scores, memory.of_a, memory.of_b}, stream, "pair_scores_backward");
        gradient_of<S>({p.a, p.b, gradients.a, p.index_a, p.index_b, memory.of_a, memory.of_b, p.pairs, absolute}, stream);
        gradient_of<S>({p.b, p.a, gradients.b, p.index_b, p.index_a, memory.of_b, memory.of_a, p.pairs, absolute}, stream);
    });
}

}  // namespace simplematch::cuda
