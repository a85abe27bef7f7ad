// query_backward: every query gathers from the target cells of its window.
//
//     dq_n = 1/D(q_n) sum_m ds[n, m] f_m / D(f_m) - q_n / |q_n| sum_m ds[n, m] s[n, m] / D(q_n)        (cosine)
//     dq_n = sum_m ds[n, m] f_m  (dot)        2 sum_m ds[n, m] f_m - 2 q_n sum_m ds[n, m]  (l2)
//     dq_n = sum_m ds[n, m] sign(f_m - q_n)  (l1, in one part: every block reads the vectors first)
//
// A cell with ds = 0 has no part in a sum, whatever it holds: numbers of the target that are not finite count as 0, as
// their ds is 0 or NaN.
//
// Block = 32 queries x 64 channels of one image and one part of the map, of which it walks the rows that the windows of
// its queries meet. The parts are summed apart, for `source_backward` to add: the first where the query vectors lay, a
// block writes just what it read. Bytes: at most the target per tile of queries, 4 N M of ds per tile of channels: 97.5 MB
// at the paper's shape in float32.
#include "absolute.h"
#include "launch.h"
#include "metric.h"
#include "product.h"
#include "tile.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128, kQueries = 32, kChannels = 64, kCells = 32;
constexpr int kWeightStride = kQueries + 4, kTargetStride = kChannels + 4, kProductStride = kChannels + 4;

struct QueryBackward {
    ScoreGradient scores;
    QueryTerms queries;
    const void* target_norm;
    View target;
    Metric metric;
    Block block;
    View gradient;
};

// The windows of a tile of queries, and the rows of the map that they meet.
struct Windows {
    Box box[kQueries];
    int32_t top, bottom;
};

__device__ inline void find_windows(const QueryBackward& a, int64_t b, int64_t n0, Windows& windows) {
    if (threadIdx.x < kQueries) windows.box[threadIdx.x] = a.scores.box(a.block, b, n0 + threadIdx.x, a.target);
    __syncthreads();
    if (threadIdx.x == 0) {
        windows.top = int32_t(a.target.size[2]), windows.bottom = 0;
        for (int i = 0; i < kQueries; ++i) {
            if (windows.box[i].bottom == 0) continue;
            windows.top = min(windows.top, windows.box[i].top);
            windows.bottom = max(windows.bottom, windows.box[i].bottom);
        }
    }
    __syncthreads();
}

// Whether a cell must be divided by its D(f), and cleared of what is not finite, before it is multiplied; where not,
// ds / D(f) stays within the range of ds.
template <class T>
__device__ inline bool is_extreme(T norm, const Metric& metric) {
    const T divisor = unit_divisor(norm, metric);
    return !is_finite(norm) || divisor < T(0x1p-40f) || divisor > T(0x1p40f);
}

// weights[cell][n] of the cells from m0 on. Lanes take 8 cells of 4 queries: whole sectors of ds, and no bank conflicts.
// Returns whether the thread's cell is extreme.
template <class T>
__device__ bool load_weights(const QueryBackward& a, int64_t b, int64_t n0, int64_t m0, int64_t stop, const Windows& windows,
                             T* weights) {
    const ScoreGradient& s = a.scores;
    const CellValues<const T> ds{static_cast<const T*>(s.ds.data), s.ds.image, s.ds.query, s.ds.row, s.ds.column, s.ds.whole_map};
    const int64_t width = a.target.size[3], M = a.target.size[2] * width;
    const int lane = threadIdx.x % kWarp, cell = threadIdx.x / kWarp * 8 + lane % 8;
    const int64_t m = m0 + cell;
    const int32_t y = int32_t(m) / int32_t(width), x = int32_t(m) % int32_t(width);
    T scale = 1;
    bool extreme = false;
    if (m < M) {  // vectors read cells beyond `stop`
        const T norm = static_cast<const T*>(a.target_norm)[b * M + m];
        extreme = is_extreme(norm, a.metric);
        if (!extreme) scale = 1 / unit_divisor(norm, a.metric);
    }
    for (int i = lane / 8; i < kQueries; i += 4) {
        const Box box = windows.box[i];
        T weight = 0;
        if (m < stop && y >= box.top && y < box.bottom && x >= box.left && x < box.right) {
            const T d = ds.origin(b, n0 + i, box)[y * ds.row + x * ds.column];
            weight = d * scale;
        }
        weights[cell * kWeightStride + i] = weight;
    }
    return extreme;
}

// Divides the extreme cells of a tile by their D(f), numbers that are not finite read as 0.
template <class T>
__device__ void mend_tile(const QueryBackward& a, int64_t b, int64_t m0, T* tile) {
    const int64_t M = a.target.size[2] * a.target.size[3];
    const T* const norms = static_cast<const T*>(a.target_norm) + b * M;
    for (int i = threadIdx.x; i < kCells * kChannels; i += kThreads) {
        const int64_t m = m0 + i / kChannels;
        if (m >= M || !is_extreme(norms[m], a.metric)) continue;
        T& x = tile[i / kChannels * kTargetStride + i % kChannels];
        x = is_finite(x) ? x / unit_divisor(norms[m], a.metric) : T(0);
    }
}

// One tile of the gradient, from the products.
template <class T>
__device__ void write_queries(const QueryBackward& a, int64_t b, int64_t n0, int64_t c0, int64_t split, const Windows& windows,
                              const T* products) {
    T* const vectors = static_cast<T*>(a.queries.vectors);
    const int64_t C = a.target.size[1], c = c0 + threadIdx.x % kChannels;
    if (c >= C) return;
    for (int i = threadIdx.x / kChannels; i < kQueries && n0 + i < a.block.count; i += kThreads / kChannels) {
        const int64_t n = n0 + i, slot = b * a.block.total + a.block.first + n;
        T total = windows.box[i].bottom > 0 ? products[i * kProductStride + threadIdx.x % kChannels] : T(0);
        total /= static_cast<const T*>(a.queries.divisor)[slot];
        if (split == 0) {
            const T own = static_cast<const T*>(a.queries.own)[slot];
            if (own != 0) total -= own * vectors[slot * C + c];
        }
        if (a.gradient.data == nullptr)
            vectors[split * a.queries.split_stride + slot * C + c] = total;
        else
            write_element(a.gradient, b * a.gradient.stride[0] + c * a.gradient.stride[1] + n * a.gradient.stride[3], total);
    }
}

// Blocks that a multiprocessor must hold at once: mending a tile is rare, and may take no registers from those that read
// 16-bit numbers in vectors.
template <class S, bool CHANNELS_LAST, int V>
constexpr int least_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    constexpr int most = 4;
#else
    constexpr int most = CHANNELS_LAST ? 5 : 1;
#endif
    return sizeof(S) == 2 && V == 8 ? most : 1;
}

// ABSOLUTE: l1.
template <class S, bool CHANNELS_LAST, int V, bool ABSOLUTE>
__global__ void __launch_bounds__(kThreads, (ABSOLUTE ? 1 : least_blocks<S, CHANNELS_LAST, V>()))
    query_backward_kernel(QueryBackward a) {
    using T = Arithmetic<S>;
    using Copy = TileCopy<S, T, CHANNELS_LAST ? kChannels : kCells, CHANNELS_LAST ? kCells : kChannels, V, kThreads,
                          kTargetStride, !CHANNELS_LAST>;
    alignas(128) __shared__ T memory[kCells * (kWeightStride + kTargetStride)];
    __shared__ Windows windows;
    __shared__ int64_t cell_offset[2][kCells];  // of this tile, and of the next
    T* const weights = memory;
    T* const tile = memory + kCells * kWeightStride;
    const int64_t C = a.target.size[1], splits = a.queries.splits;
    const int64_t channel_tiles = tiles_of(C, kChannels), query_tiles = tiles_of(a.block.count, kQueries);
    const int64_t split = blockIdx.x % splits, block = blockIdx.x / splits;
    const int64_t c0 = block % channel_tiles * kChannels, n0 = block / channel_tiles % query_tiles * kQueries;
    const int64_t b = block / channel_tiles / query_tiles;
    const S* const target = static_cast<const S*>(a.target.data) + b * a.target.stride[0];

    find_windows(a, b, n0, windows);
    const int64_t first = windows.top * a.target.size[3] / V * V, last = windows.bottom * a.target.size[3];
    const int64_t tiles = first < last ? tiles_of(last - first, kCells) : 0, each = tiles_of(tiles, splits) * kCells;
    const int64_t start = first + split * each, stop = min(last, start + each);

    Copy copy;
    const auto fetch = [&](const int64_t* offsets) {
        copy.fetch([&](int slow, int fast) -> const S* {
            const int64_t c = c0 + (CHANNELS_LAST ? fast : slow), cell = CHANNELS_LAST ? slow : fast;
            return offsets[cell] == kNoCell || c >= C ? nullptr : target + offsets[cell] + c * a.target.stride[1];
        });
    };
    using Signs = SignSum<T, kChannels, kCells, 4, 4, kWeightStride, kTargetStride, true>;
    std::conditional_t<ABSOLUTE, Signs, FmaProduct<T, kQueries, kChannels, kCells, 4, 4, kWeightStride, kTargetStride>> product;
    product.clear();
    if constexpr (ABSOLUTE) {
        const T* const vectors = static_cast<const T*>(a.queries.vectors) + (b * a.block.total + a.block.first) * C;
        product.hold([&](int i, int c) {
            return n0 + i < a.block.count && c0 + c < C ? vectors[(n0 + i) * C + c0 + c] : T(0);
        });
    }
    list_cells<kCells>(a.target, start, stop, cell_offset[0]);
    __syncthreads();
    fetch(cell_offset[0]);
    int next = 1;
    for (int64_t m0 = start; m0 < stop; m0 += kCells, next ^= 1) {
        const bool extreme = load_weights(a, b, n0, m0, stop, windows, weights);
        copy.put(tile);
        list_cells<kCells>(a.target, m0 + kCells, stop, cell_offset[next]);
        const bool mend = __syncthreads_or(extreme);
        fetch(cell_offset[next]);  // while this tile is worked on
        if (mend) {
            mend_tile(a, b, m0, tile);
            __syncthreads();
        }
        product.add(weights, tile);
        __syncthreads();
    }
    product.template put<kProductStride>(memory);
    __syncthreads();
    write_queries(a, b, n0, c0, split, windows, memory);
}

}  // namespace

int64_t query_backward_splits(const View& target, int64_t queries, Stream stream) {
    const int64_t blocks = tiles_of(target.size[1], kChannels) * tiles_of(queries, kQueries) * target.size[0];
    const int64_t most = std::min<int64_t>(8, target.size[2] * target.size[3] / (4 * kCells));
    const int64_t wanted = 4 * stream.processors;  // blocks that a chip works on at a time, about
    return std::max<int64_t>(1, std::min(most, wanted / std::max<int64_t>(1, blocks)));
}

void query_backward(const ScoreGradient& scores, const QueryTerms& queries, const void* target_norm, const View& target,
                    const Metric& metric, const Block& block, const View& gradient, Stream stream) {
    const QueryBackward arguments{scores, queries, target_norm, target, metric, block, gradient};
    const int64_t blocks =
        tiles_of(target.size[1], kChannels) * tiles_of(block.count, kQueries) * block.images * queries.splits;
    const Walk walk = walk_of(target);
    with_storage(target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        with_bool(walk.channels_last, [&](auto channels_last) {
            with_bool(walk.vectors, [&](auto vectors) {
                constexpr int V = vectors ? 16 / int(sizeof(S)) : 1;
                with_bool(metric.kind == SIMPLEMATCH_L1, [&](auto absolute) {
                    constexpr int of_vectors = absolute ? 1 : V;
                    launch(query_backward_kernel<S, channels_last, of_vectors, absolute>, blocks, kThreads, arguments, stream,
                           "query_backward");
                });
            });
        });
    });
}

}  // namespace simplematch::cuda
