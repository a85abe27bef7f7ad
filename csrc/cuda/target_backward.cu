// target_backward: every cell of the target gathers from the queries whose windows hold it.
//
//     dFt_m = 1/D(f_m) sum_n ds[n, m] q_n / D(q_n) - f_m / |f_m| sum_n ds[n, m] s[n, m] / D(f_m)        (cosine)
//     dFt_m = sum_n ds[n, m] q_n  (dot)        2 sum_n ds[n, m] q_n - 2 f_m sum_n ds[n, m]  (l2)
//     dFt_m = sum_n ds[n, m] sign(q_n - f_m)  (l1)
//
// A query with ds = 0 has no part in a sum, whatever its score and its vector hold.
//
// Block = 64 cells x 64 channels of one image; blocks of the same cells are neighbours and read the same ds. Queries whose
// windows miss the rows of the tile are passed over 32 at a time. Every element is written. Bytes: target read (not for
// dot), gradient written, 8 N M of ds and scores per tile of channels out of L2: 195 MB at the paper's shape in float32.
#include "absolute.h"
#include "launch.h"
#include "metric.h"
#include "product.h"
#include "tile.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 256, kCells = 64, kChannels = 64, kQueries = 32;
constexpr int kParts = kThreads / kCells;
constexpr int kStride = 64 + 4;

struct TargetBackward {
    ScoreGradient scores;
    QueryTerms queries;
    const void* target_norm;
    View target, previous, gradient;
    Metric metric;
    Block block;
};

// What the threads of a block know of the cells they weigh: thread t weighs cell t % 64 for every fourth query.
template <class T>
struct Cell {
    int32_t y, x;
    bool in_map;
    T far;  // 1 / D(f) is scale * far, because one number could overflow: 1 where |f| is a normal number
    T sum;  // of ds * s (dot, l2: of ds), over the thread's queries
};

// weights[n][cell] of 32 queries from n0 on, and vectors[n][channel].
template <class T>
__device__ void load_queries(const TargetBackward& a, int64_t b, int64_t n0, int64_t c0, const Box* boxes, Cell<T>& cell,
                             T* weights, T* vectors) {
    const ScoreGradient& s = a.scores;
    const int64_t count = a.block.count, C = a.target.size[1];
    const CellValues<const T> ds{static_cast<const T*>(s.ds.data), s.ds.image, s.ds.query, s.ds.row, s.ds.column, s.ds.whole_map};
    const CellValues<const T> scores{static_cast<const T*>(s.scores.data), s.scores.image, s.scores.query,
                                     s.scores.row, s.scores.column, s.scores.whole_map};
    const bool given = s.peak == nullptr, cosine = a.metric.kind == SIMPLEMATCH_COSINE;
    for (int i = threadIdx.x / kCells; i < kQueries; i += kParts) {
        const Box box = boxes[i];
        T weight = 0;
        if (cell.in_map && cell.y >= box.top && cell.y < box.bottom && cell.x >= box.left && cell.x < box.right) {
            T d = ds.origin(b, n0 + i, box)[cell.y * ds.row + cell.x * ds.column], score = 1;
            if (cosine || given) score = scores.origin(b, n0 + i, box)[cell.y * scores.row + cell.x * scores.column];
            if (d != 0) {
                if (given && !(is_finite(d) && is_finite(score))) d = not_a_number<T>();
                cell.sum += cosine ? d * score : d;
                weight = d * cell.far;
            }
        }
        weights[i * kStride + threadIdx.x % kCells] = weight;
    }
    const T* const rows = static_cast<const T*>(a.queries.vectors) + (b * a.block.total + a.block.first) * C;
    for (int i = threadIdx.x / kChannels; i < kQueries; i += kThreads / kChannels) {
        const int64_t n = n0 + i, c = c0 + threadIdx.x % kChannels;
        vectors[i * kStride + threadIdx.x % kChannels] = n < count && c < C ? rows[n * C + c] : T(0);
    }
}

// Where the cells of a tile lie in each map.
struct CellOffsets {
    int64_t target[kCells], previous[kCells], gradient[kCells];
};

// The factor of the products of a cell, and the two factors of its own term: `inverse` first, then `own`.
template <class T>
struct CellFactors {
    T scale[kCells], inverse[kCells], own[kCells];
};

// One tile of the gradient, from the products.
template <class S, bool CHANNELS_LAST, class T>
__device__ void write_cells(const TargetBackward& a, int64_t b, int64_t m0, int64_t c0, const T* products,
                            const CellFactors<T>& factors, const CellOffsets& cells) {
    const int64_t C = a.target.size[1], M = a.target.size[2] * a.target.size[3];
    const S* const target = static_cast<const S*>(a.target.data) + b * a.target.stride[0];
    const T* const previous = static_cast<const T*>(a.previous.data) + b * a.previous.stride[0];
    const int64_t gradient = b * a.gradient.stride[0];
    const int along = threadIdx.x % 64;
#pragma unroll
    for (int i = threadIdx.x / 64; i < 64; i += kThreads / 64) {
        const int m = CHANNELS_LAST ? i : along;
        const int64_t c = c0 + (CHANNELS_LAST ? along : i);
        if (m0 + m >= M || c >= C) continue;
        T total = factors.scale[m] * products[i * kStride + along];
        if (factors.own[m] != 0)  // a cell that no window holds gets 0, whatever it holds
            total -= factors.own[m] * (factors.inverse[m] * widen(target[cells.target[m] + c * a.target.stride[1]]));
        if (a.previous.data != nullptr) total += previous[cells.previous[m] + c * a.previous.stride[1]];
        const int64_t to = gradient + cells.gradient[m] + c * a.gradient.stride[1];
        if (a.gradient.dtype == a.target.dtype)
            static_cast<S*>(a.gradient.data)[to] = narrow<S>(total);
        else
            static_cast<T*>(a.gradient.data)[to] = total;
    }
}

// CHANNELS_LAST: the rows of a tile are its cells, and channels lie along them; otherwise the other way round. ABSOLUTE: l1.
template <class S, bool CHANNELS_LAST, bool ABSOLUTE>
__global__ void __launch_bounds__(kThreads, 1) target_backward_kernel(TargetBackward a) {
    using T = Arithmetic<S>;
    alignas(128) __shared__ T memory[64 * kStride];
    __shared__ Box boxes[kQueries];
    __shared__ T sums[kParts][kCells];
    __shared__ CellFactors<T> factors;
    __shared__ CellOffsets cells;
    T* const weights = memory;
    T* const vectors = memory + kQueries * kStride;
    const int64_t C = a.target.size[1], M = a.target.size[2] * a.target.size[3];
    const int32_t width = int32_t(a.target.size[3]);
    const int64_t channel_tiles = tiles_of(C, kChannels), cell_tiles = tiles_of(M, kCells);
    const int64_t c0 = blockIdx.x % channel_tiles * kChannels, m0 = blockIdx.x / channel_tiles % cell_tiles * kCells;
    const int64_t b = blockIdx.x / channel_tiles / cell_tiles, m = m0 + threadIdx.x % kCells;
    const int32_t first_row = int32_t(m0) / width, last_row = int32_t(min(m0 + kCells, M) - 1) / width;

    list_cells<kCells>(a.target, m0, M, cells.target);
    list_cells<kCells>(a.gradient, m0, M, cells.gradient);
    if (a.previous.data != nullptr) list_cells<kCells>(a.previous, m0, M, cells.previous);
    const T norm = m < M ? static_cast<const T*>(a.target_norm)[b * M + m] : T(1), divisor = sum_divisor(norm, a.metric);
    Cell<T> cell{int32_t(m) / width, int32_t(m) % width, m < M, divisor < T(0x1p-120f) ? T(0x1p64f) : T(1), 0};
    using Signs = SignSum<T, 64, kQueries, 4, 4, kStride, kStride, CHANNELS_LAST>;
    std::conditional_t<ABSOLUTE, Signs, FmaProduct<T, 64, 64, kQueries, 4, 4, kStride, kStride>> product;
    product.clear();
    if constexpr (ABSOLUTE) {
        __syncthreads();
        const S* const target = static_cast<const S*>(a.target.data) + b * a.target.stride[0];
        product.hold([&](int r, int j) {
            const int64_t c = c0 + (CHANNELS_LAST ? j : r), at = cells.target[CHANNELS_LAST ? r : j];
            return at != kNoCell && c < C ? T(widen(target[at + c * a.target.stride[1]])) : T(0);
        });
    }
    for (int64_t n0 = 0; n0 < a.block.count; n0 += kQueries) {
        bool meets = false;
        if (threadIdx.x < kQueries) {
            const Box box = boxes[threadIdx.x] = a.scores.box(a.block, b, n0 + threadIdx.x, a.target);
            meets = box.top <= last_row && box.bottom > first_row;
        }
        if (!__syncthreads_or(meets)) continue;
        load_queries(a, b, n0, c0, boxes, cell, weights, vectors);
        __syncthreads();
        if constexpr (CHANNELS_LAST)
            product.add(weights, vectors);
        else
            product.add(vectors, weights);
        __syncthreads();
    }
    sums[threadIdx.x / kCells][threadIdx.x % kCells] = cell.sum;
    product.template put<kStride>(memory);
    __syncthreads();
    if (threadIdx.x < kCells) {
        T total = sums[0][threadIdx.x];
        for (int part = 1; part < kParts; ++part) total += sums[part][threadIdx.x];
        const T scale = 1 / (divisor * cell.far), inverse = inverse_norm(norm, a.metric);
        factors.scale[threadIdx.x] = scale;
        factors.inverse[threadIdx.x] = inverse;
        factors.own[threadIdx.x] = inverse == 0 || total == 0 ? T(0) : total * cell.far * scale;
    }
    __syncthreads();

    write_cells<S, CHANNELS_LAST>(a, b, m0, c0, memory, factors, cells);
}

}  // namespace

void target_backward(const ScoreGradient& scores, const QueryTerms& queries, const void* target_norm, const View& target,
                     const Metric& metric, const Block& block, const View& previous, const View& gradient, Stream stream) {
    const TargetBackward arguments{scores, queries, target_norm, target, previous, gradient, metric, block};
    const int64_t blocks =
        tiles_of(target.size[1], kChannels) * tiles_of(target.size[2] * target.size[3], kCells) * block.images;
    with_storage(target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        with_bool(walk_of(gradient).channels_last, [&](auto channels_last) {
            with_bool(metric.kind == SIMPLEMATCH_L1, [&](auto absolute) {
                launch(target_backward_kernel<S, channels_last, absolute>, blocks, kThreads, arguments, stream,
                       "target_backward");
            });
        });
    });
}

}  // namespace simplematch::cuda
